/**
 * The request parser: whatever way the bytes are cut up, the same commands come out; whatever the bytes are, it ends;
 * and a header's claim costs nothing. `redis-parser`, which reads RESP for Redis's own clients, is the oracle.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_COMMAND_ARGS, MAX_INLINE_BYTES } from '../base/limits.ts';
import { Argv, parseInteger } from './argv.ts';
import { INCOMPLETE, INVALID, RequestParser, splitInline } from './parser.ts';

// it has no types
const OracleParser = createRequire(import.meta.url)('redis-parser');

interface Outcome {
  commands: string[][];
  error: string | null;
  /** Bytes that wait for more. */
  left: number;
}

/** Feeds chunks as the server does: in place while nothing is left over, else from a copy that moves about. */
function parse(chunks: readonly Uint8Array[], parser = new RequestParser(), argv = new Argv(4)): Outcome {
  const commands: string[][] = [];
  let pending: Buffer = Buffer.alloc(0);
  let moved = 0;
  for (const chunk of chunks) {
    // junk around the bytes: nothing outside [at, end) may be looked at
    const before = Buffer.alloc((moved = (moved + 7) % 31), '$');
    const buf = Buffer.concat([before, pending, chunk, Buffer.from('\r\n1\r\n')]);
    const end = buf.length - 5;
    let at = before.length;
    while (at < end) {
      if (pending.length > 0 && end - at < parser.wanted()) break;
      const next = parser.next(argv, buf, at, end);
      if (next === INCOMPLETE) break;
      if (next === INVALID) return { commands, error: parser.error, left: end - at };
      assert.ok(next > at && next <= end, 'it moves on, and not too far');
      at = next;
      if (argv.argc > 0) commands.push(argv.strings());
    }
    pending = Buffer.from(buf.subarray(at, end));
  }
  return { commands, error: null, left: pending.length };
}

function encode(commands: readonly (readonly string[])[]): Buffer {
  const text = commands.map((c) => `*${c.length}\r\n${c.map((a) => `$${a.length}\r\n${a}\r\n`).join('')}`);
  return Buffer.from(text.join(''), 'latin1');
}

