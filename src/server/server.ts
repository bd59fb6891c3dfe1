/**
 * The server's parts, as commands see them. `server/dispatch` runs commands over it; `server/listener` feeds it.
 */

import type { CommandTable } from '../commands/table.ts';
import type { Clock, Random, Timers } from '../ports/clock.ts';
import type { Host } from '../ports/host.ts';
import type { Log } from '../ports/log.ts';
import type { Keyspace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import type { Client } from './client.ts';
import type { Config } from './config.ts';
import type { Coverage } from './coverage.ts';
import type { Router } from './router.ts';
import type { Sla } from './sla.ts';
import type { Stats } from './stats.ts';

export interface Server {
  readonly config: Config;
  readonly stats: Stats;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly host: Host;
  readonly log: Log;
  readonly table: CommandTable;
  readonly keys: Keyspace;
  readonly store: Store;
  readonly coverage: Coverage;
  /** Connected clients by id, in order of arrival. */
  readonly clients: Map<number, Client>;
  /** Clients in MONITOR mode. */
  readonly monitors: Set<Client>;
  /** 40 hex digits, anew at each start, and this node's lasting id. */
  readonly runId: string;
  readonly nodeId: string;
  readonly startedMs: number;
  /** Closes a client; with `afterReply`, once what is written has gone out. */
  closeClient(client: Client, afterReply: boolean): void;
  /** Writes bytes to a client outside of a command (pushes, MONITOR lines). */
  push(client: Client, write: (out: import('../resp/reply.ts').ReplyWriter) => void): void;
  /** CLIENT PAUSE: no commands (or no writes) run until then. 0 ends a pause. */
  pause(untilMs: number, writesOnly: boolean): void;
  readonly pausedUntilMs: number;
  /** Who was answered in time. */
  readonly sla: Sla;
  /** The way to the other nodes; null for a node of which nothing was said of others. */
  readonly router: Router | null;
  /** Stops the server cleanly; resolves when everything is on disk. */
  shutdown(): Promise<void>;
}
