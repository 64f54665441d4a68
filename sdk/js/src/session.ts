import { Timer } from "./clock.js";
import { ForcedOfflineError, LinkLostError, NoAnswerError, ProtocolError, RefusedError, RollcallError } from "./errors.js";
import { type LoginMessage, parseMessage, type ServerMessage, subProtocol } from "./messages.js";
import type { Settings, WebSocketLike } from "./options.js";
import type { Ending } from "./status.js";

export type LoginOK = Extract<ServerMessage, { type: "LoginOK" }>;

/** What a session tells its client while it goes on. */
export interface SessionEvents {
  welcome(ok: LoginOK): void;
  forced(error: ForcedOfflineError): void;
  /** Somebody waits for a logout. */
  wantsLogout(): boolean;
}

/** Bounds of the heartbeat interval, whatever the server says. */
const minHeartbeatMS = 1_000;
const maxHeartbeatMS = 3_600_000;

/** Normal closure: the only code below 3000 that a client may give. */
const normalClosure = 1000;

/** A session is one try: connect, log in, stay until the link ends. */
export class Session {
  /** Settles once, when the link has ended. */
  readonly ended: Promise<Ending>;

  readonly #s: Settings;
  readonly #url: string;
  readonly #login: LoginMessage;
  readonly #events: SessionEvents;
  readonly #socket: WebSocketLike;
  readonly #deadline: Timer; // of the connection, the login's answer, then of what is open
  readonly #beat: Timer;
  #end!: (ending: Ending) => void;
  #open: "Heartbeat" | "Logout" | "" = ""; // what the server has not answered yet
  #askedLogout = false;
  #onlineSince: number | undefined;
  #intervalMS = 0;
  #lastBeat = 0;
  #lastHeard = 0;

  /** Connects; throws if the platform refuses to try. */
  constructor(s: Settings, url: string, login: LoginMessage, events: SessionEvents) {
    this.#s = s;
    this.#url = url;
    this.#login = login;
    this.#events = events;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#deadline = new Timer(s.clock, () => this.#overdue());
    this.#beat = new Timer(s.clock, () => this.#heartbeat());
    this.#socket = new s.WebSocket(url, [subProtocol]);
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = (e: { data: unknown }) => this.#heard(e.data);
    this.#socket.onclose = (e: { code?: number; reason?: string; retryAfterMS?: number }) => this.#lost(e.code ?? 1006, e.reason ?? "", e.retryAfterMS ?? 0);
    this.#socket.onerror = null; // a close follows, and says no less
    this.#deadline.set(s.connectTimeoutMS);
  }

  /** Drops the link. */
  drop(error: Error): void {
    this.#finish({ error });
  }

  /** Asks the server to log the device out, once it is logged in. */
  logout(): void {
    if (this.#onlineSince !== undefined) {
      this.#askedLogout = true;
      this.#ask("Logout");
    }
  }

  /** Finds out whether the link still lives, without waiting for the next heartbeat. */
  probe(): void {
    if (this.#onlineSince !== undefined && this.#open === "" && this.#s.clock.now() - this.#lastHeard >= minHeartbeatMS) {
      this.#heartbeat();
    }
  }

