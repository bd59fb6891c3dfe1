/**
 * Bytes to commands: RESP arrays and inline commands, parsed in place.
 *
 * One parser a connection. `next` decodes one command at a time straight from the buffer that it is given and
 * leaves offsets in the shared `Argv`; only an incomplete command is copied, by `keep`, and resumed where it
 * stopped, so a command that comes in a thousand pieces is still read once. Errors have Redis 7's own texts
 * (networking.c, processMultibulkBuffer and processInlineBuffer) and end the connection.
 *
 * Why not `redis-parser`: see docs/PERFORMANCE.md (a third of the speed) and the memory that a header of a few
 * bytes can make it take. It parses replies in the operator's tool, and is this parser's oracle in the tests.
 */
import {
  DEFAULT_MAX_BULK_BYTES,
  MAX_COMMAND_ARGS,
  MAX_INLINE_BYTES,
  MAX_UNAUTHENTICATED_ARGS,
  MAX_UNAUTHENTICATED_BULK_BYTES,
} from '../base/limits.ts';
import { type Argv, parseInteger } from './argv.ts';

/** `next` needs more bytes. */
export const INCOMPLETE = -1;
/** `next` met bytes that are no command; `error` says why. */
export const INVALID = -2;

const STAR = 42;
const DOLLAR = 36;
const CR = 13;
const LF = 10;

export class RequestParser {
  error = '';
  /** Larger arguments are refused; unauthenticated clients have limits of their own. */
  maxBulkBytes = DEFAULT_MAX_BULK_BYTES;
  authenticated = true;

  /** Arguments still expected of the command that is being read; 0 between commands. */
  private expected = 0;
  private found = 0;
  /** Length of the argument whose header has been read, -1 for none. */
  private bulk = -1;
  /** Where reading goes on, relative to the start of the command. */
  private at = 0;
  private saved: Int32Array | null = null;

  /** Forgets an incomplete command. */
  reset(): void {
    this.expected = 0;
    this.found = 0;
    this.bulk = -1;
    this.at = 0;
    this.saved = null;
  }

  /**
   * Bytes that must be there from the command's start before `next` can get further; a hint for the buffer that
   * keeps them, and a reason not to try earlier.
   */
  wanted(): number {
    return this.bulk >= 0 ? this.at + this.bulk + 2 : this.at + 1;
  }

  /**
   * Reads the command that begins at `start`. Returns the position after it (its arguments are in `argv`; none for
   * an empty line), INCOMPLETE, or INVALID. After INCOMPLETE the next call must offer the same bytes again, with
   * more behind them, though not necessarily in the same place.
   */
  next(argv: Argv, buf: Buffer, start: number, end: number): number {
    if (start >= end) return INCOMPLETE;
    let at = start + this.at;
    argv.buf = buf;
    if (this.expected === 0) {
      if (buf[start] !== STAR) return this.inline(argv, buf, start, end);
      const eol = this.endOfLine(buf, start + 1, end);
      if (eol < 0) {
        if (end - start > MAX_INLINE_BYTES) return this.invalid('too big mbulk count string');
        return INCOMPLETE;
      }
      const n = parseInteger(buf, start + 1, eol);
      if (Number.isNaN(n) || n > MAX_COMMAND_ARGS) return this.invalid('invalid multibulk length');
      if (n > MAX_UNAUTHENTICATED_ARGS && !this.authenticated) return this.invalid('unauthenticated multibulk length');
      at = eol + 2;
      if (n <= 0) {
        argv.argc = 0;
        return at;
      }
      this.expected = n;
      this.found = 0;
      this.bulk = -1;
    } else if (this.saved !== null) {
      argv.reserve(this.found);
      const { saved, found } = this;
      for (let i = 0; i < found * 2; i++) argv.offsets[i] = saved[i] + start;
      this.saved = null;
    }
    let { bulk, found } = this;
    const { expected } = this;
    // room for what has plausibly been sent, not for what a header claims
    argv.reserve(Math.min(expected, found + 64 + ((end - at) >>> 2)));
    let offsets = argv.offsets;
    while (found < expected) {
      if (bulk < 0) {
        if (at >= end) break;
        if (buf[at] !== DOLLAR) {
          return this.invalid(`expected '$', got '${String.fromCharCode(buf[at])}'`);
        }
        // the usual header: one or two digits
        let d = buf[at + 1] - 48;
        if (at + 3 < end && d >= 0 && d <= 9 && buf[at + 2] === CR) {
          bulk = d;
          at += 4;
        } else {
          d = d * 10 + buf[at + 2] - 48;
          if (at + 4 < end && buf[at + 3] === CR && d >= 10 && d <= 99 && buf[at + 2] >= 48 && buf[at + 2] <= 57) {
            bulk = d;
            at += 5;
          } else {
            const eol = this.endOfLine(buf, at + 1, end);
            if (eol < 0) {
              if (end - at > MAX_INLINE_BYTES) return this.invalid('too big bulk count string');
              break;
            }
            const n = parseInteger(buf, at + 1, eol);
            if (Number.isNaN(n) || n < 0 || n > this.maxBulkBytes) return this.invalid('invalid bulk length');
            if (n > MAX_UNAUTHENTICATED_BULK_BYTES && !this.authenticated) {
              return this.invalid('unauthenticated bulk length');
            }
            bulk = n;
            at = eol + 2;
          }
        }
      }
      if (at + bulk + 2 > end) break;
      if (found * 2 >= offsets.length) {
        argv.reserve(found + 1);
        offsets = argv.offsets;
      }
      offsets[found * 2] = at;
      offsets[found * 2 + 1] = at + bulk;
      found++;
      at += bulk + 2;
      bulk = -1;
    }
    if (found === expected) {
      argv.argc = found;
      this.expected = 0;
      this.bulk = -1;
      this.at = 0;
      return at;
    }
    this.found = found;
    this.bulk = bulk;
    this.at = at - start;
    const saved = new Int32Array(found * 2);
    for (let i = 0; i < found * 2; i++) saved[i] = offsets[i] - start;
    this.saved = saved;
    return INCOMPLETE;
  }

