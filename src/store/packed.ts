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
/** Not in its partition's list yet. */
const ARRIVED = 1 << 17;

/** Words of a record: numbers of more than 32 bits are two, the lower first. */
const HASH = 0;
/** Bytes of the key, and above them the database. */
const KEY = 1;
const VALUE = 2;
const FLAGS = 3;
const SLOT = 4;
/** Its place in its partition's list, or among those that have arrived since. */
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
/** In a table: the record that was there has left. */
const GONE = -1;
/** Tables, each for the hashes that begin with the same bits: one is made larger at a time, and nobody waits for long. */
const TABLE_BITS = 8;
const TABLES = 1 << TABLE_BITS;
const TABLE_SHIFT = 32 - TABLE_BITS;
const FIRST_PAIRS = 8;
const FIRST_LISTED = 4;

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

/** The records of all partitions, and the tables that they are found in. */
export class PackedKeys {
  readonly slab = new Slab();
  /** How many keys are packed, and the bytes that they are reckoned to cost. */
  size = 0;
  keyBytes = 0;
  /** Pairs of a hash and a record. One set of tables for all partitions: what is looked up again and again is small. */
  private readonly tables: Int32Array[] = [];
  /** By table: how many pairs it has, less one, and how many of these are not free. */
  private readonly masks = new Int32Array(TABLES).fill(FIRST_PAIRS - 1);
  private readonly taken = new Int32Array(TABLES);
  private readonly sizes = new Int32Array(TABLES);
  /** The hash of the key that was last not found. */
  private missed = 0;
  /** Records that no partition's list has yet: it gets them when somebody looks into it. */
  private readonly arrived = new RecordList(this);
  private readonly listOf: (db: number, slot: number) => RecordList;

  /** @param listOf the list of a slot's partition */
  constructor(listOf: (db: number, slot: number) => RecordList) {
    this.listOf = listOf;
    for (let t = 0; t < TABLES; t++) this.tables.push(new Int32Array(2 * FIRST_PAIRS));
  }

  // ------------------------------------------------------------------ finding

