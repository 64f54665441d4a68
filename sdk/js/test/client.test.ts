// Logins, heartbeats, back-off, redirects and what ends a run, in virtual time. sdk/go has the same tests.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Client,
  ClosedError,
  Code,
  ForcedOfflineError,
  LinkLostError,
  NoAnswerError,
  type Options,
  ProtocolError,
  RefusedError,
} from "@rollcall/client/browser";
import { Fixture, home, okAnswer } from "./fixture.js";

const answerTimeoutMS = 15_000;

test("the first login is active, what follows resumes with the newest ticket", async () => {
  const fx = new Fixture().begin();
  let p = await fx.accept();
  const m = await p.wantLogin(false, "");
  assert.deepEqual(m, {
    Type: "Login",
    SDKAppID: 1_400_000_000,
    UserID: "alice",
    UserSig: "sig",
    Platform: "Web",
    DeviceID: "d1",
    SDKVersion: "1.0",
    DeviceModel: "Chrome",
    Resume: false,
    Ticket: "",
  });
  await p.ok({ Kicked: [{ Platform: "iPhone", InstID: 3 }] });
  assert.deepEqual(fx.logins, [
    {
      instID: 7,
      deviceID: "d1",
      ticket: "t1",
      serverTime: new Date(1_800_000_000_123),
      heartbeatIntervalMS: 20_000,
      silenceTimeoutMS: 60_000,
      kicked: [{ platform: "iPhone", instID: 3 }],
      resumed: false,
      takenBack: false,
    },
  ]);
  assert.equal(fx.client.login, fx.logins[0]);
  await p.lose();
  assert.equal(fx.client.login, undefined);

  p = await fx.accept();
  assert.equal(fx.elapsed, 1_000); // the first back-off
  assert.equal((await p.wantLogin(true, "t1"))["UserSig"], "sig");
  await p.ok({ Ticket: "t2", TakenBack: true });
  assert.deepEqual([fx.logins[1]!.resumed, fx.logins[1]!.takenBack, fx.logins[1]!.ticket], [true, true, "t2"]);
  await p.lose();
  await fx.welcome(true, "t2");
});

test("statuses", async () => {
  const fx = new Fixture();
  assert.equal(new Client(fx.options).status, "idle");
  fx.begin();
  await (await fx.welcome(false, "")).lose(4000, "Why");
  await fx.welcome(true, "t1");
  assert.equal(fx.client.status, "online");
  fx.client.close();
  const error = await fx.end();
  assert.ok(error instanceof ClosedError);
  const lost = fx.statuses[2] as { error: LinkLostError };
  assert.ok(lost.error instanceof LinkLostError);
  assert.deepEqual([lost.error.closeCode, lost.error.message], [4000, "rollcall: link lost (4000 Why)"]);
  assert.deepEqual(fx.statuses, [
    { status: "connecting", url: home },
    { status: "online", url: home },
    { status: "waiting", error: lost.error, waitMS: 1_000 },
    { status: "connecting", url: home },
    { status: "online", url: home },
    { status: "ended", error },
  ]);
});

test("a ticket of an earlier run, and resume without one", async () => {
  let fx = new Fixture();
  fx.options.ticket = "kept";
  fx.begin();
  await (await fx.welcome(true, "kept")).lose();
  await fx.welcome(true, "t1");

  fx = new Fixture();
  fx.options.resume = true;
  fx.begin();
  await fx.welcome(true, "");
});

test("a ticket over the limit is not kept", async () => {
  for (const [n, kept] of [
    [341, true],
    [342, true],
    [343, false],
  ] as const) {
    const fx = new Fixture().begin();
    const p = await fx.accept();
    await p.wantLogin(false, "");
    await p.ok({ Ticket: "t".repeat(n) });
    await p.lose();
    await fx.welcome(true, kept ? "t".repeat(n) : "");
  }
});

test("heartbeats by the interval told; a server that is silent is found out", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  for (let i = 1; i <= 3; i++) {
    await p.expect("Heartbeat");
    assert.equal(fx.elapsed, i * 20_000);
    await p.say({ Type: "HeartbeatOK" });
  }
  await p.expect("Heartbeat");
  await p.gone(); // no answer: the link is dead
  assert.equal(fx.elapsed, 80_000 + answerTimeoutMS);
  assert.ok(fx.waiting().error instanceof NoAnswerError);
  await fx.welcome(true, "t1");
});

