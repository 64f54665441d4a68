// Logout, close, abort, page events and what is kept between runs, in virtual time.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, ClosedError, Code, RefusedError } from "@rollcall/client/browser";
import { Fixture, MemoryStorage, settled } from "./fixture.js";

/** Notes how a promise ends. */
function watch(p: Promise<void>): { ended: boolean; error?: unknown } {
  const w: { ended: boolean; error?: unknown } = { ended: false };
  p.then(
    () => (w.ended = true),
    (e: unknown) => ((w.ended = true), (w.error = e)),
  );
  return w;
}

test("logout waits for the server's answer and ends the run", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  const done = watch(fx.client.logout());
  const twice = watch(fx.client.logout());
  await p.expect("Logout");
  assert.equal(done.ended, false);
  await p.say({ Type: "LogoutOK" });
  assert.ok(p.closed);
  assert.equal(await fx.end(), undefined);
  assert.deepEqual([done, twice], [{ ended: true }, { ended: true }]);
  assert.deepEqual(p.got, []); // two callers, one logout
  await fx.client.logout(); // and again
  assert.deepEqual(fx.lastStatus(), { status: "ended" });
});

test("a logout without an answer is tried again; no heartbeat follows it", async () => {
  const fx = new Fixture().begin();
  let p = await fx.accept();
  await p.wantLogin(false, "");
  await p.ok({ HeartbeatIntervalMS: 2_000 });
  await p.expect("Heartbeat");
  const done = watch(fx.client.logout());
  await p.expect("Logout");
  await p.say({ Type: "HeartbeatOK" }); // the answer to the heartbeat
  await p.gone();
  assert.deepEqual(p.got, []);
  assert.equal(fx.elapsed, 2_000 + 15_000);
  p = await fx.welcome(true, "t1");
  await p.expect("Logout");
  await p.say({ Type: "LogoutOK" });
  assert.equal(await fx.end(), undefined);
  assert.deepEqual(done, { ended: true });
});

test("a logout before there is a link waits for one", async () => {
  const fx = new Fixture();
  fx.dialError = new Error("no route");
  fx.begin();
  const done = watch(fx.client.logout());
  await fx.pass(10_000);
  fx.dialError = undefined;
  const p = await fx.welcome(false, "");
  await p.expect("Logout");
  await p.say({ Type: "LogoutOK" });
  await fx.end();
  assert.deepEqual(done, { ended: true });
});

test("the link was lost before the answer to a logout", async () => {
  for (const [code, good] of [
    [Code.KickedWhileOffline, true], // it was done, and another device has the place
    [Code.SigExpired, false], // nobody can tell
  ] as const) {
    const fx = new Fixture().begin();
    let p = await fx.welcome(false, "");
    const done = watch(fx.client.logout());
    await p.expect("Logout");
    await p.lose();
    p = await fx.accept();
    await p.wantLogin(true, "t1");
    await p.say({ Type: "LoginRefused", Code: code });
    const e = await fx.end();
    assert.equal(e === undefined, good);
    assert.equal(done.error, e);
    assert.ok(done.ended);
  }
});

test("who gives up waiting for a logout does not end the run", async () => {
  const fx = new Fixture();
  fx.dialError = new Error("no route");
  fx.begin();
  const stop = new AbortController();
  const done = watch(fx.client.logout(stop.signal));
  await fx.pass(10_000);
  stop.abort(new Error("enough"));
  await settled();
  assert.match(String(done.error), /enough/);
  fx.dialError = undefined;
  const p = await fx.welcome(false, "");
  await p.expect("Heartbeat"); // no logout
  await assert.rejects(fx.client.logout(stop.signal), /enough/);
});

test("close drops the link without a logout, wherever the client is", async () => {
  const places: Record<string, (fx: Fixture) => Promise<void>> = {
    "before anything": async () => {},
    connecting: async (fx) => void (await fx.accept()),
    "logging in": async (fx) => void (await (await fx.accept()).wantLogin(false, "")),
    online: async (fx) => void (await fx.welcome(false, "")),
    waiting: async (fx) => void (await (await fx.welcome(false, "")).lose()),
  };
  for (const [place, go] of Object.entries(places)) {
    const fx = new Fixture().begin();
    await go(fx);
    const logout = place === "online" ? undefined : watch(fx.client.logout());
    const before = fx.elapsed;
    fx.client.close();
    fx.client.close();
    assert.ok((await fx.end()) instanceof ClosedError, place);
    assert.equal(fx.elapsed, before, place);
    assert.ok(!logout || logout.error instanceof ClosedError, place);
    for (const p of fx.dialed) {
      assert.ok(p.closed || p !== fx.dialed.at(-1) || place === "waiting", place);
      assert.deepEqual(p.got, [], place);
    }
  }
});

