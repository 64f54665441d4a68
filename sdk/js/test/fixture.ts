// A client in virtual time, and the server's side of its links. Time passes only when a test says so, and
// only after everybody has done what there was to do.

import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";

import {
  Client,
  type Clock,
  type ForcedOfflineError,
  type KeyValueStorage,
  type Login,
  type Options,
  type PageEvent,
  type StatusChange,
} from "@rollcall/client/browser";

export const subProtocol = "rollcall.json.v1";
export const home = "ws://a:7701/v1";

interface TimerEntry {
  due: number;
  order: number;
  nesting: number; // how many timers set each other, as browsers count it
  run: () => void;
}

/** A clock that tests move. */
export class VirtualClock implements Clock {
  #nowMS = 1_000_000;
  #order = 0;
  #nesting = 0;
  /** The deepest nesting of the timers that ran. */
  deepest = 0;
  readonly #timers = new Set<TimerEntry>();

  now(): number {
    return this.#nowMS;
  }

  setTimeout(run: () => void, ms: number): unknown {
    const timer = { due: this.#nowMS + ms, order: this.#order++, nesting: this.#nesting + 1, run };
    this.#timers.add(timer);
    return timer;
  }

  clearTimeout(timer: unknown): void {
    this.#timers.delete(timer as TimerEntry);
  }

  get pending(): number {
    return this.#timers.size;
  }

  /** Moves to the next timer, at most to the given time, and runs it; false if there is none. */
  step(until: number): boolean {
    let next: TimerEntry | undefined;
    for (const t of this.#timers) {
      if (!next || t.due < next.due || (t.due === next.due && t.order < next.order)) {
        next = t;
      }
    }
    if (!next || next.due > until) {
      this.#nowMS = Math.max(this.#nowMS, until);
      return false;
    }
    this.#timers.delete(next);
    this.#nowMS = Math.max(this.#nowMS, next.due);
    this.deepest = Math.max(this.deepest, next.nesting);
    this.#nesting = next.nesting;
    next.run();
    this.#nesting = 0;
    return true;
  }

  /** Time passes while nothing runs: a tab was frozen, a machine slept. */
  sleep(ms: number): void {
    this.#nowMS += ms;
  }
}

/** Waits until all promises that can settle without time or I/O have done so. */
export async function settled(): Promise<void> {
  await turn();
}

type Json = Record<string, unknown>;

/** The server's side of one link, and the socket that the client has of it. */
export class Peer {
  onopen: ((e: object) => void) | null = null;
  onmessage: ((e: { data: unknown }) => void) | null = null;
  onclose: ((e: { code: number; reason: string; retryAfterMS?: number }) => void) | null = null;
  onerror: ((e: object) => void) | null = null;
  protocol = "";
  deaf = false; // send throws
  readonly got: Json[] = [];
  closed = false; // by the client
  readonly url: string;
  readonly #fx: Fixture;

  constructor(fx: Fixture, url: string, protocols: string[]) {
    this.#fx = fx;
    this.url = url;
    assert.deepEqual(protocols, [subProtocol]);
  }

  send(text: string): void {
    if (this.deaf) {
      throw new Error("broken pipe");
    }
    this.got.push(JSON.parse(text) as Json);
  }

  close(code?: number): void {
    assert.equal(code, 1000);
    this.closed = true;
  }

  /** The server takes the link. */
  async open(protocol = subProtocol): Promise<void> {
    this.protocol = protocol;
    this.onopen?.({});
    await settled();
  }

  /** The server says something. */
  async say(message: Json | string | Uint8Array): Promise<void> {
    this.onmessage?.({ data: typeof message === "string" || message instanceof Uint8Array ? message : JSON.stringify(message) });
    await settled();
  }

  /** The link breaks. */
  async lose(code = 1006, reason = ""): Promise<void> {
    this.onclose?.({ code, reason });
    await settled();
  }

  /** Takes the first message that the test has not looked at; time passes until there is one. */
  async expect(type: string): Promise<Json> {
    await this.#fx.until(() => this.got.length > 0, `the client sends no ${type}`);
    const m = this.got.shift()!;
    assert.equal(m["Type"], type);
    return m;
  }

  async wantLogin(resume: boolean, ticket: string): Promise<Json> {
    await this.open();
    const m = await this.expect("Login");
    assert.deepEqual({ Resume: m["Resume"], Ticket: m["Ticket"] }, { Resume: resume, Ticket: ticket });
    return m;
  }

  async ok(more: Json = {}): Promise<void> {
    await this.say({ ...okAnswer, ...more });
  }

