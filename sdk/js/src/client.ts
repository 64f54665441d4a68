import { Backoff } from "./backoff.js";
import { Timer } from "./clock.js";
import { Code } from "./codes.js";
import { Device } from "./device.js";
import { ClosedError, type ForcedOfflineError, ProtocolError, RefusedError, RollcallError } from "./errors.js";
import { limits } from "./messages.js";
import { checkLogin, encodedLength, loginMessage, type Options, type Settings, settings } from "./options.js";
import type { PageEvent } from "./page.js";
import { type LoginOK, Session } from "./session.js";
import type { Ending, Login, Status, StatusChange } from "./status.js";

/** How many redirects in a row are followed without back-off. */
const maxRedirects = 3;

/**
 * Client keeps one device of one user logged in, while `run()` runs. It logs in, sends heartbeats at the
 * interval the server asks for, and when the link is lost comes back by itself, with back-off and jitter, using
 * the session ticket of its last login. Such a return never pushes another device out; only the first login does,
 * because a person asked for it.
 */
export class Client {
  readonly #s: Settings;
  readonly #device: Device;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController(); // aborted with what run() rejects with
  readonly #ended: Promise<void>; // settles as run() does
  #settle!: { resolve: () => void; reject: (e: unknown) => void };
  #started = false;
  #status: Status = "idle";
  #login: Login | undefined;

  #url: string; // where the next try goes: Options.url or where a redirect points
  #redirects = 0; // in a row, without a login or back-off
  #resume = false; // the next login is a resume
  #ticket = "";
  #session: Session | undefined;
  #pause: Pause | undefined;
  readonly #logouts = new Set<object>(); // who waits for a logout

  /** Checks the options. Nothing happens before `run()`. */
  constructor(options: Options) {
    this.#s = settings(options);
    this.#device = new Device(this.#s.storage, `${this.#s.sdkAppID}.${this.#s.platform}.${this.#s.userID}`, this.#s.deviceID);
    this.#backoff = new Backoff(this.#s.backoffMinMS, this.#s.backoffMaxMS, this.#s.jitter);
    this.#url = this.#s.url;
    this.#ended = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.#ended.catch(() => {}); // who wants to know awaits run()
  }

  /** What the client is doing. */
  get status(): Status {
    return this.#status;
  }

  /** The login that holds; undefined while there is none. */
  get login(): Login | undefined {
    return this.#login;
  }

  /** The device id. In a duplicated tab it changes when `run()` begins. */
  get deviceID(): string {
    return this.#device.id;
  }

  /**
   * Logs in and stays logged in until there is a reason not to. It resolves after `logout()`, and rejects with
   * a ForcedOfflineError or RefusedError when the server says that the client may not come back by itself, with a
   * ClosedError after `close()`, with the signal's reason when that is aborted. It may be called once: after such an end make a
   * new client, when the person logs in again.
   */
  async run(signal?: AbortSignal): Promise<void> {
    if (this.#started) {
      throw new RollcallError("run called twice");
    }
    this.#started = true;
    const abort = () => this.#stop.abort(signal?.reason);
    if (signal?.aborted) {
      abort();
    }
    signal?.addEventListener("abort", abort);
    const leave = this.#s.events?.((event) => this.#pageTells(event));
    try {
      await this.#loop();
      this.#tell({ status: "ended" });
      this.#settle.resolve();
    } catch (error) {
      this.#tell({ status: "ended", error });
      this.#settle.reject(error);
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
      leave?.();
    }
  }

  /** Ends `run()` and drops the link without a logout. It may be called at any time and again. */
  close(): void {
    this.#stop.abort(new ClosedError());
    if (!this.#started) {
      this.#settle.reject(this.#stop.signal.reason);
    }
  }

