/**
 * Commands that are about all keys: SCAN, KEYS, RANDOMKEY, DBSIZE, FLUSHDB and FLUSHALL.
 *
 * Alone, a node walks its own store. In a cluster each partition is walked by the node that coordinates it, so every key
 * is seen once; a step asks all nodes at once for what they have from the cursor on, and goes as far as the one that got
 * least far. A cursor is a place on the ring, good on every node. A flush is a floor: everything older is void, on nodes
 * that were away too, as soon as they hear of it.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { ReplyError } from '../base/errors.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { FLOORS } from '../cluster/messages.ts';
import type { Peer } from '../cluster/peers.ts';
import { ASK_COUNT, ASK_FLUSH, ASK_SCAN } from '../cluster/rpc.ts';
import { POSITIONS, positionOf } from '../ring/position.ts';
import { slotOf } from '../ring/slots.ts';
import type { Database } from '../store/keyspace.ts';
import { randomKey, type ScanStep } from '../store/scan.ts';
import type { Store } from '../store/store.ts';

const SCAN_MS = 5000;
const FLUSH_MS = 2000;

/** A step of a walk, with each key's type. */
export interface TypedStep extends ScanStep {
  types: number[];
}

interface Found {
  key: string;
  type: number;
  pos: number;
}

export class Coverage {
  private readonly store: Store;
  private cluster: Cluster | null = null;

  constructor(store: Store) {
    this.store = store;
  }

  join(cluster: Cluster): void {
    this.cluster = cluster;
    cluster.rpc.on(ASK_SCAN, (_, r, w) => this.answerScan(r, w));
    cluster.rpc.on(ASK_COUNT, (_, r, w) => {
      w.varint(this.store.keys.databases[r.u8()]?.keys ?? 0);
    });
    cluster.rpc.on(ASK_FLUSH, (_, r) => this.takeFloors(r));
  }

  get isAlone(): boolean {
    return this.cluster === null || this.cluster.isAlone || this.cluster.ring.layout === null;
  }

  /** Everybody else who is a member and can be reached. */
  private others(): Peer[] {
    const { ring, peers } = this.cluster!;
    return [...peers.byId.values()].filter((p) => p.isWell && ring.isMember(p.id));
  }

  // ------------------------------------------------------------------ walking

  /** Live keys from `cursor` on, about `count` of them. At once when memory alone tells. */
  step(db: Database, cursor: number, count: number): ScanStep | Promise<ScanStep> {
    return this.isAlone ? this.store.scanner.step(db, cursor, count) : this.typed(db, cursor, count);
  }

  /** The same with types. */
  async typed(db: Database, cursor: number, count: number): Promise<TypedStep> {
    const own = this.local(db, cursor, count);
    if (this.isAlone) {
      const { found, upTo } = await own;
      return { keys: found.map((f) => f.key), types: found.map((f) => f.type), cursor: upTo >= POSITIONS ? 0 : upTo };
    }
    const parts = await Promise.all([own, ...this.others().map((peer) => this.ask(peer, db, cursor, count))]);
    const upTo = Math.min(...parts.map((p) => p.upTo));
    const seen = new Map<string, Found>();
    for (const part of parts) for (const f of part.found) if (f.pos < upTo) seen.set(f.key, f);
    const list = [...seen.values()].sort((a, b) => a.pos - b.pos);
    return { keys: list.map((f) => f.key), types: list.map((f) => f.type), cursor: upTo >= POSITIONS ? 0 : upTo };
  }

  /** What this node answers for. */
  private async local(db: Database, cursor: number, count: number): Promise<{ found: Found[]; upTo: number }> {
    const { keys, scanner, residency } = this.store;
    const { cluster } = this;
    const wanted = this.isAlone ? undefined : (p: number) => cluster!.routes.coordinates(p);
    const step = await scanner.step(db, cursor, count, wanted);
    const places = step.keys.map((key) => ({ db, key, slot: slotOf(key) }));
    const cold = places.filter((p) => !keys.isResident(p.db, p.key, p.slot));
    if (cold.length > 0) await residency.load(cold);
    const found = places.map(({ key, slot }) => ({
      key,
      type: keys.shard(db, slot).peek(key)?.type ?? 0,
      pos: positionOf(slot, key),
    }));
    return { found, upTo: step.cursor === 0 ? POSITIONS : step.cursor };
  }

