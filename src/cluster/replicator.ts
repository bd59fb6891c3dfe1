/**
 * Writes and read comparisons on their way to the other replicas: everything per tick, nothing per command.
 *
 * A *ticket* stands for the operations of one tick. Each peer gets one frame of them, and acknowledges frames by number,
 * cumulatively. Which peers have to, and how many, is said by the operations' *groups*; a ticket is done when all its
 * groups are content, and tickets are done in order: so nobody sees a value that could still be lost, and replies that
 * wait (`server/output`) are released in order too.
 *
 * A peer that does not answer in its time, or whose link breaks, is not waited for any longer; what it was sent is
 * hinted (`cluster/hints`). What a replica says of an operation beyond "taken" (it had seen something else than the
 * coordinator) is handed to the owner of the ticket while that still holds the reply, and otherwise only repaired.
 */
import { breaks } from '../base/breaks.ts';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Context } from '../causality/context.ts';
import type { Clock } from '../ports/clock.ts';
import { SLOTS, STRETCHES, stretchOf } from '../ring/slots.ts';
import type { Basis } from '../store/replica.ts';
import { decodeState, type KeyState } from '../types/state.ts';
import { readBasis, skipOperation, skipRecord } from './frame-operations.ts';
import {
  ANSWERS_VERSION,
  FIRM_VERSION,
  OP_ANSWERS,
  OP_COMPARE,
  OP_FIRM,
  OP_HINT,
  OP_KIND,
  OP_REQUEST,
  OP_SYNC,
  OP_WRITE,
  OP_WRITE_AFTER,
  OP_WRITE_UPON,
  REFUSED_WRITE,
  REPLICATE,
  UNCLEAN_OPEN,
  UNCLEAN_STATE,
} from './messages.ts';
import type { Peer, Peers, Sent } from './peers.ts';

/** Unacknowledged bytes above which a peer gets no more frames, only hints. */
export const MAX_UNACKED_BYTES = 32 * 1024 * 1024;
const SPARE_WRITERS = 64;
const WRITER_BYTES = 16 * 1024;
/** Bytes of a frame's number; the ticket's follows. */
const SEQ_BYTES = 7;

/** The forwarded command that a write came of, and what it replied. */
export interface RequestName {
  readonly tag: number;
  readonly id: number;
  readonly reply: Buffer;
  /** Who has forwarded it, when taking the write may answer it. */
  readonly rider: Rider | null;
}

/** A forwarded command that is answered by its own write. */
export interface Rider {
  /** The node that has forwarded it. */
  readonly peer: Peer | null;
  /** Number of the frame that brings the write there; negative while there is none. */
  frame: number;
}

/** Done tickets whose operations are still known. */
const MAX_RECENT_TICKETS = 8192;
/** ... while they hold no more operations than this: some seconds' worth, longer than a peer takes to be given up. */
const MAX_RECENT_OPS = 60_000;
/** Of these, ones with forwarded commands that some owner has missed are known longer. */
const MAX_KEPT_TICKETS = 4096;

/** Peers of which `need` must acknowledge. */
export interface Quota {
  readonly peers: readonly Peer[];
  readonly need: number;
  /** For whom each of the peers stands in; null for those that count in their own right. */
  readonly standsFor: readonly (Peer | null)[];
  /** They acknowledge what they have on disk (`durable-writes`): without it the operation has failed. */
  readonly durable: boolean;
}

/** Who takes part in an operation. Shared by all operations that go to the same nodes. */
export interface Group {
  /** Who is sent it, and for which absent owner (null: in its own right). */
  readonly targets: readonly Peer[];
  /** Of a read: who is asked when those do not answer soon. */
  readonly spares: readonly Peer[];
  readonly hintFor: readonly (string | null)[];
  readonly quotas: readonly Quota[];
  /** Copies that this node itself counts for. */
  readonly self: number;
  /** Of the targets, who are to have it on disk before they acknowledge it. */
  readonly durable: readonly Peer[];
  /**
   * Its operations' replies rest on the state: then a stand-in counts once its owner has really failed. A suspicion may
   * be wrong, and on one side only.
   */
  readonly firm: boolean;
  /** Copies without which the operation has failed. */
  readonly min: number;
  /** Owners that can't be reached: what they miss is hinted here. */
  readonly absent: readonly string[];
  /** Number of the last ticket that it is in. */
  ticket: number;
}

