/**
 * Clients that are no connections: a command that another node has sent, or that this node runs again on its own
 * account. Its reply goes to a sink and not to a socket; everything else is as with any client, so such a command may
 * wait, be held back and be run again like others. They are pooled: one is used for each forwarded command.
 */
import type { Peer } from '../cluster/peers.ts';
import type { Connection, ConnectionHandler } from '../ports/transport.ts';
import type { Argv } from '../resp/argv.ts';
import { Client } from './client.ts';
import type { GrammeServer } from './gramme.ts';

const SPARE_CLIENTS = 1024;

const NOBODY: ConnectionHandler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

/** Takes a reply: bytes [start, end) that are only valid until it returns; and who has run it, '' for this node. */
export type Sink = (buf: Buffer, start: number, end: number, by: string) => void;

/** Takes the reply to a command that another node has sent, and its number there; `by` as in `Sink`. */
export type ReplyTo = (peer: Peer, number: number, buf: Buffer, start: number, end: number, by: string) => void;

/** Takes a finished virtual client back, with its reply. */
type Finish = (client: VirtualClient, buf: Buffer, start: number, end: number) => void;

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
  /** How often it has been run here before, for news. It may wait in between, so that the count stays with it. */
  reruns = 0;
  /** Whoever has sent it takes its reply from the write. */
  rides = false;
  /** The frame with that write (`Rider`): its reply need not be sent, unless the frame is not taken. */
  frame = -1;
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
    this.reruns = 0;
    this.rides = false;
    this.frame = -1;
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

/** Does the command run here whoever this node takes for the coordinator? */
export function isPinned(client: Client): boolean {
  return client instanceof VirtualClient && client.pinned;
}

/** May another node have run the command? */
export function isRetry(client: Client): client is VirtualClient {
  return client instanceof VirtualClient && client.retry;
}

/** The pool of them; it runs their commands and sees their replies to where they belong. */
export class VirtualClients {
  private readonly server: GrammeServer;
  private readonly replyTo: ReplyTo;
  private readonly spare: VirtualClient[] = [];
  private readonly finish: Finish = (client, buf, start, end) => this.finished(client, buf, start, end);

  /** @param replyTo sends a reply to the node that has sent the command */
  constructor(server: GrammeServer, replyTo: ReplyTo) {
    this.server = server;
    this.replyTo = replyTo;
  }

  /** A client for one command. It comes back by itself with the reply, or by `recycle`. */
  take(db: number, resp: 2 | 3, pinned: boolean): VirtualClient {
    const client = this.spare.pop() ?? new VirtualClient(this.finish);
    client.prepare(db, resp, pinned);
    return client;
  }

  /** The client's command will not be run, and gets no reply from here. */
  recycle(client: VirtualClient): void {
    if (this.spare.length < SPARE_CLIENTS) this.spare.push(client);
  }

  /** Runs a command that this node has to run on its own account. */
  run(client: VirtualClient, argv: Argv): void {
    this.server.executeFor(client, argv);
  }

  private finished(client: VirtualClient, buf: Buffer, start: number, end: number): void {
    const { peer, sink, number, by, frame } = client;
    this.recycle(client);
    if (peer !== null) {
      // what is not taken is answered from here; a link that goes down is for the other end to notice
      if (frame >= 0 && frame > peer.failedUpTo) return;
      this.replyTo(peer, number, buf, start, end, by);
    } else sink?.(buf, start, end, by);
  }
}
