// The differences from Redis that are deliberate, each with its reason. A difference listed here does not
// fail the suite; an entry that no longer matches any difference is reported, so that the list stays true.

import type { Protocol } from './lib/play.ts';

export interface KeptDifference {
  /** The family's name; `random` for the random sequences. */
  family: string;
  /** The sequence's name; left out, every sequence of the family. */
  sequence?: string | RegExp;
  /** The step's label as the report prints it; left out, every step of the sequence. */
  step?: string | RegExp;
  /** Left out, both protocols. */
  protocol?: Protocol;
  /** Why Gramme answers something else on purpose. */
  reason: string;
}

export const KEPT_DIFFERENCES: readonly KeptDifference[] = [];
