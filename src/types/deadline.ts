/**
 * Deadlines of keys that have no single register: counters, chunked strings and (later) collections.
 *
 * Later ones replace earlier ones; of concurrent ones the later deadline wins, and "never" is the latest. One that
 * was made over a register names it, and does not count for another register that it never saw.
 */
import { actorName } from '../causality/actors.ts';
import { DEADLINE } from './kinds.ts';
import type { Entry, KeyState } from './state.ts';

/** Names the register that a deadline was made over; '' for none. */
export function registerName(register: Entry | null): string {
  return register === null ? '' : actorName(register.actor) + register.hlc.toString(36);
}

/** The key's own deadline entry that counts over this register, or null. */
export function keyDeadline(state: KeyState, register: Entry | null): Entry | null {
  let best: Entry | null = null;
  const name = registerName(register);
  for (let e = state.get(DEADLINE); e !== null; e = e.next) {
    if (register !== null && e.aux !== name) continue;
    if (best === null || best.num === 0) best = best ?? e;
    else if (e.num === 0 || e.num > best.num) best = e;
  }
  return best;
}
