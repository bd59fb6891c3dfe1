/** What this node's own commands have put into the journal, for whoever sends it to the replicas (`cluster/cluster`). */
import type { Context } from '../causality/context.ts';
import type { Journal } from './journal.ts';

/**
 * Records since somebody last looked, each with its slot, where it lies in the journal's batch, and what it was made on.
 * One is used for all commands, and nothing of it is made anew for one.
 */
export class MadeRecords {
  count = 0;
  /** Batches that had been sealed when the first was made: all of them are in the next. */
  sealed = 0;
  readonly slots: number[] = [];
  /** Where they begin in the batch. Others' records may lie between. */
  readonly starts: number[] = [];
  private readonly hashes: number[] = [];
  private readonly contexts: (Context | null)[] = [];

  /**
   * The record that is going to be written next.
   * @param hash of the context that it is made on; -1 where the record itself says it (the compact kinds)
   */
  add(slot: number, hash: number, context: Context | null, journal: Journal): void {
    const i = this.count++;
    if (i === 0) this.sealed = journal.sealed;
    this.slots[i] = slot;
    this.starts[i] = journal.w.pos;
    this.hashes[i] = hash;
    this.contexts[i] = context;
  }

  /** What the i-th was made on: the context where that is kept, else its hash. */
  basis(i: number): Context | number {
    return this.contexts[i] ?? this.hashes[i];
  }

  clear(): void {
    // a context that is left behind here goes with the next command
    this.count = 0;
  }
}
