// An app for Node, compiled without the browser's types: the types of the package must stand on their own.

import { Client, ForcedOfflineError, type Login, webSocket } from "@rollcall/client";

const client = new Client({
  url: "wss://presence.example.com/v1",
  sdkAppID: 1_400_000_000,
  userID: "alice",
  userSig: async () => "sig",
  deviceID: "kept",
  WebSocket: webSocket({ tls: { ca: "pem" }, headers: { Origin: "https://app.example" } }),
  onLogin: (l: Login) => console.log(l.instID, l.kicked.map((k) => k.platform)),
  onStatus: (s) => s.status === "waiting" && console.log(s.error.message, s.waitMS),
});

client.run(AbortSignal.timeout(1_000)).catch((e: unknown) => {
  if (e instanceof ForcedOfflineError) {
    console.log(e.byPlatform, e.byDeviceModel, e.time);
  }
});