  /**
   * Logs the device out and ends `run()`. It resolves when the server has answered. Without a link it waits
   * for one; when the link is lost before the answer it tries again on the next. If the signal is aborted first `run()`
   * goes on, and the logout may or may not have happened; if `run()` ends otherwise, this rejects with the same.
   */
  async logout(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const wish = {};
    this.#logouts.add(wish);
    this.#session?.logout();
    try {
      await unlessAborted(this.#ended, signal);
    } finally {
      this.#logouts.delete(wish);
    }
  }

  /**
   * While the client waits for its next try: tries now, but not before the server allows it. While it is online: finds out
   * whether the link still lives. Page events do the same.
   */
  wake(): void {
    this.#session?.probe();
    this.#pause?.shorten(0);
  }

  #pageTells(event: PageEvent): void {
    this.#session?.probe();
    if (event === "visible") {
      this.#pause?.shorten(0);
    } else if (event === "online") {
      this.#pause?.shorten(this.#backoff.spread()); // many others saw it too
    }
  }

  /** Tries until one try is the last. */
  async #loop(): Promise<void> {
    const stop = this.#stop.signal;
    await this.#device.claim(this.#s.locks);
    this.#ticket = this.#s.ticket ?? (this.#s.resume === false ? "" : this.#device.ticket);
    this.#resume = this.#s.resume ?? this.#ticket !== "";
    for (;;) {
      stop.throwIfAborted();
      const end = await this.#try();
      if (end.final) {
        this.#device.ticket = ""; // neither this run nor a later one comes back by itself
        if (end.error) {
          throw end.error;
        }
        return;
      }
      stop.throwIfAborted();
      const retryAfterMS = end.retryAfterMS ?? 0;
      const waitMS = retryAfterMS + this.#spread(end);
      this.#pause = new Pause(this.#s.clock, retryAfterMS, waitMS, stop);
      this.#tell({ status: "waiting", error: end.error ?? new RollcallError("link lost"), waitMS });
      await this.#pause.over;
      this.#pause = undefined;
    }
  }

  /**
   * How long to wait besides what the server asked for. Who is redirected at login goes there at once; those
   * who leave one server together do not arrive at the next together.
   */
  #spread(end: Ending): number {
    if (!end.follow) {
      return this.#backoff.next(end.heldMS ?? 0);
    }
    return end.heldMS === undefined ? 0 : this.#backoff.spread();
  }

  async #try(): Promise<Ending> {
    const stop = this.#stop.signal;
    this.#tell({ status: "connecting", url: this.#url });
    let userSig = ""; // first: the server does not wait long for the login
    try {
      userSig = await unlessAborted(this.#userSig(), stop);
    } catch (cause) {
      if (stop.aborted || !this.#resume || !this.#ticket) {
        return { error: new RollcallError(`no UserSig: ${cause}`, { cause }) };
      }
    }
    stop.throwIfAborted(); // it may have been while the UserSig came
    const login = loginMessage(this.#s, this.#device.id, userSig, this.#resume ? this.#ticket : "", this.#resume);
    try {
      checkLogin(login);
    } catch (e) {
      return { error: e as RangeError, final: true };
    }
    let session: Session;
    try {
      session = new Session(this.#s, this.#url, login, {
        welcome: (ok) => this.#welcome(ok, login.Resume),
        forced: (e) => this.#forced(e),
        wantsLogout: () => this.#logouts.size > 0,
      });
    } catch (cause) {
      this.#url = this.#s.url;
      return { error: new RollcallError(`cannot connect: ${cause}`, { cause }) };
    }
    this.#session = session;
    const drop = () => session.drop(stop.reason);
    stop.addEventListener("abort", drop);
    try {
      return this.#judge(await session.ended);
    } finally {
      stop.removeEventListener("abort", drop);
      this.#session = this.#login = undefined;
    }
  }

  async #userSig(): Promise<string> {
    return typeof this.#s.userSig === "string" ? this.#s.userSig : this.#s.userSig();
  }

  /** Notes what an ending means for the tries to come. */
  #judge(end: Ending): Ending {
    if (end.unreachable) {
      this.#url = this.#s.url; // whatever answers there, it is no server
    }
    if (end.redirect !== undefined) {
      return this.#redirected(end, end.redirect);
    }
    if (end.error instanceof RefusedError && end.error.code === Code.KickedWhileOffline && this.#logouts.size > 0) {
      return { final: true }; // there is no instance: what the logout was for
    }
    return end;
  }

  #redirected(end: Ending, address: string): Ending {
    if (++this.#redirects > maxRedirects) {
      this.#redirects = 0;
      this.#url = this.#s.url; // out of the circle
      return end;
    }
    if (address) {
      const url = withHost(this.#url, address);
      if (!url) {
        this.#url = this.#s.url;
        return { ...end, error: new ProtocolError(`a redirect to ${JSON.stringify(address)}`) };
      }
      this.#url = url;
    }
    return { ...end, follow: true };
  }

  /** Notes what the next login needs and tells the app of this one. */
  #welcome(ok: LoginOK, resumed: boolean): void {
    this.#resume = true;
    this.#redirects = 0;
    this.#ticket = ok.ticket.length <= encodedLength(limits.ticket) && /^[\w-]*$/.test(ok.ticket) ? ok.ticket : "";
    this.#device.ticket = this.#ticket;
    this.#login = {
      instID: ok.instID,
      deviceID: this.#device.id,
      ticket: this.#ticket,
      serverTime: new Date(ok.serverTimeMS),
      heartbeatIntervalMS: ok.heartbeatIntervalMS,
      silenceTimeoutMS: ok.silenceTimeoutMS,
      kicked: ok.kicked,
      resumed,
      takenBack: ok.takenBack,
    };
    this.#tell({ status: "online", url: this.#url });
    call(this.#s.onLogin, this.#login);
  }

  #forced(error: ForcedOfflineError): void {
    call(this.#s.onForcedOffline, error);
  }

  #tell(change: StatusChange): void {
    this.#status = change.status;
    call(this.#s.onStatus, change);
  }
}