  #opened(): void {
    if (this.#socket.protocol !== subProtocol) {
      this.#finish({ error: new ProtocolError(`it speaks ${JSON.stringify(this.#socket.protocol)}, not ${subProtocol}`), unreachable: true });
      return;
    }
    this.#deadline.set(this.#s.answerTimeoutMS);
    this.#send(this.#login);
  }

  #heard(data: unknown): void {
    let m: ServerMessage;
    try {
      m = parseMessage(data);
    } catch (e) {
      this.#finish({ error: e as ProtocolError, unreachable: this.#onlineSince === undefined });
      return;
    }
    this.#lastHeard = this.#s.clock.now();
    this.#handle(m);
    if (this.#onlineSince !== undefined) {
      this.#answered();
      // Set again from here and not only from its own callback: browsers slow timers that set each other down to one a
      // minute in hidden tabs, which is too slow for a heartbeat. A timer that a message sets starts no such chain.
      this.#setBeat();
    }
  }

  #handle(m: ServerMessage): void {
    switch (m.type) {
      case "HeartbeatOK":
      case "Unknown":
        return;
      case "LoginOK":
        if (this.#onlineSince !== undefined) {
          break;
        }
        this.#welcome(m);
        return;
      case "LoginRefused": {
        const error = new RefusedError(m, this.#login.Resume);
        this.#finish({ error, final: !m.mayReconnect, retryAfterMS: m.retryAfterMS });
        return;
      }
      case "ForcedOffline": {
        const error = new ForcedOfflineError(m);
        this.#finish({ error, final: !m.mayReconnect, retryAfterMS: m.retryAfterMS });
        this.#events.forced(error);
        return;
      }
      case "Redirect": {
        const error = new RollcallError(`${this.#url} redirects to ${JSON.stringify(m.address)}`);
        this.#finish({ error, redirect: m.address, retryAfterMS: m.retryAfterMS });
        return;
      }
      case "LogoutOK":
        if (!this.#askedLogout) {
          break;
        }
        this.#finish({ final: true });
        return;
    }
    this.#finish({ error: new ProtocolError(`unexpected message ${m.type}`) });
  }

  #welcome(m: LoginOK): void {
    this.#deadline.stop();
    this.#onlineSince = this.#lastBeat = this.#s.clock.now();
    this.#intervalMS = Math.min(Math.max(m.heartbeatIntervalMS, minHeartbeatMS), maxHeartbeatMS);
    this.#events.welcome(m);
    if (this.#events.wantsLogout()) {
      this.logout();
    }
  }

  #setBeat(): void {
    this.#beat.set(this.#lastBeat + this.#intervalMS - this.#s.clock.now());
  }

  #heartbeat(): void {
    this.#lastBeat = this.#s.clock.now();
    this.#setBeat();
    this.#ask("Heartbeat");
  }

  /** Sends a question. Time runs from the first that is not answered; a logout is the last thing a client says. */
  #ask(type: "Heartbeat" | "Logout"): void {
    if (this.#open === "Logout") {
      return;
    }
    if (this.#open !== type) {
      this.#open = type;
      this.#deadline.set(this.#s.answerTimeoutMS);
    }
    this.#send({ Type: type });
  }

  /** Notes that a message came: any will do for a heartbeat. */
  #answered(): void {
    if (this.#open === "Heartbeat") {
      this.#open = "";
      this.#deadline.stop();
    }
  }

  /** Tells of no error: a link that cannot be written to may still hold the server's last word, which comes before its end. */
  #send(message: object): void {
    try {
      this.#socket.send(JSON.stringify(message));
    } catch {
      // Found out by the link's end, or by the answer that does not come.
    }
  }

  #overdue(): void {
    if (this.#open) {
      this.#finish({ error: new NoAnswerError(this.#open) });
    } else {
      this.#finish({ error: new NoAnswerError(`login at ${this.#url}`), unreachable: true });
    }
  }

  #lost(code: number, reason: string, retryAfterMS: number): void {
    const online = this.#onlineSince !== undefined;
    const error = new LinkLostError(online ? "link lost" : `cannot log in at ${this.#url}`, code, reason);
    this.#finish({ error, retryAfterMS, unreachable: !online });
  }

  #finish(ending: Ending): void {
    if (!this.#socket.onclose) {
      return; // it has ended already
    }
    this.#deadline.stop();
    this.#beat.stop();
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.onerror = () => {}; // Node's would be thrown
    this.#socket.close(normalClosure);
    const heldMS = this.#onlineSince === undefined ? {} : { heldMS: Math.max(this.#s.clock.now() - this.#onlineSince, 1) };
    this.#onlineSince = undefined;
    this.#end({ ...ending, ...heldMS });
  }
}
