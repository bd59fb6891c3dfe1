/** Layouts: canonical bytes, refusal of what cannot be, and one winner of two that were committed at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TruncatedError } from '../base/bytes.ts';
import {
  compareLayouts,
  type Layout,
  LayoutError,
  layoutBytes,
  layoutFromBytes,
  layoutHash,
  layoutName,
  type Member,
} from './layout.ts';

const id = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((b) => Buffer.from(b).toString('hex'));
const word = fc.uint8Array({ maxLength: 12 }).map((b) => Buffer.from(b).latin1Slice());
const member: fc.Arbitrary<Member> = fc.record(
  {
    id,
    host: word,
    zone: word,
    weight: fc.integer({ min: 1, max: 1000 }),
    bus: word,
    client: word,
  },
  { noNullPrototype: true },
);

const layout: fc.Arbitrary<Layout> = fc
  .tuple(
    fc.uniqueArray(member, { selector: (m) => m.id, minLength: 1, maxLength: 8 }),
    fc.integer({ min: 0, max: 6 }),
    fc.integer({ min: 1, max: 1e6 }),
    fc.infiniteStream(fc.nat()),
  )
  .map(([members, bits, version, owners]) => ({
    version,
    partitions: 2 ** bits,
    members: members.sort((a, b) => (a.id < b.id ? -1 : 1)),
    owners: Array.from({ length: 2 ** bits }, () => owners.next().value % members.length),
  }));

test('a layout survives its bytes, and equal layouts have equal hashes', () => {
  fc.assert(
    fc.property(layout, (l) => {
      const copy = layoutFromBytes(layoutBytes(l));
      assert.deepEqual(copy, l);
      assert.equal(layoutHash(copy), layoutHash(l));
    }),
  );
});

test('bytes cut short or damaged never pass for something else than a checked layout', () => {
  fc.assert(
    fc.property(layout, fc.nat(), fc.nat({ max: 255 }), (l, at, value) => {
      const bytes = layoutBytes(l);
      assert.throws(() => layoutFromBytes(bytes.subarray(0, at % bytes.length)), isRefusal);
      const damaged = Buffer.from(bytes);
      damaged[at % bytes.length] = value;
      try {
        const read = layoutFromBytes(damaged);
        assert.ok(read.owners.every((o) => o < read.members.length));
      } catch (error) {
        assert.ok(isRefusal(error));
      }
    }),
    { numRuns: 300 },
  );
});

function isRefusal(error: unknown): boolean {
  return error instanceof TruncatedError || error instanceof LayoutError;
}

test('of several layouts everybody keeps the same one, in whatever order they come', () => {
  fc.assert(
    fc.property(fc.array(layout, { minLength: 2, maxLength: 6 }), (layouts) => {
      const names = layouts.map((l, i) => layoutName({ ...l, version: 1 + (i % 2) }));
      const winner = (order: typeof names) => order.reduce((a, b) => (compareLayouts(a, b) >= 0 ? a : b));
      const first = winner(names);
      assert.deepEqual(winner([...names].reverse()), first);
      assert.deepEqual(winner([...names.slice(1), names[0]]), first);
      assert.equal(first.version, 2);
    }),
  );
});

test('members that cannot be are refused', () => {
  const good = { id: '0'.repeat(40), host: 'h', zone: '', weight: 1, bus: '', client: '' };
  const make = (members: Member[], q = 1) =>
    layoutFromBytes(layoutBytes({ version: 1, partitions: q, members, owners: Array(q).fill(0) }));
  assert.throws(() => make([good, good]), { code: 'DUPLICATE' });
  assert.throws(() => make([{ ...good, weight: 0 }]), { code: 'NO_WEIGHT' });
  assert.throws(() => make([{ ...good, weight: 1e7 }]), { code: 'MEMBER' });
  assert.throws(() => make([{ ...good, host: 'x'.repeat(300) }]), { code: 'MEMBER' });
  assert.throws(() => make([]), { code: 'MEMBERS' });
});
