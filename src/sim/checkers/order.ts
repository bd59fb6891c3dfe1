/**
 * *Order when calm*: each key behaves as one register that takes one operation at a time, each at some moment between
 * its call and its answer (linearizability).
 *
 * The search is Wing and Gong's with Lowe's memory of configurations (set of operations done, state), as Porcupine has
 * it. An operation whose outcome nobody knows may take effect at any time after its call, or never. A window's first
 * state is unknown when something went before it.
 */
import { byKey, type Op, show, WRITES } from '../history.ts';
import { type Verdict, verdict } from './verdict.ts';

/** Configurations looked at before a key is given up as undecided. */
const MAX_CONFIGURATIONS = 300_000;

/** A register's content; ANY when nobody knows. */
export type State = string | null | typeof ANY;
const ANY = Symbol('any');
/** The operation can't have given that answer in that state. */
export const NO = Symbol('no');

export interface Window {
  fromMs: number;
  toMs: number;
}

const JUDGED: ReadonlySet<string> = new Set(['set', 'get', 'incr', 'setnx', 'del', 'getdel', 'append']);

/** @param windows when order was promised: one from 0 on judges all of a history that ends within it */
export function checkOrder(history: readonly Op[], windows: readonly Window[]): Verdict {
  const v = verdict('order when calm');
  for (const [key, all] of byKey(history)) {
    // what a deadline ends is no operation
    if (all.some((o) => !JUDGED.has(o.name) || o.ttlMs !== null)) continue;
    for (const window of windows) {
      const ops = within(all, window);
      if (!ops.some((o) => o.result === 'ok')) continue;
      v.judged += ops.filter((o) => o.result === 'ok').length;
      const initial = all.some((o) => o.invokeMs < window.fromMs) ? ANY : null;
      const found = linearize(ops, initial);
      if (found === 'undecided') v.undecided++;
      else if (found !== null)
        v.problems.push(`${key}: no order explains ${show(found)}; before it: ${context(ops, found)}`);
    }
  }
  return v;
}

/** The operations that a window judges; writes that reach into it or out of it may or may not count. */
function within(ops: readonly Op[], { fromMs, toMs }: Window): Op[] {
  const list: Op[] = [];
  for (const o of ops) {
    if (o.result === 'error' || o.invokeMs > toMs || o.respondMs < fromMs) continue;
    if (o.result === 'ok' && o.invokeMs >= fromMs && o.respondMs <= toMs) list.push(o);
    else if (WRITES.has(o.name)) list.push({ ...o, result: 'unknown', respondMs: Number.POSITIVE_INFINITY });
  }
  return list;
}

function context(ops: readonly Op[], found: Op): string {
  const before = ops.filter((o) => o !== found && o.invokeMs <= found.respondMs);
  return before.slice(-8).map(show).join('; ');
}

// ---------------------------------------------------------------------- the register

/** The state after an operation, or NO when its answer does not fit. A doubtful operation's answer fits always. */
export function step(state: State, o: Op): State | typeof NO {
  const sure = o.result === 'ok';
  const fits = (answer: string | null) => !sure || o.reply === answer;
  switch (o.name) {
    case 'get':
      return state === ANY ? o.reply : fits(state) ? state : NO;
    case 'set':
      return o.value;
    case 'incr': {
      if (state === ANY) return sure ? o.reply : ANY;
      const n = state === null ? 0 : /^-?\d+$/.test(state) ? Number(state) : Number.NaN;
      // on anything but a number it fails, and a failure that was reported is not in the history
      if (Number.isNaN(n)) return sure ? NO : state;
      return fits(String(n + 1)) ? String(n + 1) : NO;
    }
    case 'setnx':
      if (state === ANY) return sure && o.reply === '1' ? o.value : ANY;
      if (!fits(state === null ? '1' : '0')) return NO;
      return state === null ? o.value : state;
    case 'del':
      return state === ANY || fits(state === null ? '0' : '1') ? null : NO;
    case 'getdel':
      return state === ANY || fits(state) ? null : NO;
    case 'append': {
      if (state === ANY) return ANY;
      const text = (state ?? '') + o.value;
      return fits(String(text.length)) ? text : NO;
    }
    default:
      throw new Error(`no register knows ${o.name}`);
  }
}

