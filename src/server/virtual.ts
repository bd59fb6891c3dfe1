/**
 * Clients that are no connections: a command that another node has sent, or that this node runs again on its own
 * account. Its reply goes to a sink and not to a socket; everything else is as with any client, so such a command may
 * wait, be held back and be run again like others. They are pooled: one is used for each forwarded command.
 */
import type { Connection, ConnectionHandler } from '../ports/transport.ts';
import { Client } from './client.ts';

const NOBODY: ConnectionHandler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

/** Takes a reply: bytes [start, end) that are only valid until it returns. */
export type Sink = (buf: Buffer, start: number, end: number) => void;

class SinkConnection implements Connection {
  readonly remote = 'cluster';
  readonly local = 'cluster';
  readonly fd = -1;
  handler = NOBODY;
  sink: Sink = () => {};

  write(buf: Buffer, start: number, end: number): boolean {
    this.sink(buf, start, end);
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
  private readonly wire: SinkConnection;

  constructor() {
    const wire = new SinkConnection();
    super(0, wire, 0);
    this.wire = wire;
  }

  prepare(db: number, resp: 2 | 3, pinned: boolean, sink: Sink): void {
    this.db = db;
    this.resp = resp;
    this.pinned = pinned;
    this.wire.sink = sink;
    this.queue = null;
    this.fresh = false;
    this.waiting = false;
    this.waitingArgv = null;
    this.closed = false;
    this.closing = false;
  }
}
