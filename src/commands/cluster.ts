/**
 * `CLUSTER`: the ring, in the words of Redis Cluster, so that cluster clients find each key's coordinator by themselves.
 *
 * Redis has masters and replicas; here every node coordinates some partitions and is a replica for others. So a range of
 * slots names as its master whoever coordinates it at this moment, as this node sees it, and as replicas the other home
 * replicas that are well; in `NODES` every node is a master of the slots that it coordinates. The view changes with this
 * node's opinion of its peers, at once. A client that follows an old view is served all the same: any node forwards.
 *
 * What Redis has for assigning slots and promoting replicas by hand is answered with what does that here.
 */
import { ReplyError } from '../base/errors.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import { firstPositionOfSlot } from '../ring/position.ts';
import { SLOTS, slotOf } from '../ring/slots.ts';
import type { Server } from '../server/server.ts';
import type { Database } from '../store/keyspace.ts';
import { integer } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { containerAlone, helpCommand } from './help.ts';

const DISABLED = new ReplyError('ERR This instance has cluster support disabled');
const BUS_PORT_OFFSET = 10_000;
const MAX_PORT = 65_535;
/** Keys of one slot that are looked at in one step. */
const SLOT_STEP_KEYS = 1000;

// ---------------------------------------------------------------------- who serves what

/** Neighbouring slots that the same nodes serve. */
export interface SlotRange {
  start: number;
  end: number;
  /** Whoever coordinates them now, then the other home replicas that are well. */
  nodes: readonly string[];
}

/** Is this node to be taken for one of a Redis Cluster? It is as soon as it may have peers. */
export function clusterEnabled(server: Server): boolean {
  return server.router !== null || server.config.bool('cluster-enabled');
}

const views = new WeakMap<Cluster, { epoch: number; ranges: SlotRange[] }>();

/** All slots that somebody serves, merged as far as the same nodes do. */
export function slotRanges(cluster: Cluster): SlotRange[] {
  const epoch = cluster.peers.epoch + cluster.ring.epoch;
  const known = views.get(cluster);
  if (known !== undefined && known.epoch === epoch) return known.ranges;
  const { ring, peers, self } = cluster;
  const q = ring.partitions;
  const ranges: SlotRange[] = [];
  let name = '';
  for (let p = 0; p < q; p++) {
    const route = cluster.routes.of(p);
    if (route.nobody) {
      name = '';
      continue;
    }
    const coordinator = route.coordinator?.id ?? self;
    // in one order, so that partitions of the same nodes are one range
    const others = ring.homes(p).filter((id) => id !== coordinator && peers.isHealthy(id));
    const nodes = [coordinator, ...others.sort()];
    const end = ((p + 1) * SLOTS) / q - 1;
    if (name === nodes.join()) ranges[ranges.length - 1].end = end;
    else ranges.push({ start: (p * SLOTS) / q, end, nodes });
    name = nodes.join();
  }
  views.set(cluster, { epoch, ranges });
  return ranges;
}

interface Place {
  host: string;
  port: number;
  busPort: number;
}

function splitAddress(address: string): [host: string, port: number] {
  const colon = address.lastIndexOf(':');
  return [address.slice(0, colon).replace(/^\[|\]$/g, ''), Number(address.slice(colon + 1)) || 0];
}

/** Where clients reach a node: what it says itself, or what the layout has. */
export function placeOf(cluster: Cluster, id: string): Place {
  const facts = cluster.membership.gossip.entry(id)?.facts ?? cluster.ring.layout?.members.find((m) => m.id === id);
  const [host, port] = splitAddress(facts?.client ?? ':0');
  return { host, port, busPort: splitAddress(facts?.bus ?? ':0')[1] };
}

/** Members, and who else is known. */
export function knownNodes(cluster: Cluster): string[] {
  return [...new Set([...cluster.ring.members, ...cluster.membership.known().map((k) => k.id)])].sort();
}

function enabled(c: CommandContext): Cluster {
  const { router } = c.server;
  if (router === null) throw DISABLED;
  return router.cluster;
}

// ---------------------------------------------------------------------- SLOTS, SHARDS, NODES

function slots(c: CommandContext): void {
  const cluster = enabled(c);
  const { out } = c;
  const ranges = slotRanges(cluster);
  const places = new Map(knownNodes(cluster).map((id) => [id, placeOf(cluster, id)]));
  out.array(ranges.length);
  for (const { start, end, nodes } of ranges) {
    out.array(2 + nodes.length);
    out.int(start);
    out.int(end);
    for (const id of nodes) {
      const { host, port } = places.get(id) ?? placeOf(cluster, id);
      out.array(4);
      out.bulk(host);
      out.int(port);
      out.bulk(id);
      out.map(0);
    }
  }
}