test("close while a UserSig is awaited", async () => {
  const fx = new Fixture();
  fx.options.userSig = () => new Promise(() => {});
  fx.begin();
  await settled();
  fx.client.close();
  assert.ok((await fx.end()) instanceof ClosedError);
});

test("close from a callback", async () => {
  for (const at of ["connecting", "online", "waiting"]) {
    const fx = new Fixture();
    fx.options.onStatus = (s) => s.status === at && fx.client.close();
    fx.begin();
    if (at !== "connecting") {
      const p = await fx.welcome(false, "");
      await p.lose();
    }
    assert.ok((await fx.end()) instanceof ClosedError, at);
  }
});

test("close before the run", async () => {
  const fx = new Fixture();
  const client = new Client(fx.options);
  client.close();
  await assert.rejects(client.logout(), ClosedError);
  await assert.rejects(client.run(), ClosedError);
  assert.equal(fx.dialed.length, 0);
});

test("a signal ends the run with its reason", async () => {
  const stop = new AbortController();
  const fx = new Fixture().begin(stop.signal);
  await fx.welcome(false, "");
  stop.abort(new Error("page left"));
  assert.match(String(await fx.end()), /page left/);

  const late = new Fixture().begin(AbortSignal.abort(new Error("too late")));
  assert.match(String(await late.end()), /too late/);
  assert.equal(late.dialed.length, 0);
});

test("run may be called once", async () => {
  const fx = new Fixture().begin();
  await assert.rejects(fx.client.run(), /twice/);
  fx.client.close();
  await fx.end();
});

test("a person who looks at the page ends the back-off, not the wait that the server asked for", async () => {
  const fx = new Fixture();
  fx.options.backoffMinMS = 30_000;
  fx.begin();
  let p = await fx.welcome(false, "");
  await p.lose();
  await fx.pass(1_000);
  fx.page("visible");
  p = await fx.welcome(true, "t1");
  assert.equal(fx.elapsed, 1_000);

  await p.say({ Type: "ForcedOffline", Code: Code.ServerDraining, MayReconnect: true, RetryAfterMS: 5_000 });
  fx.page("visible");
  fx.client.wake();
  p = await fx.welcome(true, "t1");
  assert.equal(fx.elapsed, 1_000 + 5_000);

  await p.lose();
  fx.client.wake();
  await fx.welcome(true, "t1");
  assert.equal(fx.elapsed, 6_000);
});

test("a network that comes back is used soon, but not by everybody at once", async () => {
  const fx = new Fixture();
  fx.dialError = new Error("no network");
  fx.begin();
  await fx.pass(100_000);
  assert.equal(fx.waiting().waitMS, 60_000);
  fx.dialError = undefined;
  const asked = fx.ceilings.length;
  fx.page("online");
  await fx.accept();
  assert.equal(fx.elapsed, 101_000);
  assert.deepEqual(fx.ceilings.slice(asked), [1_000]);
});

test("events that come late never put a try off", async () => {
  const fx = new Fixture().begin();
  await (await fx.welcome(false, "")).lose();
  await fx.pass(900);
  fx.page("online"); // up to 1 s, but it was to be in 100 ms
  await fx.accept();
  assert.equal(fx.elapsed, 1_000);
});

test("page events make an online client look whether its link lives", async () => {
  for (const event of ["online", "offline", "visible"] as const) {
    const fx = new Fixture().begin();
    const p = await fx.welcome(false, "");
    fx.page(event); // the server has just spoken
    assert.deepEqual(p.got, [], event);
    await fx.pass(5_000);
    fx.page(event);
    fx.page(event); // one question is enough
    assert.deepEqual(p.got, [{ Type: "Heartbeat" }], event);
    await p.gone();
    assert.equal(fx.elapsed, 5_000 + 15_000, event);
  }
});

