/**
 * The keys of one partition of one database that are in memory: packed ones (`store/packed`), and the others as objects.
 */
import type { KeyFilter } from './key-filter.ts';
import { KeyMap } from './key-map.ts';
import type { StoredKey } from './object.ts';
import { type PackedKeys, PackedTable } from './packed.ts';

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
  readonly packed: PackedTable;
  /** Every key of the partition that has a row is resident, so a key that isn't here does not exist. */
  complete: boolean;
  /** Keys that may have a row though they are not here; null while nobody knows. */
  filter: KeyFilter | null = null;
  /** Grows with each key that comes or goes: tells a scan that its sorted view is old. */
  additions = 0;
  /** While it is set, there are no keys here, and no key is known to be absent. */
  behind: Behind | null = null;
  /** Keys in order of place, made by the first scan that passes. */
  sorted: { additions: number; names: string[]; places: Float64Array } | null = null;
  private readonly memory: PackedKeys;
  private readonly unpack: Unpack;

  constructor(complete: boolean, memory: PackedKeys, unpack: Unpack) {
    this.complete = complete;
    this.memory = memory;
    this.unpack = unpack;
    this.packed = new PackedTable(memory);
  }

  get size(): number {
    return this.objects.size + this.packed.size;
  }

  has(key: string): boolean {
    return this.packed.findKey(key) !== 0 || (this.objects.size > 0 && this.objects.has(key));
  }

  /** True when a key that isn't here has no row either. */
  lacks(key: string): boolean {
    return this.complete || (this.filter !== null && !this.filter.has(key));
  }

  /** A key's object; a packed key becomes one. */
  get(key: string): StoredKey | undefined {
    const a = this.packed.findKey(key);
    if (a !== 0) return this.unpack(this, a);
    return this.objects.size > 0 ? this.objects.get(key) : undefined;
  }

  /** A key's object, or a copy of a packed key: to look at, not to keep, and never to change. */
  peek(key: string): StoredKey | undefined {
    const a = this.packed.findKey(key);
    if (a !== 0) return this.memory.copy(a);
    return this.objects.get(key);
  }

  /** All keys, as `peek` gives them. */
  *values(): IterableIterator<StoredKey> {
    yield* this.objects.values();
    for (const a of this.packed.values()) yield this.memory.copy(a);
  }

  *names(): IterableIterator<string> {
    yield* this.objects.keys();
    for (const a of this.packed.values()) yield this.memory.key(a);
  }
}
