/**
 * The other end of replication: takes the frames of coordinators, applies what they hold, and acknowledges.
 *
 * Frames of one peer are taken in order. One that needs keys from disk waits for them, and those behind it wait too, so
 * an acknowledgement is a number. It goes out at the end of the tick, or, where the policy is `always`, when the journal
 * has it on disk.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Log } from '../ports/log.ts';
import { slotOf, slotOfBytes } from '../ring/slots.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import { applyRecord, keyOfRecord } from '../store/replica.ts';
import type { Store } from '../store/store.ts';
import { encodeState, type KeyState, KeyState as State } from '../types/state.ts';
import { readBasis, skipRecord, skipRequest } from './frame-operations.ts';
import {
  ACK,
  OP_ANSWERS,
  OP_COMPARE,
  OP_FIRM,
  OP_HINT,
  OP_KIND,
  OP_REQUEST,
  OP_SYNC,
  REFUSED_WRITE,
  UNCLEAN_LARGE,
  UNCLEAN_OPEN,
  UNCLEAN_STATE,
} from './messages.ts';
import type { Peer } from './peers.ts';
import { type Requests, replyBytes } from './requests.ts';

/** A state of more bytes is not sent along with an ACK. */
const MAX_UNCLEAN_BYTES = 64 * 1024;

/** What is to be acknowledged to one peer. */
interface Debt {
  peer: Peer;
  seq: number;
  refused: boolean;
  unclean: number;
  w: ByteWriter;
  /** Frames that wait for keys from disk, copied. */
  waiting: Buffer[];
  /** A frame is to be on disk before it is acknowledged; acknowledgements that wait for that, and those behind them. */
  sync: boolean;
  syncing: boolean;
  unsynced: Buffer[];
  loading: boolean;
  listed: boolean;
  /** To be called when nothing waits any more. */
  after: (() => void)[];
}

export interface ReceiverEvents {
  /** A hint for an absent owner came with this write. */
  hint(owner: string, key: KeyPlace): void;
  /** Is there a write to a key of the slot here that may still have to be undone? */
  isOpen(slot: number): boolean;
  /** A write was taken that came of this command of ours: with its coordinator and this node it has enough copies. */
  answered(peer: Peer, tag: number, id: number, buf: Buffer, start: number, end: number): void;
  /** There is something to acknowledge at the end of the tick. */
  wake(): void;
}

export class Receiver {
  private readonly store: Store;
  private readonly log: Log;
  private readonly requests: Requests;
  private readonly events: ReceiverEvents;
  private readonly debts = new Map<Peer, Debt>();
  private due: Debt[] = [];
  /** Acknowledgements that wait for a journal batch. */
  private held: { batch: number; peer: Peer; bytes: Buffer }[] = [];
  private readonly head = new ByteWriter(256);
  stats = { frames: 0, writes: 0, compares: 0, unclean: 0, refused: 0 };

  constructor(parts: { store: Store; log: Log; requests: Requests; events: ReceiverEvents }) {
    this.requests = parts.requests;
    this.store = parts.store;
    this.log = parts.log;
    this.events = parts.events;
  }

  private debtOf(peer: Peer): Debt {
    let d = this.debts.get(peer);
    if (d === undefined) {
      d = {
        peer,
        seq: 0,
        refused: false,
        unclean: 0,
        w: new ByteWriter(256),
        waiting: [],
        sync: false,
        syncing: false,
        unsynced: [],
        loading: false,
        listed: false,
        after: [],
      };
      this.debts.set(peer, d);
    }
    return d;
  }

  /** The peer's link is gone: what it was owed it will not get. */
  forget(peer: Peer): void {
    const d = this.debts.get(peer);
    if (d !== undefined) d.waiting.length = 0;
    this.debts.delete(peer);
    this.due = this.due.filter((x) => x !== d);
  }

  /** Takes a REPLICATE frame. */
  take(peer: Peer, buf: Buffer, start: number, end: number): void {
    const d = this.debtOf(peer);
    this.stats.frames++;
    if (d.loading || this.mustLoad(buf, start, end)) {
      d.waiting.push(Buffer.from(buf.subarray(start, end)));
      if (!d.loading) void this.loadThenTake(d);
      return;
    }
    this.apply(d, buf, start, end);
  }