test("a machine that slept asks at once when it wakes", async () => {
  const fx = new Fixture().begin();
  const p = await fx.welcome(false, "");
  fx.clock.sleep(3_600_000);
  await p.expect("Heartbeat");
  assert.equal(fx.elapsed, 3_600_000);
  await p.lose();
  await fx.welcome(true, "t1");
});

test("storage: a reload comes back as the same device, with the ticket", async () => {
  const storage = new MemoryStorage();
  const next = () => {
    const fx = new Fixture();
    delete fx.options.deviceID;
    fx.options.storage = storage;
    return fx;
  };
  let fx = next().begin();
  const p = await fx.accept();
  const device = (await p.wantLogin(false, ""))["DeviceID"] as string;
  assert.match(device, /^[0-9a-f]{32}$/);
  await p.ok();
  assert.equal(fx.logins[0]!.deviceID, device);
  fx.client.close();
  await fx.end();

  fx = next().begin();
  assert.equal((await (await fx.accept()).wantLogin(true, "t1"))["DeviceID"], device);

  fx = next(); // another user: the same device, no ticket
  fx.options.userID = "bob";
  assert.equal((await (await fx.begin().accept()).wantLogin(false, ""))["DeviceID"], device);

  fx = next(); // the person logs in: an active login
  fx.options.resume = false;
  fx.begin();
  await fx.welcome(false, "");

  fx = next(); // the ticket is of another device
  fx.options.deviceID = "other";
  await (await fx.begin().accept()).wantLogin(false, "");
});

test("storage: after an end for good nobody comes back by himself", async () => {
  const storage = new MemoryStorage();
  const run = async (last: object, logout = false) => {
    const fx = new Fixture();
    fx.options.storage = storage;
    fx.begin();
    const p = await fx.welcome(false, "");
    assert.ok(storage.map.size > 0);
    if (logout) {
      fx.client.logout();
      await p.expect("Logout");
    }
    await p.say(last as Record<string, unknown>);
    await fx.end();
    assert.equal(storage.map.size, 0);
  };
  await run({ Type: "ForcedOffline", Code: Code.AnotherLogin });
  await run({ Type: "LogoutOK" }, true);

  const fx = new Fixture(); // a refusal, too
  fx.options.storage = storage;
  storage.setItem("rollcall.ticket.1400000000.Web.alice", "d1 old");
  fx.begin();
  const p = await fx.accept();
  await p.wantLogin(true, "old");
  await p.say({ Type: "LoginRefused", Code: Code.KickedWhileOffline });
  assert.ok((await fx.end()) instanceof RefusedError);
  assert.equal(storage.map.size, 0);
});

test("storage that fails is as good as none", async () => {
  const fx = new Fixture();
  const fail = () => {
    throw new Error("forbidden");
  };
  fx.options.storage = { getItem: fail, setItem: fail, removeItem: fail };
  delete fx.options.deviceID;
  fx.begin();
  await (await fx.welcome(false, "")).lose();
  await fx.welcome(true, "t1");
});

test("a device id that another tab holds is given up, with its ticket", async () => {
  const storage = new MemoryStorage();
  storage.setItem("rollcall.device", "copied");
  storage.setItem("rollcall.ticket.1400000000.Web.alice", "copied t0");
  const names: string[] = [];
  const fx = new Fixture();
  delete fx.options.deviceID;
  fx.options.storage = storage;
  fx.options.locks = {
    request: async (name, _options, hold) => {
      names.push(name);
      if (name.endsWith(".copied")) {
        throw new DOMException("held elsewhere", "TimeoutError");
      }
      return hold();
    },
  };
  fx.begin();
  const m = await (await fx.accept()).wantLogin(false, "");
  assert.notEqual(m["DeviceID"], "copied");
  assert.equal(storage.getItem("rollcall.device"), m["DeviceID"]);
  assert.deepEqual(names, ["rollcall.device.copied", `rollcall.device.${m["DeviceID"]}`]);
  assert.equal(fx.client.deviceID, m["DeviceID"]);
});

test("where locks are forbidden the device id is kept", async () => {
  const storage = new MemoryStorage();
  storage.setItem("rollcall.device", "mine");
  const fx = new Fixture();
  delete fx.options.deviceID;
  fx.options.storage = storage;
  fx.options.locks = {
    request: async () => {
      throw new DOMException("opaque origin", "SecurityError");
    },
  };
  fx.begin();
  assert.equal((await (await fx.accept()).wantLogin(false, ""))["DeviceID"], "mine");
});
