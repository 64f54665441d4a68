// A WebSocket client for Node 20, which has none of its own: RFC 6455 over node:http and node:https, without extensions.

import { createHash, randomBytes } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";

import type { WebSocketConstructor, WebSocketLike } from "../options.js";
import { decodeText, encodeFrame, FrameError, FrameReader, Opcode, parseClose, validCloseCode } from "./frames.js";

/** What a WebSocket may be told besides its address. */
export interface WebSocketOptions {
  /** For wss: authorities, a client certificate and so on. */
  tls?: ConnectionOptions;
  /** Further headers of the handshake, such as Origin. */
  headers?: Record<string, string>;
  /** The most bytes of a message; a longer one ends the link. Default 65,539. */
  maxMessage?: number;
}

/** Appended to the key of a handshake (RFC 6455 section 1.3). */
const handshakeGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** How long the server may take to answer a close frame. */
const closeTimeoutMS = 2_000;

const abnormalClosure = 1006;

/** Makes a WebSocket class with these options. */
export function webSocket(options: WebSocketOptions = {}): WebSocketConstructor {
  return class extends NodeWebSocket {
    constructor(url: string, protocols: string[] = []) {
      super(url, protocols, options);
    }
  };
}

/**
 * The part of the browser's WebSocket that the client uses, with the same behaviour: events come after
 * the constructor has returned, and `onclose` comes once, last.
 */
export class NodeWebSocket implements WebSocketLike {
  onopen: ((event: object) => unknown) | null = null;
  onmessage: ((event: { data: string | Buffer }) => unknown) | null = null;
  onclose: ((event: { code: number; reason: string; wasClean: boolean; retryAfterMS: number }) => unknown) | null = null;
  onerror: ((event: { message: string }) => unknown) | null = null;
  /** The sub-protocol that the server chose; "" before `onopen`. */
  protocol = "";

  readonly #request: http.ClientRequest;
  readonly #reader: FrameReader;
  #socket: Socket | undefined; // once the handshake is done
  #sentClose = false;
  #closed = false;
  #ending = { code: abnormalClosure, reason: "", wasClean: false, retryAfterMS: 0 }; // what onclose will be told
  #closeTimer: NodeJS.Timeout | undefined;

  constructor(url: string, protocols: string[] = [], options: WebSocketOptions = {}) {
    const target = new URL(url);
    const secure = target.protocol === "wss:";
    if (!secure && target.protocol !== "ws:") {
      throw new SyntaxError(`${url} is no ws: or wss: address`);
    }
    this.#reader = new FrameReader(options.maxMessage ?? 65_539);
    const key = randomBytes(16).toString("base64");
    target.protocol = secure ? "https:" : "http:";
    const init: https.RequestOptions = {
      ...(secure ? options.tls : {}),
      agent: false, // a connection of its own
      headers: {
        ...options.headers,
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        ...(protocols.length ? { "Sec-WebSocket-Protocol": protocols.join(", ") } : {}),
      },
    };
    this.#request = secure ? https.request(target, init) : http.request(target, init);
    this.#request.on("upgrade", (response, socket, head) => this.#upgraded(response, socket as Socket, head, key, protocols));
    this.#request.on("response", (response) => this.#fail(`the server answered ${response.statusCode}`, retryAfterMS(response)));
    this.#request.on("error", (e) => this.#fail(e.message));
    this.#request.end();
  }

  send(data: string): void {
    if (this.#socket && !this.#sentClose) {
      this.#write(Opcode.text, Buffer.from(data));
    }
  }

  close(code = 1000, reason = ""): void {
    if (code !== 1000 && (code < 3000 || !validCloseCode(code))) {
      throw new RangeError(`close code ${code}`);
    }
    if (!this.#socket) {
      this.#fail("closed before the connection was established");
      return;
    }
    this.#sendClose(code, reason);
  }