export class Ticket {
  readonly n: number;
  readonly peers: Peer[] = [];
  readonly seqs: number[] = [];
  readonly groups: Group[] = [];
  /** Operations so far; their numbers are indices of the owner's table. */
  ops = 0;
  sealed = false;
  done = false;
  hasRequests = false;
  /** A client's own time is up: what there is must do. */
  expired: Group | null = null;
  /** An owner has missed something of it that came of a forwarded command. */
  kept = false;
  /** Who has been asked instead of somebody who was late, to compare what that one was to. */
  hedges: Peer[] | null = null;
  /** Replicas that have not applied a firm write, until it is decided what becomes of it. */
  refusals: Refusal[] | null = null;
  /** What the owner of the replies knows of the operations. */
  table: unknown = null;

  constructor(n: number) {
    this.n = n;
  }
}

/** A replica that had seen more of a key than a firm write was made on. */
export interface Refusal {
  readonly op: number;
  readonly peer: Peer;
  readonly db: number;
  readonly key: string;
}

export interface ReplicatorEvents {
  /** The ticket is done, and so are all before it. */
  done(ticket: Ticket): void;
  /** Nobody will ask for the ticket's operations any more. */
  forgotten(ticket: Ticket): void;
  /** Too few copies for a group's operations. */
  failed(ticket: Ticket, group: Group): void;
  /**
   * A replica had seen something else. `ticket` is null when its replies have gone out already; `theirs` is null when
   * the state is too large to come along.
   */
  unclean(peer: Peer, ticket: Ticket | null, op: number, db: number, key: string, theirs: KeyState | null): void;
  /** A replica has something else than what was read here, and what that is is not decided yet. */
  undecided(ticket: Ticket, op: number): void;
  /** An operation's groups; null when nobody waits for its reply. */
  groupsOf(ticket: Ticket, op: number): readonly Group[] | null;
  /** Too many have refused a firm write: it is to be undone. Nothing may be run before this returns. */
  refused(ticket: Ticket, refusal: Refusal): void;
  /** Something is queued outside of a tick's end. */
  late(): void;
  /** Who else may be asked to compare a key that this peer was asked for. */
  spare(peer: Peer, db: number, key: string): Peer | null;
  /** A replica lacks a write that stands. */
  behind(peer: Peer, db: number, key: string): void;
  /** These writes did not reach this owner: [start, end) of a record in buf. */
  missed(owner: string, buf: Buffer, start: number, request: RequestName | null): void;
}

export class Replicator {
  /** Tickets that are not done, oldest first. */
  private queue: Ticket[] = [];
  private current: Ticket | null = null;
  /** Done, and with operations of forwarded commands. */
  private readonly recent: Ticket[] = [];
  private readonly kept: Ticket[] = [];
  private recentOps = 0;
  private lastTicket = 0;
  /** The last ticket that is done, and those before it. */
  private doneUpTo = 0;
  /** The last ticket with a firm write to a key of each stretch of slots; of each slot, the lowest bits of its number. */
  private readonly openUntil = new Float64Array(STRETCHES);
  private readonly openBits = new Uint16Array(SLOTS);
  /** Slots of which other nodes' events have come while there were firm writes that are not decided. */
  private readonly doubtful = new Set<number>();
  /** Slots with writes that were refused and are not undone yet. */
  private readonly settling = new Map<number, Promise<void>>();
  /** Who waits for a ticket to be done. */
  private watchers: { n: number; tell: () => void }[] = [];
  private readonly spare: ByteWriter[] = [];
  private readonly peers: Peers;
  private readonly clock: Clock;
  private readonly events: ReplicatorEvents;
  private touched: Peer[] = [];
  stats = { frames: 0, writes: 0, compares: 0, unclean: 0, degraded: 0, failed: 0, hedged: 0 };

