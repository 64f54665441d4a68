// The client against a real server, in Node with the WebSocket of this package. What the protocol is, sdk/js/test/client.test.ts
// says; here is what both sides make of it.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";

import { Client, ClosedError, Code, ForcedOfflineError, type Login, type Options, RefusedError, type StatusChange, webSocket } from "@rollcall/client";
import { eventually } from "./chromium.js";
import { app, makeCertificate, Server, userSig } from "./server.js";

let server: Server;
let user: string; // another one in each test
let users = 0;
const devices: Device[] = [];

/** A client that runs, and what it told. */
class Device {
  readonly statuses: StatusChange[] = [];
  readonly logins: Login[] = [];
  readonly forced: ForcedOfflineError[] = [];
  readonly client: Client;
  readonly ended: Promise<unknown>;

  constructor(deviceID: string, more: Partial<Options> = {}) {
    this.client = new Client({
      url: server.ws,
      sdkAppID: app,
      userID: user,
      userSig: () => userSig(user),
      deviceID,
      deviceModel: `Model of ${deviceID}`,
      backoffMinMS: 50,
      backoffMaxMS: 200,
      onStatus: (s) => this.statuses.push(s),
      onLogin: (l) => this.logins.push(l),
      onForcedOffline: (e) => this.forced.push(e),
      ...more,
    });
    devices.push(this);
    this.ended = this.client.run().catch((e: unknown) => e);
  }

  /** Waits until the n-th login is let in. */
  login(n = 1): Promise<Login> {
    return eventually(`login ${n}, statuses ${JSON.stringify(this.statuses)}`, async () => this.logins[n - 1]);
  }

  /** Waits until the client waits. */
  waits(): Promise<unknown> {
    return eventually("the client waits", async () => this.statuses.some((s) => s.status === "waiting"));
  }
}

