/**
 * Claim: which member owns which token, given who owned them before (paper 4.2, 6.2; Riak calls it the same).
 *
 * Three steps, all of them deterministic, so that every node that plans from the same layout plans the same:
 *
 * 1. Quotas: tokens in proportion to weight, whole numbers by largest remainder; ties go to whoever holds more now.
 * 2. Moves: only tokens of members that left or that hold more than their quota change hands. Each taker wants its
 *    tokens evenly around the ring and not within N of another of the same host or zone, since consecutive tokens of
 *    N distinct hosts make preference lists of exactly these N, and replicas as balanced as tokens are.
 * 3. Spreading: what that leaves uneven is improved by exchanging tokens, weighed by the replicas that the preference
 *    lists really give and by how far they have to walk. Exchanges that move nothing more come first; others only
 *    while some node is still out of balance.
 */
import { fairShares } from './balance.ts';
import { canonicalMembers, checkPartitions, DEFAULT_PARTITIONS, type Layout, type Member } from './layout.ts';
import { type RingShape, RingWalk, ringShape } from './preference.ts';

export interface ClaimOptions {
  /** N, for which the layout is balanced. */
  n?: number;
  /** Q of a first layout; afterwards it is the old layout's. */
  partitions?: number;
}

/** N unless told otherwise (paper 6: the usual (3,2,2)). */
const DEFAULT_N = 3;
/** Walks are followed over at most this many tokens while layouts are weighed. */
const MAX_REACH = 128;
/** Partitions walked back over, beyond the last one that reaches a changed token. */
const BACK_SLACK = 4;
/** Tokens that spreading looks at, at most: for each partition, and in all (some 40 ms a million). */
const SPREAD_STEPS_PER_PARTITION = 8000;
const MAX_SPREAD_STEPS = 8_000_000;
const MAX_PASSES = 8;
/** Partners tried for one token. */
const MAX_PARTNERS = 96;
/** Spreading moves further tokens only while some node is off its share by more than this, ... */
const SPREAD_ABOVE = 0.1;
/** ... and an exchange that moves tokens must improve the cost by this much for each. */
const MOVE_COST = 0.02;
/** What a token's walk beyond N costs against a squared replica off the fair share. */
const WALK_COST = 0.05;

/** Whole tokens for each member: by weight, largest remainder first, ties to who has more already, then by id. */
function quotas(members: readonly Member[], partitions: number, held: readonly number[]): number[] {
  const total = members.reduce((s, m) => s + m.weight, 0);
  const exact = members.map((m) => (partitions * m.weight) / total);
  const quota = exact.map(Math.floor);
  const order = members
    .map((_, i) => i)
    .filter((i) => members[i].weight > 0)
    .sort((a, b) => exact[b] - quota[b] - (exact[a] - quota[a]) || held[b] - held[a] || a - b);
  let left = partitions - quota.reduce((s, x) => s + x, 0);
  for (let k = 0; left > 0; k = (k + 1) % order.length) {
    quota[order[k]]++;
    left--;
  }
  return quota;
}

/** A ring being changed, with the replicas that it gives kept up to date. */
class Draft {
  readonly owners: Int32Array;
  readonly load: Float64Array;
  private readonly shape: RingShape;
  private readonly fair: readonly number[];
  private readonly n: number;
  private readonly walk: RingWalk;
  private readonly reach: number;
  private readonly homes: Int32Array;
  private readonly looked: Int32Array;
  private readonly scratch: Int32Array;
  private maxLooked = 1;
  cost = 0;
  /** Tokens looked at so far. */
  steps = 0;

  constructor(owners: Int32Array, shape: RingShape, fair: readonly number[], n: number) {
    this.owners = owners;
    this.shape = shape;
    this.fair = fair;
    this.n = n;
    this.walk = new RingWalk(shape);
    this.reach = MAX_REACH;
    this.load = new Float64Array(shape.members);
    this.homes = new Int32Array(owners.length * n).fill(-1);
    this.looked = new Int32Array(owners.length);
    this.scratch = new Int32Array(n);
    this.recount();
  }

  /** Weighs everything afresh. */
  recount(): void {
    this.homes.fill(-1);
    this.looked.fill(0);
    this.load.fill(0);
    this.maxLooked = 1;
    this.cost = 0;
    for (const f of this.fair) this.cost += f;
    for (let p = 0; p < this.owners.length; p++) this.rewalk(p);
  }