/** A shard is all slots that the same nodes serve in the same parts; a node that coordinates nothing is one by itself. */
function shards(c: CommandContext): void {
  const cluster = enabled(c);
  const { out } = c;
  const byNodes = new Map<string, { nodes: readonly string[]; pairs: number[] }>();
  for (const { start, end, nodes } of slotRanges(cluster)) {
    const shard = byNodes.get(nodes.join());
    if (shard === undefined) byNodes.set(nodes.join(), { nodes, pairs: [start, end] });
    else shard.pairs.push(start, end);
  }
  const list = [...byNodes.values()];
  const masters = new Set(list.map((s) => s.nodes[0]));
  for (const id of knownNodes(cluster)) if (!masters.has(id)) list.push({ nodes: [id], pairs: [] });
  out.array(list.length);
  for (const { nodes, pairs } of list) {
    out.map(2);
    out.bulk('slots');
    out.array(pairs.length);
    for (const slot of pairs) out.int(slot);
    out.bulk('nodes');
    out.array(nodes.length);
    nodes.forEach((id, i) => {
      const { host, port } = placeOf(cluster, id);
      out.map(7);
      for (const [name, value] of [
        ['id', id],
        ['port', port],
        ['ip', host],
        ['endpoint', host],
        ['role', i === 0 ? 'master' : 'replica'],
        ['replication-offset', 0],
        ['health', cluster.peers.isHealthy(id) ? 'online' : 'fail'],
      ] as const) {
        out.bulk(name);
        if (typeof value === 'number') out.int(value);
        else out.bulk(value);
      }
    });
  }
}

/** A node's line of CLUSTER NODES. @param master whose replica it is shown as; null for a master with its slots */
function nodeLine(server: Server, cluster: Cluster, id: string, master: string | null): string {
  const { host, port, busPort } = placeOf(cluster, id);
  const flags: string[] = id === cluster.self ? ['myself'] : [];
  flags.push(master === null ? 'master' : 'slave');
  const peer = cluster.peers.byId.get(id);
  const linked = id === cluster.self || (peer?.link ?? null) !== null;
  if (id !== cluster.self && !peer?.isWell) flags.push(peer?.state === 'suspect' && linked ? 'fail?' : 'fail');
  const ranges = master === null ? slotRanges(cluster).filter((r) => r.nodes[0] === id) : [];
  const pairs: [number, number][] = [];
  for (const { start, end } of ranges) {
    const last = pairs.at(-1);
    if (last !== undefined && last[1] === start - 1) last[1] = end;
    else pairs.push([start, end]);
  }
  const words = [
    id,
    `${host}:${port}@${busPort}`,
    flags.join(),
    master ?? '-',
    0,
    id === cluster.self || !linked ? 0 : Math.floor(server.clock.now()),
    cluster.ring.name.version,
    linked ? 'connected' : 'disconnected',
    ...pairs.map(([start, end]) => (start === end ? start : `${start}-${end}`)),
  ];
  return words.join(' ');
}

function nodes(c: CommandContext): void {
  const cluster = enabled(c);
  c.out.verbatim(
    knownNodes(cluster)
      .map((id) => `${nodeLine(c.server, cluster, id, null)}\n`)
      .join(''),
  );
}

/** A node that is named by its whole id. */
function named(c: CommandContext, cluster: Cluster, i: number): string {
  const id = c.argv.str(i);
  if (!knownNodes(cluster).includes(id)) throw new ReplyError(`ERR Unknown node ${id}`);
  return id;
}

function replicas(c: CommandContext): void {
  const cluster = enabled(c);
  const master = named(c, cluster, 2);
  const found = new Set<string>();
  for (const r of slotRanges(cluster)) if (r.nodes[0] === master) for (const id of r.nodes.slice(1)) found.add(id);
  c.out.array(found.size);
  for (const id of [...found].sort()) c.out.bulk(nodeLine(c.server, cluster, id, master));
}

// ---------------------------------------------------------------------- INFO and what else there is to know

/** Slots that somebody serves. */
function slotsServed(cluster: Cluster): number {
  return slotRanges(cluster).reduce((n, r) => n + r.end - r.start + 1, 0);
}

/** Nodes that own partitions. */
export function clusterSize(cluster: Cluster): number {
  return new Set(cluster.ring.layout?.owners).size;
}

