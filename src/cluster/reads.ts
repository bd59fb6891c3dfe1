/**
 * Quorum reads of single keys: what a coordinator does before it runs a command on a key of which it does not know that
 * nobody else has written to it (DESIGN section 6, *tenure*), and for reads that ask for more replicas than usual.
 *
 * Whom to ask and when it is enough is `quorum`'s; here are the messages, the waiting and the merging.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { ReplyError } from '../base/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import { decodeState, encodeState, KeyState } from '../types/state.ts';
import { FETCH, FETCHED } from './messages.ts';
import type { Peer, Peers } from './peers.ts';
import { type ReadAction, ReadQuorum } from './quorum.ts';
import type { Done, Requests } from './requests.ts';
import type { Ring } from './ring.ts';

const EQUAL = 0;
const DIFFERS = 1;
const FAILED = 2;
/** What else a FETCH asks for: whether anybody has run a command; a state to undo something by. */
const NAMED = 1;
const SETTLING = 2;
/** Times that an answer waits for writes to be decided. */
const MAX_WAITS = 3;
/** How long a suspected peer is waited for, in ms. */
const SUSPECT_MS = 40;

export const NO_REPLICAS_READ = new ReplyError('NOREPLICAS not enough replicas of the key can be reached to read it');

interface Waiting {
  peer: Peer;
  at: number;
  /** It is not waited for after this, and another is asked as well after that; on the listening clock. */
  until: number;
  hedgeAt: number;
  hedged: boolean;
  take: (status: number, state: KeyState | null, done: Done | null) => void;
  late: () => void;
  hedge: () => void;
}

/** A read under way, and the one that comes after it. */
interface Running {
  promise: Promise<ReadOutcome>;
  next: Promise<ReadOutcome> | null;
}

/** What a read rests on. */
export interface ReadOutcome {
  /** Home replicas whose copies are in the merged state. */
  homes: number;
  replicas: number;
  /** The forwarded command that was asked for has been run, with this reply. */
  done: Done | null;
}

export interface ReadOptions {
  r: number;
  min: number;
  /** Ms after which what there is must do; 0 for the peers' own timeouts. */
  timeoutMs: number;
  /** Has anybody run this forwarded command? */
  request?: { tag: number; id: number };
}

export class Reads {
  private readonly waiting = new Map<number, Waiting>();
  private readonly running = new Map<string, Running>();
  private lastId = 0;
  private readonly w = new ByteWriter(4096);
  private readonly store: Store;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly requests: Requests;
  private readonly clock: Clock;
  private readonly repair: (peer: Peer, place: KeyPlace) => void;
  private readonly isOpen: (slot: number) => boolean;
  private readonly isSettling: (slot: number) => boolean;
  private readonly decided: (slot: number) => Promise<void>;
  stats = { reads: 0, fetched: 0, merged: 0, repairs: 0, failed: 0, hedged: 0 };

  constructor(parts: {
    store: Store;
    peers: Peers;
    ring: Ring;
    requests: Requests;
    clock: Clock;
    /** Sends a peer what it lacks of a key. */
    repair: (peer: Peer, place: KeyPlace) => void;
    /** Is there a write to a key of the slot here that may still have to be undone? */
    isOpen: (slot: number) => boolean;
    /** Has one been refused, and not been undone yet? */
    isSettling: (slot: number) => boolean;
    /** Resolves when nothing that has been written to the slot's keys by now will be undone any more. */
    decided: (slot: number) => Promise<void>;
  }) {
    this.store = parts.store;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.requests = parts.requests;
    this.clock = parts.clock;
    this.repair = parts.repair;
    this.isOpen = parts.isOpen;
    this.isSettling = parts.isSettling;
    this.decided = parts.decided;
  }

  get outstanding(): number {
    return this.waiting.size;
  }

  /** Reads one key from R replicas and merges what they have. Rejects with NOREPLICAS. */
  async read(place: KeyPlace, options: ReadOptions): Promise<ReadOutcome> {
    const { request } = options;
    const asked = request === undefined ? '' : `${request.tag}/${request.id}`;
    const name = `${place.db.index}:${options.r}:${options.min}:${asked}:${place.key}`;
    const running = this.running.get(name);
    if (running === undefined) return this.begin(name, place, options);
    // one that has asked already may miss what was acknowledged since: who comes later shares the next one
    running.next ??= running.promise.then(
      () => this.begin(name, place, options),
      () => this.begin(name, place, options),
    );
    return running.next;
  }

