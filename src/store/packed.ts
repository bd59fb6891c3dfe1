/**
 * Keys in the form that nearly all have, as bytes: a string without siblings, without a deadline, and with a context of
 * one interval (`store/object` says what else there is).
 *
 * A record has the fields of such an object, and its key and value, in one piece of memory that the collector never sees
 * (`store/slab`). Writes and reads of strings work on it in place; whoever wants an object gets one made of it, and then
 * the key is that object until it is packed again.
 *
 * Lists of what is to be folded, and of whose Merkle terms are to be worked out, name records by their addresses. A record
 * that a list names stays where it is until the list has been gone through: one that has left its key by then is DEAD.
 */
import { copyBytes } from '../base/bytes.ts';
import { intervalHash } from '../causality/actors.ts';
import { STRING } from '../types/kinds.ts';
import { secretHash, secretHashOfBytes } from './key-map.ts';
import { COUNTED, COUNTER, OVERFLOW, StoredKey } from './object.ts';
import { MAX_RECORD_BYTES, Slab } from './slab.ts';

/** It has left its key, and lists still name it. */
export const DEAD = 1 << 13;
/**
 * Named by the list of what is to be folded, by that of what is not in its Merkle tree, and by the list of a fold that has
 * encoded it. These are about the record; DIRTY, STALE and FOLDING are about the key, and go where that goes.
 */
export const LISTED_DIRTY = 1 << 14;
export const LISTED_STALE = 1 << 15;
export const LISTED_FOLD = 1 << 16;
export const LISTED = LISTED_DIRTY | LISTED_STALE | LISTED_FOLD;

/** Words of a record: numbers of more than 32 bits are two, the lower first. */
const HASH = 0;
/** Bytes of the key, and above them the database. */
const KEY = 1;
const VALUE = 2;
const FLAGS = 3;
const SLOT = 4;
/** Its place in its table's list. */
const INDEX = 5;
const USED = 6;
const ACTOR = 7;
const FROM = 8;
const TO = 10;
const TERM = 12;
const HEADER_BYTES = 14 * 4;
const MAX_KEY_BYTES = 1024;
const KEY_MASK = 0xffff;

/** What a key costs beside its record: its place in a table that is half empty, and in a list. */
export const PLACE_BYTES = 28;

const TWO_32 = 4294967296;
const GONE = -1;
const NO_TABLE = new Int32Array(2);
const NO_LIST = new Int32Array(0);
const FIRST_PAIRS = 8;

/** May a string of so many bytes be packed? */
export function isPackable(keyBytes: number, valueBytes: number): boolean {
  return keyBytes <= MAX_KEY_BYTES && HEADER_BYTES + keyBytes + valueBytes <= MAX_RECORD_BYTES;
}

/** Is this object of the form that can be packed? */
export function canPack(o: StoredKey): boolean {
  return (
    o.state === null &&
    o.rest === null &&
    o.run === null &&
    o.bytes === null &&
    o.type === STRING &&
    o.deadline === 0 &&
    o.to > 0 &&
    (o.flags & (COUNTER | OVERFLOW)) === 0 &&
    typeof o.value === 'string' &&
    isPackable(o.key.length, o.value.length)
  );
}

/** The records of all partitions. */
export class PackedKeys {
  readonly slab = new Slab();

  // ------------------------------------------------------------------ a record's fields

