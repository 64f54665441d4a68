import { type Clock, systemClock } from "./clock.js";
import { type KeyValueStorage, type Locks, tabStorage } from "./device.js";
import type { ForcedOfflineError } from "./errors.js";
import { type LoginMessage, limits, type Platform, platforms } from "./messages.js";
import { browserEvents, type PageEvents } from "./page.js";
import type { Login, StatusChange } from "./status.js";

/** The part of the WebSocket API that the client uses. */
export interface WebSocketLike {
  readonly protocol: string;
  onopen: ((event: any) => unknown) | null;
  onmessage: ((event: any) => unknown) | null;
  onclose: ((event: any) => unknown) | null;
  onerror: ((event: any) => unknown) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** Opens a WebSocket. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** Says who logs in where. */
export interface Options {
  /** The server's WebSocket listener, such as `wss://presence.example.com/v1`. */
  url: string;
  sdkAppID: number;
  /** 1 to 32 characters of 0x20 to 0x7e. */
  userID: string;
  /**
   * A UserSig of the user, or what fetches one. It is called before every login and may answer from a cache.
   * If it fails, a resume goes on with its ticket; a login without one is tried again after the back-off.
   */
  userSig: string | (() => string | Promise<string>);

  /** Default `Web`. */
  platform?: Platform;
  /** 1 to 64 bytes. Default: one that `storage` keeps, made at the first use. */
  deviceID?: string;
  /** At most 32 bytes. Default: the name and version of this client. */
  sdkVersion?: string;
  /** At most 64 bytes; who is pushed out by this device is told it. Default "". */
  deviceModel?: string;

  /**
   * Where the device id and the ticket of the last login are kept, so that a reload comes back as the same
   * device. Default: the tab's session storage, so that every tab is a device; null: nowhere.
   */
  storage?: KeyValueStorage | null;
  /** The ticket of an earlier run. Default: the one that `storage` kept. */
  ticket?: string;
  /**
   * Whether the first login is a resume, which pushes nobody out, or the active login of a person who has
   * just asked for it. Default: a resume if there is a ticket.
   */
  resume?: boolean;

  /** Callbacks are called in order. One that throws does not disturb the client. */
  onStatus?: (change: StatusChange) => void;
  onLogin?: (login: Login) => void;
  onForcedOffline?: (forced: ForcedOfflineError) => void;

  /** Default 15,000. */
  connectTimeoutMS?: number;
  /** A link without an answer for so long is dead. Default 15,000. */
  answerTimeoutMS?: number;
  /**
   * Before the n-th try in a row the client waits a random time between 0 and backoffMinMS * 2^(n-1), at most
   * backoffMaxMS, on top of what the server asks for. Defaults 1,000 and 60,000.
   */
  backoffMinMS?: number;
  backoffMaxMS?: number;

