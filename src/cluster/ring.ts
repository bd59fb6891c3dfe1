/**
 * The ring as this node goes by it: the layout, and for each partition who serves it.
 *
 * When a layout follows another, the former homes of a partition serve it until all new ones have confirmed that they
 * hold everything (paper 4.9); meanwhile writes go to both. `serving` holds the former homes of such partitions. Two
 * nodes of one layout that know of different confirmations agree as soon as they talk: served by the new ones wins.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { hash52 } from '../base/hash.ts';
import {
  compareLayouts,
  decodeLayout,
  encodeLayout,
  type Layout,
  type LayoutName,
  layoutName,
} from '../ring/layout.ts';
import { Preferences } from '../ring/preference.ts';

const RING_FORMAT = 1;
const NOBODY: readonly string[] = [];

/** Any so many of the homes have, between them, everything that W of them have acknowledged. */
export function fewestWithAll(homes: number, w: number): number {
  return Math.max(1, homes - Math.min(w, homes) + 1);
}

export class Ring {
  layout: Layout | null = null;
  name: LayoutName = { version: 0, hash: 0 };
  /** Replicas of each key, as configured; fewer while there are fewer members. */
  readonly n: number;
  /** For each partition its former homes while they serve it, or null. */
  private serving: (readonly string[] | null)[] = [];
  /** New homes that have confirmed, by partition. */
  private readonly confirmed = new Map<number, Set<string>>();
  private preferences: Preferences | null = null;
  private lists: (readonly string[] | undefined)[] = [];
  private targets: (readonly string[] | undefined)[] = [];
  private owners: Set<string> | null = null;
  /** The owner, when there is just one: every command asks whether this node is alone. */
  private sole = '';
  /** Counts changes: whatever was worked out from an older one is stale. */
  epoch = 0;

  constructor(n: number) {
    this.n = n;
  }

  get partitions(): number {
    return this.layout?.partitions ?? 0;
  }

  get members(): readonly string[] {
    return this.layout?.members.map((m) => m.id) ?? NOBODY;
  }

  isMember(id: string): boolean {
    return this.layout?.members.some((m) => m.id === id) ?? false;
  }

  private changed(): void {
    this.epoch++;
    this.lists = [];
    this.owners = null;
  }

  private ownerSet(): Set<string> {
    if (this.owners === null) {
      this.owners = new Set(this.members);
      for (const list of this.serving) for (const x of list ?? NOBODY) this.owners.add(x);
      this.sole = this.owners.size === 1 ? [...this.owners][0] : '';
    }
    return this.owners;
  }

  /** Does this node hold partitions, or serve some until others do? */
  isOwner(id: string): boolean {
    return this.ownerSet().has(id);
  }

  /** Is this node the only one that does? */
  isSole(id: string): boolean {
    if (this.owners === null) this.ownerSet();
    return this.sole === id;
  }

  /** Homes under the layout. */
  target(p: number): readonly string[] {
    let list = this.targets[p];
    if (list === undefined) {
      if (this.preferences === null || this.layout === null) return NOBODY;
      const { members } = this.layout;
      list = this.preferences.homes(p, this.n).map((i) => members[i].id);
      this.targets[p] = list;
    }
    return list;
  }

  /** Who serves a partition now, most preferred first. */
  homes(p: number): readonly string[] {
    return this.serving[p] ?? this.target(p);
  }

  /** New homes that do not serve yet. */
  gaining(p: number): readonly string[] {
    const former = this.serving[p];
    return former === null || former === undefined ? NOBODY : this.target(p).filter((id) => !former.includes(id));
  }

  isMoving(p: number): boolean {
    return this.serving[p] !== null && this.serving[p] !== undefined;
  }

  moving(): number[] {
    const list: number[] = [];
    for (let p = 0; p < this.serving.length; p++) if (this.isMoving(p)) list.push(p);
    return list;
  }

