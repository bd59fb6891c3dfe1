/**
 * A client's session: everything that a connection carries from one command to the next.
 */
import type { Connection } from '../ports/transport.ts';
import type { Argv } from '../resp/argv.ts';
import { RequestParser } from '../resp/parser.ts';
import type { Hole } from './output.ts';

/** `CLIENT REPLY`. */
export const REPLY_ON = 0;
export const REPLY_OFF = 1;
export const REPLY_SKIP = 2;

export class Client {
  readonly id: number;
  readonly connection: Connection;
  readonly parser = new RequestParser();
  /** Client's database number. */
  db = 0;
  resp: 2 | 3 = 2;
  name = '';
  libName = '';
  libVersion = '';
  user = 'default';
  authenticated = true;
  /** Wall-clock ms of connecting and of the last command. */
  readonly createdMs: number;
  lastMs: number;
  /** Name of the last command, with its subcommand (`client|list`). */
  lastCommand = '';
  monitor = false;
  noEvict = false;
  noTouch = false;
  replyMode = REPLY_ON;
  /** `CLIENT REPLY SKIP` came with the last command: this one's reply is dropped. */
  skipNext = false;
  /** Close once what is written has gone out. */
  closing = false;
  closed = false;
  /** A command is waiting for the disk or another asynchronous thing; input waits behind it. */
  waiting = false;
  /** Input that could not be executed yet, and how much of it there is. */
  pending: Buffer | null = null;
  pendingStart = 0;
  pendingEnd = 0;
  /** Reading is paused because too much output is unsent. */
  paused = false;
  /** Its input waits, for too much is under way (`Intake`). */
  held = false;
  /** In a cluster: the keys of the command at hand have just been read from enough replicas. */
  fresh = false;
  /** The keys are to be read from enough replicas, whatever this node takes itself to have. */
  mustRead = false;
  /** Its reads go to the coordinator, though this node has a copy. */
  noReplica = false;
  /** Replies that wait behind one that is not there yet. */
  queue: (Buffer | Hole)[] | null = null;
  /** Replies that are to come from elsewhere. */
  holes = 0;
  /** Its queue is to be looked at. */
  ripe = false;
  /** Bytes in and out, for CLIENT LIST. */
  bytesIn = 0;
  bytesOut = 0;
  commands = 0;
  /** When it began to wait, on the monotonic clock; 0 when it does not. */
  waitingAt = 0;
  /** The arguments of a waiting command, copied. */
  waitingArgv: Argv | null = null;
  /** The other end will send nothing more; close once the waiting command has replied. */
  endAfterWaiting = false;

  constructor(id: number, connection: Connection, now: number) {
    this.id = id;
    this.connection = connection;
    this.createdMs = now;
    this.lastMs = now;
  }
}
