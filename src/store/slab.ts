/**
 * Memory for records of a few hundred bytes, outside of the JavaScript heap: what lies here is neither copied nor looked
 * at by the collector.
 *
 * A record is named by an address, a number of 31 bits: its chunk, and its place in that in units of 16 bytes. All
 * records of a chunk have room for as much (a *class*), so that what one leaves another can take. A chunk without
 * records is given back; where many are half empty, `sparse` finds one whose records are better moved: it is closed
 * then, and takes no record until it is empty or `reopen` gives up on that.
 */

/** Bytes of a unit, and how many units a chunk may have. */
const UNIT_SHIFT = 4;
const UNIT_BYTES = 1 << UNIT_SHIFT;
const CHUNK_SHIFT = 16;
const CHUNK_UNITS = 1 << CHUNK_SHIFT;
const UNIT_MASK = CHUNK_UNITS - 1;
/** Words of 32 bits in a unit. */
const WORD_SHIFT = UNIT_SHIFT - 2;
const CHUNK_BYTES = CHUNK_UNITS * UNIT_BYTES;
/** Addresses are positive: so many chunks can be named. */
const MAX_CHUNKS = 1 << (31 - CHUNK_SHIFT);
/** Chunks that stay free for records that grow, when there is no room for more of them. */
const SPARE_CHUNKS = 1024;
/** A class begins with a small chunk: most nodes of a test, and databases with few keys, need no more. */
const FIRST_CHUNK_BYTES = 64 * 1024;

/** The largest record. */
export const MAX_RECORD_BYTES = 2048;
/** Of what a class's records could take, the share that must be free before its records are moved together. */
const SPARSE_SHARE = 0.3;
/** Free bytes below which nothing is moved. */
const SPARSE_BYTES = 4 * CHUNK_BYTES;

/** Room of each class, and the class for so many units. */
const ROOMS: number[] = [];
const CLASS_OF = new Uint8Array(MAX_RECORD_BYTES / UNIT_BYTES + 1);
for (let room = 64, units = 1; room <= MAX_RECORD_BYTES; room += stepAfter(room)) {
  for (; units * UNIT_BYTES <= room; units++) CLASS_OF[units] = ROOMS.length;
  ROOMS.push(room);
}

function stepAfter(room: number): number {
  return room < 256 ? 16 : room < 512 ? 32 : room < 1024 ? 64 : 128;
}

const NO_WORDS = new Int32Array(0);
const NO_BYTES = Buffer.alloc(0);

export class Slab {
  /** By chunk: its memory, as words and as bytes. */
  readonly words: Int32Array[] = [NO_WORDS];
  readonly bytes: Buffer[] = [NO_BYTES];
  /** Bytes of all chunks, and of the records in them. */
  chunkBytes = 0;
  recordBytes = 0;
  /** By chunk: its class, records in it, the first of the free places (each names the next), what was never used. */
  private readonly classes: number[] = [0];
  private readonly counts: number[] = [0];
  private readonly free: number[] = [0];
  private readonly fresh: number[] = [0];
  /** Chunks with room, by class, and whether a chunk is among these. */
  private readonly open: number[][] = ROOMS.map(() => []);
  private readonly isOpen: boolean[] = [false];
  /** Chunks that are being emptied. */
  private readonly closed = new Set<number>();
  /** Chunks of each class. */
  private readonly chunks: number[] = ROOMS.map(() => 0);
  private readonly unused: number[] = [];

  /** Index of an address's first word in its chunk's words. */
  static word(a: number): number {
    return (a & UNIT_MASK) << WORD_SHIFT;
  }

  /** Index of its first byte. */
  static byte(a: number): number {
    return (a & UNIT_MASK) << UNIT_SHIFT;
  }

  static chunk(a: number): number {
    return a >>> CHUNK_SHIFT;
  }

  /** There is no room for more records; those that are there may still be moved. */
  get isFull(): boolean {
    return this.words.length - this.unused.length >= MAX_CHUNKS - SPARE_CHUNKS;
  }

  /** Bytes that the record at an address may take. */
  room(a: number): number {
    return ROOMS[this.classes[a >>> CHUNK_SHIFT]];
  }