  flags(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + FLAGS];
  }

  setFlags(a: number, flags: number): void {
    this.slab.words[a >>> 16][Slab.word(a) + FLAGS] = flags;
  }

  db(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + KEY] >>> 16;
  }

  slot(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + SLOT];
  }

  used(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + USED] >>> 0;
  }

  /** Written only when it changes: a read should not dirty the record's memory. */
  setUsed(a: number, seconds: number): void {
    const w = this.slab.words[a >>> 16];
    const at = Slab.word(a) + USED;
    if (w[at] !== (seconds | 0)) w[at] = seconds;
  }

  actor(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + ACTOR];
  }

  private number(a: number, field: number): number {
    const w = this.slab.words[a >>> 16];
    const at = Slab.word(a) + field;
    return w[at + 1] * TWO_32 + (w[at] >>> 0);
  }

  private setNumber(a: number, field: number, x: number): void {
    const w = this.slab.words[a >>> 16];
    const at = Slab.word(a) + field;
    w[at] = x | 0;
    w[at + 1] = (x / TWO_32) | 0;
  }

  from(a: number): number {
    return this.number(a, FROM);
  }

  to(a: number): number {
    return this.number(a, TO);
  }

  setTo(a: number, to: number): void {
    this.setNumber(a, TO, to);
  }

  term(a: number): number {
    return this.number(a, TERM);
  }

  setTerm(a: number, term: number): void {
    this.setNumber(a, TERM, term);
  }

  contextHash(a: number): number {
    return intervalHash(this.actor(a), this.from(a), this.to(a));
  }

  key(a: number): string {
    const start = Slab.byte(a) + HEADER_BYTES;
    return this.bytes(a).latin1Slice(start, start + this.keyBytes(a));
  }

  private keyBytes(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + KEY] & KEY_MASK;
  }

  /** The memory that a record is in: its value is [valueStart, valueStart + valueBytes) of it. */
  bytes(a: number): Buffer {
    return this.slab.bytes[a >>> 16];
  }

  valueStart(a: number): number {
    return Slab.byte(a) + HEADER_BYTES + this.keyBytes(a);
  }

  valueBytes(a: number): number {
    return this.slab.words[a >>> 16][Slab.word(a) + VALUE];
  }

  /** Bytes that a key is reckoned to cost. */
  cost(a: number): number {
    return this.slab.room(a) + PLACE_BYTES;
  }

  // ------------------------------------------------------------------ making and leaving

  /** A record for a key whose bytes are buf[start, end), with room for a value of so many; what it was made of is set next. */
  make(db: number, slot: number, buf: Uint8Array, start: number, end: number, valueBytes: number): number {
    const a = this.blank(db, slot, end - start, valueBytes);
    copyBytes(this.bytes(a), Slab.byte(a) + HEADER_BYTES, buf, start, end);
    return a;
  }

  private blank(db: number, slot: number, keyBytes: number, valueBytes: number): number {
    const a = this.slab.take(HEADER_BYTES + keyBytes + valueBytes);
    const w = this.slab.words[a >>> 16];
    const at = Slab.word(a);
    w[at + KEY] = keyBytes | (db << 16);
    w[at + FLAGS] = COUNTED;
    w[at + SLOT] = slot;
    w[at + TERM] = 0;
    w[at + TERM + 1] = 0;
    return a;
  }

  setStamps(a: number, actor: number, from: number, to: number): void {
    this.slab.words[a >>> 16][Slab.word(a) + ACTOR] = actor;
    this.setNumber(a, FROM, from);
    this.setNumber(a, TO, to);
  }

  /** Has the record room for a value of so many bytes? */
  fits(a: number, valueBytes: number): boolean {
    return HEADER_BYTES + this.keyBytes(a) + valueBytes <= this.slab.room(a);
  }

  setValue(a: number, buf: Uint8Array, start: number, end: number): void {
    this.slab.words[a >>> 16][Slab.word(a) + VALUE] = end - start;
    copyBytes(this.bytes(a), this.valueStart(a), buf, start, end);
  }

  /** A record with all that the object has. */
  pack(o: StoredKey): number {
    const value = o.value as string;
    const a = this.blank(o.db, o.slot, o.key.length, value.length);
    const memory = this.bytes(a);
    const start = Slab.byte(a) + HEADER_BYTES;
    memory.latin1Write(o.key, start);
    memory.latin1Write(value, start + o.key.length);
    this.slab.words[a >>> 16][Slab.word(a) + VALUE] = value.length;
    this.setStamps(a, o.actor, o.from, o.to);
    this.setTerm(a, o.term);
    this.setFlags(a, o.flags);
    this.setUsed(a, o.used);
    return a;
  }

  /** An object with all that the record has, in no partition. */
  copy(a: number): StoredKey {
    const o = new StoredKey(this.key(a), this.slot(a), this.db(a));
    const start = this.valueStart(a);
    o.type = STRING;
    o.value = this.bytes(a).latin1Slice(start, start + this.valueBytes(a));
    o.actor = this.actor(a);
    o.from = this.from(a);
    o.to = this.to(a);
    o.term = this.term(a);
    o.flags = this.flags(a) & ~(DEAD | LISTED);
    o.used = this.used(a);
    return o;
  }

  /** Another record with the same fields and key, and room for a value of so many bytes; no list names it. */
  move(a: number, valueBytes: number): number {
    const b = this.slab.take(HEADER_BYTES + this.keyBytes(a) + valueBytes);
    const from = this.slab.words[a >>> 16];
    const to = this.slab.words[b >>> 16];
    const i = Slab.word(a);
    const k = Slab.word(b);
    for (let n = 0; n < HEADER_BYTES / 4; n++) to[k + n] = from[i + n];
    to[k + FLAGS] &= ~LISTED;
    const start = Slab.byte(a) + HEADER_BYTES;
    copyBytes(this.bytes(b), Slab.byte(b) + HEADER_BYTES, this.bytes(a), start, start + this.keyBytes(a));
    return b;
  }

  /** The record has left its key: its memory is free once no list names it. */
  leave(a: number): void {
    const flags = this.flags(a);
    if (flags & LISTED) {
      this.setFlags(a, flags | DEAD);
      return;
    }
    this.setFlags(a, 0);
    this.slab.give(a);
  }

  /** A list has been gone through that named the record. */
  unlist(a: number, by: number): void {
    const flags = this.flags(a) & ~by;
    this.setFlags(a, flags);
    if (flags & DEAD) this.leave(a);
  }
}

