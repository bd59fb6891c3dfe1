/**
 * Keys that one node lends to another, so that a command over keys of several coordinators is alone with them (DESIGN
 * section 5). Both ends are here; `server/borrowing` says what commands make of it.
 *
 *     borrower                                    lender
 *     LEND   number, age, keys, hashes      ->    later work on the keys waits (`locks`)
 *                                           <-    LENT   what the borrower lacks of them
 *     PIN    number                         ->    nobody takes the lend away any more
 *                                           <-    PINNED
 *     REPLICATE, as any write
 *     RETURN number                         ->    work on the keys goes on
 *                                           <-    RECALL number: the lend is over before its time
 *
 * Whoever lends at the borrower's only lender is pinned at once. A lend ends by RETURN; while it is not pinned when an
 * older transaction wants the keys, or when the borrower is suspected; in any case when its time is over or the link is
 * lost. That is for isolation alone: what makes a command's writes stand or fall as a whole is that they are firm (a
 * lender that has served its key again refuses them), so a lend that is lost is never an error and needs no repair.
 */
import { type ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { hlcOfMs } from '../causality/clock.ts';
import type { Clock } from '../ports/clock.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import { decodeState, encodeState, type KeyState, KeyState as State } from '../types/state.ts';
import { Claim, type Locks } from './locks.ts';
import { LEND, LEND_VERSION, LENT, PIN, PINNED, RECALL, RETURN } from './messages.ts';
import type { Peer, Peers } from './peers.ts';

/** A lend that is not pinned is over after so many ms of the lender's clock; it is meant to last two round trips. */
export const LEND_MS = 1000;
/** A pinned one: longer than a borrower takes that is well. A borrower that stands still keeps others waiting so long. */
export const PINNED_MS = 3000;
/** The borrower writes within so many ms of asking to pin, or asks anew: well before its lenders' time is over. */
export const COMMIT_MS = 1500;
/** It waits so long for its lenders, in ms. */
export const ASK_MS = 1000;
/** Lends that a node has given, or is asked for, at one time. Above that it lends nothing. */
export const MAX_LENDS = 4096;

/** Flag of a LEND: the borrower has all else, and pins with it. */
const PINS = 1;
const GRANTED = 0;
const REFUSED = 1;
const EQUAL = 0;
const DIFFERS = 1;

/** A lend as its lender sees it. */
interface Lend {
  readonly peer: Peer;
  readonly number: number;
  readonly claim: Claim;
  /** What the borrower has of the keys. */
  readonly hashes: number[];
  readonly pins: boolean;
  /** When its time is over, on the listening clock; endless before it is given. */
  until: number;
}

/** What a transaction needs. Each key is in one place only. */
export interface Wish {
  /** Keys that this node coordinates itself. */
  readonly own: readonly KeyPlace[];
  readonly lent: ReadonlyMap<Peer, readonly KeyPlace[]>;
  /** It keeps this from try to try; 0 for a new one. */
  readonly age: number;
  /** What has to be read from R replicas, as it seems now. @param unlent keys that nobody has lent */
  readonly toRead: (unlent: readonly KeyPlace[]) => readonly KeyPlace[];
  readonly read: (places: readonly KeyPlace[]) => Promise<unknown>;
}

/** What becomes of a transaction: one of these is called, once, and never from within `borrow`. */
export interface Fate {
  /** It has its keys, and what there is of them is here: it runs now, or not at all. */
  ready(t: Transaction): void;
  /** It has been put back, and may be tried again. */
  putBack(t: Transaction): void;
  /** The keys could not be read. */
  failed(error: unknown): void;
}

interface Lender {
  readonly peer: Peer;
  readonly places: readonly KeyPlace[];
  /** What it has that was not here, place by place; null before it has answered. */
  states: (KeyState | null)[] | null;
  pinned: boolean;
}

/** A command over keys of several coordinators, as the node that runs it sees it. */
export class Transaction {
  readonly number: number;
  readonly age: number;
  readonly wish: Wish;
  readonly fate: Fate;
  readonly lenders = new Map<Peer, Lender>();
  /** Keys that nobody lends. */
  readonly unlent: KeyPlace[] = [];
  claim: Claim | null = null;
  /** It waits for lenders until then, and may be run until then. */
  until: number;
  isAsked = false;
  isReady = false;
  isReading = false;
  isPinning = false;
  /** It has been run, or put back. */
  isOver = false;

  constructor(number: number, wish: Wish, age: number, fate: Fate, until: number) {
    this.number = number;
    this.wish = wish;
    this.age = age;
    this.fate = fate;
    this.until = until;
  }
}

export interface LendsParts {
  store: Store;
  self: string;
  peers: Pick<Peers, 'listened'>;
  clock: Clock;
  locks: Locks;
  /** May this node lend keys of the partition: is it a home that coordinates, and does it serve? */
  mayLend(partition: number): boolean;
  /** Does it know that nobody else has written to the partition? */
  hasTenure(partition: number): boolean;
  /** Reads a key from R replicas. */
  read(place: KeyPlace): Promise<unknown>;
  /** Resolves when what has been written to the slot's keys by now stands or is undone; null when it does. */
  decided(slot: number): Promise<void> | null;
  /** What this tick has written goes out before what is sent next. */
  flush(): void;
  /** Joins a lender's state. */
  merge(place: KeyPlace, state: KeyState): void;
  /** Calls back when everything is applied that the peer has sent. */
  whenTaken(peer: Peer, tell: () => void): void;
  /** Something is to go out at the end of the tick. */
  wake(): void;
}

export class Lends {
  /** Lends: given, refused, taken from a younger transaction for an older one, over before they were returned. Borrowed. */
  readonly stats = { given: 0, refused: 0, recalled: 0, expired: 0, late: 0, taken: 0, putBack: 0 };
  private readonly lends = new Map<string, Lend>();
  private readonly transactions = new Map<number, Transaction>();
  private lastNumber = 0;
  private readonly w = new ByteWriter(4096);
  private readonly parts: LendsParts;

  constructor(parts: LendsParts) {
    this.parts = parts;
  }

  /** Lends given, and transactions under way. */
  get outstanding(): number {
    return this.lends.size + this.transactions.size;
  }

  private get now(): number {
    return this.parts.peers.listened(this.parts.clock.monotonic());
  }

  // ------------------------------------------------------------------ the lender

  /** Takes a LEND. */
  takeLend(peer: Peer, r: ByteReader): void {
    const { keys } = this.parts.store;
    const number = r.u53();
    const age = r.u53();
    const pins = (r.u8() & PINS) !== 0;
    const places: KeyPlace[] = [];
    const hashes: number[] = [];
    while (!r.done) {
      const db = keys.databases[r.u8()];
      if (db === undefined) throw new TruncatedError();
      places.push(this.parts.store.placeOf(db, r.str()));
      hashes.push(r.u53());
    }
    const may = places.every((p) => this.parts.mayLend(keys.partitionOf(p.slot)));
    if (!may || this.lends.size >= MAX_LENDS) {
      this.refuse(peer, number);
      return;
    }
    const name = { age, by: peer.id, number };
    const granted = () => {
      this.prepare(lend).catch(() => {
        if (!lend.claim.over) this.refuse(peer, number);
        this.end(lend);
      });
    };
    const wounded = () => {
      this.stats.recalled++;
      this.recall(lend);
    };
    const claim = new Claim(name, places, granted, wounded);
    const lend: Lend = { peer, number, claim, hashes, pins, until: Number.POSITIVE_INFINITY };
    this.lends.set(nameOf(peer, number), lend);
    this.parts.locks.take(claim);
  }

  private refuse(peer: Peer, number: number): void {
    this.stats.refused++;
    const { w } = this;
    w.reset();
    w.u53(number);
    w.u8(REFUSED);
    this.send(peer, LENT);
  }

  /** The keys are the borrower's: it gets what there is of them, once that stands. */
  private async prepare(lend: Lend): Promise<void> {
    const { store, hasTenure, read, decided, flush } = this.parts;
    const { keys } = store;
    const { claim, peer } = lend;
    for (const place of claim.places) {
      const open = decided(place.slot);
      if (open !== null) await open;
      if (claim.over) return;
      if (!hasTenure(keys.partitionOf(place.slot))) await read(place);
      if (claim.over) return;
    }
    while (claim.places.some((p) => !keys.isResident(p.db, p.key, p.slot))) {
      await store.residency.load([...claim.places]);
      if (claim.over) return;
    }
    // nobody is to hear of a write of this tick by this before it comes itself
    flush();
    const { w } = this;
    w.reset();
    w.u53(lend.number);
    w.u8(GRANTED);
    claim.places.forEach(({ db, key, slot }, i) => {
      const o = keys.object(db, key, slot);
      const equal = (o?.contextHash() ?? 0) === lend.hashes[i];
      w.u8(equal ? EQUAL : DIFFERS);
      if (!equal) encodeState(w, keys.snapshot(o) ?? new State(), false);
    });
    this.stats.given++;
    claim.pinned = lend.pins;
    lend.until = this.now + (lend.pins ? PINNED_MS : LEND_MS);
    this.send(peer, LENT);
  }

  /** Takes a PIN. */
  takePin(peer: Peer, r: ByteReader): void {
    const number = r.u53();
    const lend = this.lends.get(nameOf(peer, number));
    const holds = lend?.claim.held && !lend.claim.over;
    if (holds) {
      lend.claim.pinned = true;
      lend.until = this.now + PINNED_MS;
    }
    const { w } = this;
    w.reset();
    w.u53(number);
    w.u8(holds ? GRANTED : REFUSED);
    this.send(peer, PINNED);
  }

  /** Takes a RETURN: what the borrower has written came before it, and is applied before anybody sees the keys. */
  takeReturn(peer: Peer, r: ByteReader): void {
    const lend = this.lends.get(nameOf(peer, r.u53()));
    if (lend === undefined) this.stats.late++;
    else this.parts.whenTaken(peer, () => this.end(lend));
  }

  private end(lend: Lend): void {
    const name = nameOf(lend.peer, lend.number);
    if (this.lends.get(name) === lend) this.lends.delete(name);
    this.parts.locks.end(lend.claim);
  }

  /** The lend is over, and the borrower did not say so. */
  private recall(lend: Lend): void {
    this.end(lend);
    const { w } = this;
    w.reset();
    w.u53(lend.number);
    this.send(lend.peer, RECALL);
  }

  // ------------------------------------------------------------------ the borrower

  /** May this peer be asked to lend? One with an older bus protocol knows nothing of it. */
  canLend(peer: Peer): boolean {
    return peer.isWell && peer.link!.version >= LEND_VERSION;
  }

  /** Asks for all keys at once. Its fate is told later. */
  borrow(wish: Wish, fate: Fate): void {
    const age = wish.age || hlcOfMs(this.parts.clock.now());
    const t = new Transaction(++this.lastNumber, wish, age, fate, this.now + ASK_MS);
    this.transactions.set(t.number, t);
    const { keys, residency } = this.parts.store;
    const begin = () => {
      if (!t.isOver) this.ask(t);
    };
    // what is not in memory can't be told to be equal; and the command would have to wait for it with the keys in hand
    const all = [...wish.own, ...[...wish.lent.values()].flat()];
    const missing = all.filter((p) => !keys.isResident(p.db, p.key, p.slot));
    if (missing.length === 0) queueMicrotask(begin);
    else residency.load(missing).then(begin, (error) => this.fail(t, error));
  }

  /** Is a command going to run here with this key, which another node lends or has been told that it is equal here? */
  isBorrowed({ db, key }: KeyPlace): boolean {
    if (this.transactions.size === 0) return false;
    const isIt = (p: KeyPlace) => p.key === key && p.db === db;
    for (const t of this.transactions.values())
      if (!t.isOver) for (const places of t.wish.lent.values()) if (places.some(isIt)) return true;
    return false;
  }

  private ask(t: Transaction): void {
    const { own, lent } = t.wish;
    const { w } = this;
    const { keys } = this.parts.store;
    if (own.length > 0) {
      const granted = () => this.goOn(t);
      t.claim = new Claim({ age: t.age, by: this.parts.self, number: t.number }, own, granted, () => this.putBack(t));
      this.parts.locks.take(t.claim);
      if (t.isOver) return;
    }
    const alone = lent.size === 1 && (t.claim === null || t.claim.held) && t.wish.toRead([]).length === 0;
    for (const [peer, places] of lent) {
      w.reset();
      w.u53(t.number);
      w.u53(t.age);
      w.u8(alone ? PINS : 0);
      for (const { db, key, slot } of places) {
        w.u8(db.index);
        w.str(key);
        w.u53(keys.isResident(db, key, slot) ? (keys.object(db, key, slot)?.contextHash() ?? 0) : 0);
      }
      if (this.send(peer, LEND)) t.lenders.set(peer, { peer, places, states: null, pinned: alone });
      else t.unlent.push(...places);
    }
    if (alone) this.commitsBy(t);
    t.isAsked = true;
    this.goOn(t);
  }

  /** Asks to pin now: it has so long to write. */
  private commitsBy(t: Transaction): void {
    t.until = this.now + COMMIT_MS;
  }

  /** Takes a LENT. */
  takeLent(peer: Peer, r: ByteReader): void {
    const t = this.transactions.get(r.u53());
    const lender = t?.lenders.get(peer);
    if (t === undefined || lender === undefined || t.isOver) return;
    if (r.u8() === REFUSED) {
      t.lenders.delete(peer);
      t.unlent.push(...lender.places);
    } else {
      this.stats.taken++;
      lender.states = lender.places.map(() => (r.u8() === EQUAL ? null : decodeState(r)));
    }
    this.goOn(t);
  }

  /** Takes a PINNED. */
  takePinned(peer: Peer, r: ByteReader): void {
    const t = this.transactions.get(r.u53());
    const lender = t?.lenders.get(peer);
    if (t === undefined || lender === undefined || t.isOver) return;
    if (r.u8() === REFUSED) {
      this.putBack(t);
      return;
    }
    lender.pinned = true;
    this.goOn(t);
  }

  /** Takes a RECALL. A transaction that has been run goes on without this lender: its writes are firm. */
  takeRecall(peer: Peer, r: ByteReader): void {
    const t = this.transactions.get(r.u53());
    if (t === undefined || !t.lenders.has(peer) || t.isOver) return;
    if (t.isReady) t.lenders.delete(peer);
    else this.putBack(t);
  }

  /** Does what is to be done next, if that is known. */
  private goOn(t: Transaction): void {
    if (!t.isAsked || t.isOver || t.isReady || t.isReading) return;
    if (t.claim !== null && !t.claim.held) return;
    for (const { states } of t.lenders.values()) if (states === null) return;
    if (!t.isPinning) {
      t.isReading = true;
      this.gather(t).then(
        () => {
          t.isReading = false;
          if (!t.isOver) this.pin(t);
        },
        (error) => this.fail(t, error),
      );
      return;
    }
    for (const { pinned } of t.lenders.values()) if (!pinned) return;
    t.isReady = true;
    if (t.claim !== null) t.claim.pinned = true;
    t.fate.ready(t);
  }

  /** Brings together what there is of the keys. */
  private async gather(t: Transaction): Promise<void> {
    const { store, merge } = this.parts;
    for (const { places, states } of t.lenders.values())
      for (let i = 0; i < places.length; i++) {
        const { db, key, slot } = places[i];
        const state = states![i];
        if (state === null) continue;
        while (!store.keys.isResident(db, key, slot)) await store.residency.load([places[i]]);
        merge(places[i], state);
      }
    const places = t.wish.toRead(t.unlent);
    if (places.length > 0) await t.wish.read(places);
  }

  private pin(t: Transaction): void {
    t.isPinning = true;
    const { w } = this;
    for (const lender of t.lenders.values()) {
      if (lender.pinned) continue;
      this.commitsBy(t);
      w.reset();
      w.u53(t.number);
      this.send(lender.peer, PIN);
    }
    if (t.lenders.size === 0) this.commitsBy(t);
    this.goOn(t);
  }

  /** May it be run now? Its lenders keep their keys for it for longer than that. */
  mayRun(t: Transaction): boolean {
    return t.isReady && !t.isOver && this.now <= t.until;
  }

  /** It has been run, and its reply may go out; or it has not been, and will not be: work on its keys goes on. */
  giveBack(t: Transaction): void {
    t.isOver = true;
    this.transactions.delete(t.number);
    const { w } = this;
    for (const { peer } of t.lenders.values()) {
      w.reset();
      w.u53(t.number);
      this.send(peer, RETURN);
    }
    if (t.claim !== null) this.parts.locks.end(t.claim);
  }

  /** Before any effect shows. */
  private putBack(t: Transaction): void {
    if (t.isOver) return;
    this.stats.putBack++;
    this.giveBack(t);
    queueMicrotask(() => t.fate.putBack(t));
  }

  private fail(t: Transaction, error: unknown): void {
    if (t.isOver) return;
    this.giveBack(t);
    t.fate.failed(error);
  }

  // ------------------------------------------------------------------ failures

  /** The peer's link is gone: it is no borrower any more, and no lender. */
  lost(peer: Peer): void {
    for (const lend of [...this.lends.values()]) if (lend.peer === peer) this.end(lend);
    this.withoutLender(peer);
  }

  /** The peer is not waited for any longer. What it has pinned it may be writing at this moment. */
  suspected(peer: Peer): void {
    for (const lend of [...this.lends.values()]) if (lend.peer === peer && !lend.claim.pinned) this.recall(lend);
    this.withoutLender(peer);
  }

  private withoutLender(peer: Peer): void {
    for (const t of [...this.transactions.values()]) if (t.lenders.has(peer) && !t.isReady) this.putBack(t);
  }

  /** Looks after what takes too long, every few ms. */
  sweep(): void {
    if (this.outstanding === 0) return;
    const { now } = this;
    for (const lend of [...this.lends.values()]) {
      if (now <= lend.until) continue;
      this.stats.expired++;
      this.recall(lend);
    }
    for (const t of [...this.transactions.values()]) if (!t.isReady && now > t.until) this.putBack(t);
  }

  private send(peer: Peer, kind: number): boolean {
    const { w } = this;
    const sent = peer.link?.send(kind, w.buf, 0, w.pos) ?? false;
    if (sent) this.parts.wake();
    return sent;
  }
}

function nameOf(peer: Peer, number: number): string {
  return `${peer.id}/${number}`;
}