  private shift(member: number, by: number): void {
    const fair = this.fair[member];
    const before = this.load[member] - fair;
    this.load[member] += by;
    const after = before + by;
    this.cost += (after * after - before * before) / (fair > 0 ? fair : 1);
  }

  private excess(looked: number): number {
    return looked > this.n ? (looked - this.n) * WALK_COST : 0;
  }

  private rewalk(p: number): void {
    const { n, homes, scratch } = this;
    const looked = this.walk.fill(this.owners, p, n, scratch, 0, this.reach);
    this.steps += looked + n;
    for (let k = 0; k < n; k++) {
      const was = homes[p * n + k];
      const is = scratch[k];
      if (was === is) continue;
      if (was >= 0) this.shift(was, -1);
      if (is >= 0) this.shift(is, 1);
      homes[p * n + k] = is;
    }
    this.cost += this.excess(looked) - this.excess(this.looked[p]);
    this.looked[p] = looked;
    if (looked > this.maxLooked) this.maxLooked = looked;
  }

  give(token: number, owner: number): void {
    this.owners[token] = owner;
    const q = this.owners.length;
    let misses = 0;
    for (let back = 0; back < this.maxLooked && back < q && misses < BACK_SLACK; back++) {
      const p = (token - back + q) % q;
      if (this.looked[p] > back) {
        misses = 0;
        this.rewalk(p);
      } else misses++;
    }
  }

  exchange(s: number, t: number): void {
    const owner = this.owners[s];
    this.give(s, this.owners[t]);
    this.give(t, owner);
  }

  /** True when a walk over this token is longer than it need be, or its owner is off its share. */
  isTroubled(token: number): boolean {
    const q = this.owners.length;
    for (let back = 0; back < this.n && back < q; back++) {
      if (this.looked[(token - back + q) % q] > this.n) return true;
    }
    const m = this.owners[token];
    return Math.abs(this.load[m] - this.fair[m]) > Math.max(1, this.fair[m] * (SPREAD_ABOVE / 2));
  }

  /** True while some node is so far off its share that moving further tokens is worth it: by more than a token's worth. */
  isUneven(): boolean {
    for (let m = 0; m < this.shape.members; m++) {
      if (Math.abs(this.load[m] - this.fair[m]) > Math.max(this.n, this.fair[m] * SPREAD_ABOVE)) return true;
    }
    return false;
  }
}

/** How badly `member` would sit at `token`: neighbours within N of its own host, and of its zone. */
function crowding(owners: Int32Array, shape: RingShape, n: number, token: number, member: number): number {
  const q = owners.length;
  const hostSpan = Math.min(n, shape.hosts);
  const zoneSpan = Math.min(n, shape.zones);
  let sum = 0;
  for (let k = 1; k < hostSpan && k < q; k++) {
    for (const other of [owners[(token + k) % q], owners[(token - k + q) % q]]) {
      if (other < 0) continue;
      if (shape.hostOf[other] === shape.hostOf[member]) sum += 2;
      else if (k < zoneSpan && shape.zoneOf[other] === shape.zoneOf[member]) sum += 1;
    }
  }
  return sum;
}

/** A first ring: always the member that is most behind its weight, of those that do not crowd. */
function lay(owners: Int32Array, shape: RingShape, quota: readonly number[], n: number): void {
  const q = owners.length;
  const left = quota.slice();
  const credit = quota.map(() => 0);
  for (let token = 0; token < q; token++) {
    let pick = -1;
    let pickCrowd = 0;
    for (let m = 0; m < quota.length; m++) {
      credit[m] += quota[m];
      if (left[m] === 0) continue;
      const crowd = crowding(owners, shape, n, token, m);
      if (pick < 0 || crowd < pickCrowd || (crowd === pickCrowd && credit[m] > credit[pick])) {
        pick = m;
        pickCrowd = crowd;
      }
    }
    owners[token] = pick;
    credit[pick] -= q;
    left[pick]--;
  }
}

