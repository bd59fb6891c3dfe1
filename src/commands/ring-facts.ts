/**
 * What one node knows of the ring: who belongs to it, what each of them owns, and how this node sees them. `DYNAMO RING`
 * and the page in the browser (`server/ring-page`) are two ways to show it.
 */
import type { Cluster } from '../cluster/cluster.ts';
import { type Balance, balance } from '../ring/balance.ts';
import type { Layout } from '../ring/layout.ts';
import type { Server } from '../server/server.ts';
import { clusterSize, knownNodes, placeOf } from './cluster.ts';

/** Weights are whole numbers in a layout: hundredths of `cluster-weight`. */
const WEIGHT_UNIT = 100;

export interface RingNode {
  readonly id: string;
  /** Where clients reach it. */
  readonly address: string;
  readonly bus: string;
  readonly host: string;
  readonly zone: string;
  readonly weight: number;
  /** Partitions whose token it owns, and those that it is a home of. */
  readonly partitions: number;
  readonly replicas: number;
  /** Of all copies, 0 to 1; and how far that is off the fair share, 0.1 for 10 % too many. */
  readonly share: number;
  readonly off: number;
  /** `self`, `alive`, `suspect`, `down` or `cut`. */
  readonly state: string;
  /** It is in the layout; who is not is known and owns nothing. */
  readonly member: boolean;
  readonly leaving: boolean;
  /** Partitions that it has yet to fetch. */
  readonly moving: number;
  /** Version of the layout that it goes by. */
  readonly layout: number;
}

export interface RingFacts {
  readonly partitions: number;
  /** Version; 0 before there is one. */
  readonly layout: number;
  readonly n: number;
  /** Partitions whose new homes do not have everything yet. */
  readonly moving: number;
  /** The largest `off`, without its sign. */
  readonly imbalance: number;
  /** Members that own slots. */
  readonly size: number;
  readonly nodes: readonly RingNode[];
}

/** The cluster that this node belongs to, or null for a node that is alone or waits for one. */
export function clusterOf(server: Server): Cluster | null {
  const cluster = server.router?.cluster ?? null;
  return cluster === null || cluster.ring.layout === null ? null : cluster;
}

/** How this node sees another one. */
export function stateOf(cluster: Cluster, id: string): string {
  if (id === cluster.self) return 'self';
  const peer = cluster.peers.byId.get(id);
  if (peer === undefined || (peer.link === null && peer.state === 'alive')) return 'down';
  return cluster.bus.isCut(id) ? 'cut' : peer.state;
}

export function ringFacts(server: Server): RingFacts {
  const cluster = clusterOf(server);
  return cluster === null ? alone(server) : together(cluster);
}

function alone(server: Server): RingFacts {
  const { config } = server;
  const waiting = server.router !== null;
  const { partitions } = server.keys;
  return {
    partitions,
    layout: waiting ? 0 : 1,
    n: config.num('cluster-n'),
    moving: 0,
    imbalance: 0,
    size: waiting ? 0 : 1,
    nodes: [
      {
        id: server.nodeId,
        address: `127.0.0.1:${config.num('port')}`,
        bus: '',
        host: config.get('cluster-host'),
        zone: config.get('cluster-zone'),
        weight: Number(config.get('cluster-weight')),
        partitions: waiting ? 0 : partitions,
        replicas: waiting ? 0 : partitions,
        share: waiting ? 0 : 1,
        off: 0,
        state: 'self',
        member: !waiting,
        leaving: false,
        moving: 0,
        layout: waiting ? 0 : 1,
      },
    ],
  };
}

/** A walk over the whole ring: worked out once a layout, for pages ask every other second. */
const balances = new WeakMap<Layout, Balance>();

function together(cluster: Cluster): RingFacts {
  const { ring, membership } = cluster;
  const layout = ring.layout!;
  let balanced = balances.get(layout);
  if (balanced === undefined) balances.set(layout, (balanced = balance(layout, ring.n)));
  const { shares, imbalance } = balanced;
  const gaining = new Map<string, number>();
  const moving = ring.moving();
  for (const p of moving) {
    for (const id of ring.gaining(p)) if (!ring.hasConfirmed(p, id)) gaining.set(id, (gaining.get(id) ?? 0) + 1);
  }
  const replicas = shares.reduce((sum, s) => sum + s.replicas, 0);
  return {
    partitions: layout.partitions,
    layout: layout.version,
    n: ring.n,
    moving: moving.length,
    imbalance,
    size: clusterSize(cluster),
    nodes: knownNodes(cluster).map((id) => {
      const i = layout.members.findIndex((m) => m.id === id);
      const facts = membership.gossip.entry(id)?.facts;
      const about = i >= 0 ? layout.members[i] : facts;
      const { host, port } = placeOf(cluster, id);
      return {
        id,
        address: `${host.includes(':') ? `[${host}]` : host}:${port}`,
        bus: facts?.bus ?? about?.bus ?? '',
        host: about?.host ?? '',
        zone: about?.zone ?? '',
        weight: (about?.weight ?? 0) / WEIGHT_UNIT,
        partitions: i >= 0 ? shares[i].tokens : 0,
        replicas: i >= 0 ? shares[i].replicas : 0,
        share: i >= 0 && replicas > 0 ? shares[i].replicas / replicas : 0,
        off: i >= 0 ? shares[i].off : 0,
        state: stateOf(cluster, id),
        member: i >= 0,
        leaving: membership.isLeaving(id),
        moving: gaining.get(id) ?? 0,
        layout: facts?.layout.version ?? 0,
      };
    }),
  };
}
