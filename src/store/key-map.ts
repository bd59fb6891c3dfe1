/**
 * Objects by key, as a `Map` has them, for the millions of keys of a node.
 *
 * A table of 32-bit hashes says where an object is in a dense list: a key that isn't there is told from the table alone,
 * in one line of memory, where a `Map` looks at other keys' strings first. The hash has a secret of the process, for keys
 * come from clients; the order of the list is that of insertion, whatever the hashes are.
 */
import { getRandomValues } from 'node:crypto';

/** Pairs of a table: an object's hash, and its number in the list, from 1; 0 where there is none, GONE where it went. */
const GONE = -1;
const NO_TABLE = new Int32Array(2);
const FIRST_PAIRS = 8;

const secret = getRandomValues(new Int32Array(3));
const SEED = secret[0];
const FACTOR_1 = secret[1] | 1;
const FACTOR_2 = secret[2] | 1;

/** The key that was last found not to be there, and its hash: most of the time it is put in next. */
let missedKey = '';
let missedHash = secretHash('');

/** 32 bits that depend on each character (of 8 bits) and on the process. */
export function secretHash(key: string): number {
  const n = key.length;
  let h = SEED ^ n;
  let i = 0;
  for (; i + 3 < n; i += 4) {
    const word =
      key.charCodeAt(i) | (key.charCodeAt(i + 1) << 8) | (key.charCodeAt(i + 2) << 16) | (key.charCodeAt(i + 3) << 24);
    h = Math.imul(h ^ word, FACTOR_1);
    h ^= h >>> 15;
  }
  for (; i < n; i++) h = Math.imul(h ^ key.charCodeAt(i), FACTOR_1);
  h ^= h >>> 16;
  h = Math.imul(h, FACTOR_2);
  return h ^ (h >>> 15);
}

/** The same of a key's bytes: buf[start, end). */
export function secretHashOfBytes(buf: Uint8Array, start: number, end: number): number {
  let h = SEED ^ (end - start);
  let i = start;
  for (; i + 3 < end; i += 4) {
    h = Math.imul(h ^ (buf[i] | (buf[i + 1] << 8) | (buf[i + 2] << 16) | (buf[i + 3] << 24)), FACTOR_1);
    h ^= h >>> 15;
  }
  for (; i < end; i++) h = Math.imul(h ^ buf[i], FACTOR_1);
  h ^= h >>> 16;
  h = Math.imul(h, FACTOR_2);
  return h ^ (h >>> 15);
}

export class KeyMap<T extends { readonly key: string }> {
  size = 0;
  private table = NO_TABLE;
  private mask = 0;
  /** In order of insertion; null where one was taken out. */
  private list: (T | null)[] = [];
  /** Pairs of the table that are not free. */
  private taken = 0;

  get(key: string): T | undefined {
    const { table, mask, list } = this;
    const h = secretHash(key);
    for (let i = h & mask; ; i = (i + 1) & mask) {
      const n = table[2 * i + 1];
      if (n === 0) {
        missedKey = key;
        missedHash = h;
        return undefined;
      }
      if (n === GONE || table[2 * i] !== h) continue;
      const o = list[n - 1]!;
      if (o.key === key) return o;
    }
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  /** Puts an object in, in the place of one with the same key. */
  set(o: T): void {
    // half of the pairs stay free: then few are looked at before one that is
    if (2 * (this.taken + 1) > this.mask) this.grow();
    const { table, mask, list } = this;
    const h = o.key === missedKey ? missedHash : secretHash(o.key);
    let i = h & mask;
    for (; table[2 * i + 1] !== 0; i = (i + 1) & mask) {
      const n = table[2 * i + 1];
      if (n === GONE || table[2 * i] !== h || list[n - 1]!.key !== o.key) continue;
      list[n - 1] = o;
      return;
    }
    this.taken++;
    this.size++;
    table[2 * i] = h;
    table[2 * i + 1] = list.push(o);
  }

  delete(key: string): boolean {
    const { table, mask, list } = this;
    const h = secretHash(key);
    for (let i = h & mask; ; i = (i + 1) & mask) {
      const n = table[2 * i + 1];
      if (n === 0) return false;
      if (n === GONE || table[2 * i] !== h || list[n - 1]!.key !== key) continue;
      table[2 * i + 1] = GONE;
      list[n - 1] = null;
      this.size--;
      if (this.size === 0) this.clear();
      return true;
    }
  }

  private clear(): void {
    this.table = NO_TABLE;
    this.mask = 0;
    this.list = [];
    this.taken = 0;
  }

  /** Makes the table as large as what is there needs, without what has gone. */
  private grow(): void {
    const old = this.table;
    let pairs = FIRST_PAIRS;
    while (pairs < 4 * (this.size + 1)) pairs *= 2;
    const table = new Int32Array(2 * pairs);
    const mask = pairs - 1;
    const { list } = this;
    // where each of the list goes when the holes are closed
    const places = new Int32Array(list.length);
    let count = 0;
    for (let k = 0; k < list.length; k++) {
      const o = list[k];
      if (o === null) continue;
      list[count] = o;
      places[k] = ++count;
    }
    list.length = count;
    for (let at = 0; at < old.length; at += 2) {
      const n = old[at + 1];
      if (n <= 0) continue;
      const h = old[at];
      let i = h & mask;
      while (table[2 * i + 1] !== 0) i = (i + 1) & mask;
      table[2 * i] = h;
      table[2 * i + 1] = places[n - 1];
    }
    this.table = table;
    this.mask = mask;
    this.taken = count;
  }

  /**
   * The objects, in order of insertion. One that is put in meanwhile comes too; what is taken out and put in by others
   * between two steps may make it pass over some, so whoever needs all of them does not wait in between.
   */
  *values(): IterableIterator<T> {
    for (let k = 0; k < this.list.length; k++) {
      const o = this.list[k];
      if (o !== null) yield o;
    }
  }

  *keys(): IterableIterator<string> {
    for (const o of this.values()) yield o.key;
  }
}
