/**
 * Bugs that may be planted: each switch leaves out one rule that the design stands on, so that the simulator can show
 * that its checkers would find the rule missing.
 *
 * All are off, and nothing but the simulator's tests ever sets one. They are plain fields of one object, read only where
 * the rule itself is at work: a check costs a load and a branch that is never taken.
 */
export const breaks = {
  /** A hint, or a stray copy, is dropped when its owner has the key in memory and not yet on disk. */
  dropsUnsynced: false,
  /** Of siblings that a join brings together only the latest stays. */
  joinsByTimestamp: false,
  /** Tombstones are reaped though somebody holds hints for the partition. */
  reapsDespiteHints: false,
  /** Tombstones are reaped though frames or states are under way. */
  reapsDespiteFrames: false,
  /** Tombstones are reaped though homes differ, or others hold copies. */
  reapsDespiteCopies: false,
  /** An event follows its actor's last one even when the process has died in between: no gap is ever seen. */
  hidesGaps: false,
  /** A removal of what has not been seen is not remembered. */
  forgetsRemovals: false,
  /** Clients' tokens leave out the remembered removals. */
  tokensWithoutRemovals: false,
  /** Each node shortens the contexts of what it overwrites, as if it were the only one. */
  compactsAlone: false,
  /** A forwarded command that is tried again elsewhere is taken for a new one. */
  retriesUnnamed: false,
  /** Nobody is told that a run of a command does not count since another one does. */
  neverVoids: false,
  /** A coordinator always takes itself to have everything. */
  assumesTenure: false,
  /** A replica's news is merged, but the reply that did not know of it goes out. */
  repliesDespiteNews: false,
  /** A replica takes writes that rest on less than it has seen. */
  takesStale: false,
  /** Each node drops rows past their deadlines by its own clock, without an event. */
  dropsByOwnClock: false,
  /** Of copies with equal contexts the one that has lost an entry is joined like any other. */
  joinsLosses: false,
  /** After a stall of its own a coordinator takes the acknowledgements that wait at its door for missing. */
  givesUpAfterStall: false,
  /** A lender goes on serving the keys that it has lent. */
  servesLent: false,
};

export type Break = keyof typeof breaks;
