// The messages of the WebSocket sub-protocol rollcall.json.v1: one JSON object per text message.
// docs/websocket.md and docs/protocol.md have the flow and what each field means.
import { ProtocolError } from "./errors.js";
/** The WebSocket sub-protocol that the client speaks. */
export const subProtocol = "rollcall.json.v1";
/** The platforms of the table in docs/protocol.md. */
export const platforms = ["Android", "iPhone", "iPad", "HarmonyOS", "Windows", "Mac", "Linux", "Web", "MiniProgram"];
/** Limits of what a login carries, in bytes; codec/limit.go has the same. */
export const limits = { userID: 32, deviceID: 64, sdkVersion: 32, deviceModel: 64, ticket: 256, login: 8192 };
/** Reads a message of the server; throws a ProtocolError if it is none. */
export function parseMessage(data) {
    if (typeof data !== "string") {
        throw new ProtocolError("a binary message");
    }
    const f = Fields.of(data);
    const type = f.text("Type");
    switch (type) {
        case "LoginOK":
            return {
                type,
                instID: f.number("InstID"),
                ticket: f.text("Ticket"),
                serverTimeMS: f.number("ServerTimeMS"),
                heartbeatIntervalMS: f.number("HeartbeatIntervalMS"),
                silenceTimeoutMS: f.number("SilenceTimeoutMS"),
                takenBack: f.bool("TakenBack"),
                kicked: f.list("Kicked").map((k) => ({ platform: k.text("Platform"), instID: k.number("InstID") })),
            };
        case "LoginRefused":
            return { type, ...verdict(f) };
        case "ForcedOffline":
            return {
                type,
                ...verdict(f),
                byPlatform: f.text("ByPlatform"),
                byDeviceModel: f.text("ByDeviceModel"),
                time: new Date(f.number("TimeMS")),
            };
        case "Redirect":
            return { type, address: f.text("Address"), retryAfterMS: f.number("RetryAfterMS") };
        case "HeartbeatOK":
        case "LogoutOK":
            return { type };
    }
    if (f.bool("Optional")) {
        return { type: "Unknown" };
    }
    throw new ProtocolError(`unexpected message ${JSON.stringify(type)}`);
}
function verdict(f) {
    return {
        code: f.number("Code"),
        codeName: f.text("Name"),
        text: f.text("Text"),
        mayReconnect: f.bool("MayReconnect"),
        retryAfterMS: f.number("RetryAfterMS"),
    };
}
/** The members of a JSON object. One that is absent is 0, "", false or empty. */
class Fields {
    #of;
    constructor(object) {
        if (typeof object !== "object" || object === null || Array.isArray(object)) {
            throw new ProtocolError("a message that is no JSON object");
        }
        this.#of = object;
    }
    static of(text) {
        let parsed;
        try {
            parsed = JSON.parse(text);
        }
        catch {
            throw new ProtocolError("a message that is no JSON");
        }
        return new Fields(parsed);
    }
    number(name) {
        const v = this.#get(name) ?? 0;
        if (typeof v !== "number" || !Number.isSafeInteger(v) || v < 0) {
            throw new ProtocolError(`${name} is no count`);
        }
        return v;
    }
    text(name) {
        const v = this.#get(name) ?? "";
        if (typeof v !== "string") {
            throw new ProtocolError(`${name} is no text`);
        }
        return v;
    }
    bool(name) {
        const v = this.#get(name) ?? false;
        if (typeof v !== "boolean") {
            throw new ProtocolError(`${name} is neither true nor false`);
        }
        return v;
    }
    list(name) {
        const v = this.#get(name) ?? [];
        if (!Array.isArray(v)) {
            throw new ProtocolError(`${name} is no list`);
        }
        return v.map((item) => new Fields(item));
    }
    #get(name) {
        return Object.hasOwn(this.#of, name) ? this.#of[name] : undefined;
    }
}