  /** Keys of the frame that are not resident. */
  private missing(buf: Buffer, start: number, end: number, stopAtFirst: boolean): KeyPlace[] {
    const { keys } = this.store;
    const places: KeyPlace[] = [];
    const r = new ByteReader(buf, start + 14, end);
    while (!r.done) {
      const kind = r.u8();
      r.varint();
      if (kind === OP_SYNC) continue;
      let place: KeyPlace;
      if ((kind & OP_KIND) === OP_COMPARE) {
        const db = keys.databases[r.u8()];
        const key = r.str();
        r.u53();
        place = { db, key, slot: slotOf(key) };
      } else {
        if (kind & OP_HINT) r.str();
        if (kind & OP_REQUEST) skipRequest(r);
        readBasis(kind, r);
        place = keyOfRecord(keys, buf, r.pos);
        skipRecord(r);
      }
      if (keys.isResident(place.db, place.key, place.slot)) continue;
      places.push(place);
      if (stopAtFirst) break;
    }
    return places;
  }

  private mustLoad(buf: Buffer, start: number, end: number): boolean {
    // with everything in memory there is nothing to look for
    if (this.store.residency.isWhole) return false;
    return this.missing(buf, start, end, true).length > 0;
  }

  private async loadThenTake(d: Debt): Promise<void> {
    d.loading = true;
    try {
      while (d.waiting.length > 0) {
        const places = d.waiting.slice(0, 64).flatMap((b) => this.missing(b, 0, b.length, false));
        if (places.length > 0) await this.store.residency.load(places);
        const frame = d.waiting.shift();
        if (frame === undefined) break;
        if (this.missing(frame, 0, frame.length, true).length > 0) {
          d.waiting.unshift(frame);
          continue;
        }
        this.apply(d, frame, 0, frame.length);
      }
    } catch (error) {
      this.log.error({ error: String(error) }, 'keys for a replicated write could not be read');
      // not acknowledged: the coordinator hints it
      d.waiting.length = 0;
    } finally {
      d.loading = false;
    }
    for (const tell of d.after.splice(0)) tell();
  }

  /** Calls back when all frames that the peer has sent so far are applied. */
  whenTaken(peer: Peer, tell: () => void): void {
    const d = this.debts.get(peer);
    if (d === undefined || (!d.loading && d.waiting.length === 0)) tell();
    else d.after.push(tell);
  }

  private apply(d: Debt, buf: Buffer, start: number, end: number): void {
    const { keys, journal } = this.store;
    const r = new ByteReader(buf, start, end);
    const seq = r.u53();
    const ticket = r.u53();
    if (journal.failure !== null) {
      this.stats.refused++;
      d.refused = true;
    } else {
      while (!r.done) {
        const kind = r.u8();
        const op = r.varint();
        if (kind === OP_SYNC) {
          d.sync = true;
          continue;
        }
        if ((kind & OP_KIND) === OP_COMPARE) {
          const db = keys.databases[r.u8()];
          const n = r.varint();
          const at = r.skip(n);
          const hash = r.u53();
          this.stats.compares++;
          const slot = slotOfBytes(buf, at, at + n);
          if (keys.hashOf(db, buf, at, at + n, slot) === hash) continue;
          const key = buf.latin1Slice(at, at + n);
          const o = keys.object(db, key, slot);
          if (this.events.isOpen(slot)) this.unclean(d, ticket, op, UNCLEAN_OPEN, db.index, key, null);
          else this.unclean(d, ticket, op, UNCLEAN_STATE, db.index, key, o?.toState() ?? new State());
          continue;
        }
        const owner = kind & OP_HINT ? r.str() : null;
        let tag = 0;
        let id = 0;
        let reply = 0;
        let replyEnd = 0;
        if (kind & OP_REQUEST) {
          tag = r.u32();
          id = r.u53();
          const n = r.varint();
          reply = r.pos;
          r.pos = replyEnd = reply + n;
        }
        const basis = readBasis(kind, r);
        const at = r.pos;
        const stop = at + 4 + buf.readUInt32LE(at);
        this.stats.writes++;
        const unclean = applyRecord(keys, buf, at, stop, basis, (kind & OP_FIRM) !== 0);
        r.pos = stop;
        if (unclean !== null) {
          const { key, before } = unclean;
          this.unclean(d, ticket, op, before === null ? REFUSED_WRITE : UNCLEAN_STATE, key.db.index, key.key, before);
          if (before === null) continue;
        }
        if (kind & OP_REQUEST) {
          this.note(d.peer.id, tag, id, buf, reply, replyEnd);
          if (kind & OP_ANSWERS) this.events.answered(d.peer, tag, id, buf, reply, replyEnd);
        }
        if (owner !== null) this.events.hint(owner, keyOfRecord(keys, buf, at));
      }
    }
    d.seq = seq;
    if (!d.listed) {
      d.listed = true;
      this.due.push(d);
    }
    this.events.wake();
  }

