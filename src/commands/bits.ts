/**
 * Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP and BITFIELD.
 *
 * Writes are patches of the bytes they touch, so that setting one bit of a large bitmap writes and replicates one
 * chunk. Bit 0 is the highest bit of the first byte, as in Redis.
 */
import { NOT_AN_INTEGER, ReplyError, STRING_TOO_LONG, SYNTAX_ERROR } from '../base/errors.ts';
import { MAX_STRING_BYTES } from '../base/limits.ts';
import type { Argv } from '../resp/argv.ts';
import { RAW, type StoredKey } from '../store/object.ts';
import { checkLength, integer, parseInt64 } from './args.ts';
import type { CommandContext, CommandSpec, KeySpec } from './command.ts';

const BIT_OFFSET = new ReplyError('ERR bit offset is not an integer or out of range');
const BIT_VALUE = new ReplyError('ERR bit is not an integer or out of range');
const BITPOS_BIT = new ReplyError('ERR The bit argument must be 1 or 0.');
const NOT_ONE_SOURCE = new ReplyError('ERR BITOP NOT must be called with a single source key.');
const BITFIELD_TYPE = new ReplyError(
  'ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.',
);
const OVERFLOW_TYPE = new ReplyError('ERR Invalid OVERFLOW type specified');
const ONLY_GET = new ReplyError('ERR BITFIELD_RO only supports the GET subcommand');

const NO_BYTES = Buffer.alloc(0);

/** A string's bytes; a copy unless it is kept as bytes. */
function bytesOf(o: StoredKey | null): Buffer {
  if (o === null) return NO_BYTES;
  return o.bytes !== null ? o.bytes.subarray(0, o.length) : Buffer.from(o.text(), 'latin1');
}

/** Byte i of a string, 0 beyond its end. */
function byteAt(o: StoredKey | null, i: number): number {
  if (o === null || i >= o.size()) return 0;
  return o.bytes !== null ? o.bytes[i] : o.text().charCodeAt(i);
}

/**
 * Argument i as the position of a bit. With `width`, `#n` counts fields of that many bits.
 */
function bitOffset(c: CommandContext, i: number, width = 0): number {
  const { argv } = c;
  let text = argv.str(i);
  const counted = width > 0 && text.charCodeAt(0) === 35;
  if (counted) text = text.slice(1);
  let n = parseInt64(text);
  if (n === null) throw BIT_OFFSET;
  if (counted) n *= BigInt(width);
  if (n < 0n || n / 8n >= BigInt(c.server.config.num('proto-max-bulk-len'))) throw BIT_OFFSET;
  return Number(n);
}

// ------------------------------------------------------------------ SETBIT, GETBIT

function setbit(c: CommandContext): void {
  const { argv, keys, db } = c;
  const offset = bitOffset(c, 2);
  const on = argv.int(3);
  if (on !== 0 && on !== 1) throw BIT_VALUE;
  const key = argv.str(1);
  const slot = c.slot(1);
  const o = keys.findStringForWrite(db, key, slot);
  const at = Math.floor(offset / 8);
  const mask = 128 >> (offset % 8);
  const old = byteAt(o, at);
  const was = (old & mask) === 0 ? 0 : 1;
  const grows = o === null || at >= o.size();
  if (grows || was !== on) {
    keys.patch(db, o, key, slot, at, String.fromCharCode(on === 1 ? old | mask : old & ~mask));
    keys.notify?.(db, 'setbit', key, '$');
  }
  c.out.int(was);
}

function getbit(c: CommandContext): void {
  const offset = bitOffset(c, 2);
  const o = c.keys.findString(c.db, c.argv.str(1), c.slot(1));
  c.out.int((byteAt(o, Math.floor(offset / 8)) >> (7 - (offset % 8))) & 1);
}

// ------------------------------------------------------------------ BITCOUNT, BITPOS

const ONES = new Uint8Array(256);
for (let i = 1; i < 256; i++) ONES[i] = ONES[i >> 1] + (i & 1);

