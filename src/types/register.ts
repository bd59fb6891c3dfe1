/**
 * The register: a string's whole value, with siblings when writes raced, each with its own deadline.
 *
 * `GET` shows the latest by (hlc, actor) that has not passed its deadline; `DGET` shows all, latest first.
 */
import { laterDot } from '../causality/dot.ts';
import { REGISTER } from './kinds.ts';
import type { Entry, KeyState } from './state.ts';

export function alive(e: Entry, now: number): boolean {
  return e.num === 0 || e.num > now;
}

/** The sibling that `GET` shows. When all have passed their deadlines: the one that lasted longest. */
export function shownSibling(state: KeyState, now: number): Entry | null {
  let best: Entry | null = null;
  for (let e = state.get(REGISTER); e !== null; e = e.next) {
    if (best === null) best = e;
    else if (alive(e, now) !== alive(best, now)) best = alive(e, now) ? e : best;
    else if (!alive(e, now) && e.num !== best.num) best = e.num > best.num ? e : best;
    else if (laterDot(e.actor, e.hlc, best.actor, best.hlc)) best = e;
  }
  return best;
}

/** Siblings that have not passed their deadlines, latest first. */
export function liveSiblings(state: KeyState, now: number): Entry[] {
  const list: Entry[] = [];
  for (let e = state.get(REGISTER); e !== null; e = e.next) if (alive(e, now)) list.push(e);
  return list.sort((a, b) => (laterDot(a.actor, a.hlc, b.actor, b.hlc) ? -1 : 1));
}
