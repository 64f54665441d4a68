// What this package has in common with the rest of the repository is the same there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { inflateSync } from "node:zlib";

import { Code, platforms, version } from "@rollcall/client/browser";
import { limits, subProtocol } from "../dist/messages.js";
import { app, repo, rollcall, userSig } from "./server.js";

const read = (path: string) => readFile(new URL(path, repo), "utf8");

test("the demo page has the client as it is built", async () => {
  const built = (await readdir(new URL("sdk/js/dist/", repo))).filter((f) => f.endsWith(".js")).sort();
  assert.deepEqual((await readdir(new URL("internal/api/demo/sdk/", repo))).sort(), built, "make demo");
  for (const f of built) {
    assert.equal(await read(`internal/api/demo/sdk/${f}`), await read(`sdk/js/dist/${f}`), `${f} differs: make demo`);
  }
});

test("codes, platforms and limits are those of codec", async () => {
  const codes = [...(await read("codec/code.go")).matchAll(/^\t(Code\w+)\s+Code = (\d+)$/gm)].map((m) => [m[1]!, Number(m[2])] as const);
  const names = new Map([...(await read("codec/code.go")).matchAll(/^\t\{(Code\w+), "(\w+)"/gm)].map((m) => [m[1]!, m[2]!]));
  assert.ok(codes.length > 20);
  assert.deepEqual(Code, Object.fromEntries(codes.map(([constant, number]) => [names.get(constant), number])), "make demo");

  const table = /platformNames = \[\.\.\.\]string\{([^}]*)\}/.exec(await read("codec/platform.go"))![1]!;
  assert.deepEqual([...table.matchAll(/"(\w+)"/g)].map((m) => m[1]), [...platforms]);

  const limit = await read("codec/limit.go");
  const of = (name: string) => Number(new RegExp(`^\\t${name}\\s+= (\\d+)`, "m").exec(limit)![1]);
  assert.deepEqual(limits, {
    userID: of("MaxUserID"),
    deviceID: of("MaxDeviceID"),
    sdkVersion: of("MaxSDKVersion"),
    deviceModel: of("MaxDeviceModel"),
    ticket: of("MaxTicket"),
    login: of("MaxFrameBeforeLogin") << 10,
  });
  assert.equal(subProtocol, "rollcall.json.v1");
});

test("the package needs nothing, is versioned once, and names no registry", async () => {
  const manifest = JSON.parse(await read("sdk/js/package.json"));
  assert.equal(manifest.version, version);
  for (const kind of ["dependencies", "peerDependencies", "optionalDependencies", "bundledDependencies"]) {
    assert.equal(manifest[kind], undefined, kind);
  }
  for (const [name, v] of Object.entries(manifest.devDependencies)) {
    assert.match(String(v), /^\d+\.\d+\.\d+$/, `${name} is not pinned`);
  }
  const lock = await read("sdk/js/package-lock.json");
  assert.doesNotMatch(lock, /"resolved"|https?:/);
  for (const [path, p] of Object.entries<{ integrity?: string }>(JSON.parse(lock).packages)) {
    assert.ok(path === "" || p.integrity, `${path} has no integrity`);
  }
});

test("the page's UserSig is that of the specification, and the server takes it", async () => {
  const sig = await userSig("xiaojun", { timeS: 1_600_000_000, expireS: 86_400 });
  const packed = Buffer.from(sig.replace(/[*\-_]/g, (c) => ({ "*": "+", "-": "/", _: "=" })[c]!), "base64");
  assert.deepEqual(JSON.parse(inflateSync(packed).toString()), {
    "TLS.ver": "2.0",
    "TLS.identifier": "xiaojun",
    "TLS.sdkappid": app,
    "TLS.expire": 86_400,
    "TLS.time": 1_600_000_000,
    "TLS.sig": "F7rhX8gUOlwhSaoxU1nT9fNB9LShQdL1ReCJfHY1Ffo=",
  });
  for (const user of ["alice", '"\\/ ~', "x".repeat(32)]) {
    const { stdout } = await promisify(execFile)(rollcall, ["usersig", "verify", "--user", user, await userSig(user)]);
    assert.match(stdout, /^good:/);
  }
});