  constructor(peers: Peers, clock: Clock, events: ReplicatorEvents) {
    this.peers = peers;
    this.clock = clock;
    this.events = events;
  }

  /** Bytes of the largest frame of this tick. */
  get frameBytes(): number {
    let most = 0;
    for (let i = 0; i < this.touched.length; i++) {
      const { frame } = this.touched[i];
      if (frame !== null && frame.pos > most) most = frame.pos;
    }
    return most;
  }

  /** Tickets waiting for replicas. */
  get waiting(): number {
    return this.queue.length;
  }

  // ------------------------------------------------------------------ a tick's operations

  /** The ticket of this tick. */
  ticket(): Ticket {
    if (this.current === null) this.current = new Ticket(++this.lastTicket);
    return this.current;
  }

  /** The ticket of this tick, if anything has been put into it. */
  get open(): Ticket | null {
    return this.current;
  }

  /** Adds an operation of this group; its number. */
  begin(group: Group): number {
    const t = this.ticket();
    this.join(t, group);
    return t.ops++;
  }

  /** The operation has another group too (several keys). */
  join(t: Ticket, group: Group): void {
    if (group.ticket === t.n) return;
    group.ticket = t.n;
    t.groups.push(group);
  }

  private frameOf(peer: Peer, t: Ticket): ByteWriter {
    let w = peer.frame;
    if (w === null) {
      w = this.spare.pop() ?? new ByteWriter(WRITER_BYTES);
      w.reset();
      w.u53(peer.nextSeq);
      w.u53(t.n);
      peer.frame = w;
      peer.syncs = false;
      this.touched.push(peer);
    }
    return w;
  }

  private canSend(peer: Peer): boolean {
    return peer.link !== null && peer.unackedBytes < MAX_UNACKED_BYTES;
  }

  /**
   * One record, buf[start, end), for a group.
   * @param basis what it was made on: the context, or its hash, negative when the record says so itself
   * @param firm its reply rests on that
   */
  write(
    group: Group,
    op: number,
    buf: Buffer,
    start: number,
    end: number,
    basis: Basis,
    request: RequestName | null = null,
    firm = false,
  ): void {
    const t = this.ticket();
    const { targets, hintFor, absent } = group;
    this.stats.writes++;
    for (let i = 0; i < targets.length; i++) {
      const peer = targets[i];
      const owner = hintFor[i];
      if (!this.canSend(peer)) {
        this.events.missed(owner ?? peer.id, buf, start, request);
        if (request !== null) t.kept = true;
        continue;
      }
      const w = this.frameOf(peer, t);
      if (!peer.syncs && group.durable.includes(peer) && peer.link!.version >= FIRM_VERSION) {
        peer.syncs = true;
        w.u8(OP_SYNC);
        w.varint(0);
      }
      const refusable = firm && peer.link!.version >= FIRM_VERSION;
      const answers =
        request !== null &&
        request.rider !== null &&
        request.rider.peer === peer &&
        peer.link!.version >= ANSWERS_VERSION &&
        isEnough(group, peer);
      if (answers) request.rider!.frame = peer.nextSeq;
      const before = typeof basis === 'number' ? basis : refusable ? null : basis.hash();
      w.u8(
        (before === null ? OP_WRITE_UPON : before < 0 ? OP_WRITE : OP_WRITE_AFTER) |
          (owner === null ? 0 : OP_HINT) |
          (request === null ? 0 : OP_REQUEST) |
          (answers ? OP_ANSWERS : 0) |
          (refusable ? OP_FIRM : 0),
      );
      w.varint(op);
      if (owner !== null) w.str(owner);
      if (request !== null) {
        w.u32(request.tag);
        w.u53(request.id);
        w.varint(request.reply.length);
        w.bytes(request.reply);
      }
      if (before === null) (basis as Context).encode(w);
      else if (before >= 0) w.u53(before);
      w.copy(buf, start, end);
    }
    if (absent.length > 0 && request !== null) t.kept = true;
    for (let i = 0; i < absent.length; i++) this.events.missed(absent[i], buf, start, request);
  }

