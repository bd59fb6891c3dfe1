/**
 * One node, from its ports: store, server and (where it has peers) cluster, made and stopped in the right order.
 * `main.ts` gives it the real platform, the simulator a fake one; nothing else differs.
 */
import { GrammeError } from '../base/errors.ts';
import { Cluster, type ClusterOptions } from '../cluster/cluster.ts';
import type { Versions } from '../cluster/handshake.ts';
import { COMMANDS } from '../commands/index.ts';
import { CommandTable } from '../commands/table.ts';
import type { Clock, Random, Timers } from '../ports/clock.ts';
import type { Engine, SyncPolicy } from '../ports/engine.ts';
import type { Host } from '../ports/host.ts';
import type { Log } from '../ports/log.ts';
import type { Transport } from '../ports/transport.ts';
import { Store } from '../store/store.ts';
import type { Config } from './config.ts';
import { GrammeServer } from './gramme.ts';
import { Router } from './router.ts';
import { tlsOptions } from './tls.ts';

export interface NodePorts {
  engine: Engine;
  transport: Transport;
  clock: Clock;
  timers: Timers;
  random: Random;
  host: Host;
  log: Log;
  /** Versions of the bus protocol that it speaks; all by default. */
  busVersions?: Versions;
}

/** Opens the data and makes the server; `listen` then opens its ports. */
export async function openNode(ports: NodePorts, config: Config, onStopped: () => void): Promise<GrammeServer> {
  const { engine, clock, timers, random, log } = ports;
  if (hasPeers(config) && config.num('databases') > MOST_DATABASES)
    throw new GrammeError(
      'CONFIG',
      `databases: at most ${MOST_DATABASES} in a cluster, since frames name one by a byte`,
    );
  const store = await Store.open({
    engine,
    clock,
    timers,
    random,
    log,
    databases: config.num('databases'),
    partitions: config.num('cluster-partitions'),
    maxSiblings: config.num('max-siblings'),
    sync: config.get('appendfsync') as SyncPolicy,
    sole: !hasPeers(config),
  });
  const server = new GrammeServer({ ...ports, config, store, table: new CommandTable(COMMANDS), onStopped });
  if (hasPeers(config)) {
    const options = clusterOptions(config, log);
    const cluster = await Cluster.open({
      store,
      transport: ports.transport,
      clock,
      timers,
      random,
      log,
      options,
      foreground: server.sla,
      busVersions: ports.busVersions,
    });
    server.joinCluster(new Router(server, cluster));
    // how many copies are enough is part of what has been worked out for each partition
    const forget = () => {
      cluster.peers.epoch++;
    };
    for (const name of ['write-min-nodes', 'read-min-nodes', 'durable-writes']) config.onChange(name, forget);
  }
  return server;
}

/** A node opens its bus as soon as anything is said of a cluster; one of which nothing is said is alone, and pays nothing. */
function hasPeers(config: Config): boolean {
  return (
    config.list('cluster-seeds').length > 0 ||
    config.num('cluster-port') > 0 ||
    config.bool('cluster-auto-join') ||
    config.bool('cluster-enabled')
  );
}

const BUS_PORT_OFFSET = 10_000;
const MOST_DATABASES = 256;

function clusterOptions(config: Config, log: Log): ClusterOptions {
  const bind = config.list('bind').map((b) => b.replace(/^-/, ''))[0] ?? '127.0.0.1';
  const everywhere = bind === '*' || bind === '0.0.0.0' || bind === '::' || bind === '::*';
  const announced = config.get('cluster-announce-ip');
  if (everywhere && announced === '')
    log.warn({}, 'bound to all addresses: set cluster-announce-ip to the one that other nodes reach this one by');
  const host = announced !== '' ? announced : everywhere ? '127.0.0.1' : bind;
  const client = config.num('cluster-announce-port') || config.num('port');
  const port = config.num('cluster-port') || config.num('port') + BUS_PORT_OFFSET;
  if (config.get('cluster-secret') === '')
    log.warn({}, 'cluster-secret is not set: whoever reaches the bus port can join the cluster');
  return {
    n: config.num('cluster-n'),
    r: config.num('cluster-r'),
    w: config.num('cluster-w'),
    writeMin: () => config.num('write-min-nodes'),
    durable: () => config.num('durable-writes'),
    readMin: () => config.num('read-min-nodes'),
    expireSettle: () => config.num('expire-settle') * 1000,
    tombstoneGrace: () => config.num('tombstone-grace') * 1000,
    backgroundLatency: () => config.num('background-latency-ms'),
    seeds: config.list('cluster-seeds'),
    autoJoin: config.bool('cluster-auto-join'),
    host: config.get('cluster-host'),
    zone: config.get('cluster-zone'),
    weight: Math.max(1, Math.round(Number(config.get('cluster-weight')) * WEIGHT_UNIT)),
    secret: config.get('cluster-secret'),
    tls: config.bool('tls-cluster') ? tlsOptions(config) : null,
    bindHost: everywhere ? '0.0.0.0' : bind,
    port,
    busAddress: `${host}:${config.num('cluster-announce-bus-port') || port}`,
    clientAddress: `${host}:${client}`,
  };
}

/** Weights are whole numbers in a layout; `cluster-weight` may have a fraction. */
const WEIGHT_UNIT = 100;
