// Chromium without a window, driven by the DevTools protocol over a pipe: no driver to install, no port to guess.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

/** How long a test waits for a condition. It bounds a failure; nothing is judged by it. */
export const patienceMS = 60_000;

const pollMS = 20;

type Params = Record<string, unknown>;

interface Answer {
  id?: number;
  method?: string;
  sessionId?: string;
  params?: Params;
  result?: Params;
  error?: { message: string };
}

/** Waits until ask() answers something, and returns it. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined | false | null | "">): Promise<T> {
  const deadline = Date.now() + patienceMS;
  for (;;) {
    const answer = await ask();
    if (answer) {
      return answer;
    }
    if (Date.now() > deadline) {
      assert.fail(`waited in vain: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, pollMS));
  }
}

/** A browser with a profile of its own. */
export class Browser {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #to: Writable;
  readonly #waiting = new Map<number, (a: Answer) => void>();
  readonly #pages = new Map<string, Page>(); // by session
  #lastID = 0;
  #said = ""; // on standard error
  #ended: Promise<unknown>;

  private constructor(child: ChildProcess, profile: string) {
    this.#process = child;
    this.#profile = profile;
    this.#to = child.stdio[3] as Writable;
    this.#to.on("error", () => {}); // the exit says more
    child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.#said = (this.#said + text).slice(-4096)));
    this.#listen(child.stdio[4] as Readable);
    this.#ended = once(child, "exit").then(() => {
      for (const answer of this.#waiting.values()) {
        answer({ error: { message: `the browser has ended: ${this.#said}` } });
      }
      this.#waiting.clear();
    });
  }

  /** Starts Debian's chromium, or what CHROMIUM names. */
  static async start(): Promise<Browser> {
    const profile = await mkdtemp(join(tmpdir(), "rollcall-chromium-"));
    const args = [
      "--headless=new",
      "--remote-debugging-pipe",
      `--user-data-dir=${profile}`,
      "--no-first-run",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ];
    if (process.getuid?.() === 0) {
      args.push("--no-sandbox"); // Chromium's sandbox does not take root
    }
    const child = spawn(process.env["CHROMIUM"] ?? "chromium", args, { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
    await once(child, "spawn");
    return new Browser(child, profile);
  }

  async close(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #listen(from: Readable): void {
    let rest = "";
    from.setEncoding("utf8").on("data", (text: string) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop()!;
      messages.forEach((m) => this.#take(JSON.parse(m) as Answer));
    });
  }

  #take(a: Answer): void {
    if (a.id !== undefined) {
      this.#waiting.get(a.id)?.(a);
      this.#waiting.delete(a.id);
    } else if (a.sessionId) {
      this.#pages.get(a.sessionId)?.told(a.method!, a.params!);
    }
  }

  /** Calls a method of the protocol. */
  async call(method: string, params: Params = {}, sessionId?: string): Promise<any> {
    const id = ++this.#lastID;
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.#to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const a = await answer;
    if (a.error) {
      throw new Error(`${method}: ${a.error.message}`);
    }
    return a.result;
  }

  /** Opens a tab. */
  async open(url: string): Promise<Page> {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const page = await this.attach(targetId as string);
    await page.go(url);
    return page;
  }

  /** The tabs that the test did not open itself. */
  async others(known: Page[]): Promise<string[]> {
    const { targetInfos } = await this.call("Target.getTargets");
    return (targetInfos as { targetId: string; type: string; url: string }[])
      .filter((t) => t.type === "page" && t.url.startsWith("http") && !known.some((p) => p.target === t.targetId))
      .map((t) => t.targetId);
  }

  async attach(target: string): Promise<Page> {
    const { sessionId } = await this.call("Target.attachToTarget", { targetId: target, flatten: true });
    const page = new Page(this, target, sessionId as string);
    this.#pages.set(sessionId as string, page);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) {
      await page.call(`${domain}.enable`);
    }
    return page;
  }
}

/** A tab. */
export class Page {
  readonly target: string;
  /** What the page complained of: exceptions, CSP violations, failed resources. */
  readonly complaints: string[] = [];
  readonly #browser: Browser;
  readonly #session: string;

  constructor(browser: Browser, target: string, session: string) {
    this.#browser = browser;
    this.target = target;
    this.#session = session;
  }

  told(method: string, params: any): void {
    if (method === "Runtime.exceptionThrown") {
      this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    } else if (method === "Log.entryAdded" && params.entry.level === "error") {
      this.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
    }
  }

  call(method: string, params: Params = {}): Promise<any> {
    return this.#browser.call(method, params, this.#session);
  }

  async go(url: string): Promise<void> {
    const { errorText } = await this.call("Page.navigate", { url });
    assert.equal(errorText, undefined, `${url}: ${errorText}`);
    await this.until("document.readyState === 'complete'");
  }

  /** The value of an expression in the page, promises awaited. */
  async eval<T = any>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    if (exceptionDetails) {
      throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    }
    return result.value as T;
  }

  /** Waits until an expression is true in the page, which may navigate meanwhile. */
  async until(expression: string): Promise<void> {
    await eventually(expression, async () => {
      try {
        return await this.eval<boolean>(`Boolean(${expression})`);
      } catch (e) {
        if (/context|navigat/i.test(String(e))) {
          return false;
        }
        throw e;
      }
    });
  }

  /** Presses a key of the keyboard. */
  async press(key: string, text = key.length === 1 ? key : ""): Promise<void> {
    const code = { Enter: 13, Tab: 9, " ": 32 }[key] ?? key.charCodeAt(0);
    const event = { key, windowsVirtualKeyCode: code, text: key === "Enter" ? "\r" : text };
    await this.call("Input.dispatchKeyEvent", { type: "keyDown", ...event });
    await this.call("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async close(): Promise<void> {
    await this.#browser.call("Target.closeTarget", { targetId: this.target });
  }
}
