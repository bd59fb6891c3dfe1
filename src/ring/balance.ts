/**
 * Fair shares and imbalance (paper 6.2): a node more than 15 % off its share is out of balance.
 *
 * What a node carries is its replicas, not its tokens. Its fair share is in proportion to its weight as far as the
 * ring can give it that much: a host holds a partition at most once while there are other hosts, and a zone gets
 * between the rounded-down and the rounded-up N-th part of each list.
 */
import type { Layout, Member } from './layout.ts';
import { Preferences } from './preference.ts';

/** Above this share a node counts as out of balance (paper 6.2). */
export const IMBALANCE_LIMIT = 0.15;

/** Halvings of the interval in which the level of a fill lies: enough for every bit of a double. */
const FILL_STEPS = 80;

/** Splits `total` in proportion to `weights`, each share within its bounds; where they forbid it, as near as can be. */
function fill(total: number, weights: number[], low: number[], high: number[]): number[] {
  const sum = (level: number) => weights.reduce((s, w, i) => s + Math.min(high[i], Math.max(low[i], w * level)), 0);
  let lo = 0;
  let hi = 1;
  while (hi < 1e18 && sum(hi) < total) hi *= 2;
  for (let i = 0; i < FILL_STEPS; i++) {
    const mid = (lo + hi) / 2;
    if (sum(mid) < total) lo = mid;
    else hi = mid;
  }
  return weights.map((w, i) => Math.min(high[i], Math.max(low[i], w * hi)));
}

function groupBy(members: readonly Member[], indices: number[], key: (m: Member) => string): number[][] {
  const groups = new Map<string, number[]>();
  for (const i of indices) {
    const g = groups.get(key(members[i]));
    if (g) g.push(i);
    else groups.set(key(members[i]), [i]);
  }
  return [...groups.values()];
}

const weightOf = (members: readonly Member[], group: number[]) => group.reduce((s, i) => s + members[i].weight, 0);

/** The replicas that each member should hold, with N copies of Q partitions. */
export function fairShares(members: readonly Member[], partitions: number, n: number): number[] {
  const shares = members.map(() => 0);
  const weighted = members.map((_, i) => i).filter((i) => members[i].weight > 0);
  const copies = Math.min(n, weighted.length);
  const total = copies * partitions;
  const zones = groupBy(members, weighted, (m) => m.zone);
  const hosts = groupBy(members, weighted, (m) => m.host).length;
  // with fewer hosts than copies some hold several copies
  const perHost = Math.max(1, Math.ceil(copies / hosts));
  const room = zones.map((z) =>
    groupBy(members, z, (m) => m.host).reduce((s, h) => s + Math.min(h.length, perHost) * partitions, 0),
  );
  const low = room.map((r) => Math.min(r, Math.floor(copies / zones.length) * partitions));
  let high = room.map((r) => Math.min(r, Math.ceil(copies / zones.length) * partitions));
  if (high.reduce((a, b) => a + b, 0) < total) high = room;
  const zoneShares = fill(
    total,
    zones.map((z) => weightOf(members, z)),
    low,
    high,
  );
  zones.forEach((zone, z) => {
    const byHost = groupBy(members, zone, (m) => m.host);
    const hostHigh = byHost.map((h) => Math.min(h.length, perHost) * partitions);
    const hostShares = fill(
      zoneShares[z],
      byHost.map((h) => weightOf(members, h)),
      byHost.map(() => 0),
      hostHigh,
    );
    byHost.forEach((host, h) => {
      const each = fill(
        hostShares[h],
        host.map((i) => members[i].weight),
        host.map(() => 0),
        host.map(() => partitions),
      );
      host.forEach((i, k) => {
        shares[i] = each[k];
      });
    });
  });
  return shares;
}

export interface Share {
  readonly tokens: number;
  readonly replicas: number;
  readonly fair: number;
  /** How far off: 0.1 is 10 % too many, -0.1 10 % too few. */
  readonly off: number;
}

export interface Balance {
  /** One for each member, in the layout's order. */
  readonly shares: readonly Share[];
  /** The largest `|off|`. */
  readonly imbalance: number;
}

export function balance(layout: Layout, n: number): Balance {
  const replicas = new Preferences(layout).counts(n);
  const fair = fairShares(layout.members, layout.partitions, n);
  const tokens = layout.members.map(() => 0);
  for (const o of layout.owners) tokens[o]++;
  const shares = layout.members.map((_, i) => ({
    tokens: tokens[i],
    replicas: replicas[i],
    fair: fair[i],
    off: fair[i] > 0 ? (replicas[i] - fair[i]) / fair[i] : replicas[i] > 0 ? 1 : 0,
  }));
  return { shares, imbalance: shares.reduce((m, s) => Math.max(m, Math.abs(s.off)), 0) };
}