/** Cuts bytes at places given as fractions. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((p) => Math.floor(p * bytes.length)), bytes.length].sort((a, b) => a - b);
  return at.slice(1).map((to, i) => bytes.subarray(at[i], to));
}

const argument = fc.oneof(
  fc.uint8Array({ maxLength: 20 }).map((b) => Buffer.from(b).latin1Slice()),
  fc.constantFrom(
    '',
    '\r\n',
    '$5\r\n',
    '*1\r\n',
    'GET',
    'x'.repeat(9),
    'x'.repeat(10),
    'x'.repeat(99),
    'x'.repeat(100),
  ),
  fc.integer({ min: 100, max: 3000 }).map((n) => 'y'.repeat(n)),
);
const command = fc.array(argument, { minLength: 1, maxLength: 12 });
const pipeline = fc.array(command, { maxLength: 12 });
const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 30 });

test('any pipeline, cut anywhere, comes out as it went in', () => {
  fc.assert(
    fc.property(pipeline, cuts, (commands, places) => {
      const outcome = parse(cut(encode(commands), places));
      assert.deepEqual(outcome, { commands, error: null, left: 0 });
    }),
    { numRuns: 500 },
  );
});

test('byte by byte', () => {
  const commands = [
    ['SET', 'k', 'v'.repeat(120)],
    ['PING'],
    Array.from({ length: 150 }, (_, i) => `a${i}`),
    ['', '', ''],
  ];
  const bytes = encode(commands);
  const outcome = parse(Array.from(bytes, (b) => Buffer.from([b])));
  assert.deepEqual(outcome, { commands, error: null, left: 0 });
});

test('a command that is cut short waits, at every byte', () => {
  const bytes = encode([['SET', 'key', 'value', 'x'.repeat(11)]]);
  for (let n = 1; n < bytes.length; n++)
    assert.deepEqual(parse([bytes.subarray(0, n)]), { commands: [], error: null, left: n });
});

test('redis-parser reads the same', () => {
  fc.assert(
    fc.property(pipeline, cuts, (commands, places) => {
      const read: string[][] = [];
      const oracle = new OracleParser({
        returnReply: (reply: Buffer[]) => read.push(reply.map((b) => b.latin1Slice())),
        returnError: assert.fail,
        returnFatalError: assert.fail,
        returnBuffers: true,
      });
      // sockets never give empty chunks, and the oracle loses count over one
      const chunks = cut(encode(commands), places).filter((chunk) => chunk.length > 0);
      for (const chunk of chunks) oracle.execute(Buffer.from(chunk));
      assert.deepEqual(parse(chunks).commands, read);
    }),
  );
});

// bytes that are nearly requests find more than bytes that are nothing
const piece = fc.oneof(
  fc.constantFrom(
    '*',
    '$',
    '\r\n',
    '\r',
    '\n',
    '-',
    '1',
    '2',
    '0',
    '12',
    ' ',
    '"',
    "'",
    '\\',
    '\\x',
    '\0',
    '*1\r\n',
    '$1\r\na\r\n',
    '$-1\r\n',
    '*-1\r\n',
    '*0\r\n',
    'GET k\r\n',
    '*2\r\n$3\r\nGET\r\n',
    '$99999999999\r\n',
    '*4294967296\r\n',
  ),
  fc.uint8Array({ maxLength: 6 }).map((b) => Buffer.from(b).latin1Slice()),
);
const noise = fc.oneof(
  fc.array(piece, { maxLength: 30 }).map((p) => Buffer.from(p.join(''), 'latin1')),
  fc.uint8Array({ maxLength: 200 }).map((b) => Buffer.from(b)),
);

test('random bytes end in commands or an error, the same ones however they are cut', () => {
  fc.assert(
    fc.property(noise, cuts, (bytes, places) => {
      const whole = parse([bytes]);
      const pieces = parse(cut(bytes, places));
      assert.deepEqual(pieces.commands, whole.commands);
      assert.equal(pieces.error, whole.error);
      if (whole.error === null) assert.equal(pieces.left, whole.left);
      assert.ok(whole.error === null || whole.error.startsWith('ERR Protocol error: '));
    }),
    { numRuns: 3000 },
  );
});

/** Bytes, and what Redis 7.0.15 says before it hangs up. */
const REFUSED: readonly [string, string][] = [
  ['*4294967296\r\n', 'invalid multibulk length'],
  ['*99999999999999999999\r\n', 'invalid multibulk length'],
  ['*abc\r\n', 'invalid multibulk length'],
  ['*\r\n', 'invalid multibulk length'],
  ['* 1\r\n', 'invalid multibulk length'],
  ['*+1\r\n', 'invalid multibulk length'],
  ['*01\r\n', 'invalid multibulk length'],
  ['*1\r\n$-1\r\n', 'invalid bulk length'],
  ['*1\r\n$-5\r\n', 'invalid bulk length'],
  ['*1\r\n$\r\n', 'invalid bulk length'],
  ['*1\r\n$1x\r\n', 'invalid bulk length'],
  ['*1\r\n$05\r\nhello\r\n', 'invalid bulk length'],
  ['*1\r\n$536870913\r\n', 'invalid bulk length'],
  ['*1\r\n$99999999999999999999\r\n', 'invalid bulk length'],
  ['*1\r\n:5\r\n', "expected '$', got ':'"],
  ['*1\r\n*1\r\n$1\r\na\r\n', "expected '$', got '*'"],
  ['*2\r\n$1\r\na\r\nPING\r\n', "expected '$', got 'P'"],
  ['SET "a\r\n', 'unbalanced quotes in request'],
  ["SET 'a\r\n", 'unbalanced quotes in request'],
  ['SET "a"b\r\n', 'unbalanced quotes in request'],
  [`*${'1'.repeat(MAX_INLINE_BYTES + 1)}`, 'too big mbulk count string'],
  [`*1\r\n$${'1'.repeat(MAX_INLINE_BYTES + 1)}`, 'too big bulk count string'],
  ['x'.repeat(MAX_INLINE_BYTES + 1), 'too big inline request'],
];

test("malformed requests are refused in Redis's words", () => {
  for (const [text, why] of REFUSED) {
    const { error } = parse([Buffer.from(text, 'latin1')]);
    assert.equal(error, `ERR Protocol error: ${why}`, text.slice(0, 40));
  }
});

test('empty requests are nothing', () => {
  const bytes = Buffer.from('*0\r\n*-1\r\n\r\n  \r\n\n*1\r\n$4\r\nPING\r\n');
  assert.deepEqual(parse([bytes]), { commands: [['PING']], error: null, left: 0 });
});

test('a claim takes no memory', () => {
  const argv = new Argv(4);
  const parser = new RequestParser();
  parse([Buffer.from(`*${MAX_COMMAND_ARGS}\r\n$536870912\r\nabc`)], parser, argv);
  assert.ok(argv.offsets.length < 1024, `${argv.offsets.length} offsets for three bytes`);
  // but what is still to come is known, so that nobody looks before it is there
  assert.ok(parser.wanted() > 536_870_912);
});

