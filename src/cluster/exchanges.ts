/**
 * Comparing partitions with peers (paper 4.7): roots of many at once, and exchanges over one at a time.
 *
 * `Exchange` (`merkle/diff`) finds the keys that differ; here is what carries its messages, reads its rows and repairs what
 * it finds, both ways: what the peer lacks is sent, the rest is fetched and joined. An exchange is over when both sides
 * have what they lacked.
 */
import { breaks } from '../base/breaks.ts';
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { Exchange, type ExchangeEffect } from '../merkle/diff.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import { EXCHANGE } from './messages.ts';
import type { Peer } from './peers.ts';
import { CALL_MS, type RepairParts, type RepairStats } from './repair-parts.ts';
import { ASK_ROOTS } from './rpc.ts';
import type { Trees } from './trees.ts';

/** An exchange of which nothing has been heard for so many ms is given up. */
const SESSION_MS = 8_000;

interface Session {
  peer: Peer;
  p: number;
  id: number;
  mine: boolean;
  exchange: Exchange;
  /** Repairs that are under way. */
  open: number;
  over: boolean;
  peerOver: boolean;
  at: number;
  chain: Promise<void>;
  resolve: (() => void) | null;
  reject: ((e: Error) => void) | null;
}

export class Exchanges {
  private readonly sessions = new Map<string, Session>();
  private lastSession = 0;
  private readonly parts: RepairParts;
  private readonly keys: Keyspace;
  private readonly trees: Trees;
  private readonly stats: RepairStats;

  constructor(parts: RepairParts, stats: RepairStats) {
    this.parts = parts;
    this.keys = parts.store.keys;
    this.trees = parts.trees;
    this.stats = stats;
    parts.rpc.on(ASK_ROOTS, (peer, r, w) => this.answerRoots(peer, r, w));
  }

  // ------------------------------------------------------------------ roots

  /** Partitions whose roots differ from the peer's, or that it can't compare yet. */
  async compareRoots(peer: Peer, list: readonly number[]): Promise<Set<number>> {
    if (list.length === 0) return new Set();
    await this.trees.settle();
    const r = await this.parts.rpc.call(
      peer,
      ASK_ROOTS,
      (w) => {
        w.varint(list.length);
        for (const p of list) {
          w.varint(p);
          w.u53(this.trees.tree(p).root());
        }
        this.stats.bytes += w.pos;
      },
      CALL_MS,
    );
    const differ = new Set<number>();
    for (let n = r.varint(); n > 0; n--) differ.add(r.varint());
    return differ;
  }

  private async answerRoots(_peer: Peer, r: ByteReader, w: ByteWriter): Promise<void> {
    await this.trees.settle();
    const differ: number[] = [];
    for (let n = r.varint(); n > 0; n--) {
      const p = r.varint();
      const root = r.u53();
      if (p >= this.keys.partitions || !this.trees.isReady(p) || this.trees.tree(p).root() !== root) differ.push(p);
    }
    w.varint(differ.length);
    for (const p of differ) w.varint(p);
    this.stats.bytes += w.pos;
  }

  // ------------------------------------------------------------------ exchanges

  /** Compares one partition with one peer, and repairs both ways. Resolves when both have what they lacked. */
  async exchange(peer: Peer, p: number): Promise<void> {
    await this.trees.settle();
    if (!this.trees.isReady(p)) throw new Error('the tree is not built yet');
    this.stats.exchanges++;
    const s = this.session(peer, p, ++this.lastSession, true);
    return new Promise((resolve, reject) => {
      s.resolve = resolve;
      s.reject = reject;
      this.process(s, s.exchange.start()).catch((e) => this.end(s, String(e)));
    });
  }

  private session(peer: Peer, p: number, id: number, mine: boolean): Session {
    const s: Session = {
      peer,
      p,
      id,
      mine,
      exchange: new Exchange(this.trees.tree(p)),
      open: 0,
      over: false,
      peerOver: false,
      at: this.parts.clock.monotonic(),
      chain: Promise.resolve(),
      resolve: null,
      reject: null,
    };
    this.sessions.set(`${mine ? 'm' : 't'}:${peer.id}:${id}`, s);
    return s;
  }

