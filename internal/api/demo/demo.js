// The demo page: one client of the Rollcall SDK, and what the server's REST API says of its user.

import { Client, ClosedError, ForcedOfflineError, platforms, RefusedError, tabDeviceID } from "./sdk/index.js";
import { userSig } from "./usersig.js";

/** How long the page waits before it asks the server again. */
const askMS = 1000;
/** Longer than the client's own, so that a person can see it wait. */
const backoffMinMS = 5000;
const sigExpireS = 86400;
const maxLog = 200;

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/** @type {{SDKAppID: number, Key: string, Administrator: string, WS: string, API: string}} */
const config = await (await fetch("config.json")).json();

/** @type {Client | undefined} */
let client;
/** @type {WebSocket | undefined} The socket that the client has now, for "Drop the link". */
let socket;
/** @type {number | undefined} When the client tries again. */
let tryAt;
/** The last thing that the client said of itself. */
let state = "idle";

class Tapped extends WebSocket {
  /** @param {string} url @param {string[]} protocols */
  constructor(url, protocols) {
    super(url, protocols);
    socket = this;
  }
}

/** @param {string} userID */
const sign = (userID) =>
  userSig({ sdkAppID: config.SDKAppID, key: config.Key, userID, timeS: Math.floor(Date.now() / 1000), expireS: sigExpireS });

// A name that a person can remember for each device id.

const adjectives = ["Amber", "Brisk", "Calm", "Dusty", "Early", "Fuzzy", "Gentle", "Hazel", "Icy", "Jolly", "Keen", "Lucky", "Misty", "Noble", "Quiet", "Swift"];
const animals = ["Badger", "Crane", "Dingo", "Egret", "Falcon", "Gecko", "Heron", "Ibex", "Jackal", "Koala", "Lynx", "Marten", "Newt", "Otter", "Puffin", "Raven"];

/** @param {string} deviceID */
function tabName(deviceID) {
  const n = parseInt(deviceID.slice(0, 4), 16);
  return `${adjectives[n & 15]} ${animals[(n >> 4) & 15]}`;
}

const deviceID = await tabDeviceID();
const name = tabName(deviceID);

// Logging in and out.

/**
 * Makes a client and runs it. By a person it is an active login, which may push others out; after a reload a resume, which
 * does not.
 * @param {boolean} byPerson
 */
async function login(byPerson) {
  const userID = $("user").value;
  const platform = $("platform").value;
  sessionStorage.setItem("demo.user", userID);
  sessionStorage.setItem("demo.platform", platform);
  sessionStorage.setItem("demo.on", deviceID); // not in a copy of this tab
  client = new Client({
    url: config.WS, sdkAppID: config.SDKAppID, userID, platform, deviceModel: name, backoffMinMS, WebSocket: Tapped,
    userSig: () => sign(userID),
    resume: !byPerson,
    onStatus, onLogin, onForcedOffline,
  });
  note("");
  log("", byPerson ? `${userID} logs in on ${platform}` : `${userID} comes back after a reload`);
  try {
    await client.run();
    show("idle", "Logged out");
    log("", "Logged out: no instance remains");
  } catch (e) {
    ended(e);
  }
  sessionStorage.removeItem("demo.on");
  client = socket = tryAt = undefined;
  details(undefined);
  buttons();
  ask();
}

/** @param {unknown} e */
function ended(e) {
  if (e instanceof ForcedOfflineError) {
    show("forced", "Forced offline");
  } else if (e instanceof RefusedError) {
    show("refused", "Refused");
    note(`${e.resume ? "The server did not take this tab back" : "The server refused the login"}: ${e.text} (${e.code} ${e.codeName}).`, true);
    log("bad", `Refused: ${e.code} ${e.codeName}: ${e.text}`);
  } else if (!(e instanceof ClosedError)) {
    show("refused", "Ended");
    note(String(e), true);
    log("bad", String(e));
  }
}

/** @param {import("./sdk/index.js").StatusChange} s */
function onStatus(s) {
  tryAt = undefined;
  switch (s.status) {
    case "connecting":
      show("connecting", "Connecting…");
      break;
    case "online":
      show("online", "Online");
      break;
    case "waiting":
      tryAt = Date.now() + s.waitMS;
      show("waiting", "Waiting");
      log("wait", `${s.error.message.replace("rollcall: ", "")}; next try in ${(s.waitMS / 1000).toFixed(1)} s`);
      details(undefined);
      tick();
  }
  buttons();
  ask();
}

/** @param {import("./sdk/index.js").Login} l */
function onLogin(l) {
  details(l);
  const how = l.takenBack ? "taken back, same instance" : l.resumed ? "resumed as a new instance" : "logged in";
  log("good", `Online as InstID ${l.instID}: ${how}`);
  if (l.kicked.length) {
    const whom = l.kicked.map((k) => `${k.platform} (InstID ${k.instID})`).join(", ");
    note(`This login pushed out ${whom}.`);
    log("good", `Pushed out ${whom}`);
  }
}

/** @param {ForcedOfflineError} e */
function onForcedOffline(e) {
  const by = e.byPlatform ? `${e.byPlatform} “${e.byDeviceModel || "unnamed device"}”` : "the server";
  note(`Pushed out by ${by} at ${clockText(e.time)}: ${e.text}.`, !e.mayReconnect);
  log("bad", `Forced offline by ${by}: ${e.code} ${e.codeName}: ${e.text}`);
}

// What is shown.

/** @param {string} s @param {string} text */
function show(s, text) {
  state = s;
  $("state").dataset.state = s;
  $("state-text").textContent = text;
  $("countdown").textContent = "";
  document.title = `${s === "online" ? "● " : ""}${name}`;
}

