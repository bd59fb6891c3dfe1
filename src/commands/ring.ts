/**
 * The part of `DYNAMO` that is about the cluster: who holds what, what the ring is and would become, and what operators
 * may do to it. `gramme status|explain|plan|commit|leave|repair` are these commands, printed.
 *
 * Nodes are named by their ids or by any beginning of one that only one of them has.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { type Holding, holdingOf } from '../cluster/operator.ts';
import type { Peer } from '../cluster/peers.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import { formatPlan } from '../ring/plan.ts';
import { positionOf } from '../ring/position.ts';
import type { Server } from '../server/server.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import { TYPE_NAMES } from '../types/kinds.ts';
import { isAllowed } from './admin.ts';
import { partitionArgument } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { clusterOf, ringFacts, stateOf } from './ring-facts.ts';

const ALONE = new ReplyError(
  'ERR this node is alone: start it with cluster-port, cluster-seeds or cluster-auto-join for it to have peers',
);
const LINKS_GUARDED = new ReplyError(
  'ERR DYNAMO LINKS is for tests: it needs enable-debug-command yes (or local) in the configuration file',
);
const NOTHING_PLANNED = new ReplyError('ERR nothing is planned: DYNAMO PLAN shows what would change');
/** Nodes of the preference list that EXPLAIN shows and asks. */
const EXPLAINED_NODES = 16;

type Value = string | number | null | readonly Value[] | { readonly [name: string]: Value };

/** Writes a value: whole numbers as integers, objects as maps, in the order of their fields. */
function replyValue(out: ReplyWriter, v: Value): void {
  if (v === null) out.nil();
  else if (typeof v === 'string') out.bulk(v);
  else if (typeof v === 'number') {
    if (Number.isSafeInteger(v)) out.int(v);
    else out.bulk(String(v));
  } else if (Array.isArray(v)) {
    out.array(v.length);
    for (const x of v) replyValue(out, x);
  } else {
    const fields = Object.entries(v);
    out.map(fields.length);
    for (const [name, value] of fields) {
      out.bulk(name);
      replyValue(out, value);
    }
  }
}

function peersOf(c: CommandContext): Cluster {
  if (c.server.router === null) throw ALONE;
  return c.server.router.cluster;
}

function named(c: CommandContext, cluster: Cluster, i: number): Peer {
  const prefix = c.argv.lower(i);
  if (prefix !== '' && cluster.self.startsWith(prefix)) throw new ReplyError('ERR that is this very node');
  const peer = cluster.operator.find(prefix);
  if (peer === null) throw new ReplyError(`ERR no node, or more than one, has an id that begins with ${prefix}`);
  return peer;
}

// ---------------------------------------------------------------------- EXPLAIN

interface Holder {
  node: string;
  /** Null when it did not answer. */
  holding: Holding | null;
}

function explain(c: CommandContext): void {
  const { db, server } = c;
  const key = c.argv.str(2);
  const place: KeyPlace = { db, key, slot: c.slot(2) };
  const cluster = clusterOf(server);
  c.defer(
    explained(server, cluster, place).then((value) => (out: ReplyWriter) => {
      replyValue(out, value);
    }),
  );
}

async function holders(server: Server, cluster: Cluster | null, place: KeyPlace): Promise<Holder[]> {
  if (cluster === null) return [{ node: server.nodeId, holding: await holdingOf(server.store, place, []) }];
  const list = cluster.ring.list(server.keys.partitionOf(place.slot)).slice(0, EXPLAINED_NODES);
  const ids = list.includes(cluster.self) ? list : [...list, cluster.self];
  return Promise.all(
    ids.map(async (node) => {
      if (node === cluster.self) return { node, holding: await cluster.operator.holding(place) };
      const peer = cluster.peers.get(node);
      return { node, holding: await cluster.operator.ask(peer, place).catch(() => null) };
    }),
  );
}

