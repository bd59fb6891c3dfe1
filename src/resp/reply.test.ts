/** Replies: the bytes of each type in both protocols, growth of the buffer, and `redis-parser` reading them back. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReplyWriter } from './reply.ts';

// it has no types
const Parser = createRequire(import.meta.url)('redis-parser');

function written(resp3: boolean, write: (w: ReplyWriter) => void): string {
  const w = new ReplyWriter(1);
  w.resp3 = resp3;
  write(w);
  return w.buf.latin1Slice(0, w.pos);
}

/** What is written, and its bytes in RESP2 and RESP3. */
const FACTS: readonly [string, (w: ReplyWriter) => void, string, string?][] = [
  ['OK', (w) => w.ok(), '+OK\r\n'],
  ['a simple string', (w) => w.simple('PONG'), '+PONG\r\n'],
  ['an error', (w) => w.error('ERR no'), '-ERR no\r\n'],
  ['an error with line breaks in it', (w) => w.error('ERR a\r\nb'), '-ERR a  b\r\n'],
  ['a bulk', (w) => w.bulk('hello'), '$5\r\nhello\r\n'],
  ['an empty bulk', (w) => w.bulk(''), '$0\r\n\r\n'],
  ['a bulk of any bytes', (w) => w.bulk('\0\r\n\xff'), '$4\r\n\0\r\n\xff\r\n'],
  ['a bulk from bytes', (w) => w.bulkBytes(Buffer.from([0, 255])), '$2\r\n\0\xff\r\n'],
  ['null', (w) => w.nil(), '$-1\r\n', '_\r\n'],
  ['no array', (w) => w.nilArray(), '*-1\r\n', '_\r\n'],
  ['an array', (w) => w.array(0), '*0\r\n'],
  ['a large array', (w) => w.array(1_048_576), '*1048576\r\n'],
  ['a map', (w) => w.map(2), '*4\r\n', '%2\r\n'],
  ['a set', (w) => w.set(3), '*3\r\n', '~3\r\n'],
  ['a push', (w) => w.push(3), '*3\r\n', '>3\r\n'],
  ['true', (w) => w.bool(true), ':1\r\n', '#t\r\n'],
  ['false', (w) => w.bool(false), ':0\r\n', '#f\r\n'],
  ['a double', (w) => w.double('1.5'), '$3\r\n1.5\r\n', ',1.5\r\n'],
  ['infinity', (w) => w.double('inf'), '$3\r\ninf\r\n', ',inf\r\n'],
  ['text', (w) => w.verbatim('abc'), '$3\r\nabc\r\n', '=7\r\ntxt:abc\r\n'],
  ['text in Markdown', (w) => w.verbatim('', 'mkd'), '$0\r\n\r\n', '=4\r\nmkd:\r\n'],
  ['a big integer', (w) => w.bigint(-(2n ** 63n)), ':-9223372036854775808\r\n'],
  ['raw bytes', (w) => w.rawBytes(Buffer.from('+x\r\n')), '+x\r\n'],
];

for (const [name, write, resp2, resp3] of FACTS) {
  test(`${name}: its bytes`, () => {
    assert.equal(written(false, write), resp2);
    assert.equal(written(true, write), resp3 ?? resp2);
  });
}

test('integers of every length', () => {
  for (const n of [0, 9, 10, 99, 100, 999, 1000, 2 ** 31, 2 ** 53 - 1, -1, -10, -999, -(2 ** 53 - 1)]) {
    assert.equal(
      written(false, (w) => w.int(n)),
      `:${n}\r\n`,
    );
  }
});

type Value = null | number | string | Value[];

const value = fc.letrec<{ value: Value; list: Value[] }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.maxSafeInteger(),
    fc.uint8Array({ maxLength: 40 }).map((b) => Buffer.from(b).latin1Slice()),
    fc.integer({ min: 90, max: 5000 }).map((n) => 'z'.repeat(n)),
    tie('list'),
  ),
  list: fc.array(tie('value'), { maxLength: 12 }),
})).value;

function write(w: ReplyWriter, v: Value): void {
  if (v === null) w.nil();
  else if (typeof v === 'number') w.int(v);
  else if (typeof v === 'string') w.bulk(v);
  else {
    w.array(v.length);
    for (const item of v) write(w, item);
  }
}

function plain(reply: unknown): Value {
  if (Buffer.isBuffer(reply)) return reply.latin1Slice();
  return Array.isArray(reply) ? reply.map(plain) : (reply as Value);
}

test('redis-parser reads back what was written, whatever the buffer began with', () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 6 }), fc.integer({ min: 1, max: 300 }), (values, capacity) => {
      const w = new ReplyWriter(capacity);
      for (const v of values) write(w, v);
      const read: Value[] = [];
      const parser = new Parser({
        returnReply: (reply: unknown) => read.push(plain(reply)),
        returnError: assert.fail,
        returnFatalError: assert.fail,
        returnBuffers: true,
      });
      parser.execute(Buffer.from(w.buf.subarray(0, w.pos)));
      assert.deepEqual(read, values);
    }),
  );
});

test('a reply of many megabytes', () => {
  const w = new ReplyWriter(16);
  const text = 'm'.repeat(5_000_000);
  w.bulk(text);
  w.int(1);
  assert.equal(w.buf.latin1Slice(0, w.pos), `$5000000\r\n${text}\r\n:1\r\n`);
});