  /** Asks a group's peers whether they have seen of a key what this node has. */
  compare(group: Group, op: number, db: number, buf: Buffer, start: number, end: number, hash: number): void {
    const t = this.ticket();
    this.stats.compares++;
    const { targets } = group;
    for (let i = 0; i < targets.length; i++) {
      const peer = targets[i];
      if (!this.canSend(peer)) continue;
      const w = this.frameOf(peer, t);
      w.u8(OP_COMPARE);
      w.varint(op);
      w.u8(db);
      const n = end - start;
      w.varint(n);
      w.copy(buf, start, end);
      w.u53(hash);
    }
  }

  /**
   * The tick is over: frames go out. Returns the ticket that this tick's replies wait for: its own, or the last one
   * outstanding, or null. Whoever holds the replies calls `check`.
   */
  seal(): Ticket | null {
    const t = this.current;
    if (t === null) return this.queue.length > 0 ? this.queue[this.queue.length - 1] : null;
    this.current = null;
    t.sealed = true;
    this.queue.push(t);
    const now = this.clock.monotonic();
    const listened = this.peers.listened(now);
    for (const peer of this.touched) {
      const w = peer.frame!;
      peer.frame = null;
      const seq = peer.nextSeq++;
      t.peers.push(peer);
      t.seqs.push(seq);
      this.stats.frames++;
      peer.unacked.push({ seq, w, at: now, listened, hedged: false });
      peer.unackedBytes += w.pos;
      if (peer.link === null || !peer.link.send(REPLICATE, w.buf, 0, w.pos)) this.giveUp(peer, seq);
    }
    this.touched.length = 0;
    // nobody to ask: done at once, unless others are before it. What has failed waits until its replies are held, for
    // they are not to go out (`check` is called when they are)
    for (let g = 0; g < t.groups.length; g++) if (this.copies(t, t.groups[g]) !== CONTENT) return t;
    this.check();
    return t.done ? null : t;
  }

  // ------------------------------------------------------------------ acknowledgements

  /** Takes an ACK frame. */
  takeAck(peer: Peer, r: ByteReader): void {
    const seq = r.u53();
    const refused = r.u8() === 1;
    const now = this.clock.monotonic();
    let latency: number | null = null;
    const { unacked } = peer;
    let drop = 0;
    while (drop < unacked.length && unacked[drop].seq <= seq) {
      const sent = unacked[drop++];
      latency = now - sent.at;
      if (refused) this.hintFrame(peer, sent.w);
      this.recycle(peer, sent.w);
    }
    if (drop === unacked.length) unacked.length = 0;
    else if (drop > 0) unacked.splice(0, drop);
    if (refused) {
      this.peers.refuses(peer);
      if (seq > peer.failedUpTo) peer.failedUpTo = seq;
    }
    // what it says of single operations comes first: the tickets must not be done before all of it has been heard
    for (let n = r.varint(); n > 0; n--) this.takeUnclean(peer, r);
    if (!refused && seq > peer.acked && seq > peer.failedUpTo) peer.acked = seq;
    this.peers.answered(peer, now, latency);
    this.check();
  }

  private takeUnclean(peer: Peer, r: ByteReader): void {
    const n = r.u53();
    const op = r.varint();
    const kind = r.u8();
    const db = r.u8();
    const key = r.str();
    const ticket = this.find(n);
    if (kind === REFUSED_WRITE) {
      if (ticket === null || ticket.done) this.events.behind(peer, db, key);
      else (ticket.refusals ??= []).push({ op, peer, db, key });
      return;
    }
    if (kind === UNCLEAN_OPEN) {
      if (ticket !== null && !ticket.done) this.events.undecided(ticket, op);
      return;
    }
    const theirs = kind === UNCLEAN_STATE ? decodeState(r) : null;
    this.stats.unclean++;
    this.events.unclean(peer, ticket !== null && !ticket.done ? ticket : null, op, db, key, theirs);
  }