describe("against a server", () => {
  before(async () => void (server = await Server.start()));
  after(async () => {
    await Promise.all(devices.map((d) => (d.client.close(), d.ended)));
    await server.close();
  });
  beforeEach(() => void (user = `user-${++users}`));

  test("another login forces the first offline, and is told whom it pushed out", async () => {
    const first = new Device("d1");
    const one = await first.login();
    assert.deepEqual([one.resumed, one.takenBack, one.kicked, one.heartbeatIntervalMS, one.silenceTimeoutMS], [false, false, [], 20_000, 60_000]);
    assert.match(one.ticket, /^[\w-]+$/);
    assert.deepEqual(await server.presence(user), { status: "Online", instances: [{ Platform: "Web", Status: "Online", Instid: one.instID }] });

    const second = new Device("d2", { platform: "iPad" });
    const two = await second.login();
    assert.deepEqual(two.kicked, [{ platform: "Web", instID: one.instID }]);
    assert.equal(two.heartbeatIntervalMS, 120_000);
    const e = await first.ended;
    assert.ok(e instanceof ForcedOfflineError);
    assert.deepEqual(first.forced, [e]);
    assert.deepEqual([e.code, e.codeName, e.mayReconnect, e.byPlatform, e.byDeviceModel], [Code.AnotherLogin, "AnotherLogin", false, "iPad", "Model of d2"]);
    assert.deepEqual((await server.presence(user)).instances.map((i) => i.Instid), [two.instID]);
    assert.deepEqual(first.statuses.map((s) => s.status), ["connecting", "online", "ended"]);
  });

  test("the same device on a new link replaces the old one", async () => {
    const old = new Device("d1");
    const { instID } = await old.login();
    assert.equal((await new Device("d1").login()).instID, instID);
    const e = await old.ended;
    assert.ok(e instanceof ForcedOfflineError && e.code === Code.Replaced);
  });

  test("logout leaves no instance, close a device that push reaches", async () => {
    const phone = new Device("d1", { platform: "Android" });
    await phone.login();
    phone.client.close();
    assert.ok((await phone.ended) instanceof ClosedError);
    await server.until(user, "PushOnline");

    const back = new Device("d1", { platform: "Android", ticket: phone.logins[0]!.ticket });
    const l = await back.login();
    assert.deepEqual([l.resumed, l.takenBack, l.instID], [true, true, phone.logins[0]!.instID]);
    await back.client.logout();
    assert.equal(await back.ended, undefined);
    assert.equal((await server.presence(user)).status, "Offline"); // at once: the answer comes after the change
  });

  test("a page that is closed is Offline", async () => {
    const web = new Device("d1");
    await web.login();
    web.client.close();
    await server.until(user, "Offline");
  });

  test("a resume pushes nobody out", async () => {
    const gone = new Device("d1");
    const { ticket } = await gone.login();
    const other = new Device("d2");
    await other.login();
    await gone.ended;
    const e = await new Device("d1", { ticket }).ended;
    assert.ok(e instanceof RefusedError);
    assert.deepEqual([e.code, e.resume, e.mayReconnect], [Code.KickedWhileOffline, true, false]);
    assert.equal(other.client.status, "online");
  });

  test("refusals are for good, with their codes", async () => {
    for (const [code, more] of [
      [Code.SigMalformed, { userSig: "garbage" }],
      [Code.SigEmpty, { userSig: "" }],
      [Code.SigExpired, { userSig: () => userSig(user, { timeS: 1_600_000_000, expireS: 1 }) }],
      [Code.SigOtherUser, { userSig: () => userSig("somebody else") }],
      [Code.UnknownApp, { sdkAppID: app + 1 }],
    ] as [number, Partial<Options>][]) {
      const d = new Device("d1", more);
      const e = await d.ended;
      assert.ok(e instanceof RefusedError, String(e));
      assert.deepEqual([e.code, e.resume, e.mayReconnect], [code, false, false]);
    }
  });

  test("a kick by the backend", async () => {
    const d = new Device("d1");
    await d.login();
    await server.rest("im_open_login_svc/kick", { UserID: user });
    const e = await d.ended;
    assert.ok(e instanceof ForcedOfflineError && e.code === Code.Kicked && !e.mayReconnect);
  });

  test("an app's allowed origins", async () => {
    const from = (origin: string) => ({ WebSocket: webSocket({ headers: { Origin: origin } }) });
    await server.console("PATCH", "", { AllowedOrigins: ["https://app.example"] });
    try {
      await new Device("d1", from("https://app.example")).login();
      const e = await new Device("d2", from("https://elsewhere.example")).ended;
      assert.ok(e instanceof RefusedError && e.code === Code.OriginNotAllowed && !e.mayReconnect, String(e));
      await new Device("d1").login(); // no browser: it could write any
    } finally {
      await server.console("PATCH", "", { AllowedOrigins: [] });
    }
  });

  test("TLS, with the server's own certificate", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "rollcall-tls-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const { cert, key } = makeCertificate(dir);
    const secure = await Server.start("--tls-cert", cert, "--tls-key", key);
    t.after(() => secure.close());
    const url = `wss://${secure.addr("ws-tls")}/v1`;

    const trusting = new Device("d1", { url, WebSocket: webSocket({ tls: { ca: readFileSync(cert) } }) });
    const { instID } = await trusting.login();
    assert.deepEqual((await secure.presence(user)).instances.map((i) => i.Instid), [instID]);
    await trusting.client.logout();
    await trusting.ended;

    const wary = new Device("d2", { url }); // trusts whom the system trusts
    await wary.waits();
    assert.deepEqual(wary.logins, []);
    wary.client.close();
    await wary.ended;
  });

  test("texts of every kind arrive as they were sent", async () => {
    user = `"\\ ~'</x>`;
    const first = new Device('d"\\1', { deviceModel: "\u0001" });
    await first.login();
    await new Device("gerät", { deviceModel: '“Ünï\u2028” 🙂 "\\' }).login();
    const e = await first.ended;
    assert.ok(e instanceof ForcedOfflineError && e.byDeviceModel === '“Ünï\u2028” 🙂 "\\', String(e));
  });

  test("heartbeats keep a link that is otherwise silent", async () => {
    await server.console("PUT", "/timeouts", { Web: { HeartbeatMS: 1_000, SilenceMS: 60_000 } });
    const d = new Device("d1");
    assert.equal((await d.login()).heartbeatIntervalMS, 1_000);
    const before = await server.metric("rollcall_heartbeats_total");
    await eventually("three heartbeats", async () => (await server.metric("rollcall_heartbeats_total")) >= before + 3);
    assert.deepEqual(d.statuses.map((s) => s.status), ["connecting", "online"]);
  });

  test("a server that stops says when to come back, and the client does", async () => {
    const d = new Device("d1");
    const one = await d.login();
    await server.stop();
    await d.waits();
    const [e] = d.forced;
    assert.ok(e && e.code === Code.ServerDraining && e.mayReconnect && e.retryAfterMS > 0);
    await server.restart();
    const two = await d.login(2);
    assert.deepEqual([two.resumed, two.takenBack, two.instID], [true, true, one.instID]);
    assert.equal((await server.presence(user)).status, "Online");
  });

  test("a server that was killed is found again", async () => {
    const d = new Device("d1");
    const one = await d.login();
    await server.kill();
    await d.waits();
    assert.deepEqual(d.forced, []);
    await server.restart();
    const two = await d.login(2);
    assert.deepEqual([two.resumed, two.takenBack, two.instID], [true, true, one.instID]);
  });
});