function info(c: CommandContext): void {
  const cluster = enabled(c);
  const { layout, name } = cluster.ring;
  const assigned = layout === null ? 0 : SLOTS;
  const served = slotsServed(cluster);
  const { stats } = cluster.bus;
  const lines: [string, string | number][] = [
    ['cluster_state', served === SLOTS ? 'ok' : 'fail'],
    ['cluster_slots_assigned', assigned],
    ['cluster_slots_ok', served],
    ['cluster_slots_pfail', 0],
    ['cluster_slots_fail', assigned - served],
    ['cluster_known_nodes', knownNodes(cluster).length],
    ['cluster_size', clusterSize(cluster)],
    ['cluster_current_epoch', name.version],
    ['cluster_my_epoch', name.version],
    ['cluster_stats_messages_sent', stats.framesOut],
    ['cluster_stats_messages_received', stats.framesIn],
    ['total_cluster_links_buffer_limit_exceeded', stats.full],
  ];
  c.out.verbatim(lines.map(([field, value]) => `${field}:${value}\r\n`).join(''));
}

function links(c: CommandContext): void {
  const cluster = enabled(c);
  const { out } = c;
  const list = [...cluster.bus.links()];
  out.array(list.length);
  for (const link of list) {
    out.map(6);
    out.bulk('direction');
    // one link serves both ways, whoever dialled it
    out.bulk('to');
    out.bulk('node');
    out.bulk(link.nodeId);
    out.bulk('create-time');
    out.int(0);
    out.bulk('events');
    out.bulk(link.pending() > 0 ? 'rw' : 'r');
    out.bulk('send-buffer-allocated');
    out.int(link.pending());
    out.bulk('send-buffer-used');
    out.int(link.pending());
  }
}

function myid(c: CommandContext): void {
  c.out.bulk(c.server.nodeId);
}

function keyslot(c: CommandContext): void {
  c.out.int(slotOf(c.argv.str(2)));
}

/** This node's own opinion: nobody else is asked, and nobody reports. */
function failureReports(c: CommandContext): void {
  const cluster = enabled(c);
  const id = named(c, cluster, 2);
  c.out.int(cluster.peers.isHealthy(id) ? 0 : 1);
}

// ---------------------------------------------------------------------- keys of a slot

async function keysInSlot(server: Server, db: Database, slot: number, limit: number): Promise<string[]> {
  const { scanner } = server.store;
  const end = firstPositionOfSlot(slot + 1);
  const found: string[] = [];
  let cursor = firstPositionOfSlot(slot);
  do {
    const step = await scanner.step(db, cursor, Math.min(SLOT_STEP_KEYS, limit));
    for (const key of step.keys) if (slotOf(key) === slot) found.push(key);
    cursor = step.cursor;
  } while (cursor !== 0 && cursor < end && found.length < limit);
  return found.length > limit ? found.slice(0, limit) : found;
}

function countKeysInSlot(c: CommandContext): void {
  enabled(c);
  const slot = integer(c.argv, 2);
  if (slot < 0 || slot >= SLOTS) throw new ReplyError('ERR Invalid slot');
  const found = keysInSlot(c.server, c.db, slot, Number.MAX_SAFE_INTEGER);
  c.defer(found.then((list) => (out: ReplyWriter) => out.int(list.length)));
}

function getKeysInSlot(c: CommandContext): void {
  enabled(c);
  const slot = integer(c.argv, 2);
  const count = integer(c.argv, 3);
  if (slot < 0 || slot >= SLOTS || count < 0) throw new ReplyError('ERR Invalid slot or number of keys');
  const found = count === 0 ? Promise.resolve([]) : keysInSlot(c.server, c.db, slot, count);
  c.defer(
    found.then((list) => (out: ReplyWriter) => {
      out.array(list.length);
      for (const key of list) out.bulk(key);
    }),
  );
}

// ---------------------------------------------------------------------- changes

function portOf(c: CommandContext, i: number, which: string): number {
  const port = c.argv.int(i);
  if (Number.isNaN(port)) throw new ReplyError(`ERR Invalid TCP ${which} port specified: ${c.argv.str(i)}`);
  return port;
}

function meet(c: CommandContext): void {
  const cluster = enabled(c);
  const { argv } = c;
  if (argv.argc > 5) throw new ReplyError("ERR wrong number of arguments for 'cluster|meet' command");
  const host = argv.str(2);
  const port = portOf(c, 3, 'base');
  const bus = argv.argc === 5 ? portOf(c, 4, 'bus') : port + BUS_PORT_OFFSET;
  const isAddress = /^(\d{1,3}\.){3}\d{1,3}$/.test(host) || /^[\da-fA-F:.]*:[\da-fA-F:.]*$/.test(host);
  if (!isAddress || port <= 0 || port > MAX_PORT || bus <= 0 || bus > MAX_PORT)
    throw new ReplyError(`ERR Invalid node address specified: ${host}:${argv.str(3)}`);
  cluster.membership.meet(host.includes(':') ? `[${host}]:${bus}` : `${host}:${bus}`);
  c.out.ok();
}

