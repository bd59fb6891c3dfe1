/** What the parts of repair share: their surroundings, and what they have done so far. */
import type { Clock, Random, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import type { Governor } from './governor.ts';
import type { Peers } from './peers.ts';
import type { Reads } from './reads.ts';
import type { Ring } from './ring.ts';
import type { Rpc } from './rpc.ts';
import type { States } from './states.ts';
import type { Trees } from './trees.ts';

export interface RepairParts {
  store: Store;
  trees: Trees;
  peers: Peers;
  ring: Ring;
  reads: Reads;
  states: States;
  governor: Governor;
  rpc: Rpc;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  r: number;
  w: number;
  coordinates: (p: number) => boolean;
  /** A node that will not come back as what it was: nobody is to wait for it. */
  isGone: (id: string) => boolean;
  /** Nodes that are up, are no members, and may hold what members' keys once were. */
  outsiders: () => readonly string[];
  /** Is anything under way or kept back that concerns this partition? */
  hasWork: (p: number) => boolean;
  /** Is the key borrowed here, for a command that is going to run? Then it stays, whoever its homes are. */
  isBorrowed: (place: KeyPlace) => boolean;
}

/** Counted since the start. */
export class RepairStats {
  rounds = 0;
  exchanges = 0;
  differences = 0;
  keys = 0;
  damaged = 0;
  bytes = 0;
  transferred = 0;
  strays = 0;
  reaped = 0;
}

/** Ms that a question to a peer may take. */
export const CALL_MS = 5000;