  /** All members in order of preference, those who serve first. */
  list(p: number): readonly string[] {
    let list = this.lists[p];
    if (list === undefined) {
      if (this.preferences === null || this.layout === null) return NOBODY;
      const { members } = this.layout;
      const all = new Set([...this.homes(p), ...this.target(p)]);
      for (const i of this.preferences.list(p)) all.add(members[i].id);
      list = [...all];
      this.lists[p] = list;
    }
    return list;
  }

  private install(layout: Layout, serving: (readonly string[] | null)[]): void {
    this.layout = layout;
    this.name = layoutName(layout);
    this.preferences = new Preferences(layout);
    this.targets = [];
    this.serving = serving;
    this.confirmed.clear();
    for (let p = 0; p < serving.length; p++) this.settleIfNobodyGains(p);
    this.changed();
  }

  private settleIfNobodyGains(p: number): void {
    if (this.serving[p] !== null && this.gaining(p).length === 0) this.serving[p] = null;
  }

  /** Goes over to a layout that this node has made or that follows the present one. */
  advance(layout: Layout): void {
    const serving: (readonly string[] | null)[] = [];
    for (let p = 0; p < layout.partitions; p++) serving.push(this.layout === null ? null : this.homes(p));
    this.install(layout, serving);
  }

  /** A new home holds everything. Returns true when the partition is served by its new homes from now on. */
  confirm(p: number, id: string): boolean {
    if (!this.isMoving(p)) return false;
    let set = this.confirmed.get(p);
    if (set === undefined) {
      set = new Set();
      this.confirmed.set(p, set);
    }
    set.add(id);
    if (!this.gaining(p).every((x) => set.has(x))) return false;
    this.serving[p] = null;
    this.changed();
    return true;
  }

  hasConfirmed(p: number, id: string): boolean {
    return this.confirmed.get(p)?.has(id) ?? false;
  }

  /** Takes another node's ring. Returns what changed: the layout, who serves, or nothing. */
  merge(other: { layout: Layout; serving: (readonly string[] | null)[] }): 'layout' | 'serving' | null {
    const order = this.layout === null ? 1 : compareLayouts(layoutName(other.layout), this.name);
    if (order < 0) return null;
    if (order > 0) {
      this.install(other.layout, [...other.serving]);
      return 'layout';
    }
    let changed = false;
    for (let p = 0; p < this.serving.length; p++) {
      if (this.serving[p] === null || other.serving[p] !== null) continue;
      this.serving[p] = null;
      changed = true;
    }
    if (changed) this.changed();
    return changed ? 'serving' : null;
  }

  /** The layout and who still serves in place of others. */
  encode(w: ByteWriter): void {
    const layout = this.layout!;
    w.u8(RING_FORMAT);
    encodeLayout(w, layout);
    const names = new Map<string, number>();
    for (const list of this.serving) for (const id of list ?? NOBODY) if (!names.has(id)) names.set(id, names.size);
    w.varint(names.size);
    for (const id of names.keys()) w.str(id);
    for (const list of this.serving) {
      w.varint(list === null ? 0 : list.length + 1);
      for (const id of list ?? NOBODY) w.varint(names.get(id)!);
    }
  }

  static decode(r: ByteReader): { layout: Layout; serving: (readonly string[] | null)[] } | null {
    if (r.u8() !== RING_FORMAT) return null;
    const layout = decodeLayout(r);
    const names: string[] = [];
    for (let n = r.varint(); n > 0; n--) names.push(r.str());
    const serving: (readonly string[] | null)[] = [];
    for (let p = 0; p < layout.partitions; p++) {
      const n = r.varint();
      if (n === 0) {
        serving.push(null);
        continue;
      }
      const list: string[] = [];
      for (let i = 1; i < n; i++) list.push(names[r.varint()] ?? '');
      serving.push(list);
    }
    return { layout, serving };
  }

  bytes(): Buffer {
    const w = new ByteWriter(4096);
    this.encode(w);
    return w.take();
  }

  /** Hash of the whole: equal on nodes that go by the same ring. */
  digest(): number {
    if (this.layout === null) return 0;
    const w = new ByteWriter(4096);
    this.encode(w);
    return hash52(w.latin1());
  }
}