async function explained(server: Server, cluster: Cluster | null, place: KeyPlace): Promise<Value> {
  const partition = server.keys.partitionOf(place.slot);
  const found = await holders(server, cluster, place);
  const homes = cluster?.ring.homes(partition) ?? [server.nodeId];
  const route = cluster?.routes.of(partition);
  const coordinator =
    route === undefined ? server.nodeId : route.nobody ? '' : (route.coordinator?.id ?? server.nodeId);
  const by = (id: string) => found.find((h) => h.node === id)?.holding ?? null;
  const home = homes.map(by).filter((h) => h !== null);
  const shown = by(coordinator) ?? home.find((h) => h.contextHash !== 0) ?? by(server.nodeId);
  const holding = found.filter(({ node, holding }) => homes.includes(node) || (holding?.contextHash ?? 0) !== 0);
  const hints = found.flatMap(({ node, holding }) =>
    (holding?.hintedFor ?? []).map((owner) => ({ 'held-by': node, owner })),
  );
  const role = (id: string) => {
    if (cluster?.ring.gaining(partition).includes(id)) return 'becomes home';
    return homes.includes(id) ? 'home' : 'stands in';
  };
  return {
    slot: place.slot,
    partition,
    position: positionOf(place.slot, place.key),
    'preference-list': cluster === null ? [server.nodeId] : cluster.ring.list(partition).slice(0, EXPLAINED_NODES),
    'home-replicas': homes,
    coordinator,
    moving: cluster?.ring.isMoving(partition) ? 1 : 0,
    type: TYPE_NAMES[shown?.type ?? 0],
    siblings: shown?.siblings ?? 0,
    entries: shown?.entries ?? 0,
    'deadline-ms': shown?.deadline ?? 0,
    bytes: shown?.bytes ?? 0,
    agree: home.every((h) => h.contextHash === home[0].contextHash && h.checksum === home[0].checksum) ? 1 : 0,
    context: holding.map(({ node, holding: h }) => ({
      node,
      role: role(node),
      state: cluster === null ? 'self' : stateOf(cluster, node),
      context: h === null ? null : h.context,
      hash: h === null ? '' : h.contextHash.toString(16),
      checksum: h === null ? '' : h.checksum.toString(16),
      siblings: h?.siblings ?? 0,
    })),
    hints: hints.length,
    hinted: hints,
  };
}

// ---------------------------------------------------------------------- RING, HINTS, REPAIR

function ring(c: CommandContext): void {
  const { nodes, ...facts } = ringFacts(c.server);
  replyValue(c.out, {
    ...facts,
    imbalance: facts.imbalance.toFixed(4),
    nodes: nodes.map((x) => ({
      ...x,
      weight: String(x.weight),
      share: x.share.toFixed(4),
      off: x.off.toFixed(4),
      member: x.member ? 1 : 0,
      leaving: x.leaving ? 1 : 0,
    })),
  });
}

function hints(c: CommandContext): void {
  const { out, server } = c;
  const byOwner = server.router?.cluster.hints.byOwner() ?? new Map<string, number>();
  out.map(byOwner.size);
  for (const [owner, n] of byOwner) {
    out.bulk(owner);
    out.int(n);
  }
}

function repair(c: CommandContext): void {
  const { argv, server } = c;
  if (argv.argc > 3) throw SYNTAX_ERROR;
  const partition = argv.argc === 3 ? partitionArgument(c, 2) : null;
  const cluster = clusterOf(server);
  if (cluster === null) {
    c.out.int(0);
    return;
  }
  c.defer(
    cluster.repair.repairAll(partition).then(
      (differences) => (out: ReplyWriter) => out.int(differences),
      (error) => {
        throw new ReplyError(`ERR repair was interrupted: ${error instanceof Error ? error.message : String(error)}`);
      },
    ),
  );
}

// ---------------------------------------------------------------------- LINKS

function links(c: CommandContext): void {
  const { argv, server } = c;
  if (!isAllowed(c, 'enable-debug-command')) throw LINKS_GUARDED;
  const cluster = peersOf(c);
  const cut = argv.is(2, 'CUT');
  if (!cut && !argv.is(2, 'HEAL')) throw SYNTAX_ERROR;
  const { id } = named(c, cluster, 3);
  if (cut) cluster.bus.cut(id);
  else cluster.bus.heal(id);
  server.log.warn({ peer: id.slice(0, 8) }, cut ? 'the link to a peer is cut on purpose' : 'the link is healed');
  c.out.ok();
}

// ---------------------------------------------------------------------- PLAN, COMMIT, LEAVE

/** Nodes that the plan at hand removes, by cluster: to be expelled when it is committed. */
const removals = new WeakMap<Cluster, string[]>();

