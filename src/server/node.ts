/**
 * One node, from its ports: store, server and (where it has peers) cluster, made and stopped in the right order.
 * `main.ts` gives it the real platform, the simulator a fake one; nothing else differs.
 */
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

export interface NodePorts {
  engine: Engine;
  transport: Transport;
  clock: Clock;
  timers: Timers;
  random: Random;
  host: Host;
  log: Log;
}

/** Opens the data and makes the server; `listen` then opens its ports. */
export async function openNode(ports: NodePorts, config: Config, onStopped: () => void): Promise<GrammeServer> {
  const { engine, clock, timers, random, log } = ports;
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
  });
  return new GrammeServer({ ...ports, config, store, table: new CommandTable(COMMANDS), onStopped });
}