test("time runs from the first heartbeat without an answer, and any message is one", async () => {
  const fx = new Fixture().begin();
  const p = await fx.accept();
  await p.wantLogin(false, "");
  await p.ok({ HeartbeatIntervalMS: 10_000 });
  await p.expect("Heartbeat");
  await p.say({ Type: "News", Optional: true });
  await p.expect("Heartbeat"); // 20 s
  await p.expect("Heartbeat"); // 30 s
  await p.gone();
  assert.equal(fx.elapsed, 20_000 + answerTimeoutMS);
});

test("a message in between does not put off the heartbeat", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  for (let i = 0; i < 19; i++) {
    await fx.pass(1_000);
    await p.say({ Type: "News", Optional: true });
  }
  await p.expect("Heartbeat");
  assert.equal(fx.elapsed, 20_000);
});

// Browsers run timers that set each other, five deep and more, once a minute in hidden tabs. A Web link is lost after as much.
test("the heartbeats of a server that answers are no chain of timers", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  for (let i = 1; i <= 20; i++) {
    await p.expect("Heartbeat");
    await p.say({ Type: "HeartbeatOK" });
  }
  assert.equal(fx.clock.deepest, 1);
});

test("bounds of the heartbeat interval", async () => {
  for (const [ms, want] of [
    [0, 1_000],
    [999, 1_000],
    [1_001, 1_001],
    [3_599_999, 3_599_999],
    [3_600_001, 3_600_000],
    [2 ** 32 - 1, 3_600_000],
  ] as const) {
    const fx = new Fixture().begin();
    const p = await fx.accept();
    await p.wantLogin(false, "");
    await p.ok({ HeartbeatIntervalMS: ms });
    await p.expect("Heartbeat");
    assert.equal(fx.elapsed, want);
  }
});

test("back-off doubles up to its maximum and starts anew after a login that held", async () => {
  const fx = new Fixture();
  fx.dialError = new Error("no route");
  fx.begin();
  await fx.pass(5 * 60_000);
  assert.deepEqual(fx.ceilings, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60].map((s) => s * 1_000));
  fx.dialError = undefined;
  await (await fx.welcome(false, "")).lose();
  const p = await fx.welcome(true, "t1");
  assert.equal(fx.ceilings.at(-1), 60_000); // a login that is lost at once does not end the row
  for (let i = 0; i < 3; i++) {
    await p.expect("Heartbeat");
    await p.say({ Type: "HeartbeatOK" });
  }
  await p.lose();
  await fx.welcome(true, "t1");
  assert.equal(fx.ceilings.at(-1), 1_000);
});

test("the default jitter is spread over its whole interval", async () => {
  const seen = new Set<number>();
  const fx = new Fixture();
  delete fx.options.jitter;
  fx.options.backoffMinMS = fx.options.backoffMaxMS = 4;
  fx.dialError = new Error("no route");
  fx.begin();
  await fx.pass(2_000);
  for (const s of fx.statuses) {
    if (s.status === "waiting") {
      assert.ok(s.waitMS >= 0 && s.waitMS < 4, `waited ${s.waitMS}`);
      seen.add(Math.floor(s.waitMS));
    }
  }
  assert.equal(seen.size, 4);
  fx.client.close();
});

test("refused for good", async () => {
  for (const code of [Code.SigExpired, Code.KickedWhileOffline, Code.BadParameter]) {
    const fx = new Fixture().begin();
    await (await fx.welcome(false, "")).lose();
    const p = await fx.accept();
    await p.wantLogin(true, "t1");
    await p.say({ Type: "LoginRefused", Code: code, Name: "Why", Text: "so it is", MayReconnect: false, RetryAfterMS: 0 });
    assert.ok(p.closed);
    const e = await fx.end();
    assert.ok(e instanceof RefusedError);
    assert.deepEqual([e.code, e.codeName, e.text, e.resume, e.mayReconnect], [code, "Why", "so it is", true, false]);
    assert.equal(e.message, `rollcall: resume refused: ${code} Why: so it is`);
    assert.equal(fx.dialed.length, 2);
  }
});