  private recycle(peer: Peer, w: ByteWriter): void {
    peer.unackedBytes -= w.pos;
    if (this.spare.length < SPARE_WRITERS && w.buf.length <= 16 * WRITER_BYTES) this.spare.push(w);
  }

  /** What a peer was sent up to `seq` and has not taken is hinted, and nobody waits for it. */
  giveUp(peer: Peer, seq: number): void {
    const { unacked } = peer;
    let drop = 0;
    while (drop < unacked.length && unacked[drop].seq <= seq) {
      const sent = unacked[drop++];
      this.hedge(peer, sent);
      this.hintFrame(peer, sent.w);
      this.recycle(peer, sent.w);
    }
    unacked.splice(0, drop);
    if (seq > peer.failedUpTo) peer.failedUpTo = seq;
  }

  /** A client that is in the ticket has waited as long as it wanted to. */
  expire(t: Ticket, group: Group): void {
    if (t.done) return;
    t.expired = group;
    this.check();
  }

  /** The peer's link is gone, or it has gone silent. */
  lost(peer: Peer): void {
    this.giveUp(peer, peer.nextSeq - 1);
    this.check();
  }

  /** Peers that have had their time. */
  sweep(now: number): void {
    const listened = breaks.givesUpAfterStall ? now : this.peers.listened(now);
    const sentAt = (s: Sent) => (breaks.givesUpAfterStall ? s.at : s.listened);
    for (const peer of this.peers.byId.values()) {
      const oldest = peer.unacked[0];
      if (oldest !== undefined) {
        const hedgeMs = this.peers.detector.hedgeMs(peer.id);
        for (const s of peer.unacked) if (now - s.at > hedgeMs) this.hedge(peer, s);
      }
      if (oldest === undefined || listened - sentAt(oldest) <= this.peers.timeoutMs(peer)) continue;
      this.peers.timedOut(peer, now, oldest.at);
      // it may still take them; but the keys are hinted, for it may not
      let seq = oldest.seq;
      for (const s of peer.unacked) if (listened - sentAt(s) > this.peers.timeoutMs(peer)) seq = s.seq;
      this.giveUp(peer, seq);
    }
    this.check();
  }

  /** Forgets the older half of what is done. */
  private dropRecent(): void {
    for (const t of this.recent.splice(0, Math.ceil(this.recent.length / 2))) {
      this.recentOps -= t.ops;
      if (t.kept) this.kept.push(t);
      else this.events.forgotten(t);
    }
    if (this.kept.length > MAX_KEPT_TICKETS) this.kept.splice(0, this.kept.length - MAX_KEPT_TICKETS);
  }

  /** A ticket that is open, or that has been done not long ago. */
  private find(n: number): Ticket | null {
    if (this.queue.length > 0 && n >= this.queue[0].n) return this.queue[n - this.queue[0].n] ?? null;
    return this.recent.find((t) => t.n === n) ?? this.kept.find((t) => t.n === n) ?? null;
  }

  /** Tickets whose replies have not gone out, oldest first. */
  unanswered(): readonly Ticket[] {
    return this.queue;
  }

  /** Tickets whose operations may still have to be undone, newest first. */
  *undoable(): IterableIterator<Ticket> {
    for (let i = this.queue.length - 1; i >= 0; i--) yield this.queue[i];
    for (let i = this.recent.length - 1; i >= 0; i--) yield this.recent[i];
    for (let i = this.kept.length - 1; i >= 0; i--) yield this.kept[i];
  }

  /** Nobody waits for this peer any longer. */
  hedgeAll(peer: Peer): void {
    for (const s of peer.unacked.slice()) this.hedge(peer, s);
  }

