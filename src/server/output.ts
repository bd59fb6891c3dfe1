/**
 * Replies of a tick, for all clients together.
 *
 * Everything that is written between two turns of the event loop goes into one buffer, as segments (client, start,
 * end); at the end of the tick each client gets its bytes in one write. When the journal must be on disk first
 * (`always`), or other replicas must have taken what was written (`cluster/replicator`), the whole of a tick's output
 * waits, in order: so nobody sees a reply, or a value, that could be taken back.
 *
 * A reply that comes from elsewhere, from another node or from running a command again, is a *hole*: the client's later
 * replies queue behind it until it is filled, and nobody else waits for it.
 */
import { copyBytes } from '../base/bytes.ts';
import { REPLY_FLUSH_BYTES } from '../base/limits.ts';
import type { Ticket } from '../cluster/replicator.ts';
import { isOk, OK, replyBytes } from '../cluster/requests.ts';
import { ReplyWriter } from '../resp/reply.ts';
import type { Client } from './client.ts';
import type { Intake } from './intake.ts';
import type { Sla } from './sla.ts';

/** A reply that is not there yet. */
export class Hole {
  readonly client: Client;
  bytes: Buffer | null = null;
  /** When the tick began that it is of. */
  at = 0;

  constructor(client: Client) {
    this.client = client;
  }
}

interface Patch {
  start: number;
  end: number;
  hole: Hole;
}

interface Held {
  buf: Buffer;
  end: number;
  clients: Client[];
  starts: number[];
  holes: (Hole | null)[];
  batch: number;
  ticket: Ticket | null;
  patches: Patch[] | null;
  closing: Client[];
  /** When the tick began, and how many commands it ran. */
  at: number;
  commands: number;
  /** Clients' commands up to its end (`Intake.taken`). */
  taken: number;
}

const BUFFER_BYTES = 256 * 1024;
/** Buffers that are kept for ticks whose replies wait. */
const SPARE_BUFFERS = 32;
const SCRATCH_BYTES = 64 * 1024;
/** Replies of fewer bytes wait for others of the same client that are on their way. */
const PATIENT_BYTES = 16 * 1024;

export class Output {
  readonly w = new ReplyWriter(BUFFER_BYTES);
  /** Told of each write: the client, and its bytes. */
  onWritten: (client: Client, bytes: number) => void = () => {};
  /** Asked, at a flush, which journal batch the replies must wait for; 0 for none. */
  batchToAwait: () => number = () => 0;
  /** Asked, at a flush, which ticket they must wait for. */
  ticketToAwait: (() => Ticket | null) | null = null;
  /** Called when replies wait for a ticket. */
  onHeld: (() => void) | null = null;
  /** Called before a tick's output is sealed. */
  onTickEnd: (() => void) | null = null;
  /** Counts who was answered in time. */
  sla: Sla | null = null;
  /** Told which replies have gone out. */
  intake: Intake | null = null;
  /** Called when a round of writes is over. */
  onSent: (() => void) | null = null;

  private clients: Client[] = [];
  private starts: number[] = [];
  private holes: (Hole | null)[] = [];
  private current: Client | null = null;
  private held: Held[] = [];
  private spare: Buffer[] = [];
  private scheduled = false;
  private committed = 0;
  /** Clients whose queues may go on. */
  private ripe: Client[] = [];
  private readonly late = new Set<Client>();
  private scratch: Buffer | null = null;
  private readonly schedule: (run: () => void) => void;

  constructor(schedule: (run: () => void) => void) {
    this.schedule = schedule;
  }

  /** What is written to `w` from now on is for this client. */
  select(client: Client): ReplyWriter {
    if (this.current !== client) {
      this.clients.push(client);
      this.starts.push(this.w.pos);
      this.holes.push(null);
      this.current = client;
    }
    this.w.resp3 = client.resp === 3;
    if (!this.scheduled) this.wake();
    return this.w;
  }

  /** Goes on for a client in the middle of a reply, after something was written for another one. */
  resume(client: Client): void {
    this.current = null;
    this.select(client);
  }

  /** Goes on for a client that was in the middle of its input, if anything more comes. */
  reselect(client: Client): void {
    this.w.resp3 = client.resp === 3;
    this.current = null;
  }