  /** The record of the key in buf[start, end); 0 when there is none. */
  find(db: number, buf: Uint8Array, start: number, end: number): number {
    const h = secretHashOfBytes(buf, start, end);
    const t = h >>> TABLE_SHIFT;
    const table = this.tables[t];
    const mask = this.masks[t];
    const { words, bytes } = this.slab;
    const head = (end - start) | (db << 16);
    for (let i = h & mask; ; i = (i + 1) & mask) {
      const a = table[2 * i + 1];
      if (a === 0) {
        this.missed = h;
        return 0;
      }
      if (table[2 * i] !== h || a === GONE) continue;
      if (words[Slab.chunk(a)][Slab.word(a) + KEY] !== head) continue;
      const b = bytes[Slab.chunk(a)];
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
  findKey(db: number, key: string): number {
    const h = secretHash(key);
    const t = h >>> TABLE_SHIFT;
    const table = this.tables[t];
    const mask = this.masks[t];
    const { words, bytes } = this.slab;
    const n = key.length;
    const head = n | (db << 16);
    for (let i = h & mask; ; i = (i + 1) & mask) {
      const a = table[2 * i + 1];
      if (a === 0) return 0;
      if (table[2 * i] !== h || a === GONE) continue;
      if (words[Slab.chunk(a)][Slab.word(a) + KEY] !== head) continue;
      const b = bytes[Slab.chunk(a)];
      const p = Slab.byte(a) + HEADER_BYTES;
      let k = 0;
      while (k < n && b[p + k] === key.charCodeAt(k)) k++;
      if (k === n) return a;
    }
  }

  /** Puts in the record of the key that `find` has just not found. */
  addMissed(a: number): void {
    this.put(a, this.missed);
  }

  /** Puts in the record of a key that is not packed yet. */
  add(a: number): void {
    const start = Slab.byte(a) + HEADER_BYTES;
    this.put(a, secretHashOfBytes(this.bytes(a), start, start + this.keyLength(a)));
  }

  private put(a: number, h: number): void {
    const t = h >>> TABLE_SHIFT;
    // half of the pairs stay free: then few are looked at before one that is
    if (2 * (this.taken[t] + 1) > this.masks[t]) this.grow(t);
    const table = this.tables[t];
    const mask = this.masks[t];
    let i = h & mask;
    while (table[2 * i + 1] !== 0) i = (i + 1) & mask;
    table[2 * i] = h;
    table[2 * i + 1] = a;
    this.taken[t]++;
    this.sizes[t]++;
    this.size++;
    this.keyBytes += this.cost(a);
    const w = this.slab.words[Slab.chunk(a)];
    const at = Slab.word(a);
    w[at + HASH] = h;
    w[at + FLAGS] |= ARRIVED;
    w[at + INDEX] = this.arrived.push(a);
  }

  /** Makes a table as large as what is in it needs, without what has gone. */
  private grow(t: number): void {
    const old = this.tables[t];
    let pairs = FIRST_PAIRS;
    while (pairs < 4 * (this.sizes[t] + 1)) pairs *= 2;
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
    this.tables[t] = table;
    this.masks[t] = mask;
    this.taken[t] = this.sizes[t];
  }

  /** Puts another record, or GONE, in the place of one in its table, and another, or 0, in its list. */
  private exchange(a: number, inTable: number, inList: number): void {
    const w = this.slab.words[Slab.chunk(a)];
    const at = Slab.word(a);
    const t = w[at + HASH] >>> TABLE_SHIFT;
    const table = this.tables[t];
    const mask = this.masks[t];
    let i = w[at + HASH] & mask;
    while (table[2 * i + 1] !== a) i = (i + 1) & mask;
    table[2 * i + 1] = inTable;
    const list = w[at + FLAGS] & ARRIVED ? this.arrived : this.listOf(w[at + KEY] >>> 16, w[at + SLOT]);
    list.set(w[at + INDEX], inList);
    if (inTable === GONE) this.sizes[t]--;
  }

  /** Takes a record out: its key is not packed any more. */
  remove(a: number): void {
    this.exchange(a, GONE, 0);
    this.size--;
    this.keyBytes -= this.cost(a);
  }

  /** A record has been moved: another has its fields. */
  replace(a: number, b: number): void {
    this.exchange(a, b, b);
    this.keyBytes += this.cost(b) - this.cost(a);
  }

  /** Brings the partitions' lists up to date. */
  distribute(): void {
    const { arrived, slab } = this;
    if (arrived.size === 0) return;
    for (const a of arrived.values()) {
      const w = slab.words[Slab.chunk(a)];
      const at = Slab.word(a);
      w[at + FLAGS] &= ~ARRIVED;
      w[at + INDEX] = this.listOf(w[at + KEY] >>> 16, w[at + SLOT]).push(a);
    }
    arrived.clear();
  }

  /** A record's place in its list is another. */
  setIndex(a: number, index: number): void {
    this.slab.words[Slab.chunk(a)][Slab.word(a) + INDEX] = index;
  }

  // ------------------------------------------------------------------ a record's fields

  flags(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + FLAGS];
  }

  setFlags(a: number, flags: number): void {
    this.slab.words[Slab.chunk(a)][Slab.word(a) + FLAGS] = flags;
  }

  db(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + KEY] >>> 16;
  }

