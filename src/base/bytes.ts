/**
 * The canonical codec's two ends: a growing writer and a checked reader.
 *
 * Journal rows, table rows, tokens and (later) bus frames are all written with these. Numbers are unsigned
 * integers up to 2^53 - 1; strings are latin1, one character a byte, as everywhere in the server.
 */

const TWO_32 = 4294967296;
/** Up to so many bytes a loop copies faster than a call, which makes a view of the source first. */
const COPY_LOOP_BYTES = 32;

/**
 * What was copied from last, and before that: a view is made in half the time of a typed array whose memory is known,
 * and a tick copies over and over from the same two or three.
 */
let last: Uint8Array = new Uint8Array(0);
let lastMemory = last.buffer;
let lastOffset = 0;
let other = last;
let otherMemory = lastMemory;
let otherOffset = 0;

/** Bytes [start, end) of src. */
function view(src: Uint8Array, start: number, end: number): Uint8Array {
  if (end > src.length) throw new TruncatedError();
  if (src !== last) {
    const memory = otherMemory;
    const offset = otherOffset;
    const known = src === other;
    other = last;
    otherMemory = lastMemory;
    otherOffset = lastOffset;
    last = src;
    lastMemory = known ? memory : src.buffer;
    lastOffset = known ? offset : src.byteOffset;
  }
  return new Uint8Array(lastMemory, lastOffset + start, end - start);
}

/** Copies src[start, end) to dst at `at`; returns where it ends. There must be room. */
export function copyBytes(dst: Uint8Array, at: number, src: Uint8Array, start: number, end: number): number {
  const n = end - start;
  if (n > COPY_LOOP_BYTES) dst.set(view(src, start, end), at);
  else for (let i = 0; i < n; i++) dst[at + i] = src[start + i];
  return at + n;
}

/** Seven bytes, as `ByteWriter.u53` writes them. */
export function u53At(buf: Buffer, at: number): number {
  const lo = (buf[at] | (buf[at + 1] << 8) | (buf[at + 2] << 16) | (buf[at + 3] << 24)) >>> 0;
  return (buf[at + 4] | (buf[at + 5] << 8) | (buf[at + 6] << 16)) * TWO_32 + lo;
}

/** Writes what `u53At` reads; returns where it ends. There must be room. */
export function putU53(buf: Buffer, at: number, v: number): number {
  const lo = v >>> 0;
  const hi = (v / TWO_32) >>> 0;
  buf[at] = lo;
  buf[at + 1] = lo >>> 8;
  buf[at + 2] = lo >>> 16;
  buf[at + 3] = lo >>> 24;
  buf[at + 4] = hi;
  buf[at + 5] = hi >>> 8;
  buf[at + 6] = hi >>> 16;
  return at + 7;
}

export class ByteWriter {
  buf: Buffer;
  pos = 0;

  constructor(capacity = 1024) {
    this.buf = Buffer.allocUnsafeSlow(capacity);
  }

  /** Makes room for `n` more bytes. Call it before the unchecked `put*` methods. */
  ensure(n: number): void {
    if (this.pos + n > this.buf.length) this.grow(n);
  }

  private grow(n: number): void {
    let size = this.buf.length * 2;
    while (size < this.pos + n) size *= 2;
    const next = Buffer.allocUnsafeSlow(size);
    this.buf.copy(next, 0, 0, this.pos);
    this.buf = next;
  }

  reset(): void {
    this.pos = 0;
  }

  u8(v: number): void {
    this.ensure(1);
    this.buf[this.pos++] = v;
  }

  u32(v: number): void {
    this.ensure(4);
    this.pos = this.buf.writeUInt32LE(v, this.pos);
  }

  /** A 53-bit integer in seven bytes. */
  u53(v: number): void {
    this.ensure(7);
    this.pos = putU53(this.buf, this.pos, v);
  }

  /** LEB128, up to 53 bits. */
  varint(v: number): void {
    this.ensure(8);
    const b = this.buf;
    let p = this.pos;
    while (v > 0x7fffffff) {
      b[p++] = (v % 128) | 128;
      v = Math.floor(v / 128);
    }
    while (v > 127) {
      b[p++] = (v & 127) | 128;
      v >>>= 7;
    }
    b[p++] = v;
    this.pos = p;
  }

  f64(v: number): void {
    this.ensure(8);
    this.pos = this.buf.writeDoubleLE(v, this.pos);
  }

  /** A string with its length before it. */
  str(s: string): void {
    const n = s.length;
    this.varint(n);
    this.rawStr(s);
  }

  /** A string's bytes alone. */
  rawStr(s: string): void {
    const n = s.length;
    this.ensure(n);
    if (n < 24) {
      const b = this.buf;
      let p = this.pos;
      for (let i = 0; i < n; i++) b[p++] = s.charCodeAt(i);
      this.pos = p;
    } else {
      this.buf.latin1Write(s, this.pos, n);
      this.pos += n;
    }
  }

  /** src[start, end). */
  copy(src: Uint8Array, start: number, end: number): void {
    this.ensure(end - start);
    this.pos = copyBytes(this.buf, this.pos, src, start, end);
  }

  bytes(b: Uint8Array): void {
    this.copy(b, 0, b.length);
  }

  /** A copy of what was written. */
  take(): Buffer {
    return Buffer.from(this.buf.subarray(0, this.pos));
  }

  latin1(): string {
    return this.buf.latin1Slice(0, this.pos);
  }
}

/** Thrown by a reader that runs past its end or meets a number that cannot be. */
export class TruncatedError extends Error {
  constructor() {
    super('encoded data ends early or is malformed');
    this.name = 'TruncatedError';
  }
}

export class ByteReader {
  readonly buf: Buffer;
  pos: number;
  readonly end: number;

  constructor(buf: Buffer, start = 0, end = buf.length) {
    this.buf = buf;
    this.pos = start;
    this.end = end;
  }

  static latin1(s: string): ByteReader {
    return new ByteReader(Buffer.from(s, 'latin1'));
  }

  get done(): boolean {
    return this.pos >= this.end;
  }

  private need(n: number): void {
    if (n > this.end - this.pos) throw new TruncatedError();
  }

  u8(): number {
    this.need(1);
    return this.buf[this.pos++];
  }

  u32(): number {
    this.need(4);
    const v = this.buf.readUInt32LE(this.pos);
    this.pos += 4;
    return v;
  }

  u53(): number {
    this.need(7);
    const lo = this.buf.readUInt32LE(this.pos);
    const hi = this.buf[this.pos + 4] | (this.buf[this.pos + 5] << 8) | (this.buf[this.pos + 6] << 16);
    if (hi > 0x1fffff) throw new TruncatedError();
    this.pos += 7;
    return hi * TWO_32 + lo;
  }

  varint(): number {
    let v = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const b = this.u8();
      v += (b & 127) * scale;
      if (b < 128) {
        if (v > Number.MAX_SAFE_INTEGER) throw new TruncatedError();
        return v;
      }
      scale *= 128;
    }
    throw new TruncatedError();
  }

  f64(): number {
    this.need(8);
    const v = this.buf.readDoubleLE(this.pos);
    this.pos += 8;
    return v;
  }

  str(): string {
    return this.rawStr(this.varint());
  }

  /** Passes over so many bytes; returns where they begin. */
  skip(n: number): number {
    this.need(n);
    const at = this.pos;
    this.pos += n;
    return at;
  }

  rawStr(n: number): string {
    this.need(n);
    const s = this.buf.latin1Slice(this.pos, this.pos + n);
    this.pos += n;
    return s;
  }
}
