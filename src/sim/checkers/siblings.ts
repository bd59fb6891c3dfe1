/**
 * *Siblings exact*: keys written by DSET and DDEL alone end with exactly the versions that nobody replaced.
 *
 * The oracle is sets (DESIGN section 3): a context covers the versions that were shown with it, and a write's own
 * context covers what it was given and itself. A version is there unless a write replaced it whose context covered it.
 * Doubtful writes may or may not count, both as versions and as replacements.
 */
import { byKey, type Op, show } from '../history.ts';
import type { FinalValues } from './lost.ts';
import { type Verdict, verdict } from './verdict.ts';

export function checkSiblings(history: readonly Op[], final: FinalValues): Verdict {
  const v = verdict('siblings exact');
  for (const [key, ops] of byKey(history)) {
    if (!ops.some((o) => o.name === 'dset')) continue;
    v.judged++;
    judge(v, ops, final.get(key) ?? [], Number.POSITIVE_INFINITY, `the key ends with`);
  }
  return v;
}

/** In a window in which nothing failed every read must be exact too, up to what went on at the same time. */
export function checkSiblingReads(history: readonly Op[], fromMs: number, toMs: number): Verdict {
  const v = verdict('sibling reads');
  for (const ops of byKey(history).values()) {
    for (const read of ops) {
      if (read.name !== 'dget' || read.result !== 'ok' || read.invokeMs < fromMs || read.respondMs > toMs) continue;
      v.judged++;
      judge(v, ops, read.values!, read.invokeMs, `${show(read)} gives`, read.respondMs);
    }
  }
  return v;
}

/** @param untilMs what was acknowledged before counts; what began before `doubtMs` may count */
function judge(
  v: Verdict,
  ops: readonly Op[],
  shown: readonly string[],
  untilMs: number,
  what: string,
  doubtMs = Number.POSITIVE_INFINITY,
): void {
  const byId = new Map(ops.map((o) => [o.id, o]));
  const covers = new Map<number, Set<string>>();
  const coverOf = (o: Op): Set<string> => {
    let set = covers.get(o.id);
    if (set !== undefined) return set;
    if (o.name === 'dget') set = new Set(o.values);
    else {
      set = new Set(o.seenOp === null ? [] : coverOf(byId.get(o.seenOp)!));
      if (o.value !== null) set.add(o.value);
    }
    covers.set(o.id, set);
    return set;
  };
  const surelyGone = new Map<string, Op>();
  const maybeGone = new Set<string>();
  for (const o of ops) {
    if ((o.name !== 'dset' && o.name !== 'ddel') || o.result === 'error' || o.invokeMs > doubtMs) continue;
    if (o.seenOp === null) continue;
    for (const value of coverOf(byId.get(o.seenOp)!)) {
      maybeGone.add(value);
      if (o.result === 'ok' && o.respondMs < untilMs) surelyGone.set(value, o);
    }
  }
  const visible = new Set(shown);
  if (visible.size !== shown.length) v.problems.push(`${what} [${shown.join(' ')}]: one version twice`);
  const known = new Set<string>();
  for (const o of ops) {
    if (o.name !== 'dset') continue;
    known.add(o.value!);
    const there = visible.has(o.value!);
    if (o.result === 'error' && there) v.problems.push(`${what} ${o.value}, which was refused: ${show(o)}`);
    if (o.result === 'ok' && o.respondMs < untilMs && !there && !maybeGone.has(o.value!))
      v.problems.push(`${what} [${shown.join(' ')}]; lost: ${show(o)}`);
    if (there && surelyGone.has(o.value!))
      v.problems.push(`${what} ${o.value}, undead: ${show(surelyGone.get(o.value!)!)} replaced it`);
    if (there && o.invokeMs > doubtMs) v.problems.push(`${what} ${o.value} before it was written: ${show(o)}`);
  }
  for (const value of visible) if (!known.has(value)) v.problems.push(`${what} ${value}, which nobody wrote`);
}
