/**
 * Whole states on their way to other replicas: read repair, hints, handoff and exchange all end here.
 *
 * A peer's queue is a set of keys and not of values: what is sent is what the key is when its turn comes. The receiver
 * joins, and says so when what it joined is on disk. Only then does a sender drop a hint or its own copy. The window is
 * bounded, and so is what waits: beyond the bound the exchange finds what was left out.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import { StoredKey } from '../store/object.ts';
import { decodeSimple, encodeObject } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import { decodeState, encodeState, KeyState } from '../types/state.ts';
import { STATES, STATES_TAKEN } from './messages.ts';
import type { Peer, Peers } from './peers.ts';

/** Bytes of one frame of states, and frames under way to one peer. */
const FRAME_BYTES = 128 * 1024;
const WINDOW_FRAMES = 4;
/** Frames whose answer is this late, in ms, are sent again. */
const RETRY_MS = 5000;

const DURABLE = 1;
const REPLACE = 2;

interface Want {
  place: KeyPlace;
  durable: boolean;
  replace: boolean;
  done: ((ok: boolean) => void) | null;
}

/** What came of one key. */
interface Item {
  place: KeyPlace;
  replace: boolean;
  /** Where its state is in the frame. */
  start: number;
  end: number;
  /** The state, read as a simple register, which most are; else in full. */
  simple: StoredKey | null;
  state: KeyState | null;
}

interface Queue {
  wants: Map<string, Want>;
  underWay: Map<number, { wants: Want[]; at: number }>;
  busy: boolean;
}

export class States {
  private readonly queues = new Map<Peer, Queue>();
  /** Frames that were given up and may still arrive. */
  private readonly doubtful = new Map<number, Peer>();
  private lastId = 0;
  private readonly store: Store;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly clock: Clock;
  private readonly log: Log;
  /** Told of each key that came with something new. */
  onNews: (place: KeyPlace) => void = () => {};
  stats = { sent: 0, bytes: 0, received: 0, news: 0 };

  constructor(parts: { store: Store; peers: Peers; clock: Clock; log: Log }) {
    this.store = parts.store;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.clock = parts.clock;
    this.log = parts.log;
  }

  /** Keys that wait to be sent or confirmed. */
  get outstanding(): number {
    let n = this.doubtful.size;
    for (const q of this.queues.values()) {
      n += q.wants.size;
      for (const u of q.underWay.values()) n += u.wants.length;
    }
    return n;
  }

  /**
   * Sends a key's state, as it is when its turn comes.
   * @param durable `done` is called when the peer has it on disk, and not just in memory
   */
  send(
    peer: Peer,
    place: KeyPlace,
    options: { durable?: boolean; replace?: boolean; done?: (ok: boolean) => void } = {},
  ): void {
    let q = this.queues.get(peer);
    if (q === undefined) {
      q = { wants: new Map(), underWay: new Map(), busy: false };
      this.queues.set(peer, q);
    }
    const name = `${place.db.index}:${place.key}`;
    const known = q.wants.get(name);
    const done = options.done ?? null;
    if (known !== undefined) {
      known.durable ||= options.durable ?? false;
      if (done !== null) {
        const before = known.done;
        known.done =
          before === null
            ? done
            : (ok) => {
                before(ok);
                done(ok);
              };
      }
      return;
    }
    q.wants.set(name, { place, durable: options.durable ?? false, replace: options.replace ?? false, done });
    void this.pump(peer, q);
  }

  /** Sends a key; resolves when all have it, or when one has not. */
  async sendToAll(owners: Peer[], place: KeyPlace, durable: boolean): Promise<boolean> {
    const oks = await Promise.all(
      owners.map((peer) => new Promise<boolean>((resolve) => this.send(peer, place, { durable, done: resolve }))),
    );
    return oks.every((ok) => ok);
  }

  private async pump(peer: Peer, q: Queue): Promise<void> {
    if (q.busy) return;
    q.busy = true;
    try {
      // what a tick asks for goes together
      await Promise.resolve();
      while (q.wants.size > 0 && q.underWay.size < WINDOW_FRAMES) {
        if (peer.link === null) {
          this.lost(peer);
          break;
        }
        const batch: Want[] = [];
        for (const [name, want] of q.wants) {
          q.wants.delete(name);
          batch.push(want);
          if (batch.length >= 512) break;
        }
        const cold = batch.map((b) => b.place).filter((p) => !this.keys.isResident(p.db, p.key, p.slot));
        if (cold.length > 0) await this.store.residency.load(cold);
        this.sendBatch(peer, q, batch);
      }
    } catch (error) {
      this.log.warn({ error: String(error) }, 'states could not be sent');
    } finally {
      q.busy = false;
    }
  }