function forget(c: CommandContext): void {
  const cluster = enabled(c);
  const id = named(c, cluster, 2);
  if (id === cluster.self) throw new ReplyError("ERR I tried hard but I can't forget myself...");
  if (cluster.ring.isMember(id)) {
    throw new ReplyError(
      `ERR ${id} owns partitions: remove it with 'gramme leave' on it, or 'gramme plan --remove' and 'gramme commit' when it is lost`,
    );
  }
  cluster.membership.forget(id);
  c.out.ok();
}

function saveconfig(c: CommandContext): void {
  const cluster = enabled(c);
  c.defer(cluster.membership.saved().then(() => (out: ReplyWriter) => out.ok()));
}

function ok(c: CommandContext): void {
  enabled(c);
  c.out.ok();
}

// ---------------------------------------------------------------------- what has no meaning here

const BY_PLAN =
  "partitions are not assigned by hand: 'gramme plan' shows what the ring would give each node, 'gramme commit' does it";
const NO_MASTERS = 'every node takes writes, and the next healthy one of the preference list takes over by itself';
const REFUSED: [name: string, arity: number, syntax: string, summary: string, why: string][] = [
  ['addslots', -3, 'slot [slot ...]', 'Refuses to assign slots by hand.', BY_PLAN],
  ['addslotsrange', -4, 'start-slot end-slot [start-slot end-slot ...]', 'Refuses to assign slots by hand.', BY_PLAN],
  ['bumpepoch', 2, '', 'Refuses to change the epoch.', "the epoch is the layout's version, and grows with each commit"],
  ['delslots', -3, 'slot [slot ...]', 'Refuses to assign slots by hand.', BY_PLAN],
  ['delslotsrange', -4, 'start-slot end-slot [start-slot end-slot ...]', 'Refuses to assign slots by hand.', BY_PLAN],
  ['failover', -2, '[FORCE | TAKEOVER]', 'Refuses to fail over: that happens by itself.', NO_MASTERS],
  ['flushslots', 2, '', 'Refuses to assign slots by hand.', BY_PLAN],
  [
    'replicate',
    3,
    'node-id',
    'Refuses to make this node a replica.',
    'there are no masters to be a replica of: cluster-n says how many nodes hold each key',
  ],
  [
    'reset',
    -2,
    '[HARD | SOFT]',
    'Refuses to forget the cluster.',
    "a node leaves with 'gramme leave', and begins anew in an empty directory",
  ],
  [
    'set-config-epoch',
    3,
    'config-epoch',
    'Refuses to change the epoch.',
    "the epoch is the layout's version, and grows with each commit",
  ],
  [
    'setslot',
    -4,
    'slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>',
    'Refuses to assign slots by hand.',
    BY_PLAN,
  ],
];

function refuse(name: string, why: string): (c: CommandContext) => void {
  const error = new ReplyError(`ERR CLUSTER ${name.toUpperCase()} has no meaning here: ${why}`);
  return (c) => {
    enabled(c);
    throw error;
  };
}

// ---------------------------------------------------------------------- the table's part

type Entry = Omit<CommandSpec, 'group' | 'categories' | 'flags' | 'complexity' | 'syntax'> & Partial<CommandSpec>;

function sub(entry: Entry): CommandSpec {
  return { group: 'cluster', categories: [], flags: ['stale'], complexity: 'O(1)', syntax: '', ...entry };
}

const CHANGES = ['admin', 'stale', 'no_async_loading'] as const;
const UNTOLD = { tips: ['nondeterministic_output'] };
const PER_NODE = 'O(N) where N is the total number of cluster nodes';

