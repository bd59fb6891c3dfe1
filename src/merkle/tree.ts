/**
 * The Merkle tree of one partition (paper 4.7), changed in place by every write.
 *
 * A leaf, its *bucket*, stands for an equal part of the partition's places (`ring/position`), so that the keys of a
 * bucket are one range of rows. Its value is the sum of its keys' terms: order doesn't matter, and a term can be taken
 * out again. A term is a hash of the key's place, its context's hash and its state's checksum: versions, not values.
 *
 * Inner nodes are sums too, of the whole range below them. That makes a node's value depend on its range alone and not
 * on the tree's shape: a side that needs finer ranges than its buckets adds up rows (`diff`), and both compare the same
 * numbers. Two different sets of keys have equal sums once in 2^52.
 *
 * The shape, TREE_FANOUT and TREE_DEPTH, is chosen for 1024 partitions with some thousand keys each: 256 buckets are 3
 * KiB a partition, and hold a few keys each. What an exchange costs is worked out in `diff`, where finer ranges come in.
 */
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { addHash, subtractHash } from '../base/hash.ts';
import { POSITIONS } from '../ring/position.ts';

/** Children of an inner node, and of any range that is compared part by part. */
export const TREE_FANOUT = 16;
/** Levels below the root that are kept in memory. */
export const TREE_DEPTH = 2;
/** Buckets of one tree. */
export const TREE_BUCKETS = TREE_FANOUT ** TREE_DEPTH;

/** Sums are taken modulo this. */
const SUM_SPAN = 2 ** 52;
const TREE_FORMAT = 1;

