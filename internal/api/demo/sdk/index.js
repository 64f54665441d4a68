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
export { Code } from "./codes.js";
export { tabDeviceID } from "./device.js";
export { ClosedError, ForcedOfflineError, LinkLostError, NoAnswerError, ProtocolError, RefusedError, RollcallError, } from "./errors.js";
export { platforms } from "./messages.js";
export { version } from "./options.js";