  private async ask(
    peer: Peer,
    db: Database,
    cursor: number,
    count: number,
  ): Promise<{ found: Found[]; upTo: number }> {
    const fill = (w: ByteWriter) => {
      w.u8(db.index);
      w.u53(cursor);
      w.varint(count);
    };
    const r = await this.cluster!.rpc.call(peer, ASK_SCAN, fill, SCAN_MS).catch((error: Error) => {
      throw new ReplyError(`TRYAGAIN a node did not answer for its part of the keys: ${error.message}`);
    });
    const upTo = r.u8() === 1 ? POSITIONS : r.u53();
    const found: Found[] = [];
    while (!r.done) {
      const key = r.str();
      found.push({ key, type: r.u8(), pos: positionOf(slotOf(key), key) });
    }
    return { found, upTo };
  }

  private async answerScan(r: ByteReader, w: ByteWriter): Promise<void> {
    const db = this.store.keys.databases[r.u8()];
    const cursor = r.u53();
    const { found, upTo } = await this.local(db, cursor, r.varint());
    w.u8(upTo >= POSITIONS ? 1 : 0);
    if (upTo < POSITIONS) w.u53(upTo);
    for (const f of found) {
      w.str(f.key);
      w.u8(f.type);
    }
  }

  /** All live keys, a page at a time. */
  async *all(db: Database): AsyncIterableIterator<string[]> {
    let cursor = 0;
    do {
      const step = await this.step(db, cursor, 4096);
      yield step.keys;
      cursor = step.cursor;
    } while (cursor !== 0);
  }

  /** A live key near a random place, or null when there is none. */
  async random(db: Database, fraction: number): Promise<string | null> {
    if (this.isAlone && db.keys === 0) return null;
    return randomKey((cursor) => this.step(db, cursor, 1), fraction);
  }

  // ------------------------------------------------------------------ counting

  /**
   * Keys of the database. Exact where this node holds every key; otherwise what all nodes count, divided by how many hold
   * each key, which is off by what is hinted or on the move.
   */
  count(db: Database): number | Promise<number> {
    const { cluster } = this;
    if (this.isAlone || cluster === null) return db.keys;
    const { ring } = cluster;
    let everything = true;
    for (let p = 0; p < ring.partitions && everything; p++) everything = ring.homes(p).includes(cluster.self);
    if (everything) return db.keys;
    const asked = this.others().map((peer) =>
      cluster.rpc
        .call(peer, ASK_COUNT, (w) => w.u8(db.index), SCAN_MS)
        .then((r) => r.varint())
        .catch(() => 0),
    );
    const copies = Math.max(1, Math.min(cluster.options.n, 1 + asked.length));
    return Promise.all(asked).then((counts) => Math.round(counts.reduce((a, b) => a + b, db.keys) / copies));
  }

  // ------------------------------------------------------------------ flushing

  /** Voids what these databases hold; in a cluster the promise resolves when all who can be reached have done so. */
  flush(databases: readonly Database[]): Promise<void> | null {
    const { keys } = this.store;
    for (const db of databases) keys.flush(db);
    if (this.isAlone || this.cluster === null) return null;
    const fill = (w: ByteWriter) => this.writeFloors(w, databases);
    const { rpc } = this.cluster;
    return Promise.all(this.others().map((peer) => rpc.call(peer, ASK_FLUSH, fill, FLUSH_MS))).then(
      () => {},
      () => {
        throw new ReplyError('NOREPLICAS a node did not confirm the flush in time; it will follow');
      },
    );
  }

  private writeFloors(w: ByteWriter, databases: readonly Database[]): void {
    const list = databases.filter((db) => db.floor > 0);
    w.varint(list.length);
    for (const db of list) {
      w.u8(db.index);
      w.u53(db.floor);
    }
  }

  /** Tells a peer that is back what has been flushed meanwhile. */
  sayFloors(peer: Peer): void {
    const w = new ByteWriter(64);
    this.writeFloors(w, this.store.keys.databases);
    peer.link?.send(FLOORS, w.buf, 0, w.pos);
  }

  async takeFloors(r: ByteReader): Promise<void> {
    const { keys, residency } = this.store;
    for (let n = r.varint(); n > 0; n--) {
      const db = keys.databases[r.u8()];
      const floor = r.u53();
      if (db === undefined || db.floor >= floor) continue;
      // what is newer than the floor must be in memory: all rows go
      for (let p = 0; p < db.shards.length; p++) if (!db.shards[p].complete) await residency.loadPartition(db, p);
      if (db.floor >= floor) continue;
      keys.flushBelow(db, floor);
    }
  }
}
