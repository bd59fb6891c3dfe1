/**
 * Strings and counters (https://redis.io/docs/latest/commands/?group=string).
 *
 * Reads show the latest sibling; `SET` and its kin overwrite everything seen; increments are merged by run.
 */
import { INCR_OVERFLOW, NOT_A_FLOAT, NOT_AN_INTEGER, ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { addLongDouble, formatLongDouble, isInfinite, parseLongDouble } from '../base/longdouble.ts';
import type { Argv } from '../resp/argv.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import type { StoredKey } from '../store/object.ts';
import { INT64_MAX, INT64_MIN } from '../types/increment.ts';
import { checkLength, deadlineArgument, integer, integer64, parseInt64, parseSafeInteger } from './args.ts';
import type { CommandContext, CommandSpec, KeySpec } from './command.ts';

const RO_ACCESS: KeySpec[] = [{ flags: ['RO', 'access'], begin: 1, range: { last: 0, step: 1 } }];
const RW_UPDATE: KeySpec[] = [{ flags: ['RW', 'access', 'update'], begin: 1, range: { last: 0, step: 1 } }];
const OW_UPDATE: KeySpec[] = [{ flags: ['OW', 'update'], begin: 1, range: { last: 0, step: 1 } }];

// ---------------------------------------------------------------------- replies

/** Writes a string's value. */
export function replyValue(out: ReplyWriter, o: StoredKey): void {
  const { value } = o;
  if (typeof value === 'string') out.bulk(value);
  else if (value !== null) out.bulk(String(value));
  else out.bulkBytes(o.bytes!.subarray(0, o.length));
}

function replyValueOrNil(out: ReplyWriter, o: StoredKey | null): void {
  if (o === null) out.nil();
  else replyValue(out, o);
}

// ---------------------------------------------------------------------- GET and SET

/** Writes the value of a key that is packed; false, and nothing is written, for another. */
function replyRecord(c: CommandContext, i: number): boolean {
  const { argv, keys, out } = c;
  const { buf, offsets } = argv;
  const a = keys.findRecord(c.db, buf, offsets[2 * i], offsets[2 * i + 1]);
  if (a === 0) return false;
  const { packed } = keys;
  const start = packed.valueStart(a);
  out.bulkFrom(packed.bytes(a), start, start + packed.valueBytes(a));
  return true;
}

function get(c: CommandContext): void {
  if (replyRecord(c, 1)) return;
  const o = c.keys.findString(c.db, c.argv.str(1), c.slot(1));
  replyValueOrNil(c.out, o);
}

const NX = 1;
const XX = 2;
const GET = 4;
const KEEP = 8;
const PERSIST = 16;

/** What SET's and GETEX's options come to. One instance: handlers run one at a time. */
const options = { flags: 0, deadlineAt: 0, word: '', seconds: false, relative: false };

/** Reads the options that SET and GETEX share. Throws a syntax error. */
function readOptions(argv: Argv, from: number, getex: boolean): void {
  options.flags = 0;
  options.deadlineAt = 0;
  options.word = '';
  for (let i = from; i < argv.argc; i++) {
    const more = i + 1 < argv.argc;
    const timed = options.deadlineAt > 0;
    if (!getex && argv.is(i, 'NX') && !(options.flags & XX)) options.flags |= NX;
    else if (!getex && argv.is(i, 'XX') && !(options.flags & NX)) options.flags |= XX;
    else if (!getex && argv.is(i, 'GET')) options.flags |= GET;
    else if (!getex && argv.is(i, 'KEEPTTL') && !timed) options.flags |= KEEP;
    else if (getex && argv.is(i, 'PERSIST') && !timed) options.flags |= PERSIST;
    else if (more && !(options.flags & (KEEP | PERSIST)) && readDeadlineWord(argv, i)) options.deadlineAt = ++i;
    else throw SYNTAX_ERROR;
  }
  options.seconds = options.word === 'EX' || options.word === 'EXAT';
  options.relative = options.word === 'EX' || options.word === 'PX';
}

/** One of the four ways to name a time; the same one may come again, and the last counts. */
function readDeadlineWord(argv: Argv, i: number): boolean {
  for (const word of DEADLINE_WORDS) {
    if (!argv.is(i, word)) continue;
    if (options.word !== '' && options.word !== word) return false;
    options.word = word;
    return true;
  }
  return false;
}

const DEADLINE_WORDS = ['EX', 'PX', 'EXAT', 'PXAT'];

function set(c: CommandContext): void {
  const { argv, keys, db, out } = c;
  const slot = c.slot(1);
  if (argv.argc === 3 && keys.notify === null) {
    const { buf, offsets } = argv;
    if (keys.setBytes(db, buf, offsets[2], offsets[3], slot, offsets[4], offsets[5])) {
      out.ok();
      return;
    }
  }
  const key = argv.str(1);
  if (argv.argc === 3) {
    keys.set(db, keys.object(db, key, slot), key, slot, argv.str(2), 0);
    if (keys.notify !== null) keys.notify(db, 'set', key, '$');
    out.ok();
    return;
  }
  readOptions(argv, 3, false);
  const { flags } = options;
  let deadline = 0;
  if (options.deadlineAt > 0)
    deadline = deadlineArgument(c, options.deadlineAt, options.seconds, options.relative, 'set');
  const old = flags & GET ? keys.findString(db, key, slot) : keys.peek(db, key, slot);
  const refused = (flags & NX && old !== null) || (flags & XX && old === null);
  if (flags & GET) replyValueOrNil(out, old);
  else if (refused) out.nil();
  if (refused) return;
  if (flags & KEEP && old !== null) deadline = old.deadline;
  keys.set(db, keys.object(db, key, slot), key, slot, argv.str(2), deadline);
  // a time that has passed already: the key is gone as soon as it is there
  if (deadline !== 0 && deadline <= c.now) keys.peekForWrite(db, key, slot);
  if (keys.notify !== null) {
    keys.notify(db, 'set', key, '$');
    if (options.deadlineAt > 0) keys.notify(db, 'expire', key, 'g');
  }
  if (!(flags & GET)) out.ok();
}

function setnx(c: CommandContext): void {
  const { argv, keys, db } = c;
  const slot = c.slot(1);
  const key = argv.str(1);
  if (keys.peekForWrite(db, key, slot) !== null) {
    c.out.int(0);
    return;
  }
  keys.set(db, keys.object(db, key, slot), key, slot, argv.str(2), 0);
  keys.notify?.(db, 'set', key, '$');
  c.out.int(1);
}

function setWithDeadline(seconds: boolean, name: string): (c: CommandContext) => void {
  return (c) => {
    const { argv, keys, db } = c;
    const slot = c.slot(1);
    const key = argv.str(1);
    const deadline = deadlineArgument(c, 2, seconds, true, name);
    keys.set(db, keys.object(db, key, slot), key, slot, argv.str(3), deadline);
    keys.notify?.(db, 'set', key, '$');
    keys.notify?.(db, 'expire', key, 'g');
    c.out.ok();
  };
}

function getset(c: CommandContext): void {
  const { argv, keys, db, out } = c;
  const slot = c.slot(1);
  const key = argv.str(1);
  replyValueOrNil(out, keys.findString(db, key, slot));
  keys.set(db, keys.object(db, key, slot), key, slot, argv.str(2), 0);
  keys.notify?.(db, 'set', key, '$');
}

function getdel(c: CommandContext): void {
  const { keys, db, out } = c;
  const key = c.argv.str(1);
  const o = keys.findString(db, key, c.slot(1));
  replyValueOrNil(out, o);
  if (o === null) return;
  keys.remove(db, o);
  keys.notify?.(db, 'del', key, 'g');
}

function getex(c: CommandContext): void {
  const { argv, keys, db, out } = c;
  readOptions(argv, 2, true);
  const { flags } = options;
  const key = argv.str(1);
  const o = keys.findString(db, key, c.slot(1));
  if (o === null) {
    // Redis looks before it reads the time
    out.nil();
    return;
  }
  if (options.deadlineAt > 0) {
    const deadline = deadlineArgument(c, options.deadlineAt, options.seconds, options.relative, 'getex');
    replyValue(out, o);
    if (deadline <= c.now) {
      keys.remove(db, o);
      keys.notify?.(db, 'del', key, 'g');
      return;
    }
    keys.setDeadline(db, o, deadline);
    keys.notify?.(db, 'expire', key, 'g');
    return;
  }
  replyValue(out, o);
  if (flags & PERSIST && o.deadline !== 0) {
    keys.setDeadline(db, o, 0);
    keys.notify?.(db, 'persist', key, 'g');
  }
}

// ---------------------------------------------------------------------- several keys

function mget(c: CommandContext): void {
  const { argv, keys, db, out } = c;
  const n = argv.argc - 1;
  out.array(n);
  for (let i = 1; i <= n; i++) {
    if (replyRecord(c, i)) continue;
    const o = keys.find(db, argv.str(i), c.slot(i));
    if (o === null || o.type !== 1) {
      out.nil();
      continue;
    }
    keys.countSiblings(o);
    replyValue(out, o);
  }
}

function mset(c: CommandContext): void {
  const { argv, keys, db } = c;
  if (argv.argc % 2 === 0) throw new ReplyError("ERR wrong number of arguments for 'mset' command");
  for (let i = 1; i < argv.argc; i += 2) keys.object(db, argv.str(i), c.slot(i));
  setAll(c);
  c.out.ok();
}

function msetnx(c: CommandContext): void {
  const { argv, keys, db } = c;
  if (argv.argc % 2 === 0) throw new ReplyError("ERR wrong number of arguments for 'msetnx' command");
  let exists = false;
  for (let i = 1; i < argv.argc; i += 2) if (keys.peek(db, argv.str(i), c.slot(i)) !== null) exists = true;
  if (!exists) setAll(c);
  c.out.int(exists ? 0 : 1);
}

function setAll(c: CommandContext): void {
  const { argv, keys, db } = c;
  for (let i = 1; i < argv.argc; i += 2) {
    const key = argv.str(i);
    const slot = c.slot(i);
    keys.set(db, keys.object(db, key, slot), key, slot, argv.str(i + 1), 0);
    if (keys.notify !== null) keys.notify(db, 'set', key, '$');
  }
}

// ---------------------------------------------------------------------- parts of strings

function strlen(c: CommandContext): void {
  const { buf, offsets } = c.argv;
  const a = c.keys.findRecord(c.db, buf, offsets[2], offsets[3]);
  if (a !== 0) {
    c.out.int(c.keys.packed.valueBytes(a));
    return;
  }
  c.out.int(c.keys.findString(c.db, c.argv.str(1), c.slot(1))?.size() ?? 0);
}

function append(c: CommandContext): void {
  const { argv, keys, db } = c;
  const slot = c.slot(1);
  const key = argv.str(1);
  const o = keys.findStringForWrite(db, key, slot);
  const size = o?.size() ?? 0;
  const added = argv.len(2);
  checkLength(c, size + added);
  if (o === null) keys.set(db, keys.object(db, key, slot), key, slot, argv.str(2), 0);
  else if (added > 0) keys.patch(db, o, key, slot, size, argv.str(2));
  keys.notify?.(db, 'append', key, '$');
  c.out.int(size + added);
}

function setrange(c: CommandContext): void {
  const { argv, keys, db } = c;
  const offset = integer(argv, 2);
  if (offset < 0) throw new ReplyError('ERR offset is out of range');
  const slot = c.slot(1);
  const key = argv.str(1);
  const o = keys.findStringForWrite(db, key, slot);
  const n = argv.len(3);
  if (n === 0) {
    c.out.int(o?.size() ?? 0);
    return;
  }
  checkLength(c, offset + n);
  keys.patch(db, o ?? keys.object(db, key, slot), key, slot, offset, argv.str(3));
  keys.notify?.(db, 'setrange', key, '$');
  c.out.int(Math.max(o?.size() ?? 0, offset + n));
}

function getrange(c: CommandContext): void {
  const { argv, out } = c;
  let start = integer(argv, 2);
  let end = integer(argv, 3);
  const o = c.keys.findString(c.db, argv.str(1), c.slot(1));
  const size = o?.size() ?? 0;
  if (start < 0 && end < 0 && start > end) {
    out.bulk('');
    return;
  }
  if (start < 0) start = Math.max(0, size + start);
  if (end < 0) end = Math.max(0, size + end);
  end = Math.min(end, size - 1);
  if (o === null || start > end || size === 0) out.bulk('');
  else if (o.value === null) out.bulkBytes(o.bytes!.subarray(start, end + 1));
  else out.bulk(o.text().slice(start, end + 1));
}

// ---------------------------------------------------------------------- counters

function incrementInteger(c: CommandContext, delta: number): void {
  const { argv, keys, db, out } = c;
  const slot = c.slot(1);
  const key = argv.str(1);
  const o = keys.findStringForWrite(db, key, slot);
  let value = 0;
  if (o !== null) {
    keys.checkOverflow(o);
    value = typeof o.value === 'number' ? o.value : parseSafeInteger(o.text());
  }
  const result = value + delta;
  if (!Number.isSafeInteger(result) || Number.isNaN(value)) {
    incrementWide(c, o, key, slot, BigInt(delta));
    return;
  }
  keys.increment(db, o ?? keys.object(db, key, slot), key, slot, value, result);
  if (keys.notify !== null) keys.notify(db, 'incrby', key, '$');
  out.int(result);
}

/** Values or steps that a double can't hold. */
function incrementWide(c: CommandContext, o: StoredKey | null, key: string, slot: number, delta: bigint): void {
  const { keys, db } = c;
  const value = o === null ? 0n : parseInt64(o.text());
  if (value === null) throw NOT_AN_INTEGER;
  const result = value + delta;
  if (result > INT64_MAX || result < INT64_MIN) throw INCR_OVERFLOW;
  keys.incrementBy(db, o ?? keys.object(db, key, slot), key, slot, String(delta), String(result));
  keys.notify?.(db, 'incrby', key, '$');
  c.out.bigint(result);
}

function incrby(c: CommandContext): void {
  const delta = c.argv.int(2);
  if (!Number.isNaN(delta)) {
    incrementInteger(c, delta);
    return;
  }
  const wide = integer64(c.argv, 2);
  const slot = c.slot(1);
  const key = c.argv.str(1);
  incrementWide(c, c.keys.findStringForWrite(c.db, key, slot), key, slot, wide);
}

function decrby(c: CommandContext): void {
  const wide = integer64(c.argv, 2);
  if (wide === INT64_MIN) throw new ReplyError('ERR decrement would overflow');
  const delta = c.argv.int(2);
  if (!Number.isNaN(delta)) {
    incrementInteger(c, -delta);
    return;
  }
  const slot = c.slot(1);
  const key = c.argv.str(1);
  incrementWide(c, c.keys.findStringForWrite(c.db, key, slot), key, slot, -wide);
}

const INFINITY = /^[+-]?inf(inity)?$/i;

function incrbyfloat(c: CommandContext): void {
  const { argv, keys, db } = c;
  const slot = c.slot(1);
  const key = argv.str(1);
  const o = keys.findStringForWrite(db, key, slot);
  if (o !== null) keys.checkOverflow(o);
  const old = o === null ? '0' : o.text();
  const value = parseLongDouble(old);
  if (value === null && !INFINITY.test(old)) throw NOT_A_FLOAT;
  const text = argv.str(2);
  const delta = parseLongDouble(text);
  if (delta === null && !INFINITY.test(text)) throw NOT_A_FLOAT;
  if (value === null || delta === null) throw new ReplyError('ERR increment would produce NaN or Infinity');
  const sum = addLongDouble(value, delta);
  if (isInfinite(sum)) throw new ReplyError('ERR increment would produce NaN or Infinity');
  const result = formatLongDouble(sum);
  keys.incrementBy(db, o ?? keys.object(db, key, slot), key, slot, formatLongDouble(delta), result, true);
  keys.notify?.(db, 'incrbyfloat', key, '$');
  c.out.bulk(result);
}

// ---------------------------------------------------------------------- the table's part

export const stringCommands: CommandSpec[] = [
  {
    name: 'get',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['string'],
    keys: RO_ACCESS,
    summary: 'Gives the value of a string key; of several siblings, the latest.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key',
    handler: get,
  },
  {
    name: 'set',
    arity: -3,
    flags: ['write', 'denyoom'],
    categories: ['string'],
    keys: [
      {
        flags: ['RW', 'access', 'update', 'variable_flags'],
        begin: 1,
        range: { last: 0, step: 1 },
        notes: 'RW and ACCESS due to the optional `GET` argument',
      },
    ],
    summary: 'Sets a key to a string, whatever it held, and settles its siblings.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax:
      'key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]',
    history: [
      ['2.6.12', 'Added the `EX`, `PX`, `NX` and `XX` options.'],
      ['6.0.0', 'Added the `KEEPTTL` option.'],
      ['6.2.0', 'Added the `GET`, `EXAT` and `PXAT` option.'],
      ['7.0.0', 'Allowed the `NX` and `GET` options to be used together.'],
    ],
    handler: set,
  },
  {
    name: 'setnx',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: [{ flags: ['OW', 'insert'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Sets a key that does not exist.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key value',
    handler: setnx,
  },
  {
    name: 'setex',
    arity: 4,
    flags: ['write', 'denyoom'],
    categories: ['string'],
    keys: OW_UPDATE,
    summary: 'Sets a key with a time to live in seconds.',
    since: '2.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key seconds value',
    handler: setWithDeadline(true, 'setex'),
  },
  {
    name: 'psetex',
    arity: 4,
    flags: ['write', 'denyoom'],
    categories: ['string'],
    keys: OW_UPDATE,
    summary: 'Sets a key with a time to live in milliseconds.',
    since: '2.6.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key milliseconds value',
    handler: setWithDeadline(false, 'psetex'),
  },
  {
    name: 'getset',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: RW_UPDATE,
    summary: 'Sets a key and gives the value that it had.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key value',
    deprecated: { since: '6.2.0', replacedBy: '`SET` with the `!GET` argument' },
    handler: getset,
  },
  {
    name: 'getdel',
    arity: 2,
    flags: ['write', 'fast'],
    categories: ['string'],
    keys: [{ flags: ['RW', 'access', 'delete'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Gives the value of a string key and deletes the key.',
    since: '6.2.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key',
    handler: getdel,
  },
  {
    name: 'getex',
    arity: -2,
    flags: ['write', 'fast'],
    categories: ['string'],
    keys: [
      {
        flags: ['RW', 'access', 'update'],
        begin: 1,
        range: { last: 0, step: 1 },
        notes: 'RW and UPDATE because it changes the TTL',
      },
    ],
    summary: 'Gives the value of a string key and sets or removes its time to live.',
    since: '6.2.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]',
    handler: getex,
  },
  {
    name: 'mget',
    arity: -2,
    flags: ['readonly', 'fast'],
    categories: ['string'],
    keys: [{ flags: ['RO', 'access'], begin: 1, range: { last: -1, step: 1 } }],
    summary: 'Gives the values of several string keys.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(N) where N is the number of keys to retrieve.',
    syntax: 'key [key ...]',
    tips: ['request_policy:multi_shard'],
    handler: mget,
  },
  {
    name: 'mset',
    arity: -3,
    flags: ['write', 'denyoom'],
    categories: ['string'],
    keys: [{ flags: ['OW', 'update'], begin: 1, range: { last: -1, step: 2 } }],
    summary: 'Sets several keys at once.',
    since: '1.0.1',
    group: 'string',
    complexity: 'O(N) where N is the number of keys to set.',
    syntax: 'key value [key value ...]',
    tips: ['request_policy:multi_shard', 'response_policy:all_succeeded'],
    handler: mset,
  },
  {
    name: 'msetnx',
    arity: -3,
    flags: ['write', 'denyoom'],
    categories: ['string'],
    keys: [{ flags: ['OW', 'insert'], begin: 1, range: { last: -1, step: 2 } }],
    summary: 'Sets several keys at once, if none of them exists.',
    since: '1.0.1',
    group: 'string',
    complexity: 'O(N) where N is the number of keys to set.',
    syntax: 'key value [key value ...]',
    tips: ['request_policy:multi_shard', 'response_policy:agg_min'],
    handler: msetnx,
  },
  {
    name: 'strlen',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['string'],
    keys: [{ flags: ['RO'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Gives the length of a string.',
    since: '2.2.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key',
    handler: strlen,
  },
  {
    name: 'append',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: [{ flags: ['RW', 'insert'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Adds bytes to the end of a string.',
    since: '2.0.0',
    group: 'string',
    complexity: 'O(1) amortised.',
    syntax: 'key value',
    handler: append,
  },
  {
    name: 'setrange',
    arity: 4,
    flags: ['write', 'denyoom'],
    categories: ['string'],
    keys: [{ flags: ['RW', 'update'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Overwrites part of a string, padding it with zero bytes where it is too short.',
    since: '2.2.0',
    group: 'string',
    complexity: 'O(M) where M is the length of the value.',
    syntax: 'key offset value',
    handler: setrange,
  },
  {
    name: 'getrange',
    arity: 4,
    flags: ['readonly'],
    categories: ['string'],
    keys: RO_ACCESS,
    summary: 'Gives part of a string.',
    since: '2.4.0',
    group: 'string',
    complexity: 'O(N) where N is the length returned.',
    syntax: 'key start end',
    handler: getrange,
  },
  {
    name: 'substr',
    arity: 4,
    flags: ['readonly'],
    categories: ['string'],
    keys: RO_ACCESS,
    summary: 'Gives part of a string.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(N) where N is the length returned.',
    syntax: 'key start end',
    deprecated: { since: '2.0.0', replacedBy: '`GETRANGE`' },
    handler: getrange,
  },
  {
    name: 'incr',
    arity: 2,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: RW_UPDATE,
    summary: 'Adds one to a counter.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key',
    handler: (c) => incrementInteger(c, 1),
  },
  {
    name: 'decr',
    arity: 2,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: RW_UPDATE,
    summary: 'Takes one from a counter.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key',
    handler: (c) => incrementInteger(c, -1),
  },
  {
    name: 'incrby',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: RW_UPDATE,
    summary: 'Adds an integer to a counter.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key increment',
    handler: incrby,
  },
  {
    name: 'decrby',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: RW_UPDATE,
    summary: 'Takes an integer from a counter.',
    since: '1.0.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key decrement',
    handler: decrby,
  },
  {
    name: 'incrbyfloat',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: RW_UPDATE,
    summary: 'Adds a floating point number to a counter.',
    since: '2.6.0',
    group: 'string',
    complexity: 'O(1)',
    syntax: 'key increment:double',
    handler: incrbyfloat,
  },
];