  /** Room for a record of so many bytes. What is in there is not cleared. */
  take(bytes: number): number {
    const k = CLASS_OF[(bytes + UNIT_BYTES - 1) >> UNIT_SHIFT];
    const open = this.open[k];
    const c = open.length > 0 ? open[open.length - 1] : this.begin(k);
    const room = ROOMS[k];
    let a = this.free[c];
    if (a !== 0) this.free[c] = this.words[c][Slab.word(a)];
    else {
      const at = this.fresh[c];
      a = (c << CHUNK_SHIFT) | (at >> UNIT_SHIFT);
      this.fresh[c] = at + room;
    }
    this.counts[c]++;
    this.recordBytes += room;
    if (this.free[c] === 0 && this.fresh[c] + room > this.bytes[c].length) {
      open.pop();
      this.isOpen[c] = false;
    }
    return a;
  }

  private begin(k: number): number {
    const c = this.unused.pop() ?? this.words.length;
    const size = this.chunks[k]++ === 0 ? FIRST_CHUNK_BYTES : CHUNK_BYTES;
    const memory = Buffer.allocUnsafeSlow(size);
    this.bytes[c] = memory;
    this.words[c] = new Int32Array(memory.buffer, memory.byteOffset, size >> 2);
    this.chunkBytes += size;
    this.classes[c] = k;
    this.counts[c] = 0;
    this.free[c] = 0;
    this.fresh[c] = 0;
    this.open[k].push(c);
    this.isOpen[c] = true;
    return c;
  }

  /** The record's room is free again. */
  give(a: number): void {
    const c = a >>> CHUNK_SHIFT;
    const k = this.classes[c];
    this.recordBytes -= ROOMS[k];
    if (--this.counts[c] === 0) {
      this.end(c, k);
      return;
    }
    this.words[c][Slab.word(a)] = this.free[c];
    this.free[c] = a;
    if (this.isOpen[c] || this.closed.has(c)) return;
    this.isOpen[c] = true;
    this.open[k].push(c);
  }

  /** A chunk without records: the last of its class is kept, for the next record. */
  private end(c: number, k: number): void {
    this.free[c] = 0;
    this.fresh[c] = 0;
    this.closed.delete(c);
    if (!this.isOpen[c]) {
      this.isOpen[c] = true;
      this.open[k].push(c);
    }
    if (this.chunks[k] === 1) return;
    this.open[k].splice(this.open[k].indexOf(c), 1);
    this.isOpen[c] = false;
    this.chunks[k]--;
    this.chunkBytes -= this.bytes[c].length;
    this.bytes[c] = NO_BYTES;
    this.words[c] = NO_WORDS;
    this.unused.push(c);
  }

  /** The emptiest chunk of a class of which much is free; 0 when nothing is worth moving. Closed ones don't count. */
  sparse(): number {
    if (this.chunkBytes - this.recordBytes < SPARSE_BYTES) return 0;
    const used = new Float64Array(ROOMS.length);
    const size = new Float64Array(ROOMS.length);
    for (let c = 1; c < this.words.length; c++) {
      if (this.closed.has(c)) continue;
      const k = this.classes[c];
      used[k] += this.counts[c] * ROOMS[k];
      size[k] += this.bytes[c].length;
    }
    let best = 0;
    let bestShare = 1;
    for (let c = 1; c < this.words.length; c++) {
      const k = this.classes[c];
      if (this.bytes[c].length < CHUNK_BYTES || this.closed.has(c)) continue;
      if (size[k] - used[k] < SPARSE_SHARE * size[k] + CHUNK_BYTES) continue;
      const share = (this.counts[c] * ROOMS[k]) / CHUNK_BYTES;
      if (share >= bestShare) continue;
      best = c;
      bestShare = share;
    }
    return best;
  }

  /** Takes no more records into a chunk, so that it can be emptied. */
  close(c: number): void {
    this.closed.add(c);
    if (!this.isOpen[c]) return;
    const open = this.open[this.classes[c]];
    open.splice(open.indexOf(c), 1);
    this.isOpen[c] = false;
  }

  /** Chunks that have been closed and are not empty yet take records again. */
  reopen(): void {
    for (const c of this.closed) {
      const k = this.classes[c];
      if (this.free[c] === 0 && this.fresh[c] + ROOMS[k] > this.bytes[c].length) continue;
      this.isOpen[c] = true;
      this.open[k].push(c);
    }
    this.closed.clear();
  }

  /** Addresses of a chunk that have been used, free ones among them; none after the last of its records has gone. */
  *places(c: number): IterableIterator<number> {
    const room = ROOMS[this.classes[c]];
    for (let at = 0; at < this.fresh[c]; at += room) yield (c << CHUNK_SHIFT) | (at >> UNIT_SHIFT);
  }
}
