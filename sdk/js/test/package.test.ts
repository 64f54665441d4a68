// What npm would publish: packed from a checkout that was never built, and installed in a project of its own.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { repo } from "./server.js";

const run = promisify(execFile);
const here = (name: string) => fileURLToPath(new URL(name, repo));

let dir = "";
let app = ""; // a project that depends on the package

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "rollcall-package-"));
  const checkout = join(dir, "sdk", "js");
  app = join(dir, "app");
  await mkdir(checkout, { recursive: true });
  await mkdir(app);
  await cp(here("LICENSE"), join(dir, "LICENSE"));
  for (const name of ["package.json", "README.md", "src", "tsconfig.json", "tsconfig.node.json"]) {
    await cp(here(`sdk/js/${name}`), join(checkout, name), { recursive: true });
  }
  await symlink(here("sdk/js/node_modules"), join(checkout, "node_modules"));
  await run("npm", ["pack", "--pack-destination", dir], { cwd: checkout });
  const { version } = JSON.parse(await readFile(join(checkout, "package.json"), "utf8"));
  await writeFile(join(app, "package.json"), "{}");
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", join(dir, `rollcall-client-${version}.tgz`)], { cwd: app });
});

after(() => rm(dir, { recursive: true, force: true }));

test("the package has what it exports, and its licence", async () => {
  const root = join(app, "node_modules", "@rollcall", "client");
  const files = (entry: unknown): string[] => (typeof entry === "string" ? [entry] : Object.values(entry as object).flatMap(files));
  const exported = files(JSON.parse(await readFile(join(root, "package.json"), "utf8")).exports);
  assert.ok(exported.length >= 6);
  for (const file of [...exported, "README.md", "LICENSE"]) {
    await readFile(join(root, file)).catch((e: unknown) => assert.fail(String(e)));
  }
});

test("a project of its own can import every entry", async () => {
  const script = `
    import { Client, webSocket } from "@rollcall/client";
    import * as node from "@rollcall/client/node";
    import * as browser from "@rollcall/client/browser";
    console.log(typeof webSocket, node.Client === Client, typeof browser.Client, "webSocket" in browser);`;
  await writeFile(join(app, "main.mjs"), script);
  const { stdout } = await run(process.execPath, ["main.mjs"], { cwd: app });
  assert.equal(stdout, "function true function false\n");
});
