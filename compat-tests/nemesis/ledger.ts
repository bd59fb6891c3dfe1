/**
 * What the clients of a cluster were told, so that it can be said afterwards what must be there, what may be, and what
 * must not: an answer that never came makes a write one that may or may not have happened.
 */

export type Outcome = 'acked' | 'unknown';

/** A key that is written once, and perhaps deleted once. */
export interface Single {
  value: string;
  set: Outcome;
  deleted: 'no' | Outcome;
}

/** A key of siblings. Values are unique, so each is one write. */
export interface Versions {
  writes: Map<string, { outcome: Outcome; covers: readonly string[] }>;
}

export class Ledger {
  readonly singles = new Map<string, Single>();
  readonly counters = new Map<string, { acked: number; unknown: number; replies: Set<number> }>();
  /** SET NX: who was told that he won, and who was told nothing. */
  readonly races = new Map<string, { winners: string[]; unknown: string[]; losers: number }>();
  readonly blind = new Map<string, Versions>();
  /** Versions that list what was added so far, as a shopping basket does: writers take over all that they have read. */
  readonly baskets = new Map<string, Versions>();
  /** Keys overwritten with 1, 2, 3 ... by one client each. */
  readonly rising = new Map<string, { acked: number; unknown: Set<number> }>();
  readonly errors = new Map<string, number>();
  /** What can not be while no more than one node at a time is dead or paused, and links hold. */
  readonly surprises: string[] = [];
  acks = 0;
  unknown = 0;

  error(where: string, message: string): void {
    const text = `${where}: ${message.replace(/[0-9a-f]{40}|\d+/g, '#').slice(0, 100)}`;
    this.errors.set(text, (this.errors.get(text) ?? 0) + 1);
  }

  surprise(text: string): void {
    if (this.surprises.length < 1000) this.surprises.push(text);
  }

  incremented(key: string, reply: number | null): void {
    let c = this.counters.get(key);
    if (c === undefined) this.counters.set(key, (c = { acked: 0, unknown: 0, replies: new Set() }));
    if (reply === null) {
      c.unknown++;
      return;
    }
    c.acked++;
    if (c.replies.has(reply)) this.surprise(`two INCRs of ${key} were answered ${reply}`);
    c.replies.add(reply);
  }

  versions(map: Map<string, Versions>, key: string): Versions {
    let v = map.get(key);
    if (v === undefined) map.set(key, (v = { writes: new Map() }));
    return v;
  }
}

export const itemsOf = (basket: string): string[] => basket.split(',');
