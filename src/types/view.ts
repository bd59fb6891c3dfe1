/**
 * What a state shows to Redis's commands: its type, its value where that is one string, and its deadline.
 */

import { laterDot } from '../causality/dot.ts';
import { hasChunks, overlayChunks, shownChunks } from './chunks.ts';
import { keyDeadline } from './deadline.ts';
import { counterValue } from './increment.ts';
import { NONE, STRING, typeOfField } from './kinds.ts';
import { shownSibling } from './register.ts';
import type { Entry, KeyState } from './state.ts';

export interface View {
  type: number;
  /** A string's value; null for other types and for chunked strings, whose bytes are in `bytes`. */
  value: string | null;
  bytes: Buffer | null;
  /** Wall-clock ms at which the key is hidden; 0 for never. */
  deadline: number;
  /** Concurrent increments left 64 bits: commands that need the number say so. */
  overflow: boolean;
}

/** The type of the latest live entry shows (DESIGN section 4, "key with two types"). */
export function shownType(state: KeyState): number {
  let best: Entry | null = null;
  for (const e of state.entries()) {
    if (typeOfField(e.field) === NONE) continue;
    if (best === null || laterDot(e.actor, e.hlc, best.actor, best.hlc)) best = e;
  }
  return best === null ? NONE : typeOfField(best.field);
}

export function viewOf(state: KeyState, now: number): View {
  const type = shownType(state);
  if (type !== STRING)
    return { type, value: null, bytes: null, deadline: keyDeadline(state, null)?.num ?? 0, overflow: false };
  const register = shownSibling(state, now);
  const deadline = keyDeadline(state, register)?.num ?? register?.num ?? 0;
  const counter = counterValue(state, register?.data ?? null);
  const base = counter.value ?? register?.data ?? '';
  if (!hasChunks(state)) return { type, value: base, bytes: null, deadline, overflow: counter.overflow };
  return { type, value: null, bytes: overlayChunks(base, shownChunks(state)), deadline, overflow: counter.overflow };
}

/** Earliest ms at which anything in the state falls due, 0 for never: what the deadline index keeps. */
export function earliestDeadline(state: KeyState): number {
  let earliest = 0;
  for (const e of state.entries()) {
    const kind = e.field.charAt(0);
    if ((kind === 's' || kind === 'd') && e.num !== 0 && (earliest === 0 || e.num < earliest)) earliest = e.num;
  }
  return earliest;
}