function ones32(v: number): number {
  v -= (v >>> 1) & 0x55555555;
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Ones in bytes[from, to). */
function countOnes(bytes: Buffer, from: number, to: number): number {
  let n = 0;
  let i = from;
  while (i < to && ((bytes.byteOffset + i) & 3) !== 0) n += ONES[bytes[i++]];
  const wordCount = (to - i) >> 2;
  if (wordCount > 0) {
    const wide = new Int32Array(bytes.buffer, bytes.byteOffset + i, wordCount);
    for (let k = 0; k < wordCount; k++) n += ones32(wide[k]);
    i += wordCount * 4;
  }
  while (i < to) n += ONES[bytes[i++]];
  return n;
}

/** BYTE or BIT in argument i. */
function isBitUnit(argv: Argv, i: number): boolean {
  if (argv.is(i, 'BIT')) return true;
  if (argv.is(i, 'BYTE')) return false;
  throw SYNTAX_ERROR;
}

function bitcount(c: CommandContext): void {
  const { argv, out } = c;
  const o = c.keys.findString(c.db, argv.str(1), c.slot(1));
  if (o === null) {
    out.int(0);
    return;
  }
  if (argv.argc === 2) {
    const all = bytesOf(o);
    out.int(countOnes(all, 0, all.length));
    return;
  }
  if (argv.argc !== 4 && argv.argc !== 5) throw SYNTAX_ERROR;
  let start = integer(argv, 2);
  let end = integer(argv, 3);
  if (start < 0 && end < 0 && start > end) {
    out.int(0);
    return;
  }
  const bits = argv.argc === 5 && isBitUnit(argv, 4);
  const total = o.size() * (bits ? 8 : 1);
  if (start < 0) start = Math.max(0, start + total);
  if (end < 0) end = Math.max(0, end + total);
  if (end >= total) end = total - 1;
  if (start > end) {
    out.int(0);
    return;
  }
  const bytes = bytesOf(o);
  if (!bits) {
    out.int(countOnes(bytes, start, end + 1));
    return;
  }
  const first = Math.floor(start / 8);
  const last = Math.floor(end / 8);
  // what lies outside of the range in the first and in the last byte
  const before = bytes[first] & ~(255 >> (start % 8)) & 255;
  const after = bytes[last] & (127 >> (end % 8));
  out.int(countOnes(bytes, first, last + 1) - ONES[before] - ONES[after]);
}

/** Position of the first bit with this value in bytes[from, to], of which the edges are masked; -1 for none. */
function findBit(bytes: Buffer, bit: number, from: number, to: number, firstMask: number, lastMask: number): number {
  const skip = bit === 1 ? 0 : 255;
  for (let i = from; i <= to; i++) {
    let v = bytes[i];
    if (i === from && firstMask !== 255) v = bit === 1 ? v & firstMask : v | (~firstMask & 255);
    if (i === to && lastMask !== 255) v = bit === 1 ? v & lastMask : v | (~lastMask & 255);
    if (v === skip) continue;
    const wanted = bit === 1 ? v : ~v & 255;
    return i * 8 + Math.clz32(wanted) - 24;
  }
  return -1;
}

function bitpos(c: CommandContext): void {
  const { argv, out } = c;
  const bit = integer(argv, 2);
  if (bit !== 0 && bit !== 1) throw BITPOS_BIT;
  const o = c.keys.findString(c.db, argv.str(1), c.slot(1));
  if (o === null) {
    out.int(bit === 1 ? -1 : 0);
    return;
  }
  const size = o.size();
  let start = 0;
  let end = size - 1;
  let bits = false;
  const endGiven = argv.argc >= 5;
  if (argv.argc > 6) throw SYNTAX_ERROR;
  if (argv.argc >= 4) {
    start = integer(argv, 3);
    if (argv.argc === 6) bits = isBitUnit(argv, 5);
    const total = size * (bits ? 8 : 1);
    end = endGiven ? integer(argv, 4) : total - 1;
    if (start < 0) start = Math.max(0, start + total);
    if (end < 0) end = Math.max(0, end + total);
    if (end >= total) end = total - 1;
  }
  if (start > end) {
    out.int(-1);
    return;
  }
  const from = bits ? Math.floor(start / 8) : start;
  const to = bits ? Math.floor(end / 8) : end;
  const firstMask = bits ? 255 >> (start % 8) : 255;
  const lastMask = bits ? ~(127 >> (end % 8)) & 255 : 255;
  const found = findBit(bytesOf(o), bit, from, to, firstMask, lastMask);
  // a string is followed by zeros without end, unless the range says where to stop
  if (found < 0 && bit === 0 && !endGiven) out.int(size * 8);
  else out.int(found);
}

// ------------------------------------------------------------------ BITOP

type Operation = 'and' | 'or' | 'xor' | 'not';

function combine(operation: Operation, sources: Buffer[]): Buffer {
  const length = Math.max(...sources.map((s) => s.length));
  const result = Buffer.alloc(length);
  sources[0].copy(result);
  if (operation === 'not') {
    for (let i = 0; i < length; i++) result[i] = ~result[i];
    return result;
  }
  for (const source of sources.slice(1)) {
    const n = source.length;
    if (operation === 'and') {
      for (let i = 0; i < n; i++) result[i] &= source[i];
      result.fill(0, n);
    } else if (operation === 'or') for (let i = 0; i < n; i++) result[i] |= source[i];
    else for (let i = 0; i < n; i++) result[i] ^= source[i];
  }
  return result;
}

function bitop(c: CommandContext): void {
  const { argv, keys, db } = c;
  const operation = argv.lower(1);
  if (operation !== 'and' && operation !== 'or' && operation !== 'xor' && operation !== 'not') throw SYNTAX_ERROR;
  if (operation === 'not' && argv.argc !== 4) throw NOT_ONE_SOURCE;
  const sources: (StoredKey | null)[] = [];
  for (let i = 3; i < argv.argc; i++) sources.push(keys.findString(db, argv.str(i), c.slot(i)));
  const key = argv.str(2);
  const slot = c.slot(2);
  const target = keys.peekForWrite(db, key, slot);
  const length = sources.reduce((n, o) => Math.max(n, o === null ? 0 : o.size()), 0);
  checkLength(c, length);
  // the result is one register, which is one string of the runtime's
  if (length > MAX_STRING_BYTES) throw STRING_TOO_LONG;
  const result = combine(operation, sources.map(bytesOf));
  if (result.length > 0) {
    keys.set(db, target ?? keys.object(db, key, slot), key, slot, result.latin1Slice(), 0).flags |= RAW;
    keys.notify?.(db, 'set', key, '$');
  } else if (target !== null) {
    keys.remove(db, target);
    keys.notify?.(db, 'del', key, 'g');
  }
  c.out.int(result.length);
}

// ------------------------------------------------------------------ BITFIELD

type Overflow = 'wrap' | 'sat' | 'fail';

interface FieldOperation {
  kind: 'get' | 'set' | 'incrby';
  signed: boolean;
  width: number;
  offset: number;
  operand: bigint;
  overflow: Overflow;
}

function fieldType(text: string): { signed: boolean; width: number } {
  const signed = text.charCodeAt(0) === 105;
  const width = parseInt64(text.slice(1));
  if ((!signed && text.charCodeAt(0) !== 117) || width === null || width < 1n || width > (signed ? 64n : 63n)) {
    throw BITFIELD_TYPE;
  }
  return { signed, width: Number(width) };
}

function readOperations(c: CommandContext, readonly: boolean): FieldOperation[] {
  const { argv } = c;
  const list: FieldOperation[] = [];
  let overflow: Overflow = 'wrap';
  for (let i = 2; i < argv.argc; i++) {
    const left = argv.argc - i - 1;
    if (argv.is(i, 'OVERFLOW') && left >= 1) {
      const how = argv.lower(++i);
      if (how !== 'wrap' && how !== 'sat' && how !== 'fail') throw OVERFLOW_TYPE;
      overflow = how;
      continue;
    }
    let kind: FieldOperation['kind'];
    if (argv.is(i, 'GET') && left >= 2) kind = 'get';
    else if (argv.is(i, 'SET') && left >= 3) kind = 'set';
    else if (argv.is(i, 'INCRBY') && left >= 3) kind = 'incrby';
    else throw SYNTAX_ERROR;
    const { signed, width } = fieldType(argv.str(i + 1));
    const offset = bitOffset(c, i + 2, width);
    let operand = 0n;
    if (kind !== 'get') {
      const n = parseInt64(argv.str(i + 3));
      if (n === null) throw NOT_AN_INTEGER;
      operand = n;
    }
    list.push({ kind, signed, width, offset, operand, overflow });
    i += kind === 'get' ? 2 : 3;
  }
  if (readonly && list.some((op) => op.kind !== 'get')) throw ONLY_GET;
  return list;
}

/** Bytes that one or more fields lie in, to be read and changed before they are written back. */
class Window {
  readonly bytes: Buffer;
  readonly start: number;
  changed = false;

  constructor(o: StoredKey | null, start: number, end: number) {
    this.start = start;
    this.bytes = Buffer.alloc(end - start);
    if (o === null || start >= o.size()) return;
    if (o.bytes !== null) o.bytes.copy(this.bytes, 0, start, Math.min(end, o.length));
    else this.bytes.latin1Write(o.text().slice(start, end), 0);
  }

  read(op: FieldOperation): bigint {
    const at = op.offset - this.start * 8;
    const last = Math.floor((at + op.width - 1) / 8);
    let v = 0n;
    for (let i = Math.floor(at / 8); i <= last; i++) v = (v << 8n) | BigInt(this.bytes[i]);
    v = BigInt.asUintN(op.width, v >> BigInt((last + 1) * 8 - at - op.width));
    return op.signed ? BigInt.asIntN(op.width, v) : v;
  }

  write(op: FieldOperation, value: bigint): void {
    const at = op.offset - this.start * 8;
    const first = Math.floor(at / 8);
    const last = Math.floor((at + op.width - 1) / 8);
    const shift = BigInt((last + 1) * 8 - at - op.width);
    let v = 0n;
    for (let i = first; i <= last; i++) v = (v << 8n) | BigInt(this.bytes[i]);
    const mask = ((1n << BigInt(op.width)) - 1n) << shift;
    v = (v & ~mask) | (BigInt.asUintN(op.width, value) << shift);
    for (let i = last; i >= first; i--) {
      this.bytes[i] = Number(v & 255n);
      v >>= 8n;
    }
    this.changed = true;
  }
}

/** The value made to fit into its field; null when it doesn't and must not. */
function fit(op: FieldOperation, value: bigint): bigint | null {
  const width = BigInt(op.width);
  const min = op.signed ? -(1n << (width - 1n)) : 0n;
  const max = op.signed ? (1n << (width - 1n)) - 1n : (1n << width) - 1n;
  if (value >= min && value <= max) return value;
  if (op.overflow === 'fail') return null;
  if (op.overflow === 'sat') return value > max ? max : min;
  return op.signed ? BigInt.asIntN(op.width, value) : BigInt.asUintN(op.width, value);
}

/** Carries out one operation; its reply, null for one that failed. */
function perform(op: FieldOperation, w: Window): bigint | null {
  const old = w.read(op);
  if (op.kind === 'get') return old;
  // an unsigned field is given its operand's 64 bits, so a negative one is far too large for it
  const wanted = op.kind === 'incrby' ? old + op.operand : op.signed ? op.operand : BigInt.asUintN(64, op.operand);
  const value = fit(op, wanted);
  if (value === null) return null;
  w.write(op, value);
  return op.kind === 'set' ? old : value;
}

/** Fields further apart than this are written one by one. */
const WINDOW_BYTES = 64 * 1024;

function bitfieldOf(c: CommandContext, readonly: boolean): void {
  const { argv, keys, db, out } = c;
  const operations = readOperations(c, readonly);
  const key = argv.str(1);
  const slot = c.slot(1);
  const writes = operations.some((op) => op.kind !== 'get');
  let o = writes ? keys.findStringForWrite(db, key, slot) : keys.findString(db, key, slot);
  const firstByte = (op: FieldOperation) => Math.floor(op.offset / 8);
  const endByte = (op: FieldOperation) => Math.floor((op.offset + op.width - 1) / 8) + 1;
  const replies: (bigint | null)[] = [];
  let changes = 0;
  const runAll = (list: FieldOperation[]) => {
    const start = Math.min(...list.map(firstByte));
    const w = new Window(o, start, Math.max(...list.map(endByte)));
    for (const op of list) replies.push(perform(op, w));
    if (!w.changed) return;
    changes++;
    // bytes beyond the last field that is written are not made by reading them
    const size = o === null ? 0 : o.size();
    const written = Math.max(
      ...list.filter((op) => op.kind !== 'get').map(endByte),
      Math.min(size, start + w.bytes.length),
    );
    keys.patch(db, o, key, slot, start, w.bytes.latin1Slice(0, written - start));
    o = keys.object(db, key, slot);
  };
  if (operations.length > 0) {
    const span = Math.max(...operations.map(endByte)) - Math.min(...operations.map(firstByte));
    if (span <= WINDOW_BYTES) runAll(operations);
    else for (const op of operations) runAll([op]);
  }
  if (writes) {
    // room is made up to the last field that may be written, even when OVERFLOW FAIL has left it alone
    const end = Math.max(...operations.filter((op) => op.kind !== 'get').map(endByte));
    if (end > (o === null ? 0 : o.size())) {
      keys.patch(db, o, key, slot, end - 1, '\0');
      changes++;
    }
  }
  if (changes > 0) keys.notify?.(db, 'setbit', key, '$');
  out.array(replies.length);
  for (const reply of replies) {
    if (reply === null) out.nil();
    else out.bigint(reply);
  }
}

function bitfield(c: CommandContext): void {
  bitfieldOf(c, false);
}

function bitfieldRo(c: CommandContext): void {
  bitfieldOf(c, true);
}

// ------------------------------------------------------------------ the table's part

const ONE = { last: 0, step: 1 };
const RO_KEY: KeySpec[] = [{ flags: ['RO', 'access'], begin: 1, range: ONE }];
const BITMAP = ['bitmap'];

export const bitCommands: CommandSpec[] = [
  {
    name: 'setbit',
    arity: 4,
    flags: ['write', 'denyoom'],
    categories: BITMAP,
    keys: [{ flags: ['RW', 'access', 'update'], begin: 1, range: ONE }],
    summary: 'Sets or clears one bit of a string.',
    since: '2.2.0',
    group: 'bitmap',
    complexity: 'O(1)',
    syntax: 'key offset value:integer',
    handler: setbit,
  },
  {
    name: 'getbit',
    arity: 3,
    flags: ['readonly', 'fast'],
    categories: BITMAP,
    keys: RO_KEY,
    summary: 'Gives one bit of a string.',
    since: '2.2.0',
    group: 'bitmap',
    complexity: 'O(1)',
    syntax: 'key offset',
    handler: getbit,
  },
  {
    name: 'bitcount',
    arity: -2,
    flags: ['readonly'],
    categories: BITMAP,
    keys: RO_KEY,
    summary: 'Counts the ones in a string, or in a part of it.',
    since: '2.6.0',
    group: 'bitmap',
    complexity: 'O(N)',
    syntax: 'key [start end [BYTE | BIT]]',
    history: [['7.0.0', 'The range may be counted in bits.']],
    handler: bitcount,
  },
  {
    name: 'bitpos',
    arity: -3,
    flags: ['readonly'],
    categories: BITMAP,
    keys: RO_KEY,
    summary: 'Finds the first one or zero in a string.',
    since: '2.8.7',
    group: 'bitmap',
    complexity: 'O(N)',
    syntax: 'key bit [start [end [BYTE | BIT]]]',
    history: [['7.0.0', 'The range may be counted in bits.']],
    handler: bitpos,
  },
  {
    name: 'bitop',
    arity: -4,
    flags: ['write', 'denyoom'],
    categories: BITMAP,
    keys: [
      { flags: ['OW', 'update'], begin: 2, range: ONE },
      { flags: ['RO', 'access'], begin: 3, range: { last: -1, step: 1 } },
    ],
    summary: 'Combines strings bit by bit into another.',
    since: '2.6.0',
    group: 'bitmap',
    complexity: 'O(N)',
    syntax: 'operation destkey key [key ...]',
    handler: bitop,
  },
  {
    name: 'bitfield',
    arity: -2,
    flags: ['write', 'denyoom'],
    categories: BITMAP,
    keys: [
      {
        flags: ['RW', 'access', 'update', 'variable_flags'],
        begin: 1,
        range: ONE,
        notes: 'This command allows both access and modification of the key',
      },
    ],
    summary: 'Reads, writes and counts up integers of any width inside a string.',
    since: '3.2.0',
    group: 'bitmap',
    complexity: 'O(1) for each subcommand specified',
    syntax:
      'key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value:integer | INCRBY encoding offset increment> ...]',
    handler: bitfield,
  },
  {
    name: 'bitfield_ro',
    arity: -2,
    flags: ['readonly', 'fast'],
    categories: BITMAP,
    keys: RO_KEY,
    summary: 'Reads integers of any width inside a string.',
    since: '6.0.0',
    group: 'bitmap',
    complexity: 'O(1) for each subcommand specified',
    syntax: 'key [GET encoding offset [GET encoding offset ...]]',
    handler: bitfieldRo,
  },
];