  /** What a late or lost frame was to compare is compared with somebody else. */
  private hedge(peer: Peer, sent: Sent): void {
    if (sent.hedged) return;
    sent.hedged = true;
    const { buf, pos } = sent.w;
    const r = new ByteReader(buf, SEQ_BYTES, pos);
    const ticket = this.find(r.u53());
    if (ticket === null || ticket.done) return;
    const frames = new Map<Peer, ByteWriter>();
    while (!r.done) {
      const at = r.pos;
      const kind = r.u8();
      r.varint();
      if ((kind & OP_KIND) !== OP_COMPARE) {
        skipOperation(kind, r);
        continue;
      }
      const db = r.u8();
      const key = r.str();
      r.u53();
      const spare = this.events.spare(peer, db, key);
      if (spare === null || !this.canSend(spare)) continue;
      let w = frames.get(spare);
      if (w === undefined) {
        w = this.spare.pop() ?? new ByteWriter(WRITER_BYTES);
        w.reset();
        w.u53(0);
        w.u53(ticket.n);
        frames.set(spare, w);
      }
      w.copy(buf, at, r.pos);
    }
    for (const [spare, w] of frames) this.sendLate(ticket, spare, w);
  }

  /** One more frame of a ticket that has been sealed. */
  private sendLate(ticket: Ticket, peer: Peer, w: ByteWriter): void {
    // the tick's own frame, if there is one, goes out later: numbers follow the order on the link
    const open = peer.frame;
    const seq = peer.nextSeq++;
    if (open !== null) setSeq(open, peer.nextSeq);
    setSeq(w, seq);
    this.stats.hedged++;
    ticket.hedges ??= [];
    if (!ticket.hedges.includes(peer)) ticket.hedges.push(peer);
    const at = this.clock.monotonic();
    peer.unacked.push({ seq, w, at, listened: this.peers.listened(at), hedged: true });
    peer.unackedBytes += w.pos;
    const k = ticket.peers.indexOf(peer);
    if (k < 0) {
      ticket.peers.push(peer);
      ticket.seqs.push(seq);
    } else ticket.seqs[k] = seq;
    if (!peer.link!.send(REPLICATE, w.buf, 0, w.pos)) this.giveUp(peer, seq);
    else this.events.late();
  }

  /** What a peer was sent in this frame and has not taken is hinted. */
  private hintFrame(peer: Peer, w: ByteWriter): void {
    const { buf, pos } = w;
    const r = new ByteReader(buf, SEQ_BYTES, pos);
    const ticket = this.find(r.u53());
    while (!r.done) {
      const kind = r.u8();
      r.varint();
      if (kind === OP_SYNC || (kind & OP_KIND) === OP_COMPARE) {
        skipOperation(kind, r);
        continue;
      }
      const owner = kind & OP_HINT ? r.str() : peer.id;
      let request: RequestName | null = null;
      if (kind & OP_REQUEST) {
        const tag = r.u32();
        const id = r.u53();
        const end = r.varint() + r.pos;
        request = { tag, id, reply: Buffer.from(buf.subarray(r.pos, end)), rider: null };
        r.pos = end;
        if (ticket !== null) ticket.kept = true;
      }
      readBasis(kind, r);
      this.events.missed(owner, buf, r.pos, request);
      skipRecord(r);
    }
  }

  // ------------------------------------------------------------------ who is content

  /** Finishes what can be finished, in order. */
  check(): void {
    let done = 0;
    while (done < this.queue.length && this.isContent(this.queue[done])) {
      this.queue[done].done = true;
      done++;
    }
    if (done === 0) return;
    const finished = this.queue.splice(0, done);
    this.doneUpTo = finished[done - 1].n;
    for (const t of finished) {
      if (!t.hasRequests) continue;
      this.recent.push(t);
      this.recentOps += t.ops;
    }
    if (this.recent.length > MAX_RECENT_TICKETS || this.recentOps > MAX_RECENT_OPS) this.dropRecent();
    if (this.doubtful.size > 0)
      for (const slot of this.doubtful) if (this.openTicket(slot) === 0) this.doubtful.delete(slot);
    for (const t of finished) this.events.done(t);
    if (this.watchers.length === 0) return;
    const told = this.watchers.filter((x) => x.n <= this.doneUpTo);
    this.watchers = this.watchers.filter((x) => x.n > this.doneUpTo);
    for (const { tell } of told) tell();
  }