/** @param {string} text @param {boolean} [bad] */
function note(text, bad = false) {
  $("note").hidden = !text;
  $("note").textContent = text;
  $("note").classList.toggle("bad", bad);
}

/** @param {import("./sdk/index.js").Login | undefined} l */
function details(l) {
  $("inst").textContent = l?.instID ?? "–";
  $("as").textContent = l ? $("platform").value : "–";
  $("since").textContent = l ? clockText(new Date()) : "–";
  $("beat").textContent = l ? `every ${l.heartbeatIntervalMS / 1000} s` : "–";
}

function buttons() {
  const running = client !== undefined;
  $("user").disabled = $("platform").disabled = $("login").disabled = running;
  $("logout").disabled = $("drop").disabled = state !== "online" || !running;
  $("reconnect").disabled = state !== "waiting" || !running;
}

/** @param {string} kind @param {string} text */
function log(kind, text) {
  const line = document.createElement("li");
  const time = document.createElement("time");
  const what = document.createElement("span");
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = clockText(now);
  what.className = kind;
  what.textContent = text;
  line.append(time, what);
  $("log").prepend(line);
  while ($("log").childElementCount > maxLog) {
    $("log").lastElementChild.remove();
  }
}

/** @param {Date} d */
function clockText(d) {
  return d.toLocaleTimeString([], { hour12: false });
}

/** Counts the wait down, beside what a screen reader reads out. */
function tick() {
  if (tryAt !== undefined) {
    $("countdown").textContent = ` ${Math.max(0, (tryAt - Date.now()) / 1000).toFixed(1)} s`;
    setTimeout(tick, 100);
  }
}

// What the server's REST API says, as it says it to a backend.

/** @type {Promise<string> | undefined} */
let adminSig;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let askTimer;
let asking = false;
let askAgain = false;

/** Asks now, and then from time to time while somebody looks. */
async function ask() {
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  clearTimeout(askTimer);
  do {
    askAgain = false;
    await askOnce($("user").value);
  } while (askAgain);
  asking = false;
  if (document.visibilityState === "visible") {
    askTimer = setTimeout(ask, askMS);
  }
}

/** @param {string} userID */
async function askOnce(userID) {
  $("asked").textContent = userID || "nobody";
  $("kick").textContent = `bin/rollcall kick ${/^[\w.-]+$/.test(userID) ? userID : "USER"}`;
  try {
    adminSig ??= sign(config.Administrator);
    const query = new URLSearchParams({
      sdkappid: String(config.SDKAppID), identifier: config.Administrator, usersig: await adminSig,
      random: String(Math.floor(Math.random() * 2 ** 32)), contenttype: "json",
    });
    const answer = await (
      await fetch(`${config.API}/v4/openim/query_online_status?${query}`, {
        method: "POST",
        body: JSON.stringify({ To_Account: [userID], IsNeedDetail: 1, IsReturnInstid: 1 }),
        signal: AbortSignal.timeout(5000),
      })
    ).json();
    showAnswer(answer);
  } catch {
    adminSig = undefined;
    showStatus("idle", "The server does not answer", []);
  }
}

/** @param {any} answer */
function showAnswer(answer) {
  const found = answer.QueryResult?.[0];
  if (!found) {
    const unknown = answer.ErrorList?.[0]?.ErrorCode === 70107;
    showStatus("idle", unknown ? "Unknown: never logged in" : answer.ErrorInfo || "No answer", []);
    return;
  }
  const states = /** @type {Record<string, string>} */ ({ Online: "online", PushOnline: "push" });
  showStatus(states[found.Status] ?? "idle", found.Status, found.Detail ?? []);
}

/** @param {string} s @param {string} text @param {{Instid: number, Platform: string, Status: string}[]} detail */
function showStatus(s, text, detail) {
  $("status").dataset.state = s;
  if ($("status-text").textContent !== text) { // or a screen reader says it every second
    $("status-text").textContent = text;
  }
  const rows = detail.map((d) => {
    const row = document.createElement("tr");
    for (const value of [String(d.Instid), d.Platform, d.Status]) {
      row.insertCell().textContent = value;
    }
    if (d.Instid === client?.login?.instID) {
      const mark = document.createElement("small");
      mark.textContent = " this tab";
      row.cells[0]?.append(mark);
    }
    return row;
  });
  if (!rows.length) {
    const row = document.createElement("tr");
    const cell = row.insertCell();
    cell.colSpan = 3;
    cell.textContent = "No instances";
    rows.push(row);
  }
  $("instances").replaceChildren(...rows);
}

// The page.

for (const p of platforms) {
  $("platform").add(new Option(p, p));
}
$("platform").value = sessionStorage.getItem("demo.platform") ?? "Web";
$("user").value = sessionStorage.getItem("demo.user") ?? "alice";
$("form").addEventListener("submit", (/** @type {Event} */ e) => {
  e.preventDefault();
  if (!client) {
    login(true);
  }
});
$("logout").addEventListener("click", () => client?.logout().catch(() => {})); // login() shows how the run ends
$("drop").addEventListener("click", () => {
  log("wait", "The link is dropped");
  socket?.close();
});
$("reconnect").addEventListener("click", () => client?.wake());
$("user").addEventListener("input", ask);
$("clear").addEventListener("click", () => $("log").replaceChildren());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && ask());

$("name").textContent = name;
$("avatar").textContent = name.replace(/[^A-Z]/g, "");
$("avatar").dataset.hue = String(parseInt(deviceID.slice(2, 4), 16) & 7);
$("device").textContent = deviceID;
show("idle", "Not logged in");
buttons();
ask();
if (!config.WS) {
  note("The server's WebSocket listener is off (listen-ws): nobody can log in from here.", true);
  $("login").disabled = true;
} else if (sessionStorage.getItem("demo.on") === deviceID) {
  login(false);
}