  private sendBatch(peer: Peer, q: Queue, batch: Want[]): void {
    const w = new ByteWriter(FRAME_BYTES);
    const id = ++this.lastId;
    w.u53(id);
    const flagAt = w.pos;
    w.u8(0);
    let flags = 0;
    const wants: Want[] = [];
    for (const want of batch) {
      const { place } = want;
      if (w.pos > FRAME_BYTES || !this.keys.isResident(place.db, place.key, place.slot)) {
        q.wants.set(`${place.db.index}:${place.key}`, want);
        continue;
      }
      if (want.durable) flags |= DURABLE;
      const o = this.keys.object(place.db, place.key, place.slot);
      w.u8(want.replace ? REPLACE : 0);
      w.u8(place.db.index);
      w.str(place.key);
      if (o === null) encodeState(w, new KeyState(), false);
      else encodeObject(w, o, false);
      wants.push(want);
    }
    w.buf[flagAt] = flags;
    if (wants.length === 0) return;
    this.stats.sent += wants.length;
    this.stats.bytes += w.pos;
    q.underWay.set(id, { wants, at: this.clock.monotonic() });
    if (peer.link === null || !peer.link.send(STATES, w.buf, 0, w.pos)) this.lost(peer);
  }

  /** The link is gone: whoever waits is told, and asks again when it is back. */
  lost(peer: Peer): void {
    for (const [id, p] of [...this.doubtful]) if (p === peer) this.doubtful.delete(id);
    const q = this.queues.get(peer);
    if (q === undefined) return;
    this.queues.delete(peer);
    const wants = [...q.wants.values(), ...[...q.underWay.values()].flatMap((u) => u.wants)];
    for (const want of wants) want.done?.(false);
  }

  sweep(now: number): void {
    for (const [peer, q] of [...this.queues]) {
      for (const [id, u] of [...q.underWay]) {
        if (now - u.at < RETRY_MS) continue;
        q.underWay.delete(id);
        // it may still arrive, as long as the link is there
        this.doubtful.set(id, peer);
        for (const want of u.wants) want.done?.(false);
      }
      if (q.wants.size > 0) void this.pump(peer, q);
    }
  }

  // ------------------------------------------------------------------ the other end

  async take(peer: Peer, buf: Buffer, start: number, end: number): Promise<void> {
    const r = new ByteReader(buf, start, end);
    const id = r.u53();
    const flags = r.u8();
    const items: Item[] = [];
    while (!r.done) {
      const item = this.read(r);
      if (item !== null) items.push(item);
    }
    const cold = items.map((x) => x.place).filter((p) => !this.keys.isResident(p.db, p.key, p.slot));
    let ok = this.store.journal.failure === null;
    try {
      if (cold.length > 0) await this.store.residency.load(cold);
      for (const item of items) {
        if (!ok) break;
        const { place } = item;
        while (!this.keys.isResident(place.db, place.key, place.slot)) await this.store.residency.load([place]);
        this.stats.received++;
        const news = this.apply(item, buf);
        if (!news) continue;
        this.stats.news++;
        this.onNews(place);
      }
      if (flags & DURABLE && ok) {
        await this.store.journal.flush();
        await this.store.journal.sync(true);
      }
    } catch (error) {
      ok = false;
      this.log.warn({ error: String(error) }, 'states could not be taken');
    }
    const w = new ByteWriter(16);
    w.u53(id);
    w.u8(ok ? 1 : 0);
    peer.link?.send(STATES_TAKEN, w.buf, 0, w.pos);
  }

  /** One key of a frame; null when it is of no database here. */
  private read(r: ByteReader): Item | null {
    const replace = (r.u8() & REPLACE) !== 0;
    const db = this.keys.databases[r.u8()];
    const key = r.str();
    const start = r.pos;
    if (db === undefined) {
      decodeState(r);
      return null;
    }
    const place = this.store.placeOf(db, key);
    const simple = new StoredKey(key, place.slot, db.index);
    if (!replace && decodeSimple(simple, r)) return { place, replace, start, end: r.pos, simple, state: null };
    r.pos = start;
    return { place, replace, start, end: 0, simple: null, state: decodeState(r) };
  }

  /** Joins what came of a resident key, or puts it in the place of a damaged copy. Returns whether it was news. */
  private apply({ place, replace, start, end, simple, state }: Item, buf: Buffer): boolean {
    const { db, key, slot } = place;
    if (simple !== null) {
      const news = this.keys.takeSimple(db, simple, buf, start, end);
      return news ?? this.keys.joinState(db, key, slot, simple.toState(), true);
    }
    if (replace && this.keys.object(db, key, slot)?.contextHash() === state!.context.hash()) {
      this.keys.replaceState(db, key, slot, state!);
      return false;
    }
    return this.keys.joinState(db, key, slot, state!, true);
  }

  taken(peer: Peer, r: ByteReader): void {
    const id = r.u53();
    const ok = r.u8() === 1;
    // links keep their order: what was sent before this one has been taken too
    for (const [old, p] of [...this.doubtful]) if (p === peer && old <= id) this.doubtful.delete(old);
    const q = this.queues.get(peer);
    const u = q?.underWay.get(id);
    if (q === undefined || u === undefined) return;
    q.underWay.delete(id);
    for (const want of u.wants) want.done?.(ok);
    void this.pump(peer, q);
  }
}