  private begin(name: string, place: KeyPlace, options: ReadOptions): Promise<ReadOutcome> {
    const running: Running = { promise: this.start(place, options), next: null };
    this.running.set(name, running);
    const over = () => {
      if (running.next === null) this.running.delete(name);
    };
    running.promise.then(over, over);
    return running.promise;
  }

  private async start(place: KeyPlace, options: ReadOptions): Promise<ReadOutcome> {
    const { keys, ring, peers } = this;
    this.stats.reads++;
    if (!keys.isResident(place.db, place.key, place.slot)) await this.store.residency.load([place]);
    const partition = keys.partitionOf(place.slot);
    const list = ring.list(partition);
    const homes = ring.homes(partition).length;
    const own = keys.object(place.db, place.key, place.slot);
    const quorum = new ReadQuorum({
      replicas: { list, homes },
      r: options.r,
      min: options.min,
      self: peers.self,
      selfHolds: own !== null && own.contextHash() !== 0,
      isHealthy: (id) => peers.isHealthy(id),
    });
    const outcome: ReadOutcome = { homes: 0, replicas: 0, done: null };
    return new Promise((resolve, reject) => {
      const act = (actions: ReadAction[]): void => {
        for (const a of actions) {
          if (a.do === 'ask') this.ask(place, peers.get(a.node), quorum, act, options, outcome);
          else if (a.do === 'answer') {
            outcome.homes = a.homes;
            outcome.replicas = a.replicas;
            resolve(outcome);
          } else if (a.do === 'repair') {
            this.stats.repairs++;
            this.repair(peers.get(a.node), place);
          } else if (a.do === 'fail') {
            this.stats.failed++;
            reject(NO_REPLICAS_READ);
          }
        }
      };
      act(quorum.start());
    });
  }

  private ask(
    place: KeyPlace,
    peer: Peer,
    quorum: ReadQuorum,
    act: (actions: ReadAction[]) => void,
    options: ReadOptions,
    outcome: ReadOutcome,
  ): void {
    const o = this.keys.shard(place.db, place.slot).get(place.key);
    this.fetch(peer, place, o?.contextHash() ?? 0, {
      request: options.request,
      timeoutMs: options.timeoutMs,
      take: (status, state, done) => {
        if (done !== null) outcome.done = done;
        if (status === FAILED) act(quorum.failed(peer.id));
        else if (status === EQUAL || state === null)
          act(quorum.replied(peer.id, 'equal', (o?.contextHash() ?? 0) !== 0));
        else {
          const actions = quorum.replied(peer.id, 'differs', state.context.size > 0);
          const { news, behind } = this.merge(place, state);
          act([...actions, ...quorum.fetched(peer.id, news, behind)]);
        }
      },
      late: () => act(quorum.failed(peer.id)),
      hedge: () => act(quorum.hedge(peer.id)),
    });
  }

  /** Joins a peer's state. `news`: it had something that was not here; `behind`: something here it does not have. */
  merge(place: KeyPlace, state: KeyState): { news: boolean; behind: boolean } {
    this.stats.merged++;
    const news = this.keys.joinState(place.db, place.key, place.slot, state, true);
    const now = this.keys.shard(place.db, place.slot).get(place.key);
    return { news, behind: (now?.contextHash() ?? 0) !== state.context.hash() };
  }

  /** Gets a peer's state of a key, null when it is as here; rejects when the peer does not answer. */
  state(peer: Peer, place: KeyPlace, hash: number, settling = false): Promise<KeyState | null> {
    return new Promise((resolve, reject) => {
      this.fetch(peer, place, hash, {
        settling,
        take: (status, state) => (status === FAILED ? reject(NO_REPLICAS_READ) : resolve(state)),
        late: () => reject(NO_REPLICAS_READ),
        hedge: () => {},
      });
    });
  }

  /** The same, to undo something by it: a peer that has to undo something itself rejects too, for each would wait. */
  settled(peer: Peer, place: KeyPlace, hash: number): Promise<KeyState | null> {
    return this.state(peer, place, hash, true);
  }

