// The WebSocket of Node: frames as RFC 6455 has them, and a handshake with a server of a few lines.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTLSServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Client, type Options, webSocket, type WebSocketLike } from "@rollcall/client/node";
import { decodeText, encodeFrame, FrameError, FrameReader, type Message, Opcode, parseClose, validCloseCode } from "../dist/node/frames.js";
import { makeCertificate } from "./server.js";

/** A frame of a server, which does not mask. */
function frame(head: number, payload: Uint8Array | string = "", mask = 0): Buffer {
  const body = Buffer.from(payload as string);
  if (body.length < 126) {
    return Buffer.concat([Buffer.from([head, mask | body.length]), body]);
  }
  const size = body.length < 65536 ? Buffer.alloc(2) : Buffer.alloc(8);
  if (body.length < 65536) {
    size.writeUInt16BE(body.length);
  } else {
    size.writeBigUInt64BE(BigInt(body.length));
  }
  return Buffer.concat([Buffer.from([head, mask | (size.length === 2 ? 126 : 127)]), size, body]);
}

const fin = 0x80;

function read(bytes: Buffer, pieces: number[] = [], max = 65_539): Message[] {
  const r = new FrameReader(max);
  const all: Message[] = [];
  let from = 0;
  for (const to of [...pieces, bytes.length]) {
    all.push(...r.push(bytes.subarray(from, to)));
    from = to;
  }
  return all;
}

test("frames are the same in whatever pieces", () => {
  for (const n of [0, 1, 125, 126, 127, 65_535, 65_536, 65_539]) {
    const payload = Buffer.alloc(n, "x");
    const bytes = Buffer.concat([frame(fin | Opcode.text, payload), frame(fin | Opcode.ping, "p")]);
    const want = [
      { opcode: Opcode.text as number, payload },
      { opcode: Opcode.ping as number, payload: Buffer.from("p") },
    ];
    assert.deepEqual(read(bytes), want);
    const cuts = [...Array(Math.min(14, bytes.length)).keys()];
    assert.deepEqual(read(bytes, cuts), want);
    for (const cut of cuts) {
      assert.deepEqual(read(bytes, [cut, bytes.length - 1]), want);
    }
  }
});

test("fragments, with control frames between them", () => {
  const bytes = Buffer.concat([
    frame(Opcode.text, "one "),
    frame(fin | Opcode.ping, "now"),
    frame(Opcode.continuation, ""),
    frame(fin | Opcode.continuation, "two"),
    frame(fin | Opcode.binary, "three"),
  ]);
  assert.deepEqual(
    read(bytes).map((m) => [m.opcode, m.payload.toString()]),
    [
      [Opcode.ping, "now"],
      [Opcode.text, "one two"],
      [Opcode.binary, "three"],
    ],
  );
});

test("what RFC 6455 forbids ends the link with its code", () => {
  for (const [name, code, bytes] of [
    ["reserved bit 1", 1002, frame(fin | 0x40 | Opcode.text)],
    ["reserved bit 3", 1002, frame(fin | 0x10 | Opcode.text)],
    ["masked", 1002, frame(fin | Opcode.text, "", 0x80)],
    ["opcode 3", 1002, frame(fin | 0x3)],
    ["opcode 11", 1002, frame(fin | 0xb)],
    ["fragmented ping", 1002, frame(Opcode.ping)],
    ["long ping", 1002, frame(fin | Opcode.ping, "x".repeat(126))],
    ["continuation of nothing", 1002, frame(fin | Opcode.continuation)],
    ["a message within another", 1002, Buffer.concat([frame(Opcode.text, "a"), frame(fin | Opcode.text, "b")])],
    ["length 125 in 2 bytes", 1002, Buffer.from([fin | Opcode.text, 126, 0, 125])],
    ["length 65535 in 8 bytes", 1002, Buffer.from([fin | Opcode.text, 127, 0, 0, 0, 0, 0, 0, 255, 255])],
    ["too large", 1009, frame(fin | Opcode.text, "x".repeat(11))],
    ["too large in pieces", 1009, Buffer.concat([frame(Opcode.text, "x".repeat(6)), frame(fin | Opcode.continuation, "x".repeat(5))])],
    ["too large to count", 1009, Buffer.from([fin | Opcode.text, 127, 255, 255, 255, 255, 255, 255, 255, 255])],
    ["endless empty pieces", 1009, Buffer.concat([frame(Opcode.text), ...Array<Buffer>(11).fill(frame(Opcode.continuation))])],
  ] as const) {
    assert.throws(
      () => read(bytes, [], 10),
      (e) => e instanceof FrameError && e.closeCode === code,
      name,
    );
  }
  assert.equal(read(frame(fin | Opcode.text, "x".repeat(10)), [], 10).length, 1);
});

