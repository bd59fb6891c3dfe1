/**
 * Memory for records: no two of them share a byte, what is given can be taken again, and chunks that are mostly empty can
 * be emptied and are given back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_RECORD_BYTES, Slab } from './slab.ts';

const MIB = 1024 * 1024;

/** Records whose every byte says which one it is. */
class Records {
  readonly slab = new Slab();
  readonly live = new Map<number, { bytes: number; mark: number }>();
  private marks = 0;

  take(bytes: number): number {
    const a = this.slab.take(bytes);
    assert.ok(a > 0 && !this.live.has(a), 'an address of its own');
    assert.ok(this.slab.room(a) >= bytes);
    this.marks = (this.marks + 1) & 0xff;
    this.live.set(a, { bytes, mark: this.marks });
    this.span(a).fill(this.marks);
    return a;
  }

  /** All that the record may use, not only what it asked for. */
  span(a: number): Buffer {
    const memory = this.slab.bytes[Slab.chunk(a)];
    const at = Slab.byte(a);
    assert.ok(at + this.slab.room(a) <= memory.length, 'beyond its chunk');
    return memory.subarray(at, at + this.slab.room(a));
  }

  check(a: number): void {
    const { mark } = this.live.get(a)!;
    assert.ok(
      this.span(a).every((b) => b === mark),
      `another record has written to ${a}`,
    );
  }

  give(a: number): void {
    this.check(a);
    this.live.delete(a);
    this.slab.give(a);
  }

  checkSums(): void {
    let records = 0;
    for (const a of this.live.keys()) records += this.slab.room(a);
    assert.equal(this.slab.recordBytes, records);
    let chunks = 0;
    for (const memory of this.slab.bytes) chunks += memory.length;
    assert.equal(this.slab.chunkBytes, chunks);
    assert.ok(records <= chunks);
  }

  /** Moves what is in a chunk elsewhere, but for some. */
  vacate(chunk: number, stays: (a: number) => boolean = () => false): void {
    this.slab.close(chunk);
    for (const a of this.slab.places(chunk)) {
      assert.ok(this.slab.bytes[chunk].length > 0, 'a place of a chunk that has been given back');
      const record = this.live.get(a);
      if (record === undefined || stays(a)) continue;
      const b = this.take(record.bytes);
      assert.notEqual(Slab.chunk(b), chunk, 'moved into the chunk that is being emptied');
      this.give(a);
    }
  }
}

const bytes = fc.oneof(
  fc.constantFrom(1, 56, 57, 63, 64, 65, 255, 256, 257, 511, 512, 1023, 1024, 2047, MAX_RECORD_BYTES),
  fc.integer({ min: 1, max: MAX_RECORD_BYTES }),
);

test('records that come and go never share a byte, and all memory but one chunk a class is given back', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ give: fc.boolean(), which: fc.nat(), bytes, times: fc.constantFrom(1, 1, 3, 700) }), {
        maxLength: 60,
        size: 'max',
      }),
      (list) => {
        const records = new Records();
        for (const { give, which, bytes, times } of list) {
          for (let n = 0; n < times; n++) {
            if (!give) records.take(bytes);
            else if (records.live.size > 0) {
              const all = [...records.live.keys()];
              records.give(all[which % all.length]);
              if (times > 3) for (const a of all.slice(0, 100)) if (records.live.has(a)) records.give(a);
            }
          }
          records.checkSums();
        }
        for (const a of records.live.keys()) {
          records.check(a);
          assert.ok([...records.slab.places(Slab.chunk(a))].includes(a), 'a place of its chunk');
        }
        for (const a of [...records.live.keys()]) records.give(a);
        assert.equal(records.slab.recordBytes, 0);
        const begun = records.slab.bytes.filter((memory) => memory.length > 0).length;
        const rooms = new Set(list.filter((x) => !x.give).map((x) => records.slab.room(records.slab.take(x.bytes))));
        assert.ok(begun <= rooms.size, `${begun} chunks are left of ${rooms.size} classes`);
      },
    ),
    { numRuns: 60 },
  );
});

test('a class keeps one chunk and gives the others back', () => {
  const records = new Records();
  const all = Array.from({ length: 100_000 }, () => records.take(64));
  assert.ok(records.slab.chunkBytes >= 100_000 * 64);
  for (const a of all) records.give(a);
  assert.equal(records.slab.recordBytes, 0);
  assert.ok(records.slab.chunkBytes <= MIB, `${records.slab.chunkBytes} bytes are kept`);
  records.take(64);
  assert.ok(records.slab.chunkBytes <= MIB, 'and the next record needs no other');
});

test('chunks that are mostly empty are emptied one after the other, while records come and go', () => {
  const records = new Records();
  const { slab } = records;
  assert.equal(slab.sparse(), 0, 'an empty slab');
  const all = Array.from({ length: 200_000 }, (_, i) => records.take(i % 2 === 0 ? 64 : 100));
  assert.equal(slab.sparse(), 0, 'a full one');
  const before = slab.chunkBytes;
  for (let i = 0; i < all.length; i++) if (i % 10 > 1) records.give(all[i]);
  assert.equal(slab.chunkBytes, before, 'no chunk is empty yet');
  let rounds = 0;
  for (let chunk = slab.sparse(); chunk !== 0; chunk = slab.sparse()) {
    assert.ok(++rounds < 100, 'it comes to an end');
    records.vacate(chunk);
    const a = records.take(64);
    records.give(a);
  }
  assert.ok(rounds > 5);
  records.checkSums();
  assert.ok(slab.chunkBytes - slab.recordBytes < 6 * MIB, `${slab.chunkBytes - slab.recordBytes} bytes are still free`);
  for (const a of records.live.keys()) records.check(a);
});

test('a closed chunk takes no record until it is opened again, and is chosen again after that', () => {
  const records = new Records();
  const { slab } = records;
  const all = Array.from({ length: 150_000 }, () => records.take(64));
  for (let i = 0; i < all.length; i++) if (i % 10 !== 0) records.give(all[i]);
  const closed = new Set<number>();
  const stays = new Set<number>();
  for (let chunk = slab.sparse(); chunk !== 0; chunk = slab.sparse()) {
    assert.ok(!closed.has(chunk), 'chosen once');
    closed.add(chunk);
    // one record of each can't be moved
    const fixed = [...slab.places(chunk)].find((a) => records.live.has(a))!;
    stays.add(fixed);
    records.vacate(chunk, (a) => a === fixed);
  }
  assert.ok(closed.size > 3);
  for (let i = 0; i < 1000; i++) assert.ok(!closed.has(Slab.chunk(records.take(64))), 'taken into a closed chunk');
  slab.reopen();
  assert.ok(closed.has(slab.sparse()), 'its turn comes again');
  const size = slab.chunkBytes;
  for (const a of stays) records.give(a);
  assert.ok(slab.chunkBytes <= size - (closed.size - 1) * MIB, 'an empty chunk is given back');
  records.checkSums();
});