test('limits of a client that has not said who it is', () => {
  const parser = new RequestParser();
  parser.authenticated = false;
  assert.equal(parse([Buffer.from('*11\r\n')], parser).error, 'ERR Protocol error: unauthenticated multibulk length');
  parser.reset();
  assert.equal(
    parse([Buffer.from('*2\r\n$4\r\nAUTH\r\n$16385\r\n')], parser).error,
    'ERR Protocol error: unauthenticated bulk length',
  );
  parser.reset();
  const most = Array.from({ length: 10 }, () => 'x');
  assert.deepEqual(parse([encode([most, ['x'.repeat(16384)]])], parser).commands.length, 2);
});

test('`proto-max-bulk-len` is what is refused', () => {
  const parser = new RequestParser();
  parser.maxBulkBytes = 100;
  assert.equal(parse([encode([['x'.repeat(100)]])], parser).commands.length, 1);
  assert.equal(parse([encode([['x'.repeat(101)]])], parser).error, 'ERR Protocol error: invalid bulk length');
});

test('what was learnt of one command is not kept for the next', () => {
  const parser = new RequestParser();
  const argv = new Argv(4);
  const first = encode([['ECHO', 'x'.repeat(150)]]);
  const chunks = [
    first.subarray(0, 50),
    Buffer.concat([first.subarray(50), Buffer.from('*1')]),
    Buffer.from('\r\n$4\r\nPING\r\n'),
  ];
  assert.deepEqual(parse(chunks, parser, argv).commands, [['ECHO', 'x'.repeat(150)], ['PING']]);
});

test('after a reset an interrupted command is forgotten', () => {
  const parser = new RequestParser();
  assert.equal(parse([Buffer.from('*3\r\n$3\r\nSET\r\n$1')], parser).error, null);
  parser.reset();
  assert.deepEqual(parse([encode([['GET', 'k']])], parser).commands, [['GET', 'k']]);
});

test('inline commands, quoted as redis-cli quotes', () => {
  const facts: [string, string[] | null][] = [
    ['SET k v', ['SET', 'k', 'v']],
    ['  SET\tk   v  ', ['SET', 'k', 'v']],
    ['SET "a b" \'c "d"\' ""', ['SET', 'a b', 'c "d"', '']],
    ['"\\x41\\xff\\n\\r\\t\\b\\a\\"\\\\\\q"', ['A\xff\n\r\t\b\x07"\\q']],
    ["'it\\'s' 'a\\nb'", ["it's", 'a\\nb']],
    ['"\\x4"', ['x4']],
    ['a"b"', ['ab']],
    ['"a" "b', null],
    ['"a"b', null],
    ['', []],
  ];
  for (const [line, expected] of facts) assert.deepEqual(splitInline(line), expected, line);
});

test('inline words survive quoting', () => {
  const quote = (s: string) =>
    `"${Array.from(s, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`).join('')}"`;
  const word = fc.uint8Array({ maxLength: 12 }).map((b) => Buffer.from(b).latin1Slice());
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), cuts, (words, places) => {
      const bytes = Buffer.from(`${words.map(quote).join(' ')}\r\n`, 'latin1');
      assert.deepEqual(parse(cut(bytes, places)), { commands: [words], error: null, left: 0 });
    }),
  );
});

test('a large command in many pieces is read once', () => {
  const args = Array.from({ length: 100_000 }, (_, i) => String(i));
  const bytes = encode([args]);
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 65_536) chunks.push(bytes.subarray(at, at + 65_536));
  assert.deepEqual(parse(chunks).commands, [args]);
});

test('integers are strict', () => {
  const read = (s: string) => parseInteger(Buffer.from(s), 0, s.length);
  for (const n of [0, 1, -1, 10, 2 ** 53 - 1, -(2 ** 53 - 1)]) assert.equal(read(String(n)), n);
  for (const s of [
    '',
    '-',
    '-0',
    '00',
    '01',
    '-01',
    '+1',
    ' 1',
    '1 ',
    '1.0',
    '1e3',
    '0x1',
    '9007199254740992',
    '9'.repeat(30),
  ]) {
    assert.ok(Number.isNaN(read(s)), JSON.stringify(s));
  }
});

test('copied arguments have bytes of their own', () => {
  const buf = encode([['SET', 'key', '', 'value']]);
  const argv = new Argv(1);
  new RequestParser().next(argv, buf, 0, buf.length);
  const copy = argv.copy();
  buf.fill(0);
  assert.deepEqual(copy.strings(), ['SET', 'key', '', 'value']);
  assert.ok(copy.is(0, 'SET') && !copy.is(1, 'SET'));
  assert.deepEqual(Argv.from(['a', '', '\xff']).strings(), ['a', '', '\xff']);
});
