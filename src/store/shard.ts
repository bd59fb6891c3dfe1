/**
 * The keys of one partition of one database that are in memory: packed ones (`store/packed`), and the others as objects.
 */
import { positionOf } from '../ring/position.ts';
import type { KeyFilter } from './key-filter.ts';
import { KeyMap } from './key-map.ts';
import type { StoredKey } from './object.ts';
import { type PackedKeys, RecordList } from './packed.ts';

/** What the journal says of a partition beyond its rows, from a start until it has been applied (`store/replay`). */
export interface Behind {
  /** Where its records are, in order. */
  places: Float64Array;
  /** It has no rows: once these are applied, the partition is complete. */
  complete: boolean;
  /** The partition's keys as records before a flush have left them; null when none had been applied. */
  kept: Shard | null;
}

/** Makes an object of a packed key, which from then on is that object. */
export type Unpack = (shard: Shard, record: number) => StoredKey;

export class Shard {
  readonly objects = new KeyMap<StoredKey>();
  /** Keys that may have a row though they are not here; null while nobody knows. */
  filter: KeyFilter | null = null;
  /** While it is set, there are no keys here, and no key is known to be absent. */
  behind: Behind | null = null;
  /** Keys in order of place, made by the first scan that passes. */
  sorted: { changes: number; names: string[]; places: Float64Array } | null = null;
  /** Packed keys but for those that have just arrived: `records` has all. */
  readonly list: RecordList;
  private readonly db: number;
  private readonly partition: number;
  private readonly memory: PackedKeys;
  private readonly unpack: Unpack;
  /** By partition: a key that isn't packed does not exist. */
  private readonly plain: Uint8Array;
  private isComplete: boolean;
  /** Grows with each object that comes or goes: with the list's own, it tells a scan that its sorted view is old. */
  private changes = 0;

  constructor(
    place: { db: number; partition: number; plain: Uint8Array },
    complete: boolean,
    memory: PackedKeys,
    unpack: Unpack,
  ) {
    this.db = place.db;
    this.partition = place.partition;
    this.plain = place.plain;
    this.memory = memory;
    this.unpack = unpack;
    this.list = new RecordList(memory);
    this.isComplete = complete;
    this.note();
  }

  private note(): void {
    this.plain[this.partition] = this.isComplete && this.objects.size === 0 ? 1 : 0;
  }

  /** Every key of the partition that has a row is resident, so a key that isn't here does not exist. */
  get complete(): boolean {
    return this.isComplete;
  }

  set complete(complete: boolean) {
    this.isComplete = complete;
    this.note();
  }

  /** Records of the packed keys. */
  get records(): RecordList {
    this.memory.distribute();
    return this.list;
  }

  get size(): number {
    return this.objects.size + this.records.size;
  }

  /** Its keys in order of place: made when keys have come or gone since. */
  inOrder(): { names: readonly string[]; places: Float64Array } {
    const { memory } = this;
    const changes = this.changes + this.records.changes;
    if (this.sorted?.changes === changes) return this.sorted;
    const list: { name: string; place: number }[] = [];
    for (const o of this.objects.values()) list.push({ name: o.key, place: positionOf(o.slot, o.key) });
    for (const a of this.records.values()) {
      const name = memory.key(a);
      list.push({ name, place: positionOf(memory.slot(a), name) });
    }
    list.sort((a, b) => a.place - b.place);
    const places = Float64Array.from(list, (x) => x.place);
    this.sorted = { changes, names: list.map((x) => x.name), places };
    return this.sorted;
  }

  /** Keys with first <= place < end. */
  inPlaces(first: number, end: number): readonly string[] {
    const { names, places } = this.inOrder();
    let lo = 0;
    let hi = names.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (places[mid] < first) lo = mid + 1;
      else hi = mid;
    }
    let to = lo;
    while (to < names.length && places[to] < end) to++;
    return names.slice(lo, to);
  }

  /** Puts in an object, or takes it out. */
  put(o: StoredKey): void {
    this.objects.set(o);
    this.changes++;
    this.plain[this.partition] = 0;
  }

  drop(o: StoredKey): void {
    this.objects.delete(o.key);
    this.changes++;
    if (this.objects.size === 0) this.note();
  }

  /** The record of a packed key; 0 for another. */
  record(key: string): number {
    return this.memory.findKey(this.db, key);
  }

  has(key: string): boolean {
    return this.record(key) !== 0 || (this.objects.size > 0 && this.objects.has(key));
  }

  /** True when a key that isn't here has no row either. */
  lacks(key: string): boolean {
    return this.isComplete || (this.filter !== null && !this.filter.has(key));
  }

  /** A key's object; a packed key becomes one. */
  get(key: string): StoredKey | undefined {
    const a = this.record(key);
    if (a !== 0) return this.unpack(this, a);
    return this.objects.size > 0 ? this.objects.get(key) : undefined;
  }

  /** A key's object, or a copy of a packed key: to look at, not to keep, and never to change. */
  peek(key: string): StoredKey | undefined {
    const a = this.record(key);
    if (a !== 0) return this.memory.copy(a);
    return this.objects.get(key);
  }

  /** All keys, as `peek` gives them. */
  *values(): IterableIterator<StoredKey> {
    yield* this.objects.values();
    for (const a of this.records.values()) yield this.memory.copy(a);
  }

  *names(): IterableIterator<string> {
    yield* this.objects.keys();
    for (const a of this.records.values()) yield this.memory.key(a);
  }
}
