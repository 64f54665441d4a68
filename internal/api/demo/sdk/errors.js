// What ends a link or a run. Tell them apart by class; `code` is a row of the code table.
/** The base of all errors that end a link or a run. */
export class RollcallError extends Error {
    name = "RollcallError";
    constructor(text, options) {
        super(`rollcall: ${text}`, options);
    }
}
function describe(v) {
    return `${v.code} ${v.codeName}: ${v.text}`;
}
/** A login that the server did not let in. A run ends with it only if `mayReconnect` is false. */
export class RefusedError extends RollcallError {
    name = "RefusedError";
    code;
    codeName;
    text;
    mayReconnect;
    retryAfterMS;
    /** The login was a resume. */
    resume;
    constructor(v, resume) {
        super(`${resume ? "resume" : "login"} refused: ${describe(v)}`);
        this.code = v.code;
        this.codeName = v.codeName;
        this.text = v.text;
        this.mayReconnect = v.mayReconnect;
        this.retryAfterMS = v.retryAfterMS;
        this.resume = resume;
    }
}
/** The server's word that it ends the link. A run ends with it only if `mayReconnect` is false. */
export class ForcedOfflineError extends RollcallError {
    name = "ForcedOfflineError";
    code;
    codeName;
    text;
    mayReconnect;
    retryAfterMS;
    byPlatform;
    byDeviceModel;
    time;
    constructor(v) {
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
    name = "ClosedError";
    constructor() {
        super("client closed");
    }
}
/** The server did not answer in time. */
export class NoAnswerError extends RollcallError {
    name = "NoAnswerError";
    constructor(to) {
        super(`no answer from the server in time: ${to}`);
    }
}
/** The server broke the protocol. */
export class ProtocolError extends RollcallError {
    name = "ProtocolError";
    constructor(what) {
        super(`the server broke the protocol: ${what}`);
    }
}
/** The link could not be opened, or ended without a last message. */
export class LinkLostError extends RollcallError {
    name = "LinkLostError";
    /** The WebSocket close code; 1006 if the link just ended. */
    closeCode;
    constructor(what, closeCode, reason) {
        super(`${what} (${closeCode}${reason && ` ${reason}`})`);
        this.closeCode = closeCode;
    }
}
