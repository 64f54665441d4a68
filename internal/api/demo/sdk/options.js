import { systemClock } from "./clock.js";
import { tabStorage } from "./device.js";
import { limits, platforms } from "./messages.js";
import { browserEvents } from "./page.js";
/** The version of this client; package.json has the same. */
export const version = "0.1.0";
const nothing = () => { };
/** Fills in the defaults and throws for the first value that cannot work. */
export function settings(o) {
    const backoffMinMS = o.backoffMinMS ?? 1_000;
    const platformWebSocket = globalThis.WebSocket;
    const WebSocket = o.WebSocket ?? platformWebSocket;
    if (!WebSocket) {
        throw new TypeError("rollcall: there is no WebSocket here; give one as an option");
    }
    const s = {
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
function defaultLocks(o) {
    if (o.locks !== undefined) {
        return o.locks ?? undefined;
    }
    return o.storage === undefined ? globalThis.navigator?.locks : undefined;
}
function check(s) {
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
function checkURL(url) {
    let scheme = "";
    try {
        scheme = new URL(url).protocol;
    }
    catch {
        // No URL at all: told below.
    }
    if (scheme !== "ws:" && scheme !== "wss:") {
        throw new TypeError(`rollcall: url ${JSON.stringify(url)} is no ws:// or wss:// address`);
    }
}
/** The login of these settings. */
export function loginMessage(s, deviceID, userSig, ticket, resume) {
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
function byteLength(text) {
    return wellFormed(text) ? utf8.encode(text).length : Infinity;
}
/** Whether every surrogate has its other half. */
function wellFormed(text) {
    return !/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(text);
}
/**
 * Throws for the first field that no server accepts. It looks at the form only: whether UserSig and ticket
 * are good, the server says.
 */
export function checkLogin(m) {
    if (!Number.isInteger(m.SDKAppID) || m.SDKAppID < 1 || m.SDKAppID > 2 ** 32 - 1) {
        throw new RangeError(`rollcall: sdkAppID ${m.SDKAppID} is not 1 to 4294967295`);
    }
    if (typeof m.UserID !== "string" || !/^[\x20-\x7e]{1,32}$/.test(m.UserID)) {
        throw new RangeError(`rollcall: userID ${JSON.stringify(m.UserID)} is not 1 to ${limits.userID} characters of 0x20 to 0x7e`);
    }
    if (!platforms.includes(m.Platform)) {
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
    ]) {
        if (typeof text !== "string" || byteLength(text) > max) {
            throw new RangeError(`rollcall: ${name} ${JSON.stringify(text)} is not at most ${max} bytes of UTF-8`);
        }
    }
    if (typeof m.UserSig !== "string" || byteLength(JSON.stringify(m)) > limits.login) {
        throw new RangeError(`rollcall: userSig makes a login larger than ${limits.login} bytes`);
    }
}
/** How many characters of base64url without padding so many bytes have. */
export function encodedLength(bytes) {
    return Math.ceil((bytes * 4) / 3);
}