  #upgraded(response: http.IncomingMessage, socket: Socket, head: Buffer, key: string, protocols: string[]): void {
    const fault = handshakeFault(response, key, protocols);
    if (fault || this.#closed) {
      socket.destroy();
      this.#fail(fault);
      return;
    }
    this.#socket = socket;
    this.protocol = response.headers["sec-websocket-protocol"] ?? "";
    socket.setNoDelay(true);
    socket.on("error", () => {}); // the close that follows says enough
    socket.on("close", () => this.#gone());
    socket.on("end", () => socket.end());
    this.onopen?.({});
    socket.on("data", (bytes: Buffer) => this.#received(bytes));
    if (head.length) {
      this.#received(head);
    }
  }

  #received(bytes: Buffer): void {
    try {
      for (const m of this.#reader.push(bytes)) {
        this.#take(m.opcode, m.payload);
        if (this.#ending.wasClean) {
          return; // nothing counts behind a close frame
        }
      }
    } catch (e) {
      if (!(e instanceof FrameError)) {
        throw e;
      }
      this.#ending = { ...this.#ending, code: e.closeCode, reason: e.message };
      this.#sendClose(e.closeCode, "");
      this.#socket?.destroySoon();
    }
  }

  #take(opcode: number, payload: Buffer): void {
    switch (opcode) {
      case Opcode.text:
        this.onmessage?.({ data: decodeText(payload) });
        return;
      case Opcode.binary:
        this.onmessage?.({ data: payload });
        return;
      case Opcode.ping:
        if (!this.#sentClose) {
          this.#write(Opcode.pong, payload);
        }
        return;
      case Opcode.close: {
        const { code, reason } = parseClose(payload);
        this.#ending = { code, reason, wasClean: true, retryAfterMS: 0 };
        this.#sendClose(code === 1005 ? 1000 : code, "");
        this.#socket?.end(); // the server closes; if not, the timer does
      }
    }
  }

  #sendClose(code: number, reason: string): void {
    if (this.#sentClose) {
      return;
    }
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code, 0);
    payload.write(reason, 2);
    this.#write(Opcode.close, payload.subarray(0, 125));
    this.#sentClose = true;
    this.#closeTimer = setTimeout(() => this.#socket?.destroy(), closeTimeoutMS);
    this.#closeTimer.unref();
  }

  #write(opcode: number, payload: Buffer): void {
    if (this.#socket?.writable) {
      this.#socket.write(encodeFrame(opcode, payload, randomBytes(4)));
    }
  }

  /** The handshake came to nothing. */
  #fail(reason: string, retryAfterMS = 0): void {
    this.#request.destroy();
    this.#ending = { code: abnormalClosure, reason, wasClean: false, retryAfterMS };
    queueMicrotask(() => {
      if (!this.#closed) {
        this.onerror?.({ message: reason });
      }
      this.#gone();
    });
  }

  #gone(): void {
    clearTimeout(this.#closeTimer);
    if (!this.#closed) {
      this.#closed = true;
      this.onclose?.(this.#ending);
    }
  }
}

/** When a server without room wants to be asked again; browsers do not tell. */
function retryAfterMS(response: http.IncomingMessage): number {
  const seconds = response.headers["retry-after"] ?? "";
  return /^\d{1,7}$/.test(seconds) ? Number(seconds) * 1_000 : 0;
}

/** What is wrong with the server's side of the handshake (RFC 6455 section 4.1); "" if nothing is. */
function handshakeFault(response: http.IncomingMessage, key: string, protocols: string[]): string {
  const h = response.headers;
  const accept = createHash("sha1")
    .update(key + handshakeGUID)
    .digest("base64");
  const chosen = h["sec-websocket-protocol"];
  if (h.upgrade?.toLowerCase() !== "websocket") {
    return `an upgrade to ${h.upgrade}`;
  }
  if (h["sec-websocket-accept"] !== accept) {
    return "a handshake that answers another key";
  }
  if (h["sec-websocket-extensions"]) {
    return "an extension that nobody asked for";
  }
  if (chosen !== undefined && !protocols.includes(chosen)) {
    return `a sub-protocol that nobody asked for: ${chosen}`;
  }
  return "";
}