test("refused for now: not before what the server asked for, and still the active login", async () => {
  const fx = new Fixture().begin();
  const p = await fx.accept();
  await p.wantLogin(false, "");
  await p.say({ Type: "LoginRefused", Code: Code.Overloaded, MayReconnect: true, RetryAfterMS: 5_000 });
  await fx.welcome(false, "");
  assert.equal(fx.elapsed, 6_000);
  const e = fx.waiting().error;
  assert.ok(e instanceof RefusedError && e.retryAfterMS === 5_000);
});

test("a server without room may say so when it is connected to", async () => {
  const fx = new Fixture().begin();
  const p = await fx.accept();
  p.onclose!({ code: 1006, reason: "the server answered 503", retryAfterMS: 7_000 });
  await fx.welcome(false, "");
  assert.equal(fx.elapsed, 8_000);
});

test("forced offline for good", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  await p.say({ Type: "ForcedOffline", Code: Code.AnotherLogin, Name: "AnotherLogin", Text: "bye", ByPlatform: "iPad", ByDeviceModel: "iPad 9", TimeMS: 1234 });
  assert.ok(p.closed);
  const e = await fx.end();
  assert.ok(e instanceof ForcedOfflineError);
  assert.deepEqual(fx.forced, [e]);
  assert.deepEqual([e.code, e.byPlatform, e.byDeviceModel, e.time], [Code.AnotherLogin, "iPad", "iPad 9", new Date(1234)]);
  assert.equal(e.message, 'rollcall: forced offline: 6001 AnotherLogin: bye (by iPad "iPad 9")');
  await fx.pass(3_600_000);
  assert.equal(fx.dialed.length, 1);
});

test("forced offline for now", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  await p.say({ Type: "ForcedOffline", Code: Code.ServerDraining, MayReconnect: true, RetryAfterMS: 10_000 });
  await fx.welcome(true, "t1");
  assert.equal(fx.elapsed, 11_000);
  assert.equal(fx.forced[0]!.retryAfterMS, 10_000);
});

test("the server's last word counts although a write has already failed", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  p.deaf = true;
  await fx.pass(21_000); // a heartbeat, and it fails
  await p.say({ Type: "ForcedOffline", Code: Code.Kicked });
  assert.ok((await fx.end()) instanceof ForcedOfflineError);
});

test("redirects: at login at once, from a full server spread, back home if nobody is there", async () => {
  const fx = new Fixture().begin();
  let p = await fx.accept();
  await p.wantLogin(false, "");
  await p.say({ Type: "Redirect", Address: "b:1", RetryAfterMS: 0 });
  assert.ok(p.closed);
  p = await fx.welcome(false, "");
  assert.equal(fx.elapsed, 0);
  await p.say({ Type: "Redirect", Address: "[::1]:2", RetryAfterMS: 2_000 });
  p = await fx.welcome(true, "t1");
  assert.equal(fx.elapsed, 3_000);
  await p.lose();
  p = await fx.accept(); // a lost link: the same server first
  await p.wantLogin(true, "t1");
  await p.lose();
  p = await fx.welcome(true, "t1"); // it does not let us in: the address we were given
  assert.deepEqual(fx.urls, [home, "ws://b:1/v1", "ws://[::1]:2/v1", "ws://[::1]:2/v1", home]);
  for (let i = 0; i < 6; i++) {
    await p.say({ Type: "Redirect", Address: "" }); // nowhere: here again. With logins between, it is no circle
    assert.equal(fx.waiting().waitMS, 1_000);
    p = await fx.welcome(true, "t1");
  }
});

test("a circle of redirects", async () => {
  const fx = new Fixture().begin();
  for (let i = 1; i <= 8; i++) {
    const p = await fx.accept();
    await p.wantLogin(false, "");
    await p.say({ Type: "Redirect", Address: `b:${i}` });
  }
  await fx.welcome(false, "");
  assert.deepEqual(
    fx.urls.map((u) => new URL(u).host),
    ["a:7701", "b:1", "b:2", "b:3", "a:7701", "b:5", "b:6", "b:7", "a:7701"],
  );
  assert.deepEqual(fx.ceilings, [1_000, 2_000]);
});

