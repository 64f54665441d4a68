// What ends a link or a run. Tell them apart by class; `code` is a row of the code table.

/** The base of all errors that end a link or a run. */
export class RollcallError extends Error {
  override name = "RollcallError";
  constructor(text: string, options?: ErrorOptions) {
    super(`rollcall: ${text}`, options);
  }
}

/** What the server says with a refusal and with a forced offline. */
export interface Verdict {
  readonly code: number;
  /** The code's name in the table, such as `AnotherLogin`. */
  readonly codeName: string;
  /** For the person or the log; never for comparison. */
  readonly text: string;
  readonly mayReconnect: boolean;
  readonly retryAfterMS: number;
}

function describe(v: Verdict): string {
  return `${v.code} ${v.codeName}: ${v.text}`;
}

/** A login that the server did not let in. A run ends with it only if `mayReconnect` is false. */
export class RefusedError extends RollcallError implements Verdict {
  override name = "RefusedError";
  readonly code: number;
  readonly codeName: string;
  readonly text: string;
  readonly mayReconnect: boolean;
  readonly retryAfterMS: number;
  /** The login was a resume. */
  readonly resume: boolean;

  constructor(v: Verdict, resume: boolean) {
    super(`${resume ? "resume" : "login"} refused: ${describe(v)}`);
    this.code = v.code;
    this.codeName = v.codeName;
    this.text = v.text;
    this.mayReconnect = v.mayReconnect;
    this.retryAfterMS = v.retryAfterMS;
    this.resume = resume;
  }
}

/** Who and when, with a forced offline. */
export interface ForcedBy {
  /** With code 6001, who logged in; else "". */
  readonly byPlatform: string;
  readonly byDeviceModel: string;
  /** When the server decided it. */
  readonly time: Date;
}

/** The server's word that it ends the link. A run ends with it only if `mayReconnect` is false. */
export class ForcedOfflineError extends RollcallError implements Verdict, ForcedBy {
  override name = "ForcedOfflineError";
  readonly code: number;
  readonly codeName: string;
  readonly text: string;
  readonly mayReconnect: boolean;
  readonly retryAfterMS: number;
  readonly byPlatform: string;
  readonly byDeviceModel: string;
  readonly time: Date;

  constructor(v: Verdict & ForcedBy) {
    super(`forced offline: ${describe(v)}${v.byPlatform ? ` (by ${v.byPlatform} ${JSON.stringify(v.byDeviceModel)})` : ""}`);
    this.code = v.code;
    this.codeName = v.codeName;
    this.text = v.text;
    this.mayReconnect = v.mayReconnect;
    this.retryAfterMS = v.retryAfterMS;
    this.byPlatform = v.byPlatform;
    this.byDeviceModel = v.byDeviceModel;
    this.time = v.time;
  }
}

/** The run was ended by `close()`. */
export class ClosedError extends RollcallError {
  override name = "ClosedError";
  constructor() {
    super("client closed");
  }
}

/** The server did not answer in time. */
export class NoAnswerError extends RollcallError {
  override name = "NoAnswerError";
  constructor(to: string) {
    super(`no answer from the server in time: ${to}`);
  }
}

/** The server broke the protocol. */
export class ProtocolError extends RollcallError {
  override name = "ProtocolError";
  constructor(what: string) {
    super(`the server broke the protocol: ${what}`);
  }
}

/** The link could not be opened, or ended without a last message. */
export class LinkLostError extends RollcallError {
  override name = "LinkLostError";
  /** The WebSocket close code; 1006 if the link just ended. */
  readonly closeCode: number;

  constructor(what: string, closeCode: number, reason: string) {
    super(`${what} (${closeCode}${reason && ` ${reason}`})`);
    this.closeCode = closeCode;
  }
}