const subcommands: CommandSpec[] = [
  sub({
    name: 'count-failure-reports',
    arity: 3,
    flags: ['admin', 'stale'],
    since: '3.0.0',
    complexity: 'O(N) where N is the number of failure reports',
    syntax: 'node-id',
    summary: 'Tells whether this node takes another one for failed: 1 or 0.',
    handler: failureReports,
    ...UNTOLD,
  }),
  sub({
    name: 'countkeysinslot',
    arity: 3,
    since: '3.0.0',
    complexity: 'O(N) where N is the number of keys in the slot',
    syntax: 'slot:integer',
    summary: "Counts this node's keys of a slot.",
    handler: countKeysInSlot,
  }),
  sub({
    name: 'forget',
    arity: 3,
    flags: CHANGES,
    since: '3.0.0',
    syntax: 'node-id',
    summary: 'Has all nodes look no longer for one that is no member.',
    handler: forget,
  }),
  sub({
    name: 'getkeysinslot',
    arity: 4,
    since: '3.0.0',
    complexity: 'O(N) where N is the number of requested keys',
    syntax: 'slot:integer count:integer',
    summary: "Names this node's keys of a slot.",
    handler: getKeysInSlot,
    ...UNTOLD,
  }),
  helpCommand('cluster', '5.0.0'),
  sub({ name: 'info', arity: 2, since: '3.0.0', summary: 'Tells how the cluster is.', handler: info, ...UNTOLD }),
  sub({
    name: 'keyslot',
    arity: 3,
    since: '3.0.0',
    complexity: 'O(N) where N is the number of bytes in the key',
    syntax: 'key:string',
    summary: 'Gives the slot of a key.',
    handler: keyslot,
  }),
  sub({
    name: 'links',
    arity: 2,
    since: '7.0.0',
    complexity: PER_NODE,
    summary: "Lists this node's links to its peers.",
    handler: links,
    ...UNTOLD,
  }),
  sub({
    name: 'meet',
    arity: -4,
    flags: CHANGES,
    since: '3.0.0',
    syntax: 'ip port [cluster-bus-port]',
    summary: 'Gets in touch with another node, and remembers its address as that of a seed.',
    history: [['4.0.0', 'Takes the bus port.']],
    handler: meet,
  }),
  sub({ name: 'myid', arity: 2, since: '3.0.0', summary: "Gives this node's id.", handler: myid }),
  sub({
    name: 'myshardid',
    arity: 2,
    since: '7.2.0',
    summary: "Gives this node's id: each node is the master of a shard.",
    handler: myid,
    ...UNTOLD,
  }),
  sub({
    name: 'nodes',
    arity: 2,
    since: '3.0.0',
    complexity: PER_NODE,
    summary: 'Lists the nodes, each with the slots that it coordinates now.',
    handler: nodes,
    ...UNTOLD,
  }),
  sub({
    name: 'replicas',
    arity: 3,
    flags: ['admin', 'stale'],
    since: '5.0.0',
    syntax: 'node-id',
    summary: 'Lists the other home replicas of the slots that a node coordinates now.',
    handler: replicas,
    ...UNTOLD,
  }),
  sub({
    name: 'saveconfig',
    arity: 2,
    flags: CHANGES,
    since: '3.0.0',
    summary: 'Waits until the layout and the membership are on disk; they are saved at each change.',
    handler: saveconfig,
  }),
  sub({
    name: 'shards',
    arity: 2,
    since: '7.0.0',
    complexity: PER_NODE,
    summary: 'Lists who serves which slots now, by sets of nodes.',
    handler: shards,
    ...UNTOLD,
  }),
  sub({
    name: 'slaves',
    arity: 3,
    flags: ['admin', 'stale'],
    since: '3.0.0',
    syntax: 'node-id',
    summary: 'As CLUSTER REPLICAS.',
    deprecated: { since: '5.0.0', replacedBy: '`CLUSTER REPLICAS`' },
    handler: replicas,
    ...UNTOLD,
  }),
  sub({
    name: 'slots',
    arity: 2,
    since: '3.0.0',
    complexity: PER_NODE,
    summary: 'Lists who serves which slots now, by ranges of slots.',
    deprecated: { since: '7.0.0', replacedBy: '`CLUSTER SHARDS`' },
    history: [
      ['4.0.0', 'Has node ids.'],
      ['7.0.0', 'Has a field for more of the network.'],
    ],
    handler: slots,
    ...UNTOLD,
  }),
  ...REFUSED.map(([name, arity, syntax, summary, why]) =>
    sub({ name, arity, flags: CHANGES, since: '3.0.0', syntax, summary, handler: refuse(name, why) }),
  ),
];

export const clusterCommands: CommandSpec[] = [
  {
    name: 'cluster',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'The cluster that this node is in.',
    since: '3.0.0',
    group: 'cluster',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands,
  },
  ...(
    [
      ['asking', ['fast'], 'Accepted: every node serves every key, whoever is asked.'],
      ['readonly', ['fast', 'loading', 'stale'], 'Accepted: home replicas serve reads in any case.'],
      ['readwrite', ['fast', 'loading', 'stale'], 'Accepted: home replicas serve reads in any case.'],
    ] as const
  ).map(
    ([name, flags, summary]): CommandSpec =>
      sub({ name, arity: 1, flags, categories: ['connection'], since: '3.0.0', summary, handler: ok }),
  ),
];
