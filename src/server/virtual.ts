/**
 * Clients that are no connections: a command that another node has sent, or that this node runs again on its own
 * account. Its reply goes to a sink and not to a socket; everything else is as with any client, so such a command may
 * wait, be held back and be run again like others. They are pooled: one is used for each forwarded command.
 */
import type { Peer } from '../cluster/peers.ts';
import type { Connection, ConnectionHandler } from '../ports/transport.ts';
import { Client } from './client.ts';

const NOBODY: ConnectionHandler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

/** Takes a reply: bytes [start, end) that are only valid until it returns; and who has run it, '' for this node. */
export type Sink = (buf: Buffer, start: number, end: number, by: string) => void;

/** Takes a finished virtual client back, with its reply. */
export type Finish = (client: VirtualClient, buf: Buffer, start: number, end: number) => void;

class SinkConnection implements Connection {
  readonly remote = 'cluster';
  readonly local = 'cluster';
  readonly fd = -1;
  handler = NOBODY;
  client!: VirtualClient;
  private readonly finish: Finish;

  constructor(finish: Finish) {
    this.finish = finish;
  }

  write(buf: Buffer, start: number, end: number): boolean {
    this.finish(this.client, buf, start, end);
    return true;
  }
  pending(): number {
    return 0;
  }
  pause(): void {}
  resume(): void {}
  end(): void {}
  destroy(): void {}
}

export class VirtualClient extends Client {
  /** Runs here whoever this node takes for the coordinator. */
  pinned = true;
  /** Who gets the reply: the node that sent the command and its number there, or a sink of our own. */
  peer: Peer | null = null;
  number = 0;
  sink: Sink | null = null;
  /** The command's name in the cluster: the process that its client is connected to, and `number` there; 0 for none. */
  tag = 0;
  /** It may have been run before. */
  retry = false;
  /** The node that has run it, when it was not this one. */
  by = '';
  /** Ms of this node's monotonic clock after which it must not be begun any more; 0 for none. */
  deadline = 0;

  constructor(finish: Finish) {
    const wire = new SinkConnection(finish);
    super(0, wire, 0);
    wire.client = this;
  }

  prepare(db: number, resp: 2 | 3, pinned: boolean): void {
    this.db = db;
    this.resp = resp;
    this.pinned = pinned;
    this.peer = null;
    this.sink = null;
    this.tag = 0;
    this.number = 0;
    this.retry = false;
    this.by = '';
    this.deadline = 0;
    this.queue = null;
    this.ripe = false;
    this.holes = 0;
    this.fresh = false;
    this.noReplica = false;
    this.mustRead = false;
    this.waiting = false;
    this.waitingArgv = null;
    this.closed = false;
    this.closing = false;
  }
}