test("close frames", () => {
  const close = (code: number, reason: string | Buffer = "") => Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason as string)]);
  assert.deepEqual(parseClose(Buffer.alloc(0)), { code: 1005, reason: "" });
  assert.deepEqual(parseClose(close(4000, "Why")), { code: 4000, reason: "Why" });
  assert.throws(() => parseClose(Buffer.alloc(1)), FrameError);
  assert.throws(() => parseClose(close(1000, Buffer.from([0xff]))), FrameError);
  for (const [code, good] of Object.entries({
    999: false, 1000: true, 1003: true, 1004: false, 1005: false, 1006: false, 1007: true, 1014: true, 1015: false, 2999: false, 3000: true, 4999: true, 5000: false,
  })) {
    assert.equal(validCloseCode(Number(code)), good, code);
    if (!good) {
      assert.throws(() => parseClose(close(Number(code))), FrameError);
    }
  }
});

test("texts must be UTF-8", () => {
  assert.equal(decodeText(Buffer.from("\ufeffgrüße 🙂")), "\ufeffgrüße 🙂");
  for (const bad of [[0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0xff]]) {
    assert.throws(() => decodeText(Buffer.from(bad)), FrameError);
  }
});

test("frames of the client are masked and final", () => {
  const mask = Buffer.from([1, 2, 3, 4]);
  for (const n of [0, 5, 125, 126, 65_535, 65_536]) {
    const payload = Buffer.alloc(n, "abcdef");
    const f = encodeFrame(Opcode.text, payload, mask);
    const header = n < 126 ? 2 : n < 65536 ? 4 : 10;
    assert.equal(f[0], 0x81);
    assert.equal(f[1]! & 0x80, 0x80);
    assert.deepEqual(f.subarray(header, header + 4), mask);
    const plain = Buffer.from(f.subarray(header + 4)).map((b, i) => b ^ mask[i & 3]!);
    assert.deepEqual(Buffer.from(plain), payload);
    assert.equal(n < 126 ? f[1]! & 0x7f : n < 65536 ? f.readUInt16BE(2) : Number(f.readBigUInt64BE(2)), n);
  }
});