/** Which keys of one partition of one database are packed: a table of hashes, and a list in order of coming. */
export class PackedTable {
  size = 0;
  private table = NO_TABLE;
  private mask = 0;
  /** Pairs of the table that are not free. */
  private taken = 0;
  private list = NO_LIST;
  private listed = 0;
  /** The hash of the key that was last not found. */
  private missed = 0;
  private readonly keys: PackedKeys;

  constructor(keys: PackedKeys) {
    this.keys = keys;
  }

  /** The record of the key in buf[start, end); 0 when there is none. */
  find(buf: Uint8Array, start: number, end: number): number {
    if (this.size === 0) {
      this.missed = 0;
      return 0;
    }
    const { table, mask } = this;
    const { words, bytes } = this.keys.slab;
    const h = secretHashOfBytes(buf, start, end);
    for (let i = h & mask; ; i = (i + 1) & mask) {
      const a = table[2 * i + 1];
      if (a === 0) {
        this.missed = h;
        return 0;
      }
      if (table[2 * i] !== h || a === GONE) continue;
      if ((words[a >>> 16][Slab.word(a) + KEY] & KEY_MASK) !== end - start) continue;
      const b = bytes[a >>> 16];
      let p = Slab.byte(a) + HEADER_BYTES;
      let k = start;
      while (k < end && b[p] === buf[k]) {
        p++;
        k++;
      }
      if (k === end) return a;
    }
  }

  /** The same of a key as a string. */
  findKey(key: string): number {
    if (this.size === 0) return 0;
    const { table, mask } = this;
    const { words, bytes } = this.keys.slab;
    const h = secretHash(key);
    const n = key.length;
    for (let i = h & mask; ; i = (i + 1) & mask) {
      const a = table[2 * i + 1];
      if (a === 0) return 0;
      if (table[2 * i] !== h || a === GONE) continue;
      if ((words[a >>> 16][Slab.word(a) + KEY] & KEY_MASK) !== n) continue;
      const b = bytes[a >>> 16];
      const p = Slab.byte(a) + HEADER_BYTES;
      let k = 0;
      while (k < n && b[p + k] === key.charCodeAt(k)) k++;
      if (k === n) return a;
    }
  }