  // ------------------------------------------------------------------ what is not decided

  /** This tick writes to a key of the slot, and the reply rests on what was there. */
  opens(slot: number): void {
    // what has come until now has been seen
    if (this.doubtful.size > 0 && this.openTicket(slot) === 0) this.doubtful.delete(slot);
    const { n } = this.ticket();
    this.openUntil[stretchOf(slot)] = n;
    this.openBits[slot] = n & TICKET_BITS;
  }

  /** The last ticket with a firm write to a key of the slot while that is not decided, or 0. */
  private openTicket(slot: number): number {
    if (this.openUntil[stretchOf(slot)] <= this.doneUpTo) return 0;
    // its bits may be those of a ticket of long ago, that looks like one of now: then it is waited for a little, in vain
    const n = this.lastTicket - ((this.lastTicket - this.openBits[slot]) & TICKET_BITS);
    return n > this.doneUpTo ? n : 0;
  }

  /** Another node's event has changed a key of the slot. */
  hasNews(slot: number): void {
    if (this.openTicket(slot) !== 0) this.doubtful.add(slot);
  }

  /** Is there a write to a key of the slot here that will probably have to be undone, having missed news? */
  isDoubtful(slot: number): boolean {
    if (this.doubtful.size > 0 && this.doubtful.has(slot) && this.openTicket(slot) !== 0) return true;
    return this.isSettling(slot);
  }

  /** Is there a write to a key of the slot here that may still have to be undone? */
  isOpen(slot: number): boolean {
    return this.openTicket(slot) !== 0 || this.isSettling(slot);
  }

  /** Has a write to a key of the slot been refused, and is it not undone yet? */
  isSettling(slot: number): boolean {
    return this.settling.size > 0 && this.settling.has(slot);
  }

  /** Writes to the slot's keys have been refused, and will be undone by then. */
  settles(slot: number, settled: Promise<void>): void {
    const all = this.settling.has(slot) ? Promise.all([this.settling.get(slot), settled]).then(() => {}) : settled;
    this.settling.set(slot, all);
    void all.then(() => {
      if (this.settling.get(slot) === all) this.settling.delete(slot);
    });
  }

  /** Resolves when all is decided, and undone if need be, that has been written to the slot's keys by now. */
  async decided(slot: number): Promise<void> {
    const n = this.openTicket(slot);
    if (n > 0) await new Promise<void>((tell) => this.watchers.push({ n, tell }));
    await this.settling.get(slot);
  }

  /** What becomes of the ticket's refused writes: true when that is known of all. */
  private decide(t: Ticket): boolean {
    const doomed: Refusal[] = [];
    const standing = new Set<number>();
    const seen = new Set<number>();
    for (const refusal of t.refusals!) {
      const { op } = refusal;
      if (seen.has(op)) continue;
      seen.add(op);
      const groups = this.events.groupsOf(t, op);
      if (groups === null) continue;
      const verdict = breaks.repliesDespiteNews || this.verdict(t, op, groups);
      if (verdict === null) return false;
      if (verdict) standing.add(op);
      else doomed.push(refusal);
    }
    const refusals = t.refusals!;
    t.refusals = null;
    for (const x of refusals) if (standing.has(x.op)) this.events.behind(x.peer, x.db, x.key);
    for (const x of doomed) this.events.refused(t, x);
    return true;
  }

  /** Have enough replicas taken an operation in spite of the refusals? Null while that can't be said. */
  private verdict(t: Ticket, op: number, groups: readonly Group[]): boolean | null {
    let open = false;
    for (const group of groups)
      for (const { peers, need, standsFor } of group.quotas) {
        let got = 0;
        let asked = 0;
        for (let i = 0; i < peers.length; i++) {
          const peer = peers[i];
          const k = t.peers.indexOf(peer);
          if (k < 0 || peer.failedUpTo >= t.seqs[k]) continue;
          const owner = standsFor[i];
          if (group.firm && owner !== null && hasAcked(t, owner)) continue;
          if (t.refusals!.some((x) => x.op === op && x.peer === peer)) continue;
          if (peer.acked >= t.seqs[k]) got++;
          else if (peer.mayAnswer && t.expired !== group) asked++;
        }
        if (got >= need) continue;
        if (got + asked < need) return false;
        open = true;
      }
    return open ? null : true;
  }

