// Draws one command, valid or not, over a handful of keys. Few keys and few values: commands must meet
// each other's results for a sequence to say anything.

import { type Normaliser, roundedTo, sorted, typeOnly } from './normalise.ts';
import type { Prng } from './prng.ts';
import { textOf } from './reply.ts';

type Drawer = (random: Prng) => string[];

const KEYS = ['a', 'b', 'c', 'key:1', 'key:2', 'k\x00\xff'];
const VALUES = [
  '',
  '0',
  '1',
  '-1',
  '10',
  '007',
  ' 1',
  '1 ',
  '+5',
  '3.14',
  '-0',
  '1e3',
  'inf',
  'nan',
  'hello',
  'Hello World',
  '\x00\x01\xfe\xff',
  'x'.repeat(44),
  'y'.repeat(45),
  '9223372036854775807',
  '-9223372036854775808',
  '9223372036854775808',
  '99999999999999999999',
];
const INTEGERS = ['0', '1', '-1', '2', '7', '-3', '100', '9223372036854775807', '-9223372036854775808', 'x', '', '1.5'];
const FLOATS = ['0.1', '-0.1', '1', '3.0e2', '1e20', 'inf', '-inf', 'nan', 'abc', '', ' 1', '0x10', '1e-5'];
const OFFSETS = ['0', '1', '2', '3', '5', '-1', '-2', '-5', '100', 'x', '9223372036854775807', '-9223372036854775808'];
const BIT_OFFSETS = ['0', '1', '7', '8', '9', '31', '63', '100', '-1', 'x', '4294967296'];
const BIT_TYPES = ['u1', 'u8', 'i8', 'i5', 'u4', 'i64', 'u63', 'u64', 'i65', 'x8', 'u0', 'i16'];
const GOOD_BIT_TYPES = ['u1', 'u3', 'u8', 'i8', 'i5', 'i64', 'u63', 'i16', 'u32'];
const FLAGS = ['NX', 'XX', 'GT', 'LT', 'nx'];
const PATTERNS = ['*', 'a', 'key:*', 'key:?', '[ab]', '[^a]', 'k*', '\\a', '', '[a-c]', '*1'];

const key: Drawer = (random) => [random.pick(KEYS)];
const value: Drawer = (random) => [random.pick(VALUES)];
const integer: Drawer = (random) => [random.pick(INTEGERS)];
const offset: Drawer = (random) => [random.pick(OFFSETS)];

// Relative times are whole thousands of seconds, so that they can be told apart by rounding, and hardly
// ever drawn twice, so that GT and LT never hang on which millisecond a command ran in.
function seconds(random: Prng): string {
  if (random.chance(0.15)) return random.pick(['0', '-1', 'x', '9223372036854775807', '', '1.5']);
  return String((1 + random.int(50_000)) * 1000);
}
function milliseconds(random: Prng): string {
  const drawn = seconds(random);
  return /^\d{4,9}$/.test(drawn) ? `${drawn}000` : drawn;
}
function moment(random: Prng): string {
  if (random.chance(0.15)) return random.pick(['0', '-1', 'x', '1', '9223372036854775807']);
  return String(4_000_000_000 + random.int(50_000) * 1000);
}
function momentMs(random: Prng): string {
  const drawn = moment(random);
  return /^\d{10}$/.test(drawn) ? `${drawn}000` : drawn;
}

function expiry(random: Prng): string[] {
  switch (random.int(4)) {
    case 0:
      return ['EX', seconds(random)];
    case 1:
      return ['PX', milliseconds(random)];
    case 2:
      return ['EXAT', moment(random)];
    default:
      return ['pxat', momentMs(random)];
  }
}

function some(random: Prng, most: number, drawer: Drawer): string[] {
  const drawn: string[] = [];
  for (let i = random.int(most) + 1; i > 0; i--) drawn.push(...drawer(random));
  return drawn;
}

function setOptions(random: Prng): string[] {
  const options: string[] = [];
  if (random.chance(0.3)) options.push(random.pick(['NX', 'XX', 'xx']));
  if (random.chance(0.3)) options.push(random.pick(['GET', 'get']));
  if (random.chance(0.3)) options.push(...expiry(random));
  if (random.chance(0.15)) options.push(random.pick(['KEEPTTL', 'NX', 'XX', 'PERSIST', 'BOGUS']));
  return options;
}

function bitRange(random: Prng): string[] {
  const range = [...offset(random), ...offset(random)];
  if (random.chance(0.5)) range.push(random.pick(['BYTE', 'BIT', 'bit', 'NIBBLE']));
  return range;
}

function bitOffset(random: Prng): string {
  return random.chance(0.2) ? `#${random.pick(['0', '1', '3', 'x', ''])}` : random.pick(BIT_OFFSETS);
}

