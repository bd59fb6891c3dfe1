/**
 * Preference lists: who holds a partition, and who stands in for them (paper 4.3).
 *
 * The ring is walked from the partition's token. The next on the list is always the first node of the walk whose host
 * is on the list least often, and of those the one whose zone is: so distinct hosts first, then distinct zones. The
 * list names every member; the first N are the *home* replicas, those behind them take hinted writes when a home
 * replica fails (paper 4.6). Where there are fewer tokens than members, the walk goes on over those that own none, from
 * another one for each partition; members of weight 0 come last and are never home.
 */
import type { Layout, Member } from './layout.ts';

/** Members as small numbers, for walks that run many thousand times. */
export interface RingShape {
  readonly members: number;
  readonly hostOf: readonly number[];
  readonly zoneOf: readonly number[];
  readonly hosts: number;
  readonly zones: number;
  /** Members with a weight: only these can be home. */
  readonly weighted: number;
  /** Of these, the ones that own no token, because there are more members than tokens. */
  readonly tokenless: readonly number[];
  /** Hosts in a zone, and members on a host, counting only those with a weight. */
  readonly hostsInZone: readonly number[];
  readonly membersOnHost: readonly number[];
}

/** @param ownsTokens which members own tokens; one of weight 0 never does */
export function ringShape(members: readonly Member[], ownsTokens: readonly boolean[]): RingShape {
  const hostNumbers = new Map<string, number>();
  const zoneNumbers = new Map<string, number>();
  const hostOf = members.map((m) => number(hostNumbers, m.host));
  const zoneOf = members.map((m) => number(zoneNumbers, m.zone));
  const hostsByZone = Array.from(zoneNumbers, () => new Set<number>());
  const membersOnHost = Array.from(hostNumbers, () => 0);
  members.forEach((m, i) => {
    if (m.weight === 0) return;
    hostsByZone[zoneOf[i]].add(hostOf[i]);
    membersOnHost[hostOf[i]]++;
  });
  return {
    members: members.length,
    hostOf,
    zoneOf,
    hosts: membersOnHost.filter((n) => n > 0).length,
    zones: hostsByZone.filter((s) => s.size > 0).length,
    weighted: members.filter((m) => m.weight > 0).length,
    tokenless: members.map((_, i) => i).filter((i) => members[i].weight > 0 && !ownsTokens[i]),
    hostsInZone: hostsByZone.map((s) => s.size),
    membersOnHost,
  };
}

function number(numbers: Map<string, number>, name: string): number {
  let n = numbers.get(name);
  if (n === undefined) {
    n = numbers.size;
    numbers.set(name, n);
  }
  return n;
}

/**
 * The walk itself. `claim` weighs layouts with the same one that serves requests, so that what it balances is what
 * they will hold. Tokens of nobody (-1) are stepped over.
 */
export class RingWalk {
  private readonly shape: RingShape;
  private readonly hostCount: Int32Array;
  private readonly zoneCount: Int32Array;
  private readonly zoneHostsUsed: Int32Array;
  private readonly chosen: Uint8Array;
  private hostsUsed = 0;

  constructor(shape: RingShape) {
    this.shape = shape;
    this.hostCount = new Int32Array(shape.membersOnHost.length);
    this.zoneCount = new Int32Array(shape.hostsInZone.length);
    this.zoneHostsUsed = new Int32Array(shape.hostsInZone.length);
    this.chosen = new Uint8Array(shape.members);
  }

  /** The best (host, zone) count that anybody who is left can have: at the first such node a walk may stop. */
  private best(): number {
    const { shape, hostCount, zoneCount } = this;
    let host = 0;
    if (this.hostsUsed >= shape.hosts) {
      host = Number.MAX_SAFE_INTEGER;
      for (let h = 0; h < hostCount.length; h++) {
        if (hostCount[h] < shape.membersOnHost[h] && hostCount[h] < host) host = hostCount[h];
      }
    }
    let zone = Number.MAX_SAFE_INTEGER;
    for (let z = 0; z < zoneCount.length; z++) {
      const open = shape.hostsInZone[z] > 0 && (host > 0 || this.zoneHostsUsed[z] < shape.hostsInZone[z]);
      if (open && zoneCount[z] < zone) zone = zoneCount[z];
    }
    return host * RANK + zone;
  }

