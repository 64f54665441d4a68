/**
 * Keeps one device of one user logged in to a Rollcall server.
 *
 *     const client = new Client({
 *       url: "wss://presence.example.com/v1",
 *       sdkAppID: 1400000000,
 *       userID: "alice",
 *       userSig: async () => (await fetch("/usersig")).text(),
 *       onForcedOffline: (e) => alert(`logged in elsewhere on ${e.byPlatform} ${e.byDeviceModel}`),
 *     });
 *     await client.run();
 *
 * `logout()` tells the server that the person left: no instance remains. `close()` just drops the link.
 *
 * @module
 */
export { Client } from "./client.js";
export type { Clock } from "./clock.js";
export { Code } from "./codes.js";
export { type KeyValueStorage, type Locks, tabDeviceID } from "./device.js";
export {
  ClosedError,
  type ForcedBy,
  ForcedOfflineError,
  LinkLostError,
  NoAnswerError,
  ProtocolError,
  RefusedError,
  RollcallError,
  type Verdict,
} from "./errors.js";
export { type KickedInstance, type Platform, platforms } from "./messages.js";
export { type Options, version, type WebSocketConstructor, type WebSocketLike } from "./options.js";
export type { PageEvent, PageEvents } from "./page.js";
export type { Login, Status, StatusChange } from "./status.js";