  /** Remembers the forwarded command that a write came of. Of two that have run it the first to be heard of is named. */
  private note(by: string, tag: number, id: number, buf: Buffer, start: number, end: number): void {
    const known = this.requests.get(tag, id);
    if (known === undefined || known.by === by) this.requests.note(tag, id, by, replyBytes(buf, start, end));
  }

  private unclean(
    d: Debt,
    ticket: number,
    op: number,
    kind: number,
    db: number,
    key: string,
    state: KeyState | null,
  ): void {
    this.stats.unclean++;
    d.unclean++;
    const { w } = d;
    w.u53(ticket);
    w.varint(op);
    const large = state !== null && state.bytes > MAX_UNCLEAN_BYTES;
    w.u8(large ? UNCLEAN_LARGE : kind);
    w.u8(db);
    w.str(key);
    if (state !== null && !large) encodeState(w, state, false);
  }

  /** Frames wait for keys from disk. */
  get isBehind(): boolean {
    for (const d of this.debts.values()) if (d.waiting.length > 0 || d.loading) return true;
    return false;
  }

  /** The tick is over: what is owed goes out, with everything else for the same peers. */
  tickEnd(): void {
    if (this.due.length === 0) return;
    const batch = this.store.journal.tickEnd();
    const { due } = this;
    this.due = [];
    const { head } = this;
    for (const d of due) {
      d.listed = false;
      head.reset();
      head.u53(d.seq);
      head.u8(d.refused ? 1 : 0);
      head.varint(d.unclean);
      if (d.unclean > 0) head.bytes(d.w.buf.subarray(0, d.w.pos));
      d.w.reset();
      d.unclean = 0;
      d.refused = false;
      const { sync } = d;
      d.sync = false;
      // under `always` all of it is on disk by then
      if (batch === 0 && (sync || d.syncing)) {
        d.unsynced.push(Buffer.from(head.buf.subarray(0, head.pos)));
        if (!d.syncing) void this.syncThenAck(d);
      } else if (batch > 0) this.held.push({ batch, peer: d.peer, bytes: Buffer.from(head.buf.subarray(0, head.pos)) });
      else d.peer.link?.send(ACK, head.buf, 0, head.pos);
    }
  }

  /** Acknowledges what is on disk, in order. What the disk refuses is not acknowledged: the coordinator hints it. */
  private async syncThenAck(d: Debt): Promise<void> {
    const { journal } = this.store;
    d.syncing = true;
    while (d.unsynced.length > 0) {
      const n = d.unsynced.length;
      let ok = true;
      try {
        await journal.flush();
        await journal.sync(true);
      } catch (error) {
        ok = false;
        this.log.warn({ error: String(error) }, 'a durable write could not be synced, and is not acknowledged');
      }
      const acks = d.unsynced.splice(0, n);
      if (ok && this.debts.get(d.peer) === d) for (const bytes of acks) d.peer.link?.send(ACK, bytes, 0, bytes.length);
    }
    d.syncing = false;
  }

  /** The journal has everything up to this batch. */
  committed(upTo: number): void {
    while (this.held.length > 0 && this.held[0].batch <= upTo) {
      const { peer, bytes } = this.held.shift()!;
      peer.link?.send(ACK, bytes, 0, bytes.length);
    }
  }
}
