/**
 * A command's arguments, as offsets into the bytes they arrived in.
 *
 * The parser fills one shared instance in place, so nothing here outlives the call that was given it: take strings
 * with `str` (copies), or `copy` the whole when a command must wait.
 */
import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { slotOfBytes } from '../ring/slots.ts';

export class Argv {
  buf: Buffer;
  /** Argument i is buf[offsets[2i], offsets[2i + 1]). */
  offsets: Int32Array;
  argc = 0;

  constructor(capacity = 64) {
    this.buf = EMPTY;
    this.offsets = new Int32Array(capacity * 2);
  }

  static from(args: readonly string[]): Argv {
    const a = new Argv(Math.max(1, args.length));
    let length = 0;
    for (const s of args) length += s.length;
    a.buf = Buffer.allocUnsafe(length);
    let at = 0;
    for (let i = 0; i < args.length; i++) {
      a.buf.latin1Write(args[i], at);
      a.offsets[2 * i] = at;
      at += args[i].length;
      a.offsets[2 * i + 1] = at;
    }
    a.argc = args.length;
    return a;
  }

  /** Makes room for `n` arguments. */
  reserve(n: number): void {
    if (n * 2 <= this.offsets.length) return;
    const next = new Int32Array(Math.max(n * 2, this.offsets.length * 2));
    next.set(this.offsets);
    this.offsets = next;
  }

  len(i: number): number {
    return this.offsets[2 * i + 1] - this.offsets[2 * i];
  }

  /** Argument i as a latin1 string: one character a byte. */
  str(i: number): string {
    return this.buf.latin1Slice(this.offsets[2 * i], this.offsets[2 * i + 1]);
  }

  /** Argument i in lower case. */
  lower(i: number): string {
    return this.str(i).toLowerCase();
  }

  /** True when argument i is this word, whatever its case. `word` is upper case letters. */
  is(i: number, word: string): boolean {
    let at = this.offsets[2 * i];
    const n = word.length;
    if (this.offsets[2 * i + 1] - at !== n) return false;
    for (let k = 0; k < n; k++) {
      let c = this.buf[at++];
      if (c >= 97 && c <= 122) c -= 32;
      if (c !== word.charCodeAt(k)) return false;
    }
    return true;
  }

  /**
   * Argument i as an integer that a double holds exactly, else NaN. Strict as Redis's string2ll: no sign but '-',
   * no leading zeros, no blanks.
   */
  int(i: number): number {
    const start = this.offsets[2 * i];
    return parseInteger(this.buf, start, this.offsets[2 * i + 1]);
  }

  /** Slot of the key that is argument i. */
  slot(i: number): number {
    return slotOfBytes(this.buf, this.offsets[2 * i], this.offsets[2 * i + 1]);
  }

  strings(from = 0, to = this.argc): string[] {
    const list: string[] = [];
    for (let i = from; i < to; i++) list.push(this.str(i));
    return list;
  }

  /** A copy with bytes of its own. */
  copy(): Argv {
    const a = new Argv(Math.max(1, this.argc));
    const first = this.argc > 0 ? this.offsets[0] : 0;
    const last = this.argc > 0 ? this.offsets[2 * this.argc - 1] : 0;
    a.buf = Buffer.from(this.buf.subarray(first, last));
    for (let i = 0; i < this.argc * 2; i++) a.offsets[i] = this.offsets[i] - first;
    a.argc = this.argc;
    return a;
  }

  /** Writes the arguments as `read` reads them: their number, then each behind its length. */
  write(w: ByteWriter): void {
    w.varint(this.argc);
    const { buf, offsets } = this;
    for (let i = 0; i < this.argc; i++) {
      const from = offsets[2 * i];
      const to = offsets[2 * i + 1];
      w.varint(to - from);
      w.copy(buf, from, to);
    }
  }

  /** Takes what `write` wrote, in place: the arguments are good as long as the reader's bytes are. */
  read(r: ByteReader): void {
    const argc = r.varint();
    this.reserve(argc);
    this.buf = r.buf;
    this.argc = argc;
    for (let i = 0; i < argc; i++) {
      const n = r.varint();
      this.offsets[2 * i] = r.pos;
      r.pos += n;
      this.offsets[2 * i + 1] = r.pos;
    }
  }
}

const EMPTY = Buffer.alloc(0);

/** Strict integer at buf[start, end), NaN when it isn't one or is beyond 2^53. */
export function parseInteger(buf: Uint8Array, start: number, end: number): number {
  let n = end - start;
  if (n === 0 || n > 17) return Number.NaN;
  let at = start;
  const negative = buf[at] === 45;
  if (negative) {
    at++;
    if (--n === 0) return Number.NaN;
  }
  let c = buf[at];
  if (c === 48) return n === 1 && !negative ? 0 : Number.NaN;
  let v = 0;
  for (; at < end; at++) {
    c = buf[at] - 48;
    if (c < 0 || c > 9) return Number.NaN;
    v = v * 10 + c;
  }
  if (v > Number.MAX_SAFE_INTEGER) return Number.NaN;
  return negative ? -v : v;
}