  /** The client's next reply comes later, by `fill`. */
  hole(client: Client): Hole {
    const hole = new Hole(client);
    this.wake();
    if (this.sla !== null) hole.at = this.sla.at;
    client.holes++;
    this.clients.push(client);
    this.starts.push(this.w.pos);
    this.holes.push(hole);
    // what follows is another segment, also of the same client
    this.current = null;
    this.select(client);
    return hole;
  }

  /** A long tick: sends what there is. */
  flushIfLarge(): void {
    if (this.w.pos > REPLY_FLUSH_BYTES) this.flush();
  }

  private readonly tickEnd = (): void => {
    this.scheduled = false;
    this.onTickEnd?.();
    this.flush();
    this.drain();
    this.onSent?.();
  };

  /** Makes sure that the end of this tick is noticed though nothing was replied. */
  wake(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.sla?.begin();
    this.schedule(this.tickEnd);
  }

  flush(): void {
    const batch = this.batchToAwait();
    const ticket = this.ticketToAwait === null ? null : this.ticketToAwait();
    const { clients, starts, holes } = this;
    if (clients.length === 0) return;
    this.current = null;
    const end = this.w.pos;
    const closing = clients.filter((c) => c.closing);
    const at = this.sla?.at ?? 0;
    const commands = this.sla?.take() ?? 0;
    const taken = this.intake?.taken ?? 0;
    if (batch > 0 || ticket !== null || this.held.length > 0) {
      const buf = this.w.buf;
      this.held.push({ buf, end, clients, starts, holes, batch, ticket, patches: null, closing, at, commands, taken });
      this.clients = [];
      this.starts = [];
      this.holes = [];
      this.fresh();
      if (ticket !== null) this.onHeld?.();
      return;
    }
    const free = this.send({ buf: this.w.buf, end, clients, starts, holes, patches: null, closing });
    this.sla?.sent(commands, at);
    if (this.intake !== null) this.intake.released = taken;
    clients.length = 0;
    starts.length = 0;
    holes.length = 0;
    if (!free || this.w.buf.length > 16 * BUFFER_BYTES) this.fresh();
    else this.w.pos = 0;
  }

  private fresh(): void {
    this.w.buf = this.spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
    this.w.pos = 0;
  }

  /** The journal has everything up to this batch: replies that waited for it go out. */
  release(upTo: number): void {
    this.committed = upTo;
    this.releaseReady();
  }

  /** Sends, in order, what waits for nothing any more. */
  releaseReady(): void {
    let any = false;
    while (this.held.length > 0) {
      const h = this.held[0];
      if (h.batch > this.committed || (h.ticket !== null && !h.ticket.done)) break;
      this.held.shift();
      any = true;
      const free = this.send(h);
      this.sla?.sent(h.commands, h.at);
      if (this.intake !== null) this.intake.released = h.taken;
      if (free && h.buf.length === BUFFER_BYTES && this.spare.length < SPARE_BUFFERS) this.spare.push(h.buf);
    }
    if (any) this.wake();
  }

  /**
   * The bytes [start, end) that wait for this ticket are not to be sent: something else will take their place. Null when
   * they have gone out already.
   */
  patch(ticket: Ticket, client: Client, start: number, end: number): Hole | null {
    const h = this.held.find((x) => x.ticket === ticket);
    if (h === undefined) return null;
    const hole = new Hole(client);
    hole.at = h.at;
    client.holes++;
    h.patches ??= [];
    h.patches.push({ start, end, hole });
    h.patches.sort((a, b) => a.start - b.start);
    return hole;
  }

  /** The disk refused a batch: whoever waits for it can't be told that it is safe, and loses the connection instead. */
  abandon(): void {
    const held = this.held.filter((h) => h.batch > 0);
    this.held = this.held.filter((h) => h.batch === 0);
    if (this.held.length === 0 && this.intake !== null) this.intake.released = this.intake.taken;
    for (const h of held) for (const client of h.clients) client.connection.destroy();
  }

