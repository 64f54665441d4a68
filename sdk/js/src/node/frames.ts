// WebSocket frames (RFC 6455 section 5) as a client sees them, without any I/O.

/** The opcodes. */
export const Opcode = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const;

const finBit = 0x80;
const reservedBits = 0x70;
const opcodeBits = 0x0f;
const controlBit = 0x8;
const maskBit = 0x80;
const maxControl = 125; // section 5.5

/** A whole message or control frame from the server. */
export interface Message {
  opcode: number;
  payload: Buffer;
}

/** The server broke RFC 6455; the close code says how. */
export class FrameError extends Error {
  readonly closeCode: number;
  constructor(closeCode: number, text: string) {
    super(text);
    this.closeCode = closeCode;
  }
}

/** One frame of a client: final and masked, as section 5.3 wants it. `mask` has 4 bytes. */
export function encodeFrame(opcode: number, payload: Uint8Array, mask: Uint8Array): Buffer {
  const n = payload.length;
  const extended = n < 126 ? 0 : n < 65536 ? 2 : 8;
  const frame = Buffer.allocUnsafe(2 + extended + 4 + n);
  frame[0] = finBit | opcode;
  if (extended === 0) {
    frame[1] = maskBit | n;
  } else if (extended === 2) {
    frame[1] = maskBit | 126;
    frame.writeUInt16BE(n, 2);
  } else {
    frame[1] = maskBit | 127;
    frame.writeBigUInt64BE(BigInt(n), 2);
  }
  frame.set(mask, 2 + extended);
  for (let i = 0; i < n; i++) {
    frame[2 + extended + 4 + i] = payload[i]! ^ mask[i & 3]!;
  }
  return frame;
}

/** Cuts a stream into messages and control frames; both are bounded. */
export class FrameReader {
  readonly #maxMessage: number;
  #buffered: Buffer = Buffer.alloc(0); // less than one frame
  #fragments: Buffer[] = []; // of a message that goes on
  #fragmentBytes = 0;
  #opcode = 0; // of that message; 0 = there is none

  constructor(maxMessage: number) {
    this.#maxMessage = maxMessage;
  }

  /** What is complete with these bytes; throws a FrameError. */
  *push(bytes: Buffer): Generator<Message> {
    this.#buffered = this.#buffered.length ? Buffer.concat([this.#buffered, bytes]) : bytes;
    for (;;) {
      const size = this.#frameSize();
      if (size === undefined || this.#buffered.length < size.header + size.payload) {
        return;
      }
      const head = this.#buffered[0]!;
      const payload = this.#buffered.subarray(size.header, size.header + size.payload);
      this.#buffered = this.#buffered.subarray(size.header + size.payload);
      const message = this.#frame(head, payload);
      if (message) {
        yield message;
      }
    }
  }

  /** The size of the first frame, checked; undefined while its header is not complete. */
  #frameSize(): { header: number; payload: number } | undefined {
    const b = this.#buffered;
    if (b.length < 2) {
      return undefined;
    }
    this.#checkHead(b[0]!, b[1]!);
    let payload = b[1]! & 0x7f;
    let header = 2;
    if (payload === 126) {
      header = 4;
      if (b.length < header) {
        return undefined;
      }
      payload = b.readUInt16BE(2);
      checkShortest(payload, 126);
    } else if (payload === 127) {
      header = 10;
      if (b.length < header) {
        return undefined;
      }
      payload = Number(b.readBigUInt64BE(2)); // what is too large for exact numbers is over the limit too
      checkShortest(payload, 65536);
    }
    if (!(b[0]! & controlBit) && this.#fragmentBytes + payload > this.#maxMessage) {
      throw new FrameError(1009, `a message of more than ${this.#maxMessage} bytes`);
    }
    return { header, payload };
  }

  #checkHead(head: number, second: number): void {
    const opcode = head & opcodeBits;
    if (head & reservedBits) {
      throw new FrameError(1002, "reserved bits without an extension"); // section 5.2
    }
    if (second & maskBit) {
      throw new FrameError(1002, "a masked frame from a server"); // section 5.1
    }
    if (opcode > Opcode.pong || (opcode > Opcode.binary && opcode < Opcode.close)) {
      throw new FrameError(1002, `opcode ${opcode}`);
    }
    if (opcode & controlBit && (!(head & finBit) || (second & 0x7f) > maxControl)) {
      throw new FrameError(1002, "a control frame that is fragmented or long"); // section 5.5
    }
  }

  /** Takes one frame; returns what is complete with it. */
  #frame(head: number, payload: Buffer): Message | undefined {
    const opcode = head & opcodeBits;
    if (opcode & controlBit) {
      return { opcode, payload };
    }
    if ((opcode === Opcode.continuation) !== (this.#opcode !== 0)) {
      throw new FrameError(1002, "a continuation of nothing, or none of a message that goes on"); // section 5.4
    }
    this.#opcode ||= opcode;
    this.#fragments.push(payload);
    this.#fragmentBytes += payload.length;
    if (!(head & finBit)) {
      if (this.#fragments.length > this.#maxMessage) {
        throw new FrameError(1009, "a message in too many pieces"); // empty ones count for nothing above
      }
      return undefined;
    }
    const message = { opcode: this.#opcode, payload: Buffer.concat(this.#fragments) };
    this.#fragments = [];
    this.#fragmentBytes = this.#opcode = 0;
    return message;
  }
}

/** A length must be in its shortest form (section 5.2). */
function checkShortest(payload: number, least: number): void {
  if (payload < least) {
    throw new FrameError(1002, "a length that is not in its shortest form");
  }
}

/** The code and reason of a close frame (section 5.5.1); throws a FrameError. */
export function parseClose(payload: Buffer): { code: number; reason: string } {
  if (payload.length === 0) {
    return { code: 1005, reason: "" }; // section 7.1.5
  }
  if (payload.length === 1) {
    throw new FrameError(1002, "half a close code");
  }
  const code = payload.readUInt16BE(0);
  if (!validCloseCode(code)) {
    throw new FrameError(1002, `close code ${code}`);
  }
  return { code, reason: decodeText(payload.subarray(2)) };
}

/** Whether the code may stand in a close frame (section 7.4). */
export function validCloseCode(code: number): boolean {
  return (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a message; throws a FrameError if it is not UTF-8 (section 8.1). */
export function decodeText(payload: Buffer): string {
  try {
    return utf8.decode(payload);
  } catch {
    throw new FrameError(1007, "a text that is not UTF-8");
  }
}
