/**
 * Replies of a tick, for all clients together.
 *
 * Everything that is written between two turns of the event loop goes into one buffer, as segments (client, start,
 * end); at the end of the tick each client gets its bytes in one write. When the journal must be on disk first
 * (`always`), the whole of a tick's output waits for its batch, in order: so nobody sees a reply, or a value, that a
 * power cut could take back.
 */
import { REPLY_FLUSH_BYTES } from '../base/limits.ts';
import { ReplyWriter } from '../resp/reply.ts';
import type { Client } from './client.ts';

interface Held {
  buf: Buffer;
  end: number;
  clients: Client[];
  starts: number[];
  batch: number;
  closing: Client[];
}

const BUFFER_BYTES = 256 * 1024;

export class Output {
  readonly w = new ReplyWriter(BUFFER_BYTES);
  /** Told of each write: the client, and its bytes. */
  onWritten: (client: Client, bytes: number) => void = () => {};
  /** Asked, at a flush, which journal batch the replies must wait for; 0 for none. */
  batchToAwait: () => number = () => 0;

  private clients: Client[] = [];
  private starts: number[] = [];
  private current: Client | null = null;
  private held: Held[] = [];
  private spare: Buffer[] = [];
  private scheduled = false;
  private readonly schedule: (run: () => void) => void;

  constructor(schedule: (run: () => void) => void) {
    this.schedule = schedule;
  }

  /** What is written to `w` from now on is for this client. */
  select(client: Client): ReplyWriter {
    if (this.current !== client) {
      this.clients.push(client);
      this.starts.push(this.w.pos);
      this.current = client;
    }
    this.w.resp3 = client.resp === 3;
    if (!this.scheduled) {
      this.scheduled = true;
      this.schedule(this.tickEnd);
    }
    return this.w;
  }

  /** A long tick: sends what there is. */
  flushIfLarge(): void {
    if (this.w.pos > REPLY_FLUSH_BYTES) this.flush();
  }

  private readonly tickEnd = (): void => {
    this.scheduled = false;
    this.flush();
  };

  /** Makes sure that the end of this tick is noticed though nothing was replied. */
  wake(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.schedule(this.tickEnd);
  }

  flush(): void {
    const batch = this.batchToAwait();
    const { clients, starts } = this;
    if (clients.length === 0) return;
    this.current = null;
    const end = this.w.pos;
    const closing = clients.filter((c) => c.closing);
    if (batch > 0 || this.held.length > 0) {
      this.held.push({ buf: this.w.buf, end, clients, starts, batch, closing });
      this.clients = [];
      this.starts = [];
      this.fresh();
      return;
    }
    const free = this.send(this.w.buf, end, clients, starts, closing);
    clients.length = 0;
    starts.length = 0;
    if (!free || this.w.buf.length > 16 * BUFFER_BYTES) this.fresh();
    else this.w.pos = 0;
  }

  private fresh(): void {
    this.w.buf = this.spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
    this.w.pos = 0;
  }

  /** The journal has everything up to this batch: replies that waited for it go out. */
  release(upTo: number): void {
    while (this.held.length > 0 && this.held[0].batch <= upTo) {
      const h = this.held.shift()!;
      const free = this.send(h.buf, h.end, h.clients, h.starts, h.closing);
      if (free && h.buf.length === BUFFER_BYTES && this.spare.length < 8) this.spare.push(h.buf);
    }
  }

  /** The disk refused a batch: whoever waits for it can't be told that it is safe, and loses the connection instead. */
  abandon(): void {
    const held = this.held;
    this.held = [];
    for (const h of held) for (const client of h.clients) client.connection.destroy();
  }

  /** Returns true when the system took everything, so that the buffer may be used again. */
  private send(buf: Buffer, end: number, clients: Client[], starts: number[], closing: Client[]): boolean {
    let free = true;
    for (let i = 0; i < clients.length; i++) {
      const client = clients[i];
      const start = starts[i];
      const stop = i + 1 < clients.length ? starts[i + 1] : end;
      if (client.closed) continue;
      if (stop > start) {
        if (!client.connection.write(buf, start, stop)) free = false;
        client.bytesOut += stop - start;
        this.onWritten(client, stop - start);
      }
    }
    for (const client of closing) client.connection.end();
    return free;
  }
}