  /** Time passes until the client closes the link. */
  async gone(): Promise<void> {
    await this.#fx.until(() => this.closed, "the client does not close the link");
  }
}

export const okAnswer: Json = {
  Type: "LoginOK",
  InstID: 7,
  Ticket: "t1",
  ServerTimeMS: 1_800_000_000_123,
  HeartbeatIntervalMS: 20_000,
  SilenceTimeoutMS: 60_000,
  TakenBack: false,
  Kicked: [],
};

/** How long a test lets virtual time pass for what it waits for. */
const patienceMS = 3 * 3_600_000;

export class Fixture {
  readonly clock = new VirtualClock();
  readonly start = this.clock.now();
  readonly dialed: Peer[] = [];
  readonly ceilings: number[] = []; // what jitter was asked for
  readonly statuses: StatusChange[] = [];
  readonly logins: Login[] = [];
  readonly forced: ForcedOfflineError[] = [];
  /** Says what the page tells. */
  page: (event: PageEvent) => void = () => assert.fail("nobody listens to the page");
  listening = false;
  dialError: Error | undefined;
  client!: Client;
  run!: Promise<void>;
  options: Options;
  #accepted = 0;

  constructor() {
    const fx = this;
    this.options = {
      url: home,
      sdkAppID: 1_400_000_000,
      userID: "alice",
      userSig: "sig",
      platform: "Web",
      deviceID: "d1",
      sdkVersion: "1.0",
      deviceModel: "Chrome",
      storage: null,
      clock: this.clock,
      locks: null,
      // The whole of what it may wait.
      jitter: (maxMS) => (this.ceilings.push(maxMS), maxMS),
      onStatus: (s) => this.statuses.push(s),
      onLogin: (l) => this.logins.push(l),
      onForcedOffline: (e) => this.forced.push(e),
      events: (on) => {
        this.page = on;
        this.listening = true;
        return () => (this.listening = false);
      },
      WebSocket: class extends Peer {
        constructor(url: string, protocols: string[]) {
          super(fx, url, protocols);
          if (fx.dialError) {
            throw fx.dialError;
          }
          fx.dialed.push(this);
        }
      },
    };
  }

  begin(signal?: AbortSignal): this {
    this.client = new Client(this.options);
    this.run = this.client.run(signal);
    this.run.catch(() => {}); // looked at by the test
    return this;
  }

  get elapsed(): number {
    return this.clock.now() - this.start;
  }

  get urls(): string[] {
    return this.dialed.map((p) => p.url);
  }

  lastStatus(): StatusChange {
    return this.statuses.at(-1)!;
  }

  waiting(): Extract<StatusChange, { status: "waiting" }> {
    for (const s of [...this.statuses].reverse()) {
      if (s.status === "waiting") {
        return s;
      }
    }
    assert.fail("the client has not waited");
  }

  /** Lets time pass, timer by timer, until the condition holds. */
  async until(condition: () => boolean, otherwise: string): Promise<void> {
    const limit = this.clock.now() + patienceMS;
    await settled();
    while (!condition()) {
      if (!this.clock.step(limit)) {
        assert.fail(`${otherwise}; statuses: ${JSON.stringify(this.statuses)}`);
      }
      await settled();
    }
  }

  /** Lets so much time pass. */
  async pass(ms: number): Promise<void> {
    const end = this.clock.now() + ms;
    await settled();
    while (this.clock.step(end)) {
      await settled();
    }
  }

  /** Time passes until the client connects. */
  async accept(): Promise<Peer> {
    await this.until(() => this.dialed.length > this.#accepted, "the client does not connect");
    return this.dialed[this.#accepted++]!;
  }

  /** Accepts a link and lets its login in. */
  async welcome(resume: boolean, ticket: string): Promise<Peer> {
    const p = await this.accept();
    await p.wantLogin(resume, ticket);
    await p.ok();
    return p;
  }

  /** How the run ended: its error, or undefined. */
  async end(): Promise<unknown> {
    let ended = false;
    let error: unknown;
    this.run.then(
      () => (ended = true),
      (e: unknown) => ((ended = true), (error = e)),
    );
    await this.until(() => ended, "the run does not end");
    assert.equal(this.clock.pending, 0, "timers are left behind");
    assert.equal(this.listening, false, "the page is still listened to");
    assert.equal(this.client.status, "ended");
    return error;
  }
}

/** Storage in memory. */
export class MemoryStorage implements KeyValueStorage {
  readonly map = new Map<string, string>();
  getItem(key: string): string | null {
    return this.map.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    this.map.set(key, value);
  }
  removeItem(key: string): void {
    this.map.delete(key);
  }
}
