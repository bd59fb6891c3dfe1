/**
 * `gramme status`: how the whole cluster is, asked of every node and not just of one, since each has its own opinion of
 * the others.
 */
import { type Reply, ToolConnection } from './connection.ts';
import { type Reason, whyNot } from './reach.ts';
import {
  CONNECT_MS,
  type Fields,
  infoFields,
  listOf,
  pairs,
  passwordOf,
  percent,
  say,
  sayJson,
  splitAddress,
  type Target,
  table,
  withNode,
} from './target.ts';

/** How long a node has for each answer, in ms. */
const ANSWER_MS = 3000;

interface NodeStatus {
  id: string;
  address: string;
  up: boolean;
  /** Why it is not up, or ''. */
  reason: Reason | '';
  member: boolean;
  leaving: boolean;
  zone: string;
  weight: string;
  /** Partitions whose token it owns, that it is a home of, and that it coordinates now. */
  partitions: number;
  replicas: number;
  coordinates: number;
  /** Share of all copies, and how far that is off the fair share. */
  share: number;
  off: number;
  keys: number;
  memory: string;
  uptimeSeconds: number;
  opsPerSecond: number;
  version: string;
  layout: number;
  /** Hints that it holds, by owner. */
  hints: Record<string, number>;
  /** Partitions that it has to fetch. */
  fetching: number;
  treesReady: string;
  /** How it sees the others: alive, suspect, down or cut. */
  sees: Record<string, string>;
}

export interface ClusterStatus {
  ok: boolean;
  nodes: NodeStatus[];
  members: number;
  up: number;
  layout: number;
  partitions: number;
  n: number;
  imbalance: number;
  moving: number;
  hints: number;
}

interface Answers {
  info: Record<string, string>;
  ring: Fields;
  hints: Fields;
}

async function askNode(address: string, password: string | undefined): Promise<Answers> {
  const { host, port } = splitAddress(address);
  const node = await ToolConnection.open(host, port, password, CONNECT_MS);
  try {
    const [info, ring, hints] = await Promise.all([
      node.ask(ANSWER_MS, 'INFO', 'everything'),
      node.ask(ANSWER_MS, 'DYNAMO', 'RING'),
      node.ask(ANSWER_MS, 'DYNAMO', 'HINTS'),
    ]);
    return { info: infoFields(String(info)), ring: pairs(ring), hints: pairs(hints) };
  } finally {
    node.close();
  }
}

/** Keys of all databases. */
function keysOf(info: Record<string, string>): number {
  let n = 0;
  for (const [name, value] of Object.entries(info))
    if (/^db\d+$/.test(name)) n += Number(/keys=(\d+)/.exec(value)?.[1] ?? 0);
  return n;
}

const num = (v: Reply | undefined) => Number(v ?? 0);

function nodeStatus(about: Fields, answers: Answers | null, reason: Reason | ''): NodeStatus {
  const info = answers?.info ?? {};
  const hints: Record<string, number> = {};
  for (const [owner, n] of Object.entries(answers?.hints ?? {})) hints[owner] = num(n);
  const sees: Record<string, string> = {};
  for (const other of listOf(answers?.ring['nodes'] ?? null)) {
    if (other['state'] !== 'self') sees[String(other['id'])] = String(other['state']);
  }
  return {
    id: String(about['id']),
    address: String(about['address']),
    up: answers !== null,
    reason,
    member: num(about['member']) === 1,
    leaving: num(about['leaving']) === 1,
    zone: String(about['zone']),
    weight: String(about['weight']),
    partitions: num(about['partitions']),
    replicas: num(about['replicas']),
    coordinates: num(info['partitions_coordinated'] ?? (answers === null ? 0 : about['partitions'])),
    share: num(about['share']),
    off: num(about['off']),
    keys: keysOf(info),
    memory: info['used_memory_human'] ?? '',
    uptimeSeconds: num(info['uptime_in_seconds']),
    opsPerSecond: num(info['instantaneous_ops_per_sec']),
    version: info['gramme_version'] ?? '',
    layout: num(answers?.ring['layout']),
    hints,
    fetching: num(about['moving']),
    treesReady: info['trees_ready'] ?? '',
    sees,
  };
}