// One bad word fails a whole BITFIELD, so most are drawn from what is valid.
function bitfieldOperation(random: Prng): string[] {
  if (random.chance(0.85)) {
    const type = random.pick(GOOD_BIT_TYPES);
    const at = random.pick(['0', '1', '5', '8', '13', '#0', '#1', '#2', '100']);
    const amount = random.pick(['0', '1', '-1', '3', '-7', '100', '-200', '65000', ...INTEGERS.slice(7, 9)]);
    return random.pick([
      ['GET', type, at],
      ['SET', type, at, amount],
      ['INCRBY', type, at, amount],
      ['OVERFLOW', random.pick(['WRAP', 'SAT', 'FAIL'])],
    ]);
  }
  const type = random.pick(BIT_TYPES);
  switch (random.int(5)) {
    case 0:
      return ['GET', type, bitOffset(random)];
    case 1:
      return ['SET', type, bitOffset(random), random.pick(INTEGERS)];
    case 2:
      return ['OVERFLOW', random.pick(['WRAP', 'SAT', 'FAIL', 'fail', 'NO'])];
    default:
      return ['INCRBY', type, bitOffset(random), random.pick(INTEGERS)];
  }
}

function flags(random: Prng): string[] {
  const drawn: string[] = [];
  while (random.chance(0.3)) drawn.push(random.pick(FLAGS));
  return drawn;
}

const db: Drawer = (random) => [random.pick(['0', '1', '1', '2', '16', '-1', 'x'])];

const COMMANDS: readonly [weight: number, draw: Drawer][] = [
  [8, (r) => ['SET', ...key(r), ...value(r)]],
  [6, (r) => ['SET', ...key(r), ...value(r), ...setOptions(r)]],
  [4, (r) => ['GET', ...key(r)]],
  [1, (r) => ['GETSET', ...key(r), ...value(r)]],
  [1, (r) => ['GETDEL', ...key(r)]],
  [2, (r) => ['GETEX', ...key(r), ...(r.chance(0.7) ? expiry(r) : [r.pick(['PERSIST', 'NX', 'KEEPTTL'])])]],
  [1, (r) => ['SETNX', ...key(r), ...value(r)]],
  [1, (r) => ['SETEX', ...key(r), seconds(r), ...value(r)]],
  [1, (r) => ['PSETEX', ...key(r), milliseconds(r), ...value(r)]],
  [1, (r) => ['MSET', ...some(r, 3, (x) => [...key(x), ...value(x)]), ...(r.chance(0.1) ? ['odd'] : [])]],
  [1, (r) => ['MSETNX', ...some(r, 2, (x) => [...key(x), ...value(x)])]],
  [2, (r) => ['MGET', ...some(r, 4, key)]],
  [2, (r) => ['APPEND', ...key(r), ...value(r)]],
  [1, (r) => ['STRLEN', ...key(r)]],
  [2, (r) => ['SETRANGE', ...key(r), r.pick(['0', '1', '5', '-1', 'x', '536870912', '20']), ...value(r)]],
  [2, (r) => [r.pick(['GETRANGE', 'SUBSTR']), ...key(r), ...offset(r), ...offset(r)]],
  [1, (r) => ['LCS', ...key(r), ...key(r), ...lcsOptions(r)]],
  [3, (r) => [r.pick(['INCR', 'DECR']), ...key(r)]],
  [3, (r) => [r.pick(['INCRBY', 'DECRBY']), ...key(r), ...integer(r)]],
  [2, (r) => ['INCRBYFLOAT', ...key(r), r.pick(FLOATS)]],
  [1, (r) => ['SET', ...key(r), String(r.int(2000) - 1000)]],
  [1, (r) => ['SET', ...key(r), String((r.int(20000) - 10000) / 100)]],
  [2, (r) => ['SETBIT', ...key(r), r.pick(BIT_OFFSETS), r.pick(['0', '1', '1', '2', 'x'])]],
  [1, (r) => ['GETBIT', ...key(r), r.pick(BIT_OFFSETS)]],
  [2, (r) => ['BITCOUNT', ...key(r), ...(r.chance(0.6) ? bitRange(r) : r.chance(0.1) ? ['1'] : [])]],
  [2, (r) => ['BITPOS', ...key(r), r.pick(['0', '1', '2', 'x']), ...bitposRange(r)]],
  [1, (r) => ['BITOP', r.pick(['AND', 'OR', 'XOR', 'NOT', 'nand']), ...key(r), ...some(r, 3, key)]],
  [2, (r) => ['BITFIELD', ...key(r), ...some(r, 3, bitfieldOperation)]],
  [
    1,
    (r) => [
      'BITFIELD_RO',
      ...key(r),
      ...(r.chance(0.7) ? ['GET', r.pick(BIT_TYPES), bitOffset(r)] : bitfieldOperation(r)),
    ],
  ],
  [2, (r) => [r.pick(['DEL', 'UNLINK', 'EXISTS', 'TOUCH']), ...some(r, 3, key)]],
  [1, (r) => ['TYPE', ...key(r)]],
  [2, (r) => ['EXPIRE', ...key(r), seconds(r), ...flags(r)]],
  [1, (r) => ['PEXPIRE', ...key(r), milliseconds(r), ...flags(r)]],
  [1, (r) => ['EXPIREAT', ...key(r), moment(r), ...flags(r)]],
  [1, (r) => ['PEXPIREAT', ...key(r), momentMs(r), ...flags(r)]],
  [2, (r) => ['TTL', ...key(r)]],
  [1, (r) => ['PTTL', ...key(r)]],
  [1, (r) => ['EXPIRETIME', ...key(r)]],
  [1, (r) => ['PEXPIRETIME', ...key(r)]],
  [1, (r) => ['PERSIST', ...key(r)]],
  [1, (r) => [r.pick(['RENAME', 'RENAMENX']), ...key(r), ...key(r)]],
  [1, (r) => ['COPY', ...key(r), ...key(r), ...copyOptions(r)]],
  [1, (r) => ['MOVE', ...key(r), ...db(r)]],
  [1, (r) => ['SELECT', ...db(r)]],
  [0.3, (r) => ['SWAPDB', ...db(r), ...db(r)]],
  [1, (r) => ['KEYS', r.pick(PATTERNS)]],
  [1, (r) => ['SCAN', '0', 'MATCH', r.pick(PATTERNS), 'COUNT', '1000']],
  [1, () => ['DBSIZE']],
  [0.5, () => ['RANDOMKEY']],
  [1, (r) => ['OBJECT', 'ENCODING', ...key(r)]],
  [0.1, (r) => [r.pick(['FLUSHDB', 'FLUSHALL']), ...(r.chance(0.5) ? [r.pick(['SYNC', 'ASYNC', 'NOW'])] : [])]],
  [0.5, (r) => [r.pick(['GET', 'SET', 'INCR', 'MGET', 'NOSUCH', 'OBJECT']), ...some(r, 4, value)]],
];