/** Step 2: hands free and surplus tokens to those below their quota. */
function move(owners: Int32Array, shape: RingShape, quota: readonly number[], n: number): void {
  const q = owners.length;
  const held = quota.map(() => 0);
  for (const o of owners) if (o >= 0) held[o]++;
  const takes: { member: number; ideal: number; window: number }[] = [];
  let takers = 0;
  for (let m = 0; m < quota.length; m++) {
    const lacking = quota[m] - held[m];
    if (lacking <= 0) continue;
    for (let k = 0; k < lacking; k++) {
      // each taker starts a little further on, so that those who join together do not want the same tokens
      const ideal = Math.floor(((k + (takers % n) / n) * q) / lacking) % q;
      takes.push({ member: m, ideal, window: Math.max(2 * n, Math.ceil(q / lacking)) });
    }
    takers++;
  }
  takes.sort((a, b) => a.ideal - b.ideal || a.member - b.member);
  for (const { member, ideal, window } of takes) {
    let pick = -1;
    let pickScore = 0;
    for (let step = 0; step < q && (step < window || pick < 0); step++) {
      const token = (ideal + (step % 2 === 0 ? step >> 1 : q - ((step + 1) >> 1))) % q;
      const owner = owners[token];
      if (owner === member) continue;
      let score = -crowding(owners, shape, n, token, member) - step / window;
      if (owner >= 0) {
        const surplus = held[owner] - quota[owner];
        if (surplus <= 0) continue;
        score += crowding(owners, shape, n, token, owner) + (2 * surplus) / held[owner];
      } else score += 2;
      if (pick < 0 || score > pickScore) {
        pick = token;
        pickScore = score;
      }
    }
    if (owners[pick] >= 0) held[owners[pick]]--;
    owners[pick] = member;
    held[member]++;
  }
}

/** Step 3: exchanges tokens while that improves what the preference lists give. */
function spread(draft: Draft, before: Int32Array): void {
  const { owners } = draft;
  const q = owners.length;
  const maxSteps = Math.min(MAX_SPREAD_STEPS, q * SPREAD_STEPS_PER_PARTITION);
  for (let pass = 0; pass < MAX_PASSES && draft.steps < maxSteps; pass++) {
    let improved = false;
    const mayMove = pass > 0 && draft.isUneven();
    for (let s = 0; s < q && draft.steps < maxSteps; s++) {
      if (!draft.isTroubled(s)) continue;
      let partners = 0;
      // a stride that is odd, so that it visits every token, and different for each
      const stride = ((s * 2 + 1) % q) | 1;
      for (let k = 1; k < q && partners < MAX_PARTNERS; k++) {
        const t = (s + k * stride) % q;
        const a = owners[s];
        const b = owners[t];
        if (a === b) continue;
        const now = Number(before[s] !== a) + Number(before[t] !== b);
        const then = Number(before[s] !== b) + Number(before[t] !== a);
        const further = then - now;
        if (further > 0 && !(mayMove && draft.isUneven())) continue;
        partners++;
        const cost = draft.cost;
        draft.exchange(s, t);
        if (draft.cost < cost - 1e-9 - (further > 0 ? further * MOVE_COST : 0)) {
          improved = true;
          break;
        }
        draft.exchange(s, t);
      }
    }
    draft.recount();
    if (!improved && (mayMove || !draft.isUneven())) break;
  }
}

/**
 * The layout that follows `old` when `members` are the members. With the same members and weights it is the same but
 * for its version. Throws `LayoutError` when the members cannot make a layout.
 */
export function claim(old: Layout | null, members: readonly Member[], options: ClaimOptions = {}): Layout {
  const n = options.n ?? DEFAULT_N;
  const partitions = old?.partitions ?? options.partitions ?? DEFAULT_PARTITIONS;
  checkPartitions(partitions);
  const sorted = canonicalMembers(members);
  const indexOf = new Map(sorted.map((m, i) => [m.id, i]));
  const before = new Int32Array(partitions).fill(-1);
  const held = sorted.map(() => 0);
  old?.owners.forEach((owner, p) => {
    const i = indexOf.get(old.members[owner].id) ?? -1;
    before[p] = i;
    if (i >= 0) held[i]++;
  });
  const quota = quotas(sorted, partitions, held);
  const owners = before.slice();
  const shape = ringShape(
    sorted,
    quota.map((x) => x > 0),
  );
  if (before.every((o) => o < 0)) lay(owners, shape, quota, n);
  else move(owners, shape, quota, n);
  if (shape.weighted > 1) {
    const fair = fairShares(sorted, partitions, n);
    spread(new Draft(owners, shape, fair, Math.min(n, shape.weighted)), before);
  }
  return { version: (old?.version ?? 0) + 1, partitions, members: sorted, owners: Array.from(owners) };
}
