/**
 * Replies to bytes, in RESP2 or RESP3, into one growing buffer.
 *
 * `resp3` belongs to the client whose reply is being written; RESP3 types fall back to what Redis sends a RESP2
 * client. Strings are latin1, one character a byte.
 */
import { copyBytes } from '../base/bytes.ts';

const CR = 13;
const LF = 10;

export class ReplyWriter {
  buf: Buffer;
  pos = 0;
  resp3 = false;

  constructor(capacity = 256 * 1024) {
    this.buf = Buffer.allocUnsafeSlow(capacity);
  }

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

  /** A type byte, a number and CRLF. */
  private header(type: number, n: number): void {
    this.ensure(24);
    const b = this.buf;
    let p = this.pos;
    b[p++] = type;
    if (n >= 0 && n < 10) b[p++] = 48 + n;
    else if (n >= 0 && n < 100) {
      b[p++] = 48 + ((n / 10) | 0);
      b[p++] = 48 + (n % 10);
    } else if (n >= 0 && n < 1000) {
      b[p++] = 48 + ((n / 100) | 0);
      b[p++] = 48 + (((n / 10) | 0) % 10);
      b[p++] = 48 + (n % 10);
    } else {
      const s = String(n);
      for (let i = 0; i < s.length; i++) b[p++] = s.charCodeAt(i);
    }
    b[p++] = CR;
    b[p++] = LF;
    this.pos = p;
  }

  ok(): void {
    this.ensure(5);
    const b = this.buf;
    let p = this.pos;
    b[p++] = 43;
    b[p++] = 79;
    b[p++] = 75;
    b[p++] = CR;
    b[p++] = LF;
    this.pos = p;
  }

  /** Bytes as they are. */
  raw(s: string): void {
    this.ensure(s.length);
    this.buf.latin1Write(s, this.pos);
    this.pos += s.length;
  }

  rawBytes(b: Uint8Array): void {
    this.ensure(b.length);
    this.buf.set(b, this.pos);
    this.pos += b.length;
  }

  simple(s: string): void {
    this.raw(`+${s}\r\n`);
  }

  /** An error with its code in front: `ERR ...`. Line breaks can't be in one. */
  error(message: string): void {
    this.raw(`-${message.replace(/[\r\n]/g, ' ')}\r\n`);
  }

  int(n: number): void {
    this.header(58, n);
  }

  bigint(n: bigint): void {
    this.raw(`:${n}\r\n`);
  }

  bulk(s: string): void {
    const n = s.length;
    this.header(36, n);
    this.ensure(n + 2);
    const b = this.buf;
    let p = this.pos;
    if (n < 16) {
      for (let i = 0; i < n; i++) b[p++] = s.charCodeAt(i);
    } else {
      b.latin1Write(s, p, n);
      p += n;
    }
    b[p++] = CR;
    b[p++] = LF;
    this.pos = p;
  }

  bulkBytes(bytes: Uint8Array): void {
    const n = bytes.length;
    this.header(36, n);
    this.ensure(n + 2);
    this.buf.set(bytes, this.pos);
    this.pos += n;
    this.buf[this.pos++] = CR;
    this.buf[this.pos++] = LF;
  }

  /** The same of src[start, end). */
  bulkFrom(src: Uint8Array, start: number, end: number): void {
    this.header(36, end - start);
    this.ensure(end - start + 2);
    const b = this.buf;
    let p = copyBytes(b, this.pos, src, start, end);
    b[p++] = CR;
    b[p++] = LF;
    this.pos = p;
  }

  /** Null: `_` in RESP3, the null bulk in RESP2. */
  nil(): void {
    this.ensure(5);
    const b = this.buf;
    let p = this.pos;
    if (this.resp3) b[p++] = 95;
    else {
      b[p++] = 36;
      b[p++] = 45;
      b[p++] = 49;
    }
    b[p++] = CR;
    b[p++] = LF;
    this.pos = p;
  }

  nilArray(): void {
    this.raw(this.resp3 ? '_\r\n' : '*-1\r\n');
  }

  array(n: number): void {
    this.header(42, n);
  }

  /** A map of n pairs: flat array in RESP2. */
  map(n: number): void {
    if (this.resp3) this.header(37, n);
    else this.header(42, n * 2);
  }

  set(n: number): void {
    this.header(this.resp3 ? 126 : 42, n);
  }

  push(n: number): void {
    this.header(this.resp3 ? 62 : 42, n);
  }

  bool(v: boolean): void {
    if (this.resp3) this.raw(v ? '#t\r\n' : '#f\r\n');
    else this.int(v ? 1 : 0);
  }

  /** `text` is the number as Redis prints it. */
  double(text: string): void {
    if (this.resp3) this.raw(`,${text}\r\n`);
    else this.bulk(text);
  }

  /** Text for people: `=txt:` in RESP3. */
  verbatim(text: string, format = 'txt'): void {
    if (!this.resp3) this.bulk(text);
    else this.raw(`=${text.length + 4}\r\n${format}:${text}\r\n`);
  }
}