  /** Copies that a group has, or -1 while it may still get what it needs. */
  private copies(t: Ticket, group: Group): number {
    const { quotas } = group;
    let acks = 0;
    let short = false;
    for (let q = 0; q < quotas.length; q++) {
      const { peers, need, standsFor } = quotas[q];
      let got = 0;
      let open = 0;
      for (let i = 0; i < peers.length; i++) {
        const peer = peers[i];
        const k = t.peers.indexOf(peer);
        if (k < 0) continue;
        const seq = t.seqs[k];
        if (peer.failedUpTo >= seq) continue;
        const owner = standsFor[i];
        if (group.firm && owner !== null && !hasFailed(t, owner)) {
          if (!hasAcked(t, owner)) open++;
          continue;
        }
        if (peer.acked >= seq) got++;
        else if (peer.mayAnswer && t.expired !== group) open++;
      }
      if (t.hedges !== null && got < need)
        for (const peer of group.spares) {
          if (!t.hedges.includes(peer)) continue;
          const seq = t.seqs[t.peers.indexOf(peer)];
          if (peer.failedUpTo >= seq) continue;
          if (peer.acked >= seq) got++;
          else if (peer.mayAnswer && t.expired !== group) open++;
        }
      if (got > acks) acks = got;
      if (got >= need) continue;
      if (open > 0) return -1;
      short = true;
    }
    return short ? acks + group.self : CONTENT;
  }

  private isContent(t: Ticket): boolean {
    const { groups } = t;
    let short = false;
    for (let g = 0; g < groups.length; g++) {
      const copies = this.copies(t, groups[g]);
      if (copies < 0) return false;
      if (copies !== CONTENT) short = true;
    }
    if (t.refusals !== null && !this.decide(t)) return false;
    if (short) this.settleShort(t);
    return true;
  }

  private lacksDurable(t: Ticket, group: Group): boolean {
    return group.quotas.some(
      ({ peers, need, durable }) => durable && peers.filter((x) => hasAcked(t, x)).length < need,
    );
  }

  /** Nobody is left to wait for: what there is must do, or it has failed. */
  private settleShort(t: Ticket): void {
    for (const group of t.groups) {
      const copies = this.copies(t, group);
      if (copies === CONTENT) continue;
      this.stats.degraded++;
      if (copies > 0 && copies >= group.min && !this.lacksDurable(t, group)) continue;
      this.stats.failed++;
      this.events.failed(t, group);
    }
  }
}

/** What this peer was sent of the ticket will not be acknowledged any more, or it was sent nothing. */
function hasFailed(t: Ticket, peer: Peer): boolean {
  const k = t.peers.indexOf(peer);
  return k < 0 || peer.link === null || peer.failedUpTo >= t.seqs[k];
}

function hasAcked(t: Ticket, peer: Peer): boolean {
  const k = t.peers.indexOf(peer);
  return k >= 0 && peer.failedUpTo < t.seqs[k] && peer.acked >= t.seqs[k];
}

/** Has a write of this group, with this node and the peer, all the copies that it needs? */
function isEnough({ quotas }: Group, peer: Peer): boolean {
  for (let q = 0; q < quotas.length; q++) {
    const { peers, need, standsFor, durable } = quotas[q];
    if (durable || need > 1) return false;
    const i = peers.indexOf(peer);
    if (i < 0 || standsFor[i] !== null) return false;
  }
  return true;
}

/** Puts another number at the head of a frame. */
function setSeq(w: ByteWriter, seq: number): void {
  const end = w.pos;
  w.pos = 0;
  w.u53(seq);
  w.pos = end;
}

const CONTENT = 1_000_000;
/** Of a ticket's number so many bits are kept for each slot. */
const TICKET_BITS = 0xffff;