  private take(member: number): void {
    const h = this.shape.hostOf[member];
    const z = this.shape.zoneOf[member];
    this.chosen[member] = 1;
    if (this.hostCount[h]++ === 0) {
      this.hostsUsed++;
      this.zoneHostsUsed[z]++;
    }
    this.zoneCount[z]++;
  }

  /**
   * Fills `out` from `at` with the first `n` of the list of partition `p`.
   * @param reach tokens looked at at most; fewer nodes may be found within it than there are
   * @returns tokens looked at
   */
  fill(owners: ArrayLike<number>, p: number, n: number, out: Int32Array, at: number, reach: number): number {
    const { shape, chosen } = this;
    const { tokenless } = shape;
    const q = owners.length;
    const wanted = Math.min(n, shape.weighted);
    const length = Math.min(reach, q + tokenless.length);
    let looked = 0;
    let found = 0;
    for (; found < wanted; found++) {
      const best = this.best();
      let pick = -1;
      let pickRank = Number.MAX_SAFE_INTEGER;
      let i = 0;
      for (; i < length; i++) {
        const member = i < q ? owners[(p + i) % q] : tokenless[(p + i) % tokenless.length];
        if (member < 0 || chosen[member] === 1) continue;
        const rank = this.hostCount[shape.hostOf[member]] * RANK + this.zoneCount[shape.zoneOf[member]];
        if (rank < pickRank) {
          pick = member;
          pickRank = rank;
          if (rank <= best) break;
        }
      }
      if (i + 1 > looked) looked = Math.min(i + 1, length);
      if (pick < 0) break;
      out[at + found] = pick;
      this.take(pick);
    }
    for (let k = 0; k < found; k++) {
      const m = out[at + k];
      chosen[m] = 0;
      this.hostCount[shape.hostOf[m]] = 0;
      this.zoneCount[shape.zoneOf[m]] = 0;
      this.zoneHostsUsed[shape.zoneOf[m]] = 0;
    }
    this.hostsUsed = 0;
    for (let k = found; k < n; k++) out[at + k] = -1;
    return looked;
  }
}

/** Host counts weigh more than any zone count. */
const RANK = 65536;

/** All preference lists of one layout; each is worked out when it is first asked for. */
export class Preferences {
  readonly layout: Layout;
  private readonly shape: RingShape;
  private readonly walk: RingWalk;
  private readonly lists: (readonly number[] | undefined)[];
  /** Home replicas by N: requests ask for the same few N again and again. */
  private readonly homeLists = new Map<number, (readonly number[] | undefined)[]>();

  constructor(layout: Layout) {
    this.layout = layout;
    const ownsTokens = layout.members.map(() => false);
    for (const o of layout.owners) ownsTokens[o] = true;
    this.shape = ringShape(layout.members, ownsTokens);
    this.walk = new RingWalk(this.shape);
    this.lists = new Array(layout.partitions);
  }

  /** Every member, as indices into the layout's members, most preferred first. */
  list(partition: number): readonly number[] {
    let list = this.lists[partition];
    if (list === undefined) {
      const all = this.walkFor(partition, this.shape.weighted);
      this.layout.members.forEach((m, i) => {
        if (m.weight === 0) all.push(i);
      });
      this.lists[partition] = list = all;
    }
    return list;
  }

  /** The home replicas: the first N of the list, fewer while there are fewer members with a weight. */
  homes(partition: number, n: number): readonly number[] {
    let lists = this.homeLists.get(n);
    if (lists === undefined) {
      lists = new Array(this.layout.partitions);
      this.homeLists.set(n, lists);
    }
    return (lists[partition] ??= this.walkFor(partition, this.replicas(n)));
  }

  private walkFor(partition: number, n: number): number[] {
    const out = new Int32Array(n);
    this.walk.fill(this.layout.owners, partition, n, out, 0, Number.MAX_SAFE_INTEGER);
    return Array.from(out);
  }

  isHome(partition: number, n: number, member: number): boolean {
    return this.homes(partition, n).includes(member);
  }

  /** How many of N home replicas there can be in this layout. */
  replicas(n: number): number {
    return Math.min(n, this.shape.weighted);
  }

  /** Partitions whose home replicas include each member. */
  counts(n: number): number[] {
    const counts = this.layout.members.map(() => 0);
    for (let p = 0; p < this.layout.partitions; p++) for (const m of this.homes(p, n)) counts[m]++;
    return counts;
  }
}