describe("over a socket", () => {
  let server: Server;
  let url: string;
  const links: Socket[] = []; // the server's ends
  let answer: (key: string) => string[];
  let behind: Buffer; // sent with the handshake

  const accept = (key: string) =>
    "Sec-WebSocket-Accept: " +
    createHash("sha1")
      .update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
      .digest("base64");
  const good = (key: string) => ["HTTP/1.1 101 Switching Protocols", "Upgrade: WebSocket", "Connection: Upgrade", accept(key), "Sec-WebSocket-Protocol: b"];

  before(async () => {
    server = createServer((_, response) => response.writeHead(403).end());
    server.on("upgrade", (request, socket) => {
      socket.on("error", () => {});
      links.push(socket as Socket);
      const head = answer(request.headers["sec-websocket-key"]!).join("\r\n") + "\r\n\r\n";
      socket.write(Buffer.concat([Buffer.from(head), behind]));
      server.emit("linked", request);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  });
  after(() => {
    links.forEach((l) => l.destroy());
    server.close();
  });

  /** What a socket tells, in order; `next` waits for it. */
  function open(how: (key: string) => string[] = good, options = {}, early: Buffer = Buffer.alloc(0)) {
    answer = how;
    behind = early;
    const socket: WebSocketLike = new (webSocket(options))(url, ["a", "b"]);
    const told: string[] = [];
    let wake = () => {};
    const tell = (s: string) => (told.push(s), wake());
    socket.onopen = () => tell(`open ${socket.protocol}`);
    socket.onmessage = (e: { data: unknown }) => tell(`message ${e.data}`);
    socket.onclose = (e: { code: number; reason: string; wasClean: boolean }) => tell(`close ${e.code} ${e.reason} ${e.wasClean}`);
    const next = async () => {
      while (told.length === 0) {
        await new Promise<void>((resolve) => (wake = resolve));
      }
      return told.shift()!;
    };
    return { socket, next };
  }

  /** The next frame that the server's end gets, unmasked. */
  async function got(link: Socket): Promise<{ head: number; payload: Buffer }> {
    let bytes = Buffer.alloc(0);
    while (bytes.length < 6 || bytes.length < 6 + (bytes[1]! & 0x7f)) {
      const chunk = link.read() as Buffer | null;
      if (!chunk) {
        await once(link, "readable");
        continue;
      }
      bytes = Buffer.concat([bytes, chunk]);
    }
    const payload = bytes.subarray(6).map((b, i) => b ^ bytes[2 + (i & 3)]!);
    return { head: bytes[0]!, payload: Buffer.from(payload) };
  }

  test("messages both ways, a ping, and the server's close", async () => {
    const { socket, next } = open(good, { headers: { Origin: "https://app.example" } });
    const [request] = await once(server, "linked");
    assert.deepEqual([request.url, request.headers.origin, request.headers["sec-websocket-protocol"]], ["/v1", "https://app.example", "a, b"]);
    const link = links.at(-1)!;
    assert.equal(await next(), "open b");
    socket.send("grüße");
    assert.deepEqual(await got(link), { head: 0x81, payload: Buffer.from("grüße") });
    link.write(Buffer.concat([frame(fin | Opcode.ping, "now"), frame(fin | Opcode.text, "hällo")]));
    assert.equal(await next(), "message hällo");
    assert.deepEqual(await got(link), { head: 0x8a, payload: Buffer.from("now") });
    link.write(Buffer.concat([frame(fin | Opcode.close, Buffer.from("\x0f\xa0Why", "latin1")), frame(fin | Opcode.text, "too late")]));
    assert.deepEqual(await got(link), { head: 0x88, payload: Buffer.from([0x0f, 0xa0]) });
    link.end();
    assert.equal(await next(), "close 4000 Why true");
  });

  test("the client's close", async () => {
    const { socket, next } = open();
    assert.equal(await next(), "open b");
    const link = links.at(-1)!;
    socket.close(1000);
    socket.send("too late");
    assert.deepEqual(await got(link), { head: 0x88, payload: Buffer.from([0x03, 0xe8]) });
    link.end(frame(fin | Opcode.close, Buffer.from([0x03, 0xe8])));
    assert.equal(await next(), "close 1000  true");
    assert.throws(() => socket.close(1001), RangeError);
  });

  test("a link that breaks, and bytes behind the handshake", async () => {
    const { next } = open(good, {}, frame(fin | Opcode.text, "early"));
    assert.equal(await next(), "open b");
    assert.equal(await next(), "message early");
    links.at(-1)!.destroy();
    assert.equal(await next(), "close 1006  false");
  });

  test("a server that breaks the protocol is told", async () => {
    const { next } = open();
    assert.equal(await next(), "open b");
    const link = links.at(-1)!;
    link.write(frame(fin | Opcode.text, Buffer.from([0xff])));
    assert.deepEqual(await got(link), { head: 0x88, payload: Buffer.from([0x03, 0xef]) });
    assert.equal(await next(), "close 1007 a text that is not UTF-8 false");
  });

  test("handshakes that are none", async () => {
    for (const [how, want] of [
      [() => ["HTTP/1.1 403 Forbidden", "Content-Length: 0"], "the server answered 403"],
      [(key) => good(key + "x"), "a handshake that answers another key"],
      [(key) => good(key).map((l) => l.replace("Upgrade: WebSocket", "Upgrade: h2c")), "an upgrade to h2c"],
      [(key) => good(key).map((l) => l.replace("Protocol: b", "Protocol: c")), "a sub-protocol that nobody asked for: c"],
      [(key) => [...good(key), "Sec-WebSocket-Extensions: permessage-deflate"], "an extension that nobody asked for"],
    ] as [(key: string) => string[], string][]) {
      assert.equal(await open(how).next(), `close 1006 ${want} false`);
    }
    for (const [value, want] of [["7", 7_000], ["soon", 0], ["-1", 0], ["99999999", 0]] as const) {
      const { socket } = open(() => ["HTTP/1.1 503 Service Unavailable", "Content-Length: 0", `Retry-After: ${value}`]);
      const told = await new Promise<{ retryAfterMS: number }>((resolve) => (socket.onclose = resolve));
      assert.equal(told.retryAfterMS, want, value);
    }
  });

  test("TLS, from servers that are trusted only", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "rollcall-tls-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const { cert, key } = makeCertificate(dir);
    const secure = createTLSServer({ cert: readFileSync(cert), key: readFileSync(key) });
    secure.on("upgrade", (request, socket) => {
      socket.on("error", () => {});
      socket.end(Buffer.concat([Buffer.from(good(request.headers["sec-websocket-key"]!).join("\r\n") + "\r\n\r\n"), frame(fin | Opcode.text, "secret")]));
    });
    secure.listen(0, "127.0.0.1");
    await once(secure, "listening");
    t.after(() => secure.close());
    const target = `wss://127.0.0.1:${(secure.address() as AddressInfo).port}/v1`;

    const trusting = new (webSocket({ tls: { ca: readFileSync(cert) } }))(target, ["b"]);
    const { data } = await new Promise<{ data: unknown }>((resolve) => (trusting.onmessage = resolve));
    assert.equal(data, "secret");

    const wary = new (webSocket())(target, ["b"]);
    wary.onopen = () => assert.fail("a certificate of nobody is trusted");
    const { reason } = await new Promise<{ reason: string }>((resolve) => (wary.onclose = resolve));
    assert.match(reason, /self-signed certificate/);
  });

  test("nobody there, and closed before the connection", async () => {
    const { socket, next } = open();
    socket.close();
    assert.equal(await next(), "close 1006 closed before the connection was established false");
    const nobody = new (webSocket())("ws://127.0.0.1:1/v1", []);
    const closed = new Promise<{ code: number; reason: string }>((resolve) => (nobody.onclose = resolve));
    assert.match((await closed).reason, /ECONNREFUSED/);
    assert.throws(() => new (webSocket())("http://127.0.0.1:1/", []), SyntaxError);
  });
});

test("an option that is undefined is one that was not given", () => {
  const global = globalThis as { sessionStorage?: unknown };
  const was = Object.getOwnPropertyDescriptor(global, "sessionStorage");
  const asked: string[] = [];
  const touched = (name: string) => () => (asked.push(name), null);
  Object.defineProperty(global, "sessionStorage", { configurable: true, value: { getItem: touched("getItem"), setItem: touched("setItem") } });
  try {
    const o = { url: "ws://127.0.0.1:1/v1", sdkAppID: 1, userID: "alice", userSig: "sig" };
    new Client({ ...o, WebSocket: undefined, storage: undefined, events: undefined, locks: undefined } as unknown as Options);
    assert.deepEqual(asked, [], "a process keeps nothing that it was not told to");
  } finally {
    if (was) {
      Object.defineProperty(global, "sessionStorage", was);
    } else {
      delete global.sessionStorage;
    }
  }
});