const TOTAL = COMMANDS.reduce((sum, [weight]) => sum + weight, 0);

function lcsOptions(random: Prng): string[] {
  const options: string[] = [];
  if (random.chance(0.3)) options.push('LEN');
  if (random.chance(0.4)) options.push('IDX');
  if (random.chance(0.2)) options.push('WITHMATCHLEN');
  if (random.chance(0.2)) options.push('MINMATCHLEN', random.pick(['0', '1', '3', '-1', 'x']));
  return options;
}

function bitposRange(random: Prng): string[] {
  switch (random.int(3)) {
    case 0:
      return [];
    case 1:
      return offset(random);
    default:
      return bitRange(random);
  }
}

function copyOptions(random: Prng): string[] {
  const options: string[] = [];
  if (random.chance(0.3)) options.push('DB', ...db(random));
  if (random.chance(0.4)) options.push('REPLACE');
  return options;
}

/** Bytes of latin1 text: keys and values hold bytes that are no UTF-8. */
export function drawCommand(random: Prng): Buffer[] {
  let at = (random.int(1_000_000) / 1_000_000) * TOTAL;
  for (const [weight, draw] of COMMANDS) {
    at -= weight;
    if (at < 0) return draw(random).map((word) => Buffer.from(word, 'latin1'));
  }
  return [Buffer.from('PING')];
}

const KILO = 1000;

// A key expires at the command's own clock, so absolute times are read relative to now before rounding.
function absolute(unitMs: 1 | 1000): Normaliser {
  const unit = unitMs === 1 ? KILO * KILO : KILO;
  return (reply) => {
    const value = Number(textOf(reply));
    if (reply.type !== ':' || value <= 0) return reply;
    if (value >= 4_000_000_000 * (1000 / unitMs)) return reply;
    return { ...reply, text: `about now + ${Math.round((value - Date.now() / unitMs) / unit) * unit}` };
  };
}

// RANDOMKEY's answer is anybody's guess, but whether there is one is not.
const NORMALISERS: Record<string, Normaliser> = {
  TTL: roundedTo(KILO),
  PTTL: roundedTo(KILO * KILO),
  EXPIRETIME: absolute(1000),
  PEXPIRETIME: absolute(1),
  KEYS: sorted,
  RANDOMKEY: (reply) => ('text' in reply && reply.type === '$' && reply.text !== null ? typeOnly(reply) : reply),
};

export function normaliserFor(command: readonly Buffer[]): Normaliser | undefined {
  return NORMALISERS[command[0].toString('latin1').toUpperCase()];
}
