/**
 * *Convergence*: once everything has healed, all home replicas of a key have one context and one state.
 *
 * Equal contexts with unequal states are reported apart: they break the rule that the quorum reads and the Merkle
 * trees stand on (DESIGN section 3), at any time and not only after healing.
 */
import { type Verdict, verdict } from './verdict.ts';

/** One replica's copy of a key. Null where it holds nothing at all. */
export interface Copy {
  node: number;
  context: string | null;
  /** Everything: context, live entries, remembered removals (`types/state` fingerprint). */
  state: string | null;
  /** Something in it is live; a tombstone, or nothing, is not. */
  live: boolean;
}

/**
 * @param reaping tombstones may just be leaving: a key without live entries need not be the same everywhere
 */
export function checkConvergence(keys: ReadonlyMap<string, readonly Copy[]>, reaping = false): Verdict {
  const v = verdict('convergence');
  for (const [key, copies] of keys) {
    v.judged++;
    const first = copies[0];
    for (const other of copies.slice(1)) {
      if (first.state === other.state && first.context === other.context) continue;
      if (first.context !== null && first.context === other.context) {
        v.problems.push(`${key}: n${first.node} and n${other.node} have one context and two states`);
      } else if (!reaping || first.live || other.live) {
        v.problems.push(`${key}: n${first.node} has ${brief(first)}, n${other.node} has ${brief(other)}`);
      } else continue;
      break;
    }
  }
  return v;
}

function brief(copy: Copy): string {
  if (copy.context === null) return 'nothing';
  return `${copy.live ? 'a value' : 'a tombstone'} with context ${copy.context}`;
}

/** While a run goes on: copies with equal contexts must have equal states, whoever is cut off. */
export function checkSameContextSameState(keys: ReadonlyMap<string, readonly Copy[]>): Verdict {
  const v = verdict('same context, same state');
  for (const [key, copies] of keys) {
    const byContext = new Map<string, Copy>();
    for (const copy of copies) {
      if (copy.context === null) continue;
      v.judged++;
      const other = byContext.get(copy.context);
      if (other === undefined) byContext.set(copy.context, copy);
      else if (other.state !== copy.state)
        v.problems.push(`${key}: n${other.node} and n${copy.node} have one context and two states`);
    }
  }
  return v;
}