  /** Default: the platform's WebSocket; in Node the one of this package. */
  WebSocket?: WebSocketConstructor;
  /** Default: those of the page; null: none. */
  events?: PageEvents | null;
  /** Default: those of the browser; null: none. They keep a duplicated tab from using the device id of the first. */
  locks?: Locks | null;
  /** For tests. */
  clock?: Clock;
  /** A random number in [0, maxMS). For tests. */
  jitter?: (maxMS: number) => number;
}

/** The version of this client; package.json has the same. */
export const version = "0.1.0";

/** Options with their defaults filled in. */
export interface Settings extends Required<Omit<Options, "deviceID" | "storage" | "ticket" | "resume" | "events" | "locks">> {
  readonly deviceID: string | undefined;
  readonly storage: KeyValueStorage | null;
  readonly ticket: string | undefined;
  readonly resume: boolean | undefined;
  readonly events: PageEvents | null;
  readonly locks: Locks | undefined;
}

const nothing = () => {};

/** Fills in the defaults and throws for the first value that cannot work. */
export function settings(o: Options): Settings {
  const backoffMinMS = o.backoffMinMS ?? 1_000;
  const platformWebSocket = (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  const WebSocket = o.WebSocket ?? platformWebSocket;
  if (!WebSocket) {
    throw new TypeError("rollcall: there is no WebSocket here; give one as an option");
  }
  const s: Settings = {
    url: o.url,
    sdkAppID: o.sdkAppID,
    userID: o.userID,
    userSig: o.userSig,
    platform: o.platform ?? "Web",
    deviceID: o.deviceID,
    sdkVersion: o.sdkVersion ?? `rollcall-js/${version}`,
    deviceModel: o.deviceModel ?? "",
    storage: o.storage === undefined ? tabStorage() : o.storage,
    ticket: o.ticket,
    resume: o.resume,
    onStatus: o.onStatus ?? nothing,
    onLogin: o.onLogin ?? nothing,
    onForcedOffline: o.onForcedOffline ?? nothing,
    connectTimeoutMS: o.connectTimeoutMS ?? 15_000,
    answerTimeoutMS: o.answerTimeoutMS ?? 15_000,
    backoffMinMS,
    backoffMaxMS: o.backoffMaxMS ?? Math.max(60_000, backoffMinMS),
    WebSocket,
    events: o.events === undefined ? browserEvents : o.events,
    locks: defaultLocks(o),
    clock: o.clock ?? systemClock,
    jitter: o.jitter ?? ((maxMS) => Math.random() * maxMS),
  };
  check(s);
  return s;
}

/** Only the session storage is copied into other tabs behind the page's back. */
function defaultLocks(o: Options): Locks | undefined {
  if (o.locks !== undefined) {
    return o.locks ?? undefined;
  }
  return o.storage === undefined ? globalThis.navigator?.locks : undefined;
}

function check(s: Settings): void {
  checkURL(s.url);
  if (typeof s.userSig !== "string" && typeof s.userSig !== "function") {
    throw new TypeError("rollcall: userSig is neither a text nor a function");
  }
  checkLogin(loginMessage(s, s.deviceID ?? "device", "", s.ticket ?? "", false));
  for (const [name, ms] of Object.entries({
    connectTimeoutMS: s.connectTimeoutMS,
    answerTimeoutMS: s.answerTimeoutMS,
    backoffMinMS: s.backoffMinMS,
  })) {
    if (!(ms > 0) || !Number.isFinite(ms)) {
      throw new RangeError(`rollcall: ${name} must be above 0, got ${ms}`);
    }
  }
  if (!(s.backoffMaxMS >= s.backoffMinMS) || !Number.isFinite(s.backoffMaxMS)) {
    throw new RangeError(`rollcall: back-off must be 0 < min <= max, got ${s.backoffMinMS} and ${s.backoffMaxMS}`);
  }
}

function checkURL(url: string): void {
  let scheme = "";
  try {
    scheme = new URL(url).protocol;
  } catch {
    // No URL at all: told below.
  }
  if (scheme !== "ws:" && scheme !== "wss:") {
    throw new TypeError(`rollcall: url ${JSON.stringify(url)} is no ws:// or wss:// address`);
  }
}

/** The login of these settings. */
export function loginMessage(s: Settings, deviceID: string, userSig: string, ticket: string, resume: boolean): LoginMessage {
  return {
    Type: "Login",
    SDKAppID: s.sdkAppID,
    UserID: s.userID,
    UserSig: userSig,
    Platform: s.platform,
    DeviceID: deviceID,
    SDKVersion: s.sdkVersion,
    DeviceModel: s.deviceModel,
    Resume: resume,
    Ticket: ticket,
  };
}

const utf8 = new TextEncoder();

/** The length of a text in bytes; more than any limit if it has no UTF-8. */
function byteLength(text: string): number {
  return wellFormed(text) ? utf8.encode(text).length : Infinity;
}

/** Whether every surrogate has its other half. */
function wellFormed(text: string): boolean {
  return !/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(text);
}

/**
 * Throws for the first field that no server accepts. It looks at the form only: whether UserSig and ticket
 * are good, the server says.
 */
export function checkLogin(m: LoginMessage): void {
  if (!Number.isInteger(m.SDKAppID) || m.SDKAppID < 1 || m.SDKAppID > 2 ** 32 - 1) {
    throw new RangeError(`rollcall: sdkAppID ${m.SDKAppID} is not 1 to 4294967295`);
  }
  if (typeof m.UserID !== "string" || !/^[\x20-\x7e]{1,32}$/.test(m.UserID)) {
    throw new RangeError(`rollcall: userID ${JSON.stringify(m.UserID)} is not 1 to ${limits.userID} characters of 0x20 to 0x7e`);
  }
  if (!(platforms as readonly string[]).includes(m.Platform)) {
    throw new RangeError(`rollcall: platform ${JSON.stringify(m.Platform)} is not one of ${platforms.join(", ")}`);
  }
  if (m.DeviceID === "") {
    throw new RangeError("rollcall: deviceID is empty");
  }
  if (!/^[\w-]*$/.test(m.Ticket) || m.Ticket.length > encodedLength(limits.ticket)) {
    throw new RangeError(`rollcall: ticket is not base64url of at most ${limits.ticket} bytes`);
  }
  for (const [name, text, max] of [
    ["deviceID", m.DeviceID, limits.deviceID],
    ["sdkVersion", m.SDKVersion, limits.sdkVersion],
    ["deviceModel", m.DeviceModel, limits.deviceModel],
  ] as const) {
    if (typeof text !== "string" || byteLength(text) > max) {
      throw new RangeError(`rollcall: ${name} ${JSON.stringify(text)} is not at most ${max} bytes of UTF-8`);
    }
  }
  if (typeof m.UserSig !== "string" || byteLength(JSON.stringify(m)) > limits.login) {
    throw new RangeError(`rollcall: userSig makes a login larger than ${limits.login} bytes`);
  }
}

/** How many characters of base64url without padding so many bytes have. */
export function encodedLength(bytes: number): number {
  return Math.ceil((bytes * 4) / 3);
}
