/**
 * *Nothing undead*: what an acknowledged operation has seen and removed is not back.
 *
 * That it was seen is known when the operation said so (GETDEL gave the value), and for operations that began after
 * `orderedFromMs`, from when on everybody knew everything (0 for a run in which nothing failed).
 */
import { byKey, type Op, show } from '../history.ts';
import type { FinalValues } from './lost.ts';
import { type Verdict, verdict } from './verdict.ts';

export function checkNothingUndead(
  history: readonly Op[],
  final: FinalValues,
  orderedFromMs: number,
  end: { atMs: number; clockErrorMs: number },
): Verdict {
  const v = verdict('nothing undead');
  for (const [key, ops] of byKey(history)) {
    const visible = final.get(key) ?? [];
    v.judged++;
    for (const value of visible) {
      const writes = ops.filter((o) => (o.name === 'set' || o.name === 'setnx') && o.value === value);
      if (writes.length === 0) {
        if (ops.every((o) => o.name === 'set' || o.name === 'setnx' || o.value === null) && !ops.some(countsOrAppends))
          v.problems.push(`${key} ends with ${value}, which nobody wrote`);
        continue;
      }
      const [w] = writes;
      if (w.result === 'error') v.problems.push(`${show(w)} was refused, and is there`);
      for (const o of ops) {
        if (o === w || o.result !== 'ok') continue;
        const saw = o.name === 'getdel' ? o.reply === value : false;
        const knew = o.invokeMs >= orderedFromMs && o.invokeMs > w.respondMs && replaces(o);
        if (saw || knew) v.problems.push(`undead: ${show(w)} is there, though ${show(o)} removed it`);
      }
      expired(v, ops, w, end);
    }
  }
  return v;
}

function countsOrAppends(o: Op): boolean {
  return o.name === 'incr' || o.name === 'append' || o.name === 'dset';
}

function replaces(o: Op): boolean {
  return o.name === 'set' || o.name === 'del' || o.name === 'getdel';
}

/** A value with a deadline is gone after it, by whatever clock. */
function expired(v: Verdict, ops: readonly Op[], w: Op, end: { atMs: number; clockErrorMs: number }): void {
  if (w.ttlMs === null || w.result !== 'ok') return;
  let latest = w.respondMs + w.ttlMs;
  for (const o of ops) {
    if (o.name !== 'pexpire' || o.result === 'error' || o.respondMs < w.invokeMs) continue;
    // a doubtful one may take effect at any time
    if (o.result === 'unknown') return;
    latest = Math.max(latest, o.respondMs + o.ttlMs!);
  }
  if (end.atMs > latest + end.clockErrorMs)
    v.problems.push(`undead: ${show(w)} is there ${(end.atMs - latest).toFixed(0)} ms after its deadline`);
}
