/** The codec's two ends: what is written is read back, and what is cut short is never read as something else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter, TruncatedError } from './bytes.ts';

type Item =
  | { kind: 'u8' | 'u32' | 'u53' | 'varint' | 'f64'; value: number }
  | { kind: 'str' | 'rawStr' | 'bytes'; value: string };

/** Numbers crowd where the encodings change length. */
function around(bits: number[], max: number): fc.Arbitrary<number> {
  const edges = bits.flatMap((b) => [2 ** b - 1, 2 ** b, 2 ** b + 1]).filter((n) => n <= max);
  return fc.oneof(fc.constantFrom(0, 1, ...edges, max), fc.integer({ min: 0, max }));
}

const MAX = Number.MAX_SAFE_INTEGER;
const latin1 = fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b).latin1Slice());
const item: fc.Arbitrary<Item> = fc.oneof(
  fc.record({ kind: fc.constant('u8' as const), value: around([7], 255) }),
  fc.record({ kind: fc.constant('u32' as const), value: around([8, 16, 31], 2 ** 32 - 1) }),
  fc.record({ kind: fc.constant('u53' as const), value: around([8, 31, 32, 33, 48, 52], MAX) }),
  fc.record({ kind: fc.constant('varint' as const), value: around([7, 14, 21, 28, 31, 32, 35, 42, 49, 52], MAX) }),
  fc.record({ kind: fc.constant('f64' as const), value: fc.double({ noNaN: true }) }),
  fc.record({ kind: fc.constantFrom('str' as const, 'rawStr' as const, 'bytes' as const), value: latin1 }),
);

function write(w: ByteWriter, { kind, value }: Item): void {
  if (kind === 'bytes') w.bytes(Buffer.from(value, 'latin1'));
  else w[kind](value as never);
}

function read(r: ByteReader, { kind, value }: Item): number | string {
  if (kind === 'rawStr' || kind === 'bytes') return r.rawStr(value.length);
  return r[kind]();
}

test('everything written is read back, from any buffer size and any offset', () => {
  fc.assert(
    fc.property(
      fc.array(item, { maxLength: 40 }),
      fc.integer({ min: 1, max: 64 }),
      latin1,
      (items, capacity, before) => {
        const w = new ByteWriter(capacity);
        w.rawStr(before);
        for (const i of items) write(w, i);
        assert.equal(w.latin1(), w.take().latin1Slice());
        const r = new ByteReader(Buffer.concat([w.take(), Buffer.from('behind')]), before.length, w.pos);
        for (const i of items) assert.ok(Object.is(read(r, i), i.value), `${i.kind} ${i.value}`);
        assert.ok(r.done);
        assert.throws(() => r.u8(), TruncatedError);
      },
    ),
  );
});

test('one value cut anywhere throws, and never reads past its end', () => {
  fc.assert(
    fc.property(item, (i) => {
      const w = new ByteWriter();
      write(w, i);
      const whole = w.take();
      for (let cut = 0; cut < whole.length; cut++) {
        // the bytes are there, beyond the reader's end
        assert.throws(() => read(new ByteReader(whole, 0, cut), i), TruncatedError, `${i.kind} cut at ${cut}`);
        assert.throws(() => read(new ByteReader(whole.subarray(0, cut)), i), TruncatedError);
      }
    }),
  );
});

test('random bytes are read or refused, as numbers that are safe', () => {
  const kinds = ['u8', 'u32', 'u53', 'varint', 'str'] as const;
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 20 }),
      fc.array(fc.constantFrom(...kinds), { maxLength: 8 }),
      (bytes, order) => {
        const r = ByteReader.latin1(Buffer.from(bytes).latin1Slice());
        try {
          for (const kind of order) {
            const v = r[kind]();
            if (typeof v === 'number') assert.ok(Number.isSafeInteger(v) && v >= 0);
            assert.ok(r.pos <= r.end);
          }
        } catch (error) {
          assert.ok(error instanceof TruncatedError);
        }
      },
    ),
  );
});

test('numbers beyond 53 bits are refused', () => {
  const ff = Buffer.alloc(8, 0xff);
  assert.throws(() => new ByteReader(ff).u53(), TruncatedError);
  assert.throws(() => new ByteReader(ff).varint(), TruncatedError);
  // 2^53, the first that a double holds without holding its neighbour
  assert.throws(
    () => new ByteReader(Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10])).varint(),
    TruncatedError,
  );
  assert.throws(() => new ByteReader(Buffer.from([0, 0, 0, 0, 0, 0, 0x20])).u53(), TruncatedError);
});

test('a length that claims more than there is allocates nothing', () => {
  const w = new ByteWriter();
  w.varint(2 ** 40);
  assert.throws(() => new ByteReader(w.take()).str(), TruncatedError);
});

test('a writer that is reset starts over', () => {
  const w = new ByteWriter(4);
  w.str('something longer');
  w.reset();
  w.u8(7);
  assert.deepEqual([...w.take()], [7]);
});