  /** Returns true when the system took everything, so that the buffer may be used again. */
  private send(h: Pick<Held, 'buf' | 'end' | 'clients' | 'starts' | 'holes' | 'patches' | 'closing'>): boolean {
    const { buf, end, clients, starts, holes } = h;
    let free = true;
    for (let i = 0; i < clients.length; i++) {
      const client = clients[i];
      if (client.closed) continue;
      const hole = holes[i];
      if (hole !== null) {
        this.queue(client, hole);
        continue;
      }
      const start = starts[i];
      const stop = i + 1 < clients.length ? starts[i + 1] : end;
      if (stop === start) continue;
      if (h.patches !== null) this.sendPatched(client, buf, start, stop, h.patches);
      else if (client.queue !== null || client.holes > 0) this.queue(client, replyBytes(buf, start, stop));
      else if (!this.write(client, buf, start, stop)) free = false;
    }
    for (const client of h.closing) {
      if (client.queue === null) client.connection.end();
    }
    return free;
  }

  private write(client: Client, buf: Buffer, start: number, end: number): boolean {
    client.bytesOut += end - start;
    this.onWritten(client, end - start);
    if (!isOk(buf, start, end)) return client.connection.write(buf, start, end);
    // one for all: nothing refers to the tick's buffer then
    client.connection.write(OK, 0, OK.length);
    return true;
  }

  private sendPatched(client: Client, buf: Buffer, start: number, stop: number, patches: Patch[]): void {
    let at = start;
    for (const p of patches) {
      if (p.start < start || p.end > stop) continue;
      if (p.start > at) this.queue(client, Buffer.from(buf.subarray(at, p.start)));
      this.queue(client, p.hole);
      at = p.end;
    }
    if (at < stop) this.queue(client, Buffer.from(buf.subarray(at, stop)));
  }

  // ------------------------------------------------------------------ holes

  private queue(client: Client, item: Buffer | Hole): void {
    if (client.queue === null) client.queue = [item];
    else client.queue.push(item);
    this.ripen(client);
  }

  /** The client's queue may begin with something that is there: it is looked at when the tick is over. */
  private ripen(client: Client): void {
    if (client.ripe) return;
    client.ripe = true;
    this.ripe.push(client);
    this.wake();
  }

  /** Writes what is there, up to the first hole, in one go for each client. */
  private drain(): void {
    const list = this.ripe;
    if (list.length === 0) return;
    this.ripe = [];
    for (const client of list) {
      client.ripe = false;
      this.drainOne(client, false);
    }
  }

  private drainOne(client: Client, late: boolean): void {
    const { queue } = client;
    if (queue === null) return;
    let n = 0;
    let length = 0;
    for (; n < queue.length; n++) {
      const item = queue[n];
      const bytes = item instanceof Hole ? item.bytes : item;
      if (bytes === null) break;
      length += bytes.length;
    }
    if (n === 0) return;
    // the rest is on its way: one write instead of many, but nobody waits long for it
    if (n < queue.length && length < PATIENT_BYTES && !late) {
      this.late.add(client);
      return;
    }
    this.late.delete(client);
    if (client.closed || length === 0) {
      // nobody is there to have it
    } else if (n === 1) {
      const item = queue[0];
      this.write(client, item instanceof Hole ? item.bytes! : item, 0, length);
    } else {
      let { scratch } = this;
      if (scratch === null || scratch.length < length)
        scratch = Buffer.allocUnsafeSlow(Math.max(SCRATCH_BYTES, length));
      let at = 0;
      for (let i = 0; i < n; i++) {
        const item = queue[i];
        const bytes = item instanceof Hole ? item.bytes! : item;
        at = copyBytes(scratch, at, bytes, 0, bytes.length);
      }
      const free = this.write(client, scratch, 0, length);
      this.scratch = free && scratch.length <= 4 * SCRATCH_BYTES ? scratch : null;
    }
    if (n < queue.length) queue.splice(0, n);
    else {
      client.queue = null;
      if (client.closing) client.connection.end();
    }
  }

  /** Writes what waits for the replies behind it. Called every few ms. */
  drainLate(): void {
    if (this.late.size === 0) return;
    const list = [...this.late];
    this.late.clear();
    for (const client of list) this.drainOne(client, true);
  }

  /** The reply is here; the bytes must not change any more. */
  fill(hole: Hole, bytes: Buffer): void {
    if (hole.bytes !== null) return;
    if (hole.at > 0) this.sla?.filled(hole.at);
    hole.client.holes--;
    hole.bytes = bytes;
    if (hole.client.queue !== null) this.ripen(hole.client);
  }
}