  private fetch(
    peer: Peer,
    place: KeyPlace,
    hash: number,
    on: {
      settling?: boolean;
      take: Waiting['take'];
      late: () => void;
      hedge: () => void;
      timeoutMs?: number;
      request?: { tag: number; id: number };
    },
  ): void {
    const id = ++this.lastId;
    const { w } = this;
    w.reset();
    w.u53(id);
    w.u8(place.db.index);
    w.str(place.key);
    w.u53(hash);
    w.u8(on.request !== undefined ? NAMED : on.settling ? SETTLING : 0);
    if (on.request !== undefined) {
      w.u32(on.request.tag);
      w.u53(on.request.id);
    }
    if (peer.link === null || !peer.link.send(FETCH, w.buf, 0, w.pos)) {
      // not within the caller's own step
      queueMicrotask(on.late);
      return;
    }
    const at = this.clock.monotonic();
    const listened = this.peers.listened(at);
    const hedgeAt = listened + this.peers.detector.hedgeMs(peer.id);
    // one that is suspected is asked, for the suspicion may be wrong, and hardly waited for
    const usual = peer.isWell ? this.peers.timeoutMs(peer) : SUSPECT_MS;
    const until = listened + (on.timeoutMs ? Math.min(on.timeoutMs, usual) : usual);
    this.waiting.set(id, { peer, at, until, hedgeAt, hedged: false, ...on });
  }

  /** Another node asks for a key. */
  async answer(peer: Peer, r: ByteReader): Promise<void> {
    const id = r.u53();
    const db = this.keys.databases[r.u8()];
    const key = r.str();
    const hash = r.u53();
    const asks = r.u8();
    const request = asks === NAMED ? { tag: r.u32(), id: r.u53() } : null;
    const place = this.store.placeOf(db, key);
    const w = new ByteWriter(256);
    w.u53(id);
    let state: KeyState | null = null;
    let failed = false;
    try {
      if (asks === SETTLING && this.isSettling(place.slot)) throw new Error('undecided here too');
      state = await this.decidedState(place, hash);
    } catch {
      failed = true;
    }
    const done = request === null ? undefined : this.requests.get(request.tag, request.id);
    w.u8(done === undefined ? 0 : 1);
    if (done !== undefined) {
      w.str(done.by);
      w.varint(done.reply.length);
      w.bytes(done.reply);
    }
    w.u8(failed ? FAILED : state === null ? EQUAL : DIFFERS);
    if (state !== null) encodeState(w, state, false);
    peer.link?.send(FETCHED, w.buf, 0, w.pos);
  }

  /**
   * A key's state, null when its context has this hash. What this node has written to it, and may still have to undo, is
   * waited for: nobody is to build on that.
   */
  private async decidedState({ db, key, slot }: KeyPlace, hash: number): Promise<KeyState | null> {
    for (let tries = 0; ; tries++) {
      while (!this.keys.isResident(db, key, slot)) await this.store.residency.load([{ db, key, slot }]);
      const o = this.keys.object(db, key, slot);
      const state = (o?.contextHash() ?? 0) === hash ? null : (this.keys.snapshot(o) ?? new KeyState());
      if (!this.isOpen(slot)) return state;
      const undone = this.keys.undoneAt[slot];
      await this.decided(slot);
      // what was there when it was asked for stands now
      if (this.keys.undoneAt[slot] === undone || tries >= MAX_WAITS) return state;
    }
  }

  taken(peer: Peer, r: ByteReader): void {
    const id = r.u53();
    const waiting = this.waiting.get(id);
    const now = this.clock.monotonic();
    if (waiting === undefined || waiting.peer !== peer) {
      this.peers.answered(peer, now, null);
      return;
    }
    this.waiting.delete(id);
    this.peers.answered(peer, now, now - waiting.at);
    let done: Done | null = null;
    if (r.u8() === 1) {
      const by = r.str();
      done = { by, reply: Buffer.from(r.rawStr(r.varint()), 'latin1') };
    }
    const status = r.u8();
    waiting.take(status, status === DIFFERS ? decodeState(r) : null, done);
  }

  /** The peer's link is gone. */
  lost(peer: Peer): void {
    for (const [id, x] of [...this.waiting]) {
      if (x.peer !== peer) continue;
      this.waiting.delete(id);
      x.late();
    }
  }

  sweep(now: number): void {
    const listened = this.peers.listened(now);
    for (const [id, x] of [...this.waiting]) {
      if (!x.hedged && listened >= x.hedgeAt) {
        x.hedged = true;
        this.stats.hedged++;
        x.hedge();
      }
      if (listened <= x.until) continue;
      this.waiting.delete(id);
      if (now - x.at > this.peers.timeoutMs(x.peer)) this.peers.timedOut(x.peer, now, x.at);
      x.late();
    }
  }
}
