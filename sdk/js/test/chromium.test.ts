// The client in a real browser: the demo page of a real server, in headless Chromium.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { Browser, eventually, type Page } from "./chromium.js";
import { Server } from "./server.js";

let browser: Browser;
let server: Server;
let user: string; // another one in each test
let users = 0;
let pages: Page[] = [];

const text = (id: string) => `document.getElementById(${JSON.stringify(id)})?.textContent`;
const state = (page: Page, want: string) => page.until(`document.getElementById("state")?.dataset.state === "${want}"`);
const click = (page: Page, id: string) => page.eval(`document.getElementById("${id}").click()`);

async function open(url = server.demo): Promise<Page> {
  const page = await browser.open(url);
  pages.push(page);
  await page.until(`document.getElementById("login") && ${text("name")}`);
  return page;
}

/** Opens the demo page and logs in. */
async function login(platform = "Web"): Promise<Page> {
  const page = await open();
  await page.eval(`document.getElementById("user").value = ${JSON.stringify(user)}, document.getElementById("platform").value = "${platform}"`);
  await click(page, "login");
  await state(page, "online");
  return page;
}

describe("in Chromium", () => {
  before(async () => {
    server = await Server.start();
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });
  beforeEach(() => void (user = `user-${++users}`));
  afterEach(async () => {
    const complaints = pages.flatMap((p) => p.complaints);
    await Promise.all(pages.map((p) => p.close().catch(() => {})));
    pages = [];
    assert.deepEqual(complaints, []); // of the Content-Security-Policy, for instance
  });

  test("a click before the page's script runs submits no form", async () => {
    const page = await open();
    const asleep = `[...new DOMParser().parseFromString(html, "text/html").querySelectorAll("#form button")].every((b) => b.disabled)`;
    assert.ok(await page.eval(`fetch("./").then((r) => r.text()).then((html) => ${asleep})`));
  });

  test("a second tab forces the first offline, and each is told of the other", async () => {
    const first = await login();
    await first.until(`${text("status-text")} === "Online" && document.querySelector("#instances small")`);
    const one = await first.eval<string>(text("inst"));

    const second = await login();
    await state(first, "forced");
    const [nameOfFirst, nameOfSecond] = [await first.eval<string>(text("name")), await second.eval<string>(text("name"))];
    assert.notEqual(await first.eval(text("device")), await second.eval(text("device")));
    assert.match(await first.eval(text("note")), new RegExp(`^Pushed out by Web “${nameOfSecond}” at .*: another device logged in`));
    assert.match(await first.eval(text("log")), /6001 AnotherLogin/);
    assert.equal(await second.eval(text("note")), `This login pushed out Web (InstID ${one}).`);
    const { instances } = await server.presence(user);
    assert.deepEqual(instances.map((i) => String(i.Instid)), [await second.eval<string>(text("inst"))]);
    assert.notEqual(nameOfFirst, "");

    await click(first, "login"); // and back, because a person wants it
    await state(first, "online");
    await state(second, "forced");
  });

  test("logout, and the server says so", async () => {
    const page = await login();
    await click(page, "logout");
    await state(page, "idle");
    assert.equal((await server.presence(user)).status, "Offline");
    await page.until(`${text("status-text")} === "Offline"`);
    assert.equal(await page.eval(`sessionStorage.length`), 3); // device id, user, platform: no ticket
  });

  test("a link that is dropped: a person watches the wait, and ends it", async () => {
    const page = await login();
    const inst = await page.eval(text("inst"));
    await page.eval(`Math.random = () => 0.999`); // of the jitter: the wait is long enough to be seen
    await click(page, "drop");
    await state(page, "waiting");
    await server.until(user, "Offline");
    await click(page, "reconnect");
    await state(page, "online");
    assert.match(await page.eval(text("log")), /resumed as a new instance/);
    assert.notEqual(await page.eval(text("inst")), inst); // a Web instance ends with its link
  });

  test("a phone that drops its link is taken back", async () => {
    const page = await login("Android");
    const inst = await page.eval(text("inst"));
    await click(page, "drop");
    await state(page, "waiting");
    await click(page, "reconnect");
    await state(page, "online");
    assert.match(await page.eval(text("log")), /taken back, same instance/);
    assert.equal(await page.eval(text("inst")), inst);
  });

  test("a server that is killed and comes back is found again", async () => {
    const page = await login();
    const inst = await page.eval(text("inst"));
    await server.kill();
    await state(page, "waiting");
    await server.restart();
    await eventually("online again", async () => {
      await click(page, "reconnect"); // the back-off is as long as it has to be: nobody waits for it here
      return page.eval<boolean>(`document.getElementById("state").dataset.state === "online"`);
    });
    assert.equal(await page.eval(text("inst")), inst); // within the grace of a restart
    page.complaints.splice(0); // connections were refused
  });

  test("a tab that is closed is Offline at once", async () => {
    const page = await login();
    await server.until(user, "Online");
    await page.close();
    await server.until(user, "Offline");
  });

  test("a reload comes back as the same device, without a person", async () => {
    const page = await login();
    const device = await page.eval(text("device"));
    await page.eval(`window.old = true`);
    await page.call("Page.reload");
    await page.until(`!window.old && document.getElementById("state")?.dataset.state === "online"`);
    assert.equal(await page.eval(text("device")), device);
    assert.match(await page.eval(text("log")), /comes back after a reload/);
    assert.match(await page.eval(text("log")), /resumed/);
  });

  test("a tab that was forced offline stays so over a reload", async () => {
    const first = await login();
    await login();
    await state(first, "forced");
    await first.eval(`window.old = true`);
    await first.call("Page.reload");
    await first.until(`!window.old && document.getElementById("login")?.disabled === false && ${text("status-text")} === "Online"`);
    assert.equal(await first.eval(`document.getElementById("state").dataset.state`), "idle");
  });

  test("a duplicated tab is a device of its own", async () => {
    const page = await login();
    const device = await page.eval(text("device"));
    await page.eval(`void window.open(location.href)`); // with an opener the session storage is copied
    const [target] = await eventually("the other tab", async () => {
      const others = await browser.others(pages);
      return others.length > 0 && others;
    });
    const copy = await browser.attach(target!);
    pages.push(copy);
    await copy.until(`document.getElementById("device")?.textContent.length === 32`);
    assert.notEqual(await copy.eval(text("device")), device);
    await copy.until(`${text("status-text")} === "Online"`); // the original; the copy does not log in by itself
    assert.equal(await copy.eval(`document.getElementById("state").dataset.state`), "idle");
    assert.equal(await copy.eval(`document.getElementById("user").value`), user);
    await click(copy, "login");
    await state(copy, "online");
    await state(page, "forced");
    assert.match(await page.eval(text("log")), /6001 AnotherLogin/); // not 6002: two tabs with one device id
  });

  test("page events make the client look whether its link lives", async () => {
    const page = await login();
    for (const event of [`window.dispatchEvent(new Event("offline"))`, `window.dispatchEvent(new Event("online"))`, `document.dispatchEvent(new Event("visibilitychange"))`]) {
      const before = await server.metric("rollcall_heartbeats_total");
      await eventually(`a heartbeat after ${event}`, async () => {
        await page.eval(event);
        return (await server.metric("rollcall_heartbeats_total")) > before;
      });
    }
    await state(page, "online");
  });

  test("the page is used by keyboard alone", async () => {
    const page = await open();
    await page.call("Page.bringToFront");
    const focused = () => page.eval<string>(`document.activeElement.id`);
    const tabTo = async (id: string) => {
      for (let i = 0; (await focused()) !== id; i++) {
        assert.ok(i < 20, `Tab does not reach ${id}`);
        await page.press("Tab");
      }
    };
    await tabTo("user");
    await page.eval(`document.activeElement.select()`);
    for (const c of user) {
      await page.press(c);
    }
    await page.press("Enter");
    await state(page, "online");
    await server.until(user, "Online");
    await tabTo("logout");
    assert.notEqual(await page.eval(`getComputedStyle(document.activeElement).outlineStyle`), "none");
    await page.press("Enter");
    await state(page, "idle");
    await server.until(user, "Offline");
  });

  test("the page fits a phone, whatever it shows", async () => {
    const page = await login();
    await login();
    await state(page, "forced");
    for (const width of [320, 390, 768, 1280]) {
      await page.call("Emulation.setDeviceMetricsOverride", { width, height: 700, deviceScaleFactor: 1, mobile: width < 500 });
      const wide = await page.eval<number>(`document.documentElement.scrollWidth`);
      assert.ok(wide <= width, `${wide} px wide in a window of ${width}`);
      const small = await page.eval(`[...document.querySelectorAll("form button, form a, form input, form select")].filter((e) => e.offsetHeight < 44).map((e) => e.id)`);
      assert.deepEqual(small, [], "too small for a thumb");
    }
  });
});
