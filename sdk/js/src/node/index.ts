/**
 * The client for Node 20 and newer: the same, with a WebSocket of its own and without a browser's page and
 * storage. Give it a `deviceID` that is kept, or a `storage`: without, every process is a new device.
 *
 * @module
 */
import { Client as PlainClient } from "../client.js";
import type { Options } from "../options.js";
import { webSocket } from "./websocket.js";

export * from "../index.js";
export { webSocket, type WebSocketOptions } from "./websocket.js";

/** The client with the defaults that fit Node. */
export class Client extends PlainClient {
  constructor(options: Options) {
    super({
      ...options,
      WebSocket: options.WebSocket ?? webSocket(), // an option that is undefined is one that was not given
      storage: options.storage ?? null,
      events: options.events ?? null,
      locks: options.locks ?? null,
    });
  }
}