function plan(c: CommandContext): void {
  const { argv, out } = c;
  const cluster = peersOf(c);
  const without: string[] = [];
  if (argv.argc > 2 && (!argv.is(2, 'REMOVE') || argv.argc === 3)) throw SYNTAX_ERROR;
  for (let i = 3; i < argv.argc; i++) {
    const { id } = named(c, cluster, i);
    if (!without.includes(id)) without.push(id);
  }
  const planned = cluster.membership.plan(without);
  removals.set(cluster, without);
  if (planned === null) {
    out.nil();
    return;
  }
  const p = planned.plan;
  replyValue(out, {
    from: p.fromVersion,
    to: p.toVersion,
    partitions: p.partitions,
    n: p.n,
    'partitions-moved': p.moves.length,
    'tokens-moved': p.tokensMoved,
    'replicas-moved': p.replicasMoved,
    'imbalance-before': p.imbalanceBefore.toFixed(4),
    'imbalance-after': p.imbalanceAfter.toFixed(4),
    nodes: p.nodes.map((x) => ({
      id: x.id,
      change: x.change,
      'tokens-before': x.tokensBefore,
      'tokens-after': x.tokensAfter,
      'replicas-before': x.replicasBefore,
      'replicas-after': x.replicasAfter,
      gains: x.gains,
      loses: x.loses,
    })),
    text: formatPlan(p),
  });
}

function commit(c: CommandContext): void {
  const cluster = peersOf(c);
  const version = cluster.membership.commit(removals.get(cluster) ?? []);
  if (version === null) throw NOTHING_PLANNED;
  removals.delete(cluster);
  c.out.int(version);
}

function leave(c: CommandContext): void {
  const { argv } = c;
  if (argv.argc > 3) throw SYNTAX_ERROR;
  const cluster = peersOf(c);
  if (argv.argc === 2 || argv.lower(2) === cluster.self) {
    cluster.membership.leave();
    c.out.ok();
    return;
  }
  const peer = named(c, cluster, 2);
  c.defer(
    cluster.operator.askToLeave(peer).then(
      () => (out: ReplyWriter) => out.ok(),
      () => {
        throw new ReplyError('ERR the node can not be reached: remove it with DYNAMO PLAN REMOVE and DYNAMO COMMIT');
      },
    ),
  );
}

// ---------------------------------------------------------------------- the table's part

type Entry = Omit<CommandSpec, 'group' | 'categories' | 'since' | 'complexity' | 'syntax'> & Partial<CommandSpec>;

function sub(entry: Entry): CommandSpec {
  return { group: 'dynamo', categories: [], since: '0.1.0', complexity: 'O(1)', syntax: '', ...entry };
}

const CHANGES = ['admin', 'noscript'] as const;
const PER_NODE = 'O(N) where N is the number of nodes.';

/** Subcommands of DYNAMO. */
export const ringSubcommands: CommandSpec[] = [
  sub({
    name: 'commit',
    arity: 2,
    flags: CHANGES,
    complexity: PER_NODE,
    summary: 'Goes over to the layout that DYNAMO PLAN has shown last; gives its version.',
    handler: commit,
  }),
  sub({
    name: 'explain',
    arity: 3,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: [{ flags: ['RO', 'access'], begin: 2, range: { last: 0, step: 1 } }],
    complexity: PER_NODE,
    syntax: 'key',
    summary: 'Tells where a key lives, who coordinates it, and which node holds what of it.',
    handler: explain,
  }),
  sub({
    name: 'hints',
    arity: 2,
    flags: ['readonly'],
    complexity: 'O(N) where N is the number of owners.',
    summary: 'Counts the hints that this node holds, by the owner that they are for.',
    handler: hints,
  }),
  sub({
    name: 'leave',
    arity: -2,
    flags: CHANGES,
    syntax: '[node-id]',
    summary: 'Has this node, or another one, wish to leave: the next plan is made without it.',
    handler: leave,
  }),
  sub({
    name: 'links',
    arity: 4,
    flags: CHANGES,
    syntax: '<CUT | HEAL> node-id',
    summary: "Drops this node's traffic to and from another one, or ends that; needs enable-debug-command.",
    handler: links,
  }),
  sub({
    name: 'plan',
    arity: -2,
    flags: CHANGES,
    complexity: 'O(N*Q) where N is the number of nodes and Q that of partitions.',
    syntax: '[REMOVE node-id [node-id ...]]',
    summary: 'Works out the layout with everybody who is known and stays, and tells what it would move.',
    handler: plan,
  }),
  sub({
    name: 'repair',
    arity: -2,
    flags: CHANGES,
    complexity: 'O(N) where N is the number of keys that differ.',
    syntax: '[partition]',
    summary: 'Compares with the other replicas now, and repairs; gives the number of differences.',
    handler: repair,
  }),
  sub({
    name: 'ring',
    arity: 2,
    flags: ['readonly'],
    complexity: 'O(N*Q) where N is the number of nodes and Q that of partitions.',
    summary: 'Tells who belongs to the cluster, what each node owns, and how this node sees it.',
    handler: ring,
  }),
];
