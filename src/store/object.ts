/**
 * One resident key.
 *
 * Nearly every key is in one of three *simple* forms, kept in the object's own fields without a `KeyState`:
 * a register without siblings, a counter with one run that began with the key's context, or nothing but a context
 * (absent, or a tombstone). Their dot is (actor, to) and their context is `rest` joined with (from, to] of that
 * actor. Everything else has a full `state`, and the fields here cache what it shows.
 */
import { addHash } from '../base/hash.ts';
import { intervalHash } from '../causality/actors.ts';
import { Context } from '../causality/context.ts';
import { runField } from '../types/increment.ts';
import { NONE, REGISTER, STRING } from '../types/kinds.ts';
import { Entry, KeyState } from '../types/state.ts';

/** Written since it was last folded into a row. */
export const DIRTY = 1;
/** Encoded by a fold that has not committed yet. */
export const FOLDING = 2;
/** Its row holds a live value, and a deadline: what the persistent counts say of it. */
export const ROW_LIVE = 4;
export const ROW_EXPIRES = 8;
/** There is a row for it, live or not. */
export const ROW_EXISTS = 16;
/** A simple counter (else a simple register). */
export const COUNTER = 32;
/** Concurrent increments left 64 bits. */
export const OVERFLOW = 64;
/** Written piecemeal since it was last set whole: what Redis would keep in its raw encoding. */
export const RAW = 512;
/** A float's text, though it may look like an integer: `embstr` in Redis. */
export const TEXT = 1024;
/** Changed since its Merkle term was worked out. */
export const STALE = 2048;
/** Its term is part of its partition's Merkle tree. */
export const IN_TREE = 4096;
/** Counted as live, and as having a deadline, in its database's counts. */
export const COUNTED = 128;
export const COUNTED_EXPIRES = 256;

/** What an object costs beside its key's and value's bytes: the object, its numbers, its place in the map. */
export const OBJECT_BYTES = 200;
/** What a full state costs beside its entries' bytes, and each entry. */
export const STATE_BYTES = 600;
export const ENTRY_BYTES = 150;

/**
 * Numbers of more than 31 bits are boxes of their own in a JavaScript object, and each is one more thing for the
 * collector to copy. Objects therefore keep four of them in an array of doubles that sixteen objects share: it is let
 * go with the last of these.
 */
const NUMBERS = 4;
const BLOCK_NUMBERS = 16 * NUMBERS;
/** Of doubles (a fraction makes it so, and it stays so) that are all zero. */
const EMPTY_BLOCK = Array.from({ length: BLOCK_NUMBERS }, () => 0.5).fill(0);
let block = EMPTY_BLOCK.slice();
let free = 0;

export class StoredKey {
  readonly key: string;
  readonly slot: number;
  readonly db: number;
  type = NONE;
  /** A string's value. A number stands for its decimal text. Null when it must be taken from `bytes`. */
  value: string | number | null = null;
  /** The bytes of a chunked string, kept up to date in place. */
  bytes: Buffer | null = null;
  /** How many of `bytes` are the value; the rest is room to grow. */
  length = 0;
  /** Wall-clock ms after which the key is hidden; 0 for never. */
  deadline = 0;
  rest: Context | null = null;
  state: KeyState | null = null;
  /** Own run that the next increment goes on with, in a full state. */
  run: Entry | null = null;
  flags = 0;
  /** Where this object's numbers are. */
  private readonly numbers: number[];
  private readonly at: number;
  /** Seconds of the store's clock at the last access, and an access count for OBJECT FREQ. */
  used = 0;
  /** Bytes that it is reckoned to cost. */
  cost = 0;

  constructor(key: string, slot: number, db: number) {
    this.key = key;
    this.slot = slot;
    this.db = db;
    if (free === BLOCK_NUMBERS) {
      block = EMPTY_BLOCK.slice();
      free = 0;
    }
    this.numbers = block;
    this.at = free;
    free += NUMBERS;
  }

  get actor(): number {
    return this.numbers[this.at];
  }
  set actor(x: number) {
    this.numbers[this.at] = x;
  }

  get from(): number {
    return this.numbers[this.at + 1];
  }
  set from(x: number) {
    this.numbers[this.at + 1] = x;
  }

  get to(): number {
    return this.numbers[this.at + 2];
  }
  set to(x: number) {
    this.numbers[this.at + 2] = x;
  }

  /** What it adds to its partition's Merkle tree; 0 for nothing (`cluster/trees`). */
  get term(): number {
    return this.numbers[this.at + 3];
  }
  set term(x: number) {
    this.numbers[this.at + 3] = x;
  }

  isLive(now: number): boolean {
    return this.type !== NONE && (this.deadline === 0 || this.deadline > now);
  }

  /** The context, as a value of its own. */
  context(): Context {
    if (this.state !== null) return this.state.context.clone();
    const c = this.rest?.clone() ?? new Context();
    if (this.to > 0) c.add(this.actor, this.from, this.to);
    return c;
  }

  /** Hash of the context, without making one. */
  contextHash(): number {
    if (this.state !== null) return this.state.context.hash();
    if (this.to === 0) return 0;
    const own = intervalHash(this.actor, this.from, this.to);
    return this.rest === null ? own : addHash(own, this.rest.hash());
  }

  /** The full form of a simple object, without changing it. */
  toState(): KeyState {
    if (this.state !== null) return this.state;
    const s = new KeyState(this.context());
    if (this.type === STRING) {
      if (this.flags & COUNTER) {
        s.insert(new Entry(runField(this.actor, this.from + 1), this.actor, this.to, '', this.value as number));
      } else s.insert(new Entry(REGISTER, this.actor, this.to, String(this.value), this.deadline));
    }
    return s;
  }

  /** A string's value as text. */
  text(): string {
    const v = this.value;
    if (typeof v === 'string') return v;
    if (v !== null) return String(v);
    if (this.bytes === null) return '';
    return (this.value = this.bytes.latin1Slice(0, this.length));
  }

  /** Bytes of the string's value. */
  size(): number {
    const v = this.value;
    if (typeof v === 'string') return v.length;
    if (v !== null) return String(v).length;
    return this.length;
  }

  reckon(): number {
    let cost = OBJECT_BYTES + this.key.length;
    if (typeof this.value === 'string') cost += this.value.length;
    if (this.bytes !== null) cost += this.bytes.length;
    if (this.state !== null) cost += STATE_BYTES + this.state.bytes + this.state.count * ENTRY_BYTES;
    else if (this.rest !== null) cost += 100;
    return cost;
  }
}
