/**
 * Which keys of this node somebody has for himself: those that are lent to another node, and those that this node's own
 * commands over several coordinators hold meanwhile. Later work on such a key waits.
 *
 * A claim is one transaction's wish for keys of this node. It gets all of them at once or none, and it waits only for
 * older claims and for those that are pinned: an older claim takes a key from a younger one that is not pinned (wound or
 * wait; Rosenkrantz, Stearns and Lewis 1978). Pinned ones wait for nothing, and ages are the same on every node, so
 * nobody ever waits in a circle, whatever nodes a transaction asks and in whatever order.
 *
 * Nothing here sends or knows the time: `lends` does. What waited for a key is run in a microtask of its own and never
 * from within `end`, which may be called while a command runs.
 */
import { SLOTS } from '../ring/slots.ts';
import type { KeyPlace } from '../store/keyspace.ts';

/** One transaction's wish for keys of this node. */
export class Claim {
  /** A stamp that the transaction keeps however often it is tried again. */
  readonly age: number;
  /** The node that runs it, and its number there: of two that began at one moment the lower is the older. */
  readonly by: string;
  readonly number: number;
  readonly places: readonly KeyPlace[];
  /** It has its keys. */
  held = false;
  /** It is about to take effect: nobody takes its keys from it. */
  pinned = false;
  /** It has no keys any more, and gets none. */
  over = false;
  /** Told when it has its keys; and when an older one has taken them, so that it is over. */
  readonly granted: () => void;
  readonly wounded: () => void;

  constructor(
    name: { age: number; by: string; number: number },
    places: readonly KeyPlace[],
    granted: () => void,
    wounded: () => void,
  ) {
    this.age = name.age;
    this.by = name.by;
    this.number = name.number;
    this.places = places;
    this.granted = granted;
    this.wounded = wounded;
  }

  isOlderThan(other: Claim): boolean {
    if (this.age !== other.age) return this.age < other.age;
    if (this.by !== other.by) return this.by < other.by;
    return this.number < other.number;
  }
}

interface Lock {
  readonly slot: number;
  holder: Claim | null;
  /** Claims that want it, oldest first. */
  readonly queue: Claim[];
  /** Commands that wait for it. */
  waiters: (() => void)[];
}

const nameOf = ({ db, key }: KeyPlace) => `${db.index}:${key}`;

export class Locks {
  /** How many keys somebody has: all that a command must look at while that is none. And how many of each slot. */
  private all = 0;
  private readonly held = new Uint32Array(SLOTS);
  private readonly locks = new Map<string, Lock>();
  private readonly freed = new Set<string>();
  private scheduled = false;

  /** Keys that somebody has or wants. */
  get size(): number {
    return this.locks.size;
  }

  /** Has nobody any key of the slot? */
  isFree(slot: number): boolean {
    return this.all === 0 || this.held[slot] === 0;
  }

  /** Has somebody this key for himself? */
  isHeld(place: KeyPlace): boolean {
    return !this.isFree(place.slot) && (this.locks.get(nameOf(place))?.holder ?? null) !== null;
  }

  /** Calls back when the key, which somebody has, is free. It may be taken again by then. */
  wait(place: KeyPlace, tell: () => void): void {
    this.locks.get(nameOf(place))!.waiters.push(tell);
  }

  /** Gives a claim its keys, now or when those who come before it are done with them. Its places must be distinct. */
  take(claim: Claim): void {
    const younger = new Set<Claim>();
    for (const place of claim.places) {
      const name = nameOf(place);
      let lock = this.locks.get(name);
      if (lock === undefined) {
        lock = { slot: place.slot, holder: null, queue: [], waiters: [] };
        this.locks.set(name, lock);
      }
      let at = lock.queue.length;
      while (at > 0 && claim.isOlderThan(lock.queue[at - 1])) at--;
      lock.queue.splice(at, 0, claim);
      const { holder } = lock;
      if (holder !== null && !holder.pinned && claim.isOlderThan(holder)) younger.add(holder);
    }
    for (const other of younger) {
      this.end(other);
      other.wounded();
    }
    // what has waited for a younger one's keys has its turn first
    if (younger.size === 0) this.grant(claim);
  }

  /** The claim has no part in its keys any more. */
  end(claim: Claim): void {
    if (claim.over) return;
    claim.over = true;
    for (const place of claim.places) {
      const name = nameOf(place);
      const lock = this.locks.get(name)!;
      if (claim.held) {
        lock.holder = null;
        this.held[lock.slot]--;
        this.all--;
      } else lock.queue.splice(lock.queue.indexOf(claim), 1);
      this.freed.add(name);
    }
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => this.goOn());
  }

  /** First the commands that have waited, then the oldest claim: commands take no time, so that nobody starves. */
  private goOn(): void {
    this.scheduled = false;
    const names = [...this.freed];
    this.freed.clear();
    for (const name of names) {
      const lock = this.locks.get(name);
      if (lock === undefined || lock.holder !== null) continue;
      const { waiters } = lock;
      lock.waiters = [];
      for (const tell of waiters) tell();
    }
    for (const name of names) {
      const lock = this.locks.get(name);
      if (lock === undefined) continue;
      if (lock.queue.length > 0) this.grant(lock.queue[0]);
      if (lock.holder === null && lock.queue.length === 0 && lock.waiters.length === 0) this.locks.delete(name);
    }
  }

  /** Gives a claim its keys if all are free and no older claim waits for any. */
  private grant(claim: Claim): void {
    const locks = claim.places.map((p) => this.locks.get(nameOf(p))!);
    if (locks.some((lock) => lock.holder !== null || lock.queue[0] !== claim)) return;
    for (const lock of locks) {
      lock.queue.shift();
      lock.holder = claim;
      this.held[lock.slot]++;
      this.all++;
    }
    claim.held = true;
    claim.granted();
  }
}
