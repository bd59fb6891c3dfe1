/**
 * *Nothing lost*: every acknowledged write is in the final state, or was replaced by one that could have seen it.
 *
 * It is judged without knowing who saw what. Whatever replaced a write took effect after it, and was replaced in its
 * turn or is left: as a visible value, or as a removal. So a write that began after everything which is left had
 * ended can't be gone.
 */
import { byKey, type Op, show } from '../history.ts';
import { type Verdict, verdict } from './verdict.ts';

/** Values that a key shows at the end, all siblings; empty when it is absent. */
export type FinalValues = ReadonlyMap<string, readonly string[]>;

/** Registers written by SET, SETNX, DEL, GETDEL with unique values. */
export function checkNothingLost(history: readonly Op[], final: FinalValues): Verdict {
  const v = verdict('nothing lost');
  for (const [key, ops] of byKey(history)) {
    const visible = new Set(final.get(key) ?? []);
    let latest = Number.NEGATIVE_INFINITY;
    for (const o of ops) {
      if ((isWrite(o) && visible.has(o.value!)) || isRemoval(o)) latest = Math.max(latest, o.respondMs);
    }
    for (const w of ops) {
      if (!isWrite(w) || w.result !== 'ok') continue;
      v.judged++;
      if (!visible.has(w.value!) && w.invokeMs > latest)
        v.problems.push(`lost: ${show(w)}; the key ends with [${[...visible].join(' ')}]`);
    }
  }
  return v;
}

function isWrite(o: Op): boolean {
  if (o.result === 'error' || o.value === null) return false;
  return o.name === 'set' || (o.name === 'setnx' && (o.result === 'unknown' || o.reply === '1' || o.reply === 'OK'));
}

function isRemoval(o: Op): boolean {
  if (o.result === 'error') return false;
  if (o.result === 'unknown') return o.name === 'del' || o.name === 'getdel';
  return (o.name === 'del' && o.reply === '1') || (o.name === 'getdel' && o.reply !== null);
}

/** Counters that INCR alone has written: no acknowledged increment is missing, none counted twice. */
export function checkIncrements(history: readonly Op[], final: FinalValues): Verdict {
  const v = verdict('increments');
  for (const [key, ops] of byKey(history)) {
    if (ops.some((o) => o.name !== 'incr' && o.name !== 'get')) continue;
    const increments = ops.filter((o) => o.name === 'incr');
    const acked = increments.filter((o) => o.result === 'ok').length;
    const unknown = increments.filter((o) => o.result === 'unknown').length;
    const value = Number(final.get(key)?.[0] ?? '0');
    v.judged += acked;
    if (value < acked) v.problems.push(`${key}: ${acked} increments were acknowledged, the counter ends at ${value}`);
    if (value > acked + unknown)
      v.problems.push(
        `${key}: ${acked} increments were acknowledged and ${unknown} doubtful; the counter ends at ${value}`,
      );
  }
  return v;
}

/** Strings that APPEND alone has written: each value is in there once (twice at most when nobody knows). */
export function checkAppends(history: readonly Op[], final: FinalValues): Verdict {
  const v = verdict('appends');
  for (const [key, ops] of byKey(history)) {
    const text = final.get(key)?.[0] ?? '';
    for (const o of ops) {
      if (o.name !== 'append' || o.result !== 'ok') continue;
      v.judged++;
      const times = text.split(o.value!).length - 1;
      if (times !== 1) v.problems.push(`${show(o)}: its text is there ${times} times`);
    }
  }
  return v;
}