test("redirects to silence, to what is no server, and to no address", async () => {
  for (const greet of ["silence", "another protocol", "no login", "garbage"]) {
    const fx = new Fixture().begin();
    let p = await fx.accept();
    await p.wantLogin(false, "");
    await p.say({ Type: "Redirect", Address: "b:1" });
    p = await fx.accept();
    if (greet === "another protocol") {
      await p.open("");
    } else if (greet !== "silence") {
      await p.wantLogin(false, "");
    }
    if (greet === "garbage") {
      await p.say("HTTP/1.1 400");
    }
    await p.gone();
    await fx.welcome(false, "");
    assert.deepEqual(fx.urls, [home, "ws://b:1/v1", home], greet);
  }
  for (const address of ["b", "b:x", "b:1/x", "b:99999", "a@b:1", "b:1?", " b:1", ":1"]) {
    const fx = new Fixture().begin();
    const p = await fx.accept();
    await p.wantLogin(false, "");
    await p.say({ Type: "Redirect", Address: address });
    await fx.welcome(false, "");
    assert.deepEqual(fx.urls, [home, home], address);
    assert.ok(fx.waiting().error instanceof ProtocolError, address);
  }
});

test("unknown messages: optional ones are skipped, others end the link", async () => {
  const fx = new Fixture().begin();
  const p = await fx.accept();
  await p.wantLogin(false, "");
  await p.say({ Type: "News", Optional: true });
  await p.ok({ Later: { deep: [1] } }); // and unknown members are ignored
  await p.say({ Type: "News", Optional: true });
  await p.expect("Heartbeat"); // still there
  await p.say({ Type: "HeartbeatOK" });
  await p.say({ Type: "News" });
  assert.ok(p.closed);
  await fx.welcome(true, "t1");
});

test("servers that break the protocol", async () => {
  const ok = JSON.stringify(okAnswer);
  for (const [name, said] of Object.entries<(string | Uint8Array)[]>({
    "no JSON": ["HTTP/1.1 400 Bad Request"],
    "no object": ["[]"],
    null: ["null"],
    binary: [new Uint8Array([1])],
    "no type": ["{}"],
    "type of an object's own": ['{"Type":"toString"}'],
    "number for text": ['{"Type":"LoginOK","Ticket":1}'],
    "text for number": ['{"Type":"LoginOK","InstID":"1"}'],
    "negative number": ['{"Type":"LoginRefused","RetryAfterMS":-1}'],
    fraction: ['{"Type":"LoginOK","HeartbeatIntervalMS":0.5}'],
    "text for bool": ['{"Type":"ForcedOffline","MayReconnect":"yes"}'],
    "no list": ['{"Type":"LoginOK","Kicked":{}}'],
    "list of numbers": ['{"Type":"LoginOK","Kicked":[1]}'],
    "LogoutOK nobody asked": ['{"Type":"LogoutOK"}'],
    "a client's message": ['{"Type":"Heartbeat"}'],
    "second LoginOK": [ok, ok],
    "good, then not": [ok, "{"],
  })) {
    const fx = new Fixture().begin();
    const p = await fx.accept();
    await p.wantLogin(false, "");
    for (const s of said) {
      await p.say(s);
    }
    assert.ok(p.closed, name);
    await fx.accept(); // after a back-off
    assert.equal(fx.elapsed, 1_000, name);
    assert.ok(fx.waiting().error instanceof ProtocolError, `${name}: ${fx.waiting().error}`);
  }
});

test("absent members are 0, empty and false", async () => {
  const fx = new Fixture().begin();
  const p = await fx.accept();
  await p.wantLogin(false, "");
  await p.say({ Type: "LoginOK" });
  const l = fx.logins[0]!;
  assert.deepEqual([l.instID, l.ticket, l.kicked, l.takenBack], [0, "", [], false]);
  await p.say({ Type: "ForcedOffline" });
  const e = await fx.end();
  assert.ok(e instanceof ForcedOfflineError && e.code === 0 && !e.mayReconnect);
});

test("a server that does not answer the connection, or the login", async () => {
  const fx = new Fixture().begin();
  let p = await fx.accept();
  await p.gone();
  assert.equal(fx.elapsed, 15_000);
  p = await fx.accept();
  await p.wantLogin(false, "");
  await p.gone();
  assert.equal(fx.elapsed, 15_000 + 1_000 + answerTimeoutMS);
  assert.ok(fx.waiting().error instanceof NoAnswerError);
  await fx.welcome(false, "");
});