  /** Puts in the record of the key that `find` has just not found. */
  addMissed(a: number, buf: Uint8Array, start: number, end: number): void {
    this.put(a, this.size === 0 ? secretHashOfBytes(buf, start, end) : this.missed);
  }

  /** Puts in the record of a key that is not in the table. */
  add(a: number): void {
    const start = Slab.byte(a) + HEADER_BYTES;
    const { words } = this.keys.slab;
    const n = words[a >>> 16][Slab.word(a) + KEY] & KEY_MASK;
    this.put(a, secretHashOfBytes(this.keys.bytes(a), start, start + n));
  }

  private put(a: number, h: number): void {
    // half of the pairs stay free: then few are looked at before one that is
    if (2 * (this.taken + 1) > this.mask) this.grow();
    if (this.listed === this.list.length) this.growList();
    const { table, mask } = this;
    let i = h & mask;
    while (table[2 * i + 1] !== 0) i = (i + 1) & mask;
    table[2 * i] = h;
    table[2 * i + 1] = a;
    this.taken++;
    this.size++;
    const w = this.keys.slab.words[a >>> 16];
    w[Slab.word(a) + HASH] = h;
    w[Slab.word(a) + INDEX] = this.listed;
    this.list[this.listed++] = a;
  }

  /** Where a record's pair is in the table. */
  private pairOf(a: number): number {
    const { table, mask } = this;
    let i = this.keys.slab.words[a >>> 16][Slab.word(a) + HASH] & mask;
    while (table[2 * i + 1] !== a) i = (i + 1) & mask;
    return i;
  }

  /** Takes a record out. */
  remove(a: number): void {
    this.table[2 * this.pairOf(a) + 1] = GONE;
    this.list[this.keys.slab.words[a >>> 16][Slab.word(a) + INDEX]] = 0;
    this.size--;
    if (this.size > 0) return;
    this.table = NO_TABLE;
    this.list = NO_LIST;
    this.mask = this.taken = this.listed = 0;
  }

  /** A record has been moved. */
  replace(a: number, b: number): void {
    this.table[2 * this.pairOf(a) + 1] = b;
    this.list[this.keys.slab.words[b >>> 16][Slab.word(b) + INDEX]] = b;
  }

  /** Makes the table as large as what is there needs, without what has gone. */
  private grow(): void {
    const old = this.table;
    let pairs = FIRST_PAIRS;
    while (pairs < 4 * (this.size + 1)) pairs *= 2;
    const table = new Int32Array(2 * pairs);
    const mask = pairs - 1;
    for (let at = 0; at < old.length; at += 2) {
      const a = old[at + 1];
      if (a <= 0) continue;
      const h = old[at];
      let i = h & mask;
      while (table[2 * i + 1] !== 0) i = (i + 1) & mask;
      table[2 * i] = h;
      table[2 * i + 1] = a;
    }
    this.table = table;
    this.mask = mask;
    this.taken = this.size;
  }

  /** Makes room in the list: without what has gone, where that is enough. */
  private growList(): void {
    const old = this.list;
    const next = this.size > old.length * 0.75 || old.length < FIRST_PAIRS ? new Int32Array(2 * old.length + 4) : old;
    const { words } = this.keys.slab;
    let n = 0;
    for (let k = 0; k < this.listed; k++) {
      const a = old[k];
      if (a === 0) continue;
      words[a >>> 16][Slab.word(a) + INDEX] = n;
      next[n++] = a;
    }
    this.list = next;
    this.listed = n;
  }

  /** The records, in order of coming. Whoever needs all of them lets nobody else have a turn in between. */
  *values(): IterableIterator<number> {
    for (let k = 0; k < this.listed; k++) {
      const a = this.list[k];
      if (a !== 0) yield a;
    }
  }
}