  /** EXCHANGE frames: is it the session of the sender?, session, partition, bytes; no bytes: its repairs are done. */
  take(peer: Peer, r: ByteReader): void {
    const theirs = r.u8() === 1;
    const id = r.varint();
    const p = r.varint();
    const bytes = Buffer.from(r.buf.subarray(r.pos, r.end));
    const name = `${theirs ? 't' : 'm'}:${peer.id}:${id}`;
    let s = this.sessions.get(name);
    if (s === undefined) {
      if (!theirs || bytes.length === 0) return;
      if (p >= this.keys.partitions || !this.trees.isReady(p)) {
        this.say(peer, false, id, p, Buffer.alloc(0));
        return;
      }
      s = this.session(peer, p, id, false);
    }
    s.at = this.parts.clock.monotonic();
    const session = s;
    if (bytes.length === 0) {
      // behind what has come before it; where nothing is over yet the peer could not begin
      s.chain = s.chain.then(() => {
        session.peerOver = true;
        if (session.mine && !session.over) this.end(session, 'the peer is not ready');
        else this.finishIfOver(session);
      });
      return;
    }
    s.chain = s.chain.then(async () => {
      try {
        await this.trees.settle();
        await this.process(session, session.exchange.receive(bytes));
      } catch (error) {
        this.end(session, String(error));
      }
    });
  }

  private say(peer: Peer, mine: boolean, id: number, p: number, bytes: Buffer): void {
    const w = new ByteWriter(bytes.length + 16);
    w.u8(mine ? 1 : 0);
    w.varint(id);
    w.varint(p);
    w.bytes(bytes);
    this.stats.bytes += w.pos;
    peer.link?.send(EXCHANGE, w.buf, 0, w.pos);
  }

  private async process(s: Session, effects: ExchangeEffect[]): Promise<void> {
    for (const e of effects) {
      if (e.kind === 'send') this.say(s.peer, s.mine, s.id, s.p, e.bytes);
      else if (e.kind === 'difference') this.repairKey(s, e.what, e.db, e.key);
      else if (e.kind === 'scan') {
        const rows = await this.trees.scan(s.p, e.first, e.end);
        s.at = this.parts.clock.monotonic();
        await this.process(s, s.exchange.scanned(rows, true));
      } else {
        s.over = true;
        this.finishIfOver(s);
      }
    }
  }

  private repairKey(s: Session, what: string, dbIndex: number, key: string): void {
    this.stats.differences++;
    const db = this.keys.databases[dbIndex];
    if (db === undefined) return;
    const place = this.parts.store.placeOf(db, key);
    s.open++;
    const done = () => {
      s.open--;
      this.stats.keys++;
      this.finishIfOver(s);
    };
    if (what === 'missing-there') {
      this.parts.states.send(s.peer, place, { done });
      return;
    }
    if (what === 'damaged') this.stats.damaged++;
    void this.pull(s.peer, place, what === 'damaged').then(done, done);
  }

  /** Gets what the peer has of a key, and gives back what it lacks. */
  private async pull(peer: Peer, place: KeyPlace, damaged: boolean): Promise<void> {
    if (!this.keys.isResident(place.db, place.key, place.slot)) await this.parts.store.residency.load([place]);
    const o = this.keys.shard(place.db, place.slot).get(place.key);
    const state = await this.parts.reads.state(peer, place, damaged ? 0 : (o?.contextHash() ?? 0));
    if (state === null) return;
    if (damaged && !breaks.joinsLosses) {
      // one of the two has lost or altered entries: the fuller one is taken, whole
      const mine = o?.toState();
      if (mine?.context.equals(state.context) && mine.count < state.count) {
        this.keys.replaceState(place.db, place.key, place.slot, state);
      } else this.parts.states.send(peer, place, { replace: true });
      return;
    }
    const { behind } = this.parts.reads.merge(place, state);
    if (behind) this.parts.states.send(peer, place);
  }

  private finishIfOver(s: Session): void {
    if (!s.over || s.open > 0) return;
    if (!s.mine) {
      // the initiator waits for what we send it
      this.say(s.peer, false, s.id, s.p, Buffer.alloc(0));
      this.sessions.delete(`t:${s.peer.id}:${s.id}`);
      return;
    }
    if (!s.peerOver) return;
    this.sessions.delete(`m:${s.peer.id}:${s.id}`);
    s.resolve?.();
  }

  private end(s: Session, why: string): void {
    this.sessions.delete(`${s.mine ? 'm' : 't'}:${s.peer.id}:${s.id}`);
    s.reject?.(new Error(why));
  }

  /** Sessions of which nothing has been heard for long are given up: whoever waits for one must not wait for ever. */
  sweep(now: number): void {
    for (const s of [...this.sessions.values()]) if (now - s.at > SESSION_MS) this.end(s, 'no answer');
  }

  lost(peer: Peer): void {
    for (const s of [...this.sessions.values()]) if (s.peer === peer) this.end(s, 'the link broke');
  }
}