// ---------------------------------------------------------------------- the search

/** What the search has to know of an operation. */
interface Timed {
  readonly id: number;
  readonly invokeMs: number;
  readonly respondMs: number;
}

class Entry<T> {
  readonly index: number;
  readonly op: T;
  /** Of a call: its answer, null when there is none. Of an answer: undefined. */
  answer: Entry<T> | null | undefined;
  before: Entry<T> | null = null;
  next: Entry<T> | null = null;

  constructor(index: number, op: T, answer: Entry<T> | null | undefined) {
    this.index = index;
    this.op = op;
    this.answer = answer;
  }
}

/** Null when some order explains all answers of one key; else the operation at which the best attempt got stuck. */
export function linearize(ops: readonly Op[], initial: State): Op | 'undecided' | null {
  return linearizeBy(ops, initial, step);
}

/**
 * The same of anything that takes one operation at a time.
 * @param step what a state becomes by an operation, or that this can't have given its answer
 */
export function linearizeBy<T extends Timed>(
  ops: readonly T[],
  initial: State,
  step: (state: State, op: T) => State | typeof NO,
): T | 'undecided' | null {
  const sorted = [...ops].sort((a, b) => a.invokeMs - b.invokeMs || a.id - b.id);
  const events: { at: number; kind: number; entry: Entry<T> }[] = [];
  let open = 0;
  sorted.forEach((o, i) => {
    const finite = Number.isFinite(o.respondMs);
    const answer = finite ? new Entry<T>(i, o, undefined) : null;
    events.push({ at: o.invokeMs, kind: 0, entry: new Entry<T>(i, o, answer) });
    if (answer !== null) {
      open++;
      events.push({ at: o.respondMs, kind: 1, entry: answer });
    }
  });
  // at one moment calls come first: then the two may have overlapped
  events.sort((a, b) => a.at - b.at || a.kind - b.kind || a.entry.index - b.entry.index);
  const head = new Entry<T>(-1, sorted[0], undefined);
  let last = head;
  for (const { entry } of events) {
    last.next = entry;
    entry.before = last;
    last = entry;
  }

  const done = new Uint8Array(sorted.length);
  const seen = new Set<string>();
  const stack: { entry: Entry<T>; state: State }[] = [];
  let state = initial;
  let entry = head.next;
  let stuck: T = sorted[0];
  let best = -1;
  while (open > 0) {
    if (entry !== null && entry.answer !== undefined) {
      const after = step(state, entry.op);
      if (after !== NO) {
        done[entry.index] = 1;
        const configuration = nameOf(done, after);
        if (!seen.has(configuration)) {
          if (seen.size >= MAX_CONFIGURATIONS) return 'undecided';
          seen.add(configuration);
          stack.push({ entry, state });
          state = after;
          if (entry.answer !== null) open--;
          lift(entry);
          entry = head.next;
          continue;
        }
        done[entry.index] = 0;
      }
      entry = entry.next;
      continue;
    }
    // an answer whose call has not been placed, or the end: the last choice was wrong
    if (entry !== null && stack.length > best) {
      best = stack.length;
      stuck = entry.op;
    }
    const top = stack.pop();
    if (top === undefined) return stuck;
    done[top.entry.index] = 0;
    if (top.entry.answer !== null) open++;
    state = top.state;
    unlift(top.entry);
    entry = top.entry.next;
  }
  return null;
}

/** Operations are done nearly in order, so what is behind the first that isn't names the set. */
function nameOf(done: Uint8Array, state: State): string {
  let low = 0;
  while (low < done.length && done[low] === 1) low++;
  let name = String(low);
  for (let i = low + 1; i < done.length; i++) if (done[i] === 1) name += `,${i}`;
  return state === ANY ? `${name}?` : state === null ? `${name}-` : `${name}=${state}`;
}

function lift(call: Entry<unknown>): void {
  remove(call);
  if (call.answer) remove(call.answer);
}

function unlift(call: Entry<unknown>): void {
  if (call.answer) restore(call.answer);
  restore(call);
}

function remove(e: Entry<unknown>): void {
  e.before!.next = e.next;
  if (e.next !== null) e.next.before = e.before;
}

function restore(e: Entry<unknown>): void {
  e.before!.next = e;
  if (e.next !== null) e.next.before = e;
}