  /** Position of the CR that ends the line, when the LF behind it is there too; else -1. */
  private endOfLine(buf: Buffer, from: number, end: number): number {
    const stop = Math.min(end - 1, from + MAX_INLINE_BYTES);
    for (let i = from; i < stop; i++) if (buf[i] === CR) return i;
    return -1;
  }

  private invalid(why: string): number {
    this.error = `ERR Protocol error: ${why}`;
    return INVALID;
  }

  private inline(argv: Argv, buf: Buffer, start: number, end: number): number {
    const lf = buf.indexOf(LF, start);
    if (lf < 0 || lf >= end) {
      if (end - start > MAX_INLINE_BYTES) return this.invalid('too big inline request');
      return INCOMPLETE;
    }
    if (lf - start > MAX_INLINE_BYTES) return this.invalid('too big inline request');
    const stop = lf > start && buf[lf - 1] === CR ? lf - 1 : lf;
    const words = splitInline(buf.latin1Slice(start, stop));
    if (words === null) return this.invalid('unbalanced quotes in request');
    argv.reserve(Math.max(1, words.length));
    let length = 0;
    for (const w of words) length += w.length;
    const bytes = Buffer.allocUnsafe(length);
    let at = 0;
    for (let i = 0; i < words.length; i++) {
      bytes.latin1Write(words[i], at);
      argv.offsets[2 * i] = at;
      at += words[i].length;
      argv.offsets[2 * i + 1] = at;
    }
    argv.buf = bytes;
    argv.argc = words.length;
    return lf + 1;
  }
}

const ESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', b: '\b', a: '\x07' };

/** Splits as redis-cli's quoting does: "..." with escapes, '...' with \' alone. Null when quotes don't balance. */
export function splitInline(line: string): string[] | null {
  const words: string[] = [];
  let i = 0;
  const n = line.length;
  for (;;) {
    while (i < n && isSpace(line.charCodeAt(i))) i++;
    // what reads the line as C does stops at a zero byte
    if (i >= n || line[i] === '\0') return words;
    let word = '';
    let quote = '';
    for (;;) {
      if (i >= n) {
        if (quote !== '') return null;
        break;
      }
      const c = line[i];
      if (quote === '"') {
        if (c === '\\' && line[i + 1] === 'x' && /^[0-9a-fA-F]{2}$/.test(line.slice(i + 2, i + 4))) {
          word += String.fromCharCode(Number.parseInt(line.slice(i + 2, i + 4), 16));
          i += 4;
          continue;
        }
        if (c === '\\' && i + 1 < n) {
          word += ESCAPES[line[i + 1]] ?? line[i + 1];
          i += 2;
          continue;
        }
        if (c === '"') {
          if (i + 1 < n && !isSpace(line.charCodeAt(i + 1))) return null;
          i++;
          break;
        }
      } else if (quote === "'") {
        if (c === '\\' && line[i + 1] === "'") {
          word += "'";
          i += 2;
          continue;
        }
        if (c === "'") {
          if (i + 1 < n && !isSpace(line.charCodeAt(i + 1))) return null;
          i++;
          break;
        }
      } else {
        if (isSpace(line.charCodeAt(i)) || c === '\0') break;
        if (c === '"' || c === "'") {
          quote = c;
          i++;
          continue;
        }
      }
      word += c;
      i++;
    }
    words.push(word);
    if (i < n && line[i] === '\0') return words;
  }
}

function isSpace(c: number): boolean {
  return c === 32 || (c >= 9 && c <= 13);
}
