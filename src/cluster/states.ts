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
  applied: () => void = () => {};
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
      encodeState(w, o?.toState() ?? new KeyState(), false);
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
    const items: { place: KeyPlace; state: KeyState; replace: boolean }[] = [];
    while (!r.done) {
      const replace = (r.u8() & REPLACE) !== 0;
      const db = this.keys.databases[r.u8()];
      const key = r.str();
      const state = decodeState(r);
      if (db === undefined) continue;
      items.push({ place: this.store.placeOf(db, key), state, replace });
    }
    const cold = items.map((x) => x.place).filter((p) => !this.keys.isResident(p.db, p.key, p.slot));
    let ok = this.store.journal.failure === null;
    try {
      if (cold.length > 0) await this.store.residency.load(cold);
      for (const { place, state, replace } of items) {
        if (!ok) break;
        while (!this.keys.isResident(place.db, place.key, place.slot)) await this.store.residency.load([place]);
        this.stats.received++;
        if (replace && this.keys.object(place.db, place.key, place.slot)?.contextHash() === state.context.hash())
          this.keys.replaceState(place.db, place.key, place.slot, state);
        else if (this.keys.joinState(place.db, place.key, place.slot, state, true)) {
          this.stats.news++;
          this.onNews(place);
        }
      }
      this.applied();
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