export async function clusterStatus(target: Target): Promise<ClusterStatus> {
  const ring = await withNode(target, async (node) => pairs(await node.call('DYNAMO', 'RING')));
  const password = passwordOf(target);
  const nodes = await Promise.all(
    listOf(ring['nodes']).map(async (about) => {
      // the node that was named is asked where it was found, whatever it says of itself
      const address = about['state'] === 'self' ? `${target.host}:${target.port}` : String(about['address']);
      try {
        const answers = await askNode(address, password);
        if (answers.info['node_id'] !== about['id']) return nodeStatus(about, null, 'replaced');
        return nodeStatus(about, answers, '');
      } catch (error) {
        return nodeStatus(about, null, await whyNot(splitAddress(address).host, error));
      }
    }),
  );
  const members = nodes.filter((n) => n.member);
  const moving = num(ring['moving']);
  const layout = num(ring['layout']);
  const wellSeen = members.every((n) => members.every((m) => m === n || n.sees[m.id] === 'alive'));
  const sameLayout = members.every((n) => n.layout === layout);
  return {
    ok: members.length > 0 && members.every((n) => n.up) && wellSeen && sameLayout && moving === 0,
    nodes,
    members: members.length,
    up: nodes.filter((n) => n.up).length,
    layout,
    partitions: num(ring['partitions']),
    n: num(ring['n']),
    imbalance: num(ring['imbalance']),
    moving,
    hints: nodes.reduce((sum, n) => sum + Object.values(n.hints).reduce((a, b) => a + b, 0), 0),
  };
}

/** What a node is called in tables. */
export const shortId = (id: string) => id.slice(0, 8);

function stateWords(n: NodeStatus): string {
  const words = [n.up ? 'up' : n.reason];
  if (!n.member) words.push('no member');
  if (n.leaving) words.push('leaving');
  return words.join(', ');
}

/** One letter for each node, in the table's order: how this one sees it. */
function letters(n: NodeStatus, nodes: readonly NodeStatus[]): string {
  if (!n.up) return '?'.repeat(nodes.length);
  return nodes.map((m) => (m === n ? '-' : (n.sees[m.id]?.charAt(0) ?? '?'))).join('');
}

/** @returns whether all is well */
export async function status(target: Target): Promise<boolean> {
  const s = await clusterStatus(target);
  if (target.json) {
    sayJson(s);
    return s.ok;
  }
  const rows = s.nodes.map((n) => [
    shortId(n.id),
    n.address,
    stateWords(n),
    n.zone === '' ? '-' : n.zone,
    percent(n.share),
    `${n.off >= 0 ? '+' : ''}${percent(n.off)}`,
    n.replicas,
    n.coordinates,
    n.keys,
    n.memory === '' ? '-' : n.memory,
    n.opsPerSecond,
    Object.values(n.hints).reduce((a, b) => a + b, 0),
    n.fetching,
    letters(n, s.nodes),
  ]);
  say(
    table(
      [
        ...['node', 'address', 'state', 'zone', 'share', 'off', 'replicas', 'coordinates', 'keys', 'memory'],
        ...['ops/s', 'hints', 'fetching', 'sees'],
      ],
      rows,
    ),
  );
  say('');
  say(`members        ${s.members} (${s.up} of ${s.nodes.length} known nodes up)`);
  say(`layout         ${s.layout}, ${s.partitions} partitions, N = ${s.n}, imbalance ${percent(s.imbalance)}`);
  say(`in transfer    ${s.moving} partitions`);
  say(`hints waiting  ${s.hints}`);
  for (const n of s.nodes) {
    for (const [owner, count] of Object.entries(n.hints)) {
      const to = s.nodes.find((m) => m.id === owner)?.address ?? shortId(owner);
      say(`               ${count} at ${n.address} for ${to}`);
    }
  }
  say(`verdict        ${s.ok ? 'all is well' : 'not all is well'}`);
  return s.ok;
}