test("a UserSig that cannot be had", async () => {
  const fx = new Fixture();
  let calls = 0;
  fx.options.userSig = async () => {
    if (++calls === 2) {
      return "good";
    }
    throw new Error("backend down");
  };
  fx.begin();
  let p = await fx.accept(); // the second try: no connection without a UserSig
  assert.equal(fx.elapsed, 1_000);
  assert.match(fx.waiting().error.message, /no UserSig.*backend down/);
  assert.equal((await p.wantLogin(false, ""))["UserSig"], "good");
  await p.ok();
  await p.lose();
  p = await fx.accept(); // the ticket is enough
  assert.equal((await p.wantLogin(true, "t1"))["UserSig"], "");
});

test("a resume without a ticket needs a UserSig like any login", async () => {
  const fx = new Fixture();
  let calls = 0;
  fx.options.resume = true;
  fx.options.userSig = () => {
    if (++calls === 1) {
      throw new Error("backend down");
    }
    return "good";
  };
  fx.begin();
  assert.equal((await (await fx.accept()).wantLogin(true, ""))["UserSig"], "good");
});

test("a UserSig that is too large ends the run", async () => {
  const fx = new Fixture();
  fx.options.userSig = async () => "s".repeat(8192);
  fx.begin();
  assert.match(String(await fx.end()), /larger than 8192 bytes/);
  assert.equal(fx.dialed.length, 0);
});

test("what the server asks for may be longer than a timer", async () => {
  const fx = new Fixture().begin();
  const p = await fx.accept();
  await p.wantLogin(false, "");
  await p.say({ Type: "LoginRefused", Code: Code.ServerFull, MayReconnect: true, RetryAfterMS: 2 ** 32 - 1 });
  await fx.pass(24 * 86_400_000);
  assert.equal(fx.dialed.length, 1);
  fx.client.close();
  await fx.end();
});

test("callbacks that throw do not disturb the client", async () => {
  const fx = new Fixture();
  const thrown: unknown[] = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (run) => {
    try {
      run();
    } catch (e) {
      thrown.push(e);
    }
  };
  try {
    fx.options.onLogin = () => {
      throw new Error("onLogin");
    };
    fx.begin();
    const p = await fx.welcome(false, "");
    await p.expect("Heartbeat");
    assert.deepEqual(thrown.map(String), ["Error: onLogin"]);
  } finally {
    globalThis.queueMicrotask = queueMicrotask;
  }
});

test("options are checked", () => {
  const good = new Fixture().options;
  for (const [change, want] of [
    [{}, null],
    [{ url: "" }, /""/],
    [{ url: "https://host/v1" }, /"https:\/\/host\/v1"/],
    [{ sdkAppID: 0 }, /sdkAppID 0/],
    [{ sdkAppID: 2 ** 32 }, /sdkAppID 4294967296/],
    [{ userID: "" }, /userID ""/],
    [{ userID: "u".repeat(33) }, /userID/],
    [{ userID: "ü" }, /userID/],
    [{ userSig: 7 }, /userSig/],
    [{ platform: "Toaster" }, /"Toaster"/],
    [{ deviceID: "" }, /deviceID/],
    [{ deviceID: "d".repeat(65) }, /deviceID/],
    [{ deviceModel: "ü".repeat(32) }, null],
    [{ deviceModel: "ü".repeat(33) }, /deviceModel/],
    [{ deviceModel: "\ud800" }, /deviceModel/],
    [{ sdkVersion: "v".repeat(33) }, /sdkVersion/],
    [{ ticket: "t".repeat(342) }, null],
    [{ ticket: "t".repeat(343) }, /ticket/],
    [{ ticket: "a+b" }, /ticket/],
    [{ connectTimeoutMS: 0 }, /connectTimeoutMS/],
    [{ answerTimeoutMS: -1 }, /answerTimeoutMS/],
    [{ backoffMinMS: Number.NaN }, /backoffMinMS/],
    [{ backoffMinMS: 2, backoffMaxMS: 1 }, /2 and 1/],
    [{ backoffMinMS: 3_600_000 }, null], // the default maximum follows
  ] as [Partial<Options>, RegExp | null][]) {
    const o = { ...good, ...change };
    if (want) {
      assert.throws(() => new Client(o), want, JSON.stringify(change));
    } else {
      new Client(o);
    }
  }
});
