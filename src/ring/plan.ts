/**
 * A plan: what a layout would move, shown before it is committed (DESIGN section 5, paper 4.8.1).
 */
import { balance, IMBALANCE_LIMIT } from './balance.ts';
import { type Layout, LayoutError } from './layout.ts';
import { Preferences } from './preference.ts';

export interface PartitionMove {
  readonly partition: number;
  /** Ids of nodes that become, and that cease to be, home replicas. */
  readonly gains: readonly string[];
  readonly loses: readonly string[];
  /** Ids of the token's owner, before (null for none) and after. */
  readonly from: string | null;
  readonly to: string;
}

export interface NodePlan {
  readonly id: string;
  readonly change: 'joins' | 'leaves' | 'stays';
  readonly tokensBefore: number;
  readonly tokensAfter: number;
  readonly replicasBefore: number;
  readonly replicasAfter: number;
  /** Partitions to fetch, and to hand off. */
  readonly gains: number;
  readonly loses: number;
}

export interface Plan {
  readonly fromVersion: number;
  readonly toVersion: number;
  readonly partitions: number;
  readonly n: number;
  /** Only partitions where something changes. */
  readonly moves: readonly PartitionMove[];
  readonly nodes: readonly NodePlan[];
  readonly tokensMoved: number;
  /** Copies of a partition that some node has to fetch. */
  readonly replicasMoved: number;
  /** Largest distance of a node from its fair share, before and after. */
  readonly imbalanceBefore: number;
  readonly imbalanceAfter: number;
}

export function plan(old: Layout | null, next: Layout, n: number): Plan {
  if (old !== null && old.partitions !== next.partitions)
    throw new LayoutError('PARTITIONS', 'the number of partitions is fixed for the life of a cluster');
  const before = old && new Preferences(old);
  const after = new Preferences(next);
  const nodes = new Map<string, { -readonly [K in keyof NodePlan]: NodePlan[K] }>();
  const node = (id: string) => {
    let x = nodes.get(id);
    if (x === undefined) {
      const was = old?.members.some((m) => m.id === id) ?? false;
      const is = next.members.some((m) => m.id === id);
      const change = was && is ? 'stays' : is ? 'joins' : 'leaves';
      x = { id, change, tokensBefore: 0, tokensAfter: 0, replicasBefore: 0, replicasAfter: 0, gains: 0, loses: 0 };
      nodes.set(id, x);
    }
    return x;
  };
  for (const m of [...(old?.members ?? []), ...next.members]) node(m.id);
  const moves: PartitionMove[] = [];
  let tokensMoved = 0;
  let replicasMoved = 0;
  for (let p = 0; p < next.partitions; p++) {
    const was = old === null || before === null ? [] : before.homes(p, n).map((i) => old.members[i].id);
    const is = after.homes(p, n).map((i) => next.members[i].id);
    const from = old === null ? null : old.members[old.owners[p]].id;
    const to = next.members[next.owners[p]].id;
    const gains = is.filter((id) => !was.includes(id));
    const loses = was.filter((id) => !is.includes(id));
    for (const id of was) node(id).replicasBefore++;
    for (const id of is) node(id).replicasAfter++;
    for (const id of gains) node(id).gains++;
    for (const id of loses) node(id).loses++;
    if (from !== null) node(from).tokensBefore++;
    node(to).tokensAfter++;
    if (from !== to) tokensMoved++;
    replicasMoved += gains.length;
    if (from !== to || gains.length > 0 || loses.length > 0) moves.push({ partition: p, gains, loses, from, to });
  }
  return {
    fromVersion: old?.version ?? 0,
    toVersion: next.version,
    partitions: next.partitions,
    n,
    moves,
    nodes: [...nodes.values()].sort((a, b) => (a.id < b.id ? -1 : 1)),
    tokensMoved,
    replicasMoved,
    imbalanceBefore: old === null ? 0 : balance(old, n).imbalance,
    imbalanceAfter: balance(next, n).imbalance,
  };
}

const percent = (share: number) => `${(share * 100).toFixed(1)} %`;

/** The plan for people, as lines. */
export function formatPlan(p: Plan): string {
  const lines = [
    `layout ${p.fromVersion} -> ${p.toVersion}, ${p.partitions} partitions, N = ${p.n}`,
    `moves ${p.tokensMoved} tokens (${percent(p.tokensMoved / p.partitions)}) and ${p.replicasMoved} copies of a partition`,
    '',
    `${'node'.padEnd(12)} ${'change'.padEnd(6)} ${'tokens'.padStart(14)} ${'replicas'.padStart(14)}  fetches  hands off`,
  ];
  for (const x of p.nodes) {
    const tokens = `${x.tokensBefore} -> ${x.tokensAfter}`.padStart(14);
    const replicas = `${x.replicasBefore} -> ${x.replicasAfter}`.padStart(14);
    const counts = `${String(x.gains).padStart(7)} ${String(x.loses).padStart(10)}`;
    lines.push(`${x.id.slice(0, 12).padEnd(12)} ${x.change.padEnd(6)} ${tokens} ${replicas}  ${counts}`);
  }
  lines.push('', `imbalance ${percent(p.imbalanceBefore)} -> ${percent(p.imbalanceAfter)}`);
  if (p.imbalanceAfter > IMBALANCE_LIMIT)
    lines.push(`more than ${percent(IMBALANCE_LIMIT)}: the weights, hosts or zones allow no better`);
  return lines.join('\n');
}