/** Calls an app's callback; what it throws goes where the errors of event listeners go. */
function call<T>(callback: (value: T) => void, value: T): void {
  try {
    callback(value);
  } catch (e) {
    queueMicrotask(() => {
      throw e;
    });
  }
}

/** The promise, or a rejection as soon as the signal is aborted. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) {
    return promise;
  }
  let abort!: () => void;
  const aborted = new Promise<never>((_, reject) => (abort = () => reject(signal.reason)));
  signal.addEventListener("abort", abort);
  if (signal.aborted) {
    abort();
  }
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The address with another host and port; undefined if that is no "host:port". */
function withHost(url: string, address: string): string | undefined {
  if (!/^(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\\[\]]+):[0-9]{1,5}$/.test(address)) {
    return undefined;
  }
  const u = new URL(url);
  try {
    return new URL(u.pathname + u.search, `${u.protocol}//${address}`).href;
  } catch {
    return undefined;
  }
}

/** A wait that can be made shorter, but not shorter than the server asked for. */
class Pause {
  /** Resolves when the wait is over or the signal aborted. */
  readonly over: Promise<void>;
  readonly #clock: Settings["clock"];
  readonly #earliest: number;
  readonly #timer: Timer;
  #until: number;

  constructor(clock: Settings["clock"], atLeastMS: number, waitMS: number, stop: AbortSignal) {
    this.#clock = clock;
    this.#earliest = clock.now() + atLeastMS;
    this.#until = clock.now() + waitMS;
    let done!: () => void;
    this.over = new Promise((resolve) => {
      done = () => {
        stop.removeEventListener("abort", done);
        this.#timer.stop();
        resolve();
      };
    });
    this.#timer = new Timer(clock, done);
    this.#timer.set(waitMS);
    stop.addEventListener("abort", done);
  }

  /** Ends the wait in so long, if that is sooner. */
  shorten(waitMS: number): void {
    const until = Math.max(this.#clock.now() + waitMS, this.#earliest);
    if (until < this.#until) {
      this.#until = until;
      this.#timer.set(until - this.#clock.now());
    }
  }
}