function mix32(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * A key's term, 52 bits, of numbers that the write path has at hand: the place is 53 bits of slot and key hash, so the
 * key itself need not be hashed again. The database is part of the key.
 */
export function leafTerm(db: number, pos: number, contextHash: number, checksum: number): number {
  let a = mix32((pos >>> 0) ^ 0x9e3779b9);
  a = mix32(a ^ ((pos / 4294967296) >>> 0) ^ Math.imul(db + 1, 0x85ebca6b));
  a = mix32(a ^ (contextHash >>> 0));
  a = mix32(a ^ ((contextHash / 4294967296) >>> 0));
  a = mix32(a ^ (checksum >>> 0));
  a = mix32(a ^ ((checksum / 4294967296) >>> 0));
  // the other half sees every input once more and in other company, or the 52 bits would be worth 32
  let b = mix32((checksum >>> 0) ^ 0xc2b2ae35);
  b = mix32(b ^ ((checksum / 4294967296) >>> 0) ^ (contextHash >>> 0));
  b = mix32(b + ((contextHash / 4294967296) >>> 0));
  b = mix32(b ^ (pos >>> 0) ^ Math.imul(db + 1, 0x27d4eb2f));
  b = mix32(b + ((pos / 4294967296) >>> 0));
  return (b & 0xfffff) * 4294967296 + a;
}

/** Places of one partition: [first, first + span). */
export function partitionRange(partition: number, partitions: number): { first: number; span: number } {
  const span = POSITIONS / partitions;
  return { first: partition * span, span };
}

export class MerkleTree {
  readonly partition: number;
  readonly first: number;
  readonly span: number;
  private readonly bucketSpan: number;
  /** Empty partitions cost nothing. */
  private sums: Float64Array | null = null;
  private counts: Uint32Array | null = null;
  /** Sums and counts of the first level, worked out again when asked for and marked dirty. */
  private readonly topSums = new Float64Array(TREE_FANOUT);
  private readonly topCounts = new Float64Array(TREE_FANOUT);
  private dirty = 0;

  constructor(partition: number, partitions: number) {
    this.partition = partition;
    const { first, span } = partitionRange(partition, partitions);
    this.first = first;
    this.span = span;
    this.bucketSpan = span / TREE_BUCKETS;
  }

  /** Which bucket a place lies in. */
  bucketOf(pos: number): number {
    return Math.floor((pos - this.first) / this.bucketSpan);
  }

  private shift(pos: number, term: number, added: boolean): void {
    this.sums ??= new Float64Array(TREE_BUCKETS);
    this.counts ??= new Uint32Array(TREE_BUCKETS);
    const b = this.bucketOf(pos);
    this.sums[b] = added ? addHash(this.sums[b], term) : subtractHash(this.sums[b], term);
    this.counts[b] += added ? 1 : -1;
    this.dirty |= 1 << Math.floor(b / TREE_FANOUT);
  }

  /** A key that wasn't there. */
  add(pos: number, term: number): void {
    this.shift(pos, term, true);
  }

  /** A key that goes: its tombstone was reaped, or its partition handed over. */
  remove(pos: number, term: number): void {
    this.shift(pos, term, false);
  }

  /** A key whose context or state changed. */
  replace(pos: number, oldTerm: number, newTerm: number): void {
    const sums = this.sums!;
    const b = this.bucketOf(pos);
    sums[b] = addHash(subtractHash(sums[b], oldTerm), newTerm);
    this.dirty |= 1 << Math.floor(b / TREE_FANOUT);
  }

  clear(): void {
    this.sums = null;
    this.counts = null;
    this.topSums.fill(0);
    this.topCounts.fill(0);
    this.dirty = 0;
  }

  private refresh(): void {
    if (this.dirty === 0 || this.sums === null || this.counts === null) return;
    for (let top = 0; top < TREE_FANOUT; top++) {
      if ((this.dirty & (1 << top)) === 0) continue;
      let sum = 0;
      let count = 0;
      for (let b = top * TREE_FANOUT; b < (top + 1) * TREE_FANOUT; b++) {
        sum = addHash(sum, this.sums[b]);
        count += this.counts[b];
      }
      this.topSums[top] = sum;
      this.topCounts[top] = count;
    }
    this.dirty = 0;
  }

  /** The sum over the whole partition. */
  root(): number {
    this.refresh();
    return this.topSums.reduce(addHash, 0);
  }

  /** Keys in the tree, tombstones among them. */
  count(): number {
    this.refresh();
    return this.topCounts.reduce((a, b) => a + b, 0);
  }

  /**
   * Sum and count of the keys in a range that is the partition, one of its TREE_FANOUT parts or a bucket; null for a
   * finer one, which only the rows themselves can tell.
   */
  range(from: number, span: number): { sum: number; count: number } | null {
    if (span < this.bucketSpan) return null;
    if (span === this.span) return { sum: this.root(), count: this.count() };
    const b = this.bucketOf(from);
    if (span === this.bucketSpan) return { sum: this.sums?.[b] ?? 0, count: this.counts?.[b] ?? 0 };
    this.refresh();
    const top = Math.floor(b / TREE_FANOUT);
    return { sum: this.topSums[top], count: this.topCounts[top] };
  }

  /** The buckets' sums, as they are now. */
  bucketSums(): Float64Array {
    return this.sums?.slice() ?? new Float64Array(TREE_BUCKETS);
  }

  /** Says the buckets' sums to a peer: which of them are not 0, a bit each, then these. */
  writeSums(w: ByteWriter): void {
    const at = w.pos;
    for (let i = 0; i < TREE_BUCKETS / 8; i++) w.u8(0);
    for (let b = 0; b < TREE_BUCKETS; b++) {
      const sum = this.sums?.[b] ?? 0;
      if (sum === 0) continue;
      w.buf[at + (b >> 3)] |= 1 << (b & 7);
      w.u53(sum);
    }
  }

  /** Reads what a peer's `writeSums` wrote. Returns 1 for each bucket of which the peer has another sum. */
  otherSums(r: ByteReader): Uint8Array {
    const used: number[] = [];
    for (let i = 0; i < TREE_BUCKETS / 8; i++) used.push(r.u8());
    const differ = new Uint8Array(TREE_BUCKETS);
    for (let b = 0; b < TREE_BUCKETS; b++) {
      const sum = used[b >> 3] & (1 << (b & 7)) ? r.u53() : 0;
      if (sum !== (this.sums?.[b] ?? 0)) differ[b] = 1;
    }
    return differ;
  }

  /** Bytes for a clean stop: the buckets that hold something, and the root as a check on them. */
  save(): Buffer {
    const w = new ByteWriter(2048);
    w.u8(TREE_FORMAT);
    w.varint(this.partition);
    w.varint(TREE_BUCKETS);
    w.u53(this.root());
    const { sums, counts } = this;
    const used = counts === null ? [] : Array.from(counts.keys()).filter((b) => counts[b] > 0);
    w.varint(used.length);
    for (const b of used) {
      w.varint(b);
      w.varint(counts![b]);
      w.u53(sums![b]);
    }
    return w.take();
  }

  /** Takes what `save` gave. Throws `TruncatedError` when that is damaged or of another shape: rebuild from the rows. */
  restore(bytes: Buffer): void {
    this.clear();
    try {
      this.read(new ByteReader(bytes));
    } catch (error) {
      this.clear();
      throw error;
    }
  }

  private read(r: ByteReader): void {
    if (r.u8() !== TREE_FORMAT || r.varint() !== this.partition || r.varint() !== TREE_BUCKETS)
      throw new TruncatedError();
    const root = r.u53();
    const used = r.varint();
    if (used > 0) {
      this.sums = new Float64Array(TREE_BUCKETS);
      this.counts = new Uint32Array(TREE_BUCKETS);
    }
    for (let i = 0; i < used; i++) {
      const b = r.varint();
      const count = r.varint();
      const sum = r.u53();
      if (b >= TREE_BUCKETS || count === 0 || sum >= SUM_SPAN) throw new TruncatedError();
      this.sums![b] = sum;
      this.counts![b] = count;
      this.dirty |= 1 << Math.floor(b / TREE_FANOUT);
    }
    if (!r.done || this.root() !== root) throw new TruncatedError();
  }
}
