// A real server, bin/rollcall, on free ports.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { eventually } from "./chromium.js";

/** The root of the repository. */
export const repo = new URL("../../../", import.meta.url);

/** The server's binary: `make build`. */
export const rollcall = process.env["ROLLCALL"] ?? fileURLToPath(new URL("bin/rollcall", repo));

/** The app of `--dev`, whose key is public. */
export const app = 1_400_000_000;
const key = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
const administrator = "administrator";
const adminToken = "dev";

const demo = (await import(new URL("internal/api/demo/usersig.js", repo).href)) as {
  userSig(of: { sdkAppID: number; key: string; userID: string; timeS: number; expireS: number }): Promise<string>;
};

/** A UserSig of the user, made by the demo page's code. */
export function userSig(userID: string, when = { timeS: Math.floor(Date.now() / 1000), expireS: 3_600 }): Promise<string> {
  return demo.userSig({ sdkAppID: app, key, userID, ...when });
}

/** Makes a certificate of 127.0.0.1 that nobody but itself has signed: cert.pem and key.pem in dir. */
export function makeCertificate(dir: string): { cert: string; key: string } {
  const goroot = execFileSync("go", ["env", "GOROOT"], { encoding: "utf8" }).trim();
  const generate = join(goroot, "src/crypto/tls/generate_cert.go");
  execFileSync("go", ["run", generate, "-host", "127.0.0.1", "-ca", "-ecdsa-curve", "P256"], { cwd: dir, stdio: "pipe" });
  return { cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
}

/** What query_online_status says of a user. */
export interface Presence {
  status: string;
  instances: { Platform: string; Status: string; Instid: number }[];
}

export class Server {
  readonly #dir: string;
  readonly #more: string[];
  #process: ChildProcess | undefined;
  #addr = new Map<string, string>();
  #log = "";

  private constructor(dir: string, more: string[]) {
    this.#dir = dir;
    this.#more = more;
  }

  /** Starts a server with an empty store. */
  static async start(...more: string[]): Promise<Server> {
    await access(rollcall).catch(() => assert.fail(`there is no ${rollcall}: make build`));
    const s = new Server(await mkdtemp(join(tmpdir(), "rollcall-server-")), more);
    await s.restart();
    return s;
  }

  /** Starts the server again, after stop() or kill(), at the same addresses and with what it remembers. */
  async restart(): Promise<void> {
    assert.equal(this.#process, undefined);
    const args = ["serve", "--dev", "--data-dir", join(this.#dir, "data"), ...this.#more];
    for (const name of ["native", "ws", "mqtt", "api", "admin"]) {
      args.push(`--listen-${name}`, this.#addr.get(name) ?? "127.0.0.1:0");
    }
    const child = spawn(rollcall, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.#log += text));
    let said = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => (said += text));
    const line = await eventually(`the server listens: ${this.#log}`, async () => {
      assert.equal(child.exitCode, null, `the server has ended: ${this.#log}`);
      return said.includes("\n") ? said.slice(0, said.indexOf("\n")) : undefined;
    });
    this.#addr = new Map(line.split(" ").slice(1).map((pair) => pair.split("=", 2) as [string, string]));
  }

  /** Where a listener listens. */
  addr(name: string): string {
    return this.#addr.get(name) ?? assert.fail(`there is no listener ${name}: ${[...this.#addr.keys()]}`);
  }

  get ws(): string {
    return `ws://${this.addr("ws")}/v1`;
  }

  get demo(): string {
    return `http://${this.addr("admin")}/demo/`;
  }

  /** Stops it as an operator does. */
  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  /** Kills it as a fault does. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child && child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, "exit");
    }
  }

  /** Ends it and removes what it stored. */
  async close(): Promise<void> {
    await this.kill();
    await rm(this.#dir, { recursive: true, force: true });
  }

  /** Calls the REST API as a backend does. */
  async rest(command: string, body: object): Promise<any> {
    const query = new URLSearchParams({
      sdkappid: String(app),
      identifier: administrator,
      usersig: await userSig(administrator),
      random: "1",
      contenttype: "json",
    });
    const response = await fetch(`http://${this.addr("api")}/v4/${command}?${query}`, { method: "POST", body: JSON.stringify(body) });
    return response.json();
  }

  /** Calls the console about the app. */
  async console(method: string, path: string, body: object): Promise<void> {
    const response = await fetch(`http://${this.addr("admin")}/console/v1/apps/${app}${path}`, {
      method,
      body: JSON.stringify(body),
      headers: { Authorization: `Bearer ${adminToken}` },
    });
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.text()}`);
  }

  async presence(userID: string): Promise<Presence> {
    const a = await this.rest("openim/query_online_status", { To_Account: [userID], IsNeedDetail: 1, IsReturnInstid: 1 });
    const r = a.QueryResult?.[0];
    return { status: r?.Status ?? "", instances: r?.Detail ?? [] };
  }

  /** Waits until the user has this status. */
  until(userID: string, status: string): Promise<unknown> {
    return eventually(`${userID} is ${status}`, async () => (await this.presence(userID)).status === status);
  }

  /** The value of a metric, all its labels added up. */
  async metric(name: string, label = ""): Promise<number> {
    const text = await (await fetch(`http://${this.addr("admin")}/metrics`)).text();
    let sum = 0;
    for (const line of text.split("\n")) {
      if (new RegExp(`^${name}[{ ]`).test(line) && line.includes(label)) {
        sum += Number(line.slice(line.lastIndexOf(" ") + 1));
      }
    }
    return sum;
  }
}