  slot(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + SLOT];
  }

  used(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + USED] >>> 0;
  }

  /** Written only when it changes: a read should not dirty the record's memory. */
  setUsed(a: number, seconds: number): void {
    const w = this.slab.words[Slab.chunk(a)];
    const at = Slab.word(a) + USED;
    if (w[at] !== (seconds | 0)) w[at] = seconds;
  }

  actor(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + ACTOR];
  }

  private number(a: number, field: number): number {
    const w = this.slab.words[Slab.chunk(a)];
    const at = Slab.word(a) + field;
    return w[at + 1] * TWO_32 + (w[at] >>> 0);
  }

  private setNumber(a: number, field: number, x: number): void {
    const w = this.slab.words[Slab.chunk(a)];
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
    return this.bytes(a).latin1Slice(start, start + this.keyLength(a));
  }

  private keyLength(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + KEY] & KEY_MASK;
  }

  /** The memory that a record is in: its value is [valueStart, valueStart + valueBytes) of it. */
  bytes(a: number): Buffer {
    return this.slab.bytes[Slab.chunk(a)];
  }

  valueStart(a: number): number {
    return Slab.byte(a) + HEADER_BYTES + this.keyLength(a);
  }

  valueBytes(a: number): number {
    return this.slab.words[Slab.chunk(a)][Slab.word(a) + VALUE];
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
    const w = this.slab.words[Slab.chunk(a)];
    const at = Slab.word(a);
    w[at + KEY] = keyBytes | (db << 16);
    w[at + FLAGS] = COUNTED;
    w[at + SLOT] = slot;
    w[at + TERM] = 0;
    w[at + TERM + 1] = 0;
    return a;
  }

  setStamps(a: number, actor: number, from: number, to: number): void {
    this.slab.words[Slab.chunk(a)][Slab.word(a) + ACTOR] = actor;
    this.setNumber(a, FROM, from);
    this.setNumber(a, TO, to);
  }

  /** Has the record room for a value of so many bytes? */
  fits(a: number, valueBytes: number): boolean {
    return HEADER_BYTES + this.keyLength(a) + valueBytes <= this.slab.room(a);
  }

  setValue(a: number, buf: Uint8Array, start: number, end: number): void {
    this.slab.words[Slab.chunk(a)][Slab.word(a) + VALUE] = end - start;
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
    this.slab.words[Slab.chunk(a)][Slab.word(a) + VALUE] = value.length;
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
    o.flags = this.flags(a) & ~(DEAD | LISTED | ARRIVED);
    o.used = this.used(a);
    return o;
  }

  /** Another record with the same fields and key, and room for a value of so many bytes; no list names it. */
  move(a: number, valueBytes: number): number {
    const b = this.slab.take(HEADER_BYTES + this.keyLength(a) + valueBytes);
    const from = this.slab.words[Slab.chunk(a)];
    const to = this.slab.words[Slab.chunk(b)];
    const i = Slab.word(a);
    const k = Slab.word(b);
    for (let n = 0; n < HEADER_BYTES / 4; n++) to[k + n] = from[i + n];
    to[k + FLAGS] &= ~LISTED;
    const start = Slab.byte(a) + HEADER_BYTES;
    copyBytes(this.bytes(b), Slab.byte(b) + HEADER_BYTES, this.bytes(a), start, start + this.keyLength(a));
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

  /** Gives memory back of which little is used: a chunk at a time. False when there is nothing more to do for now. */
  tidy(): boolean {
    const chunk = this.slab.sparse();
    if (chunk === 0) {
      this.slab.reopen();
      return false;
    }
    this.vacate(chunk);
    return true;
  }

  /** Moves the records of a chunk to others, but for those that lists name. */
  private vacate(chunk: number): void {
    this.slab.close(chunk);
    for (const a of this.slab.places(chunk)) {
      const flags = this.flags(a);
      if (flags === 0 || flags & (DEAD | LISTED)) continue;
      const n = this.valueBytes(a);
      const b = this.move(a, n);
      const start = this.valueStart(a);
      this.setValue(b, this.bytes(a), start, start + n);
      this.replace(a, b);
      this.leave(a);
    }
  }

  /** A list has been gone through that named the record. */
  unlist(a: number, by: number): void {
    const flags = this.flags(a) & ~by;
    this.setFlags(a, flags);
    if (flags & DEAD) this.leave(a);
  }
}

/** Records, in order of coming. */
export class RecordList {
  size = 0;
  /** Grows with each that comes or goes. */
  changes = 0;
  private list = new Int32Array(FIRST_LISTED);
  private listed = 0;
  private readonly keys: PackedKeys;

  constructor(keys: PackedKeys) {
    this.keys = keys;
  }

  /** Adds a record; its place. */
  push(a: number): number {
    if (this.listed === this.list.length) this.makeRoom();
    this.size++;
    this.changes++;
    this.list[this.listed] = a;
    return this.listed++;
  }

  /** Puts a record in the place of another, or 0 for none. */
  set(index: number, a: number): void {
    this.list[index] = a;
    if (a !== 0) return;
    this.changes++;
    if (--this.size === 0) this.clear();
  }

  clear(): void {
    if (this.list.length > FIRST_LISTED) this.list = new Int32Array(FIRST_LISTED);
    this.listed = this.size = 0;
  }

  /** Makes room: without what has gone, where that is enough. */
  private makeRoom(): void {
    const old = this.list;
    const next = this.size > old.length * 0.75 ? new Int32Array(2 * old.length) : old;
    let n = 0;
    for (let k = 0; k < this.listed; k++) {
      const a = old[k];
      if (a === 0) continue;
      if (k !== n) this.keys.setIndex(a, n);
      next[n++] = a;
    }
    this.list = next;
    this.listed = n;
  }

  /** Whoever needs all of them lets nobody else have a turn in between. */
  *values(): IterableIterator<number> {
    for (let k = 0; k < this.listed; k++) {
      const a = this.list[k];
      if (a !== 0) yield a;
    }
  }
}
