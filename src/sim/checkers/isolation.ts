/**
 * *Isolation when calm*: commands over several keys take effect one at a time. A *family* is a few keys of different
 * coordinators that such commands and plain ones are run on; all of it together is judged as one register is
 * (`order`): each command must fit somewhere between its call and its answer, in one order for the whole family.
 */
import type { FamilyOp } from '../history.ts';
import { linearizeBy, NO, type State, type Window } from './order.ts';
import { type Verdict, verdict } from './verdict.ts';

/** What a command on a missing source is answered; kept as the reply, since it tells what was there. */
export const NO_SUCH_KEY = '!';

const READS: ReadonlySet<string> = new Set(['get', 'lcs']);

/** @param windows when isolation was promised; a family is judged from its first command on, or not at all */
export function checkIsolation(history: readonly FamilyOp[], windows: readonly Window[]): Verdict {
  const v = verdict('isolation when calm');
  const families = new Map<string, FamilyOp[]>();
  for (const o of history) {
    const list = families.get(o.family);
    if (list === undefined) families.set(o.family, [o]);
    else list.push(o);
  }
  for (const [family, all] of families)
    for (const { fromMs, toMs } of windows) {
      // nobody knows what a family was before the window
      if (all.some((o) => o.invokeMs < fromMs)) continue;
      const ops: FamilyOp[] = [];
      for (const o of all) {
        if (o.invokeMs > toMs || o.result === 'error') continue;
        if (o.result === 'ok' && o.respondMs <= toMs) ops.push(o);
        else if (!READS.has(o.args[0])) ops.push({ ...o, result: 'unknown', respondMs: Number.POSITIVE_INFINITY });
      }
      const judged = ops.filter((o) => o.result === 'ok').length;
      if (judged === 0) continue;
      v.judged += judged;
      const found = linearizeBy(ops, '{}', step);
      if (found === 'undecided') v.undecided++;
      else if (found !== null) v.problems.push(`${family}: no order explains ${show(found)}; ${context(ops, found)}`);
    }
  return v;
}

function show(o: FamilyOp): string {
  const end = Number.isFinite(o.respondMs) ? o.respondMs.toFixed(1) : '...';
  return `c${o.client}@n${o.node} ${o.args.join(' ')} (${o.invokeMs.toFixed(1)} to ${end}) ${o.result === 'ok' ? (o.reply ?? 'nil') : o.result}`;
}

function context(ops: readonly FamilyOp[], found: FamilyOp): string {
  const before = ops.filter((o) => o !== found && o.invokeMs <= found.respondMs);
  return `before it: ${before.slice(-8).map(show).join(' | ')}`;
}

/** What a family is after a command, or that the command can't have been answered so. */
function step(state: State, o: FamilyOp): State | typeof NO {
  const keys = JSON.parse(state as string) as Record<string, string>;
  const sure = o.result === 'ok';
  const reply = run(keys, o.args);
  if (sure && reply !== o.reply) return NO;
  // always in the same order: equal states are to have equal names
  return JSON.stringify(Object.fromEntries(Object.entries(keys).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** Runs a command as one server does, and says what it replies. */
function run(keys: Record<string, string>, args: readonly string[]): string | null {
  const [name, a, b, c] = args;
  switch (name) {
    case 'get':
      return keys[a] ?? null;
    case 'set':
      keys[a] = b;
      return 'OK';
    case 'append':
      keys[a] = (keys[a] ?? '') + b;
      return String(keys[a].length);
    case 'del': {
      const was = a in keys;
      delete keys[a];
      return was ? '1' : '0';
    }
    case 'msetnx': {
      for (let i = 1; i < args.length; i += 2) if (args[i] in keys) return '0';
      for (let i = 1; i < args.length; i += 2) keys[args[i]] = args[i + 1];
      return '1';
    }
    case 'rename':
    case 'renamenx': {
      if (!(a in keys)) return NO_SUCH_KEY;
      if (name === 'renamenx' && b in keys) return '0';
      const value = keys[a];
      delete keys[a];
      keys[b] = value;
      return name === 'rename' ? 'OK' : '1';
    }
    case 'copy':
      if (!(a in keys) || b in keys) return '0';
      keys[b] = keys[a];
      return '1';
    case 'lcs':
      return String(common(keys[a] ?? '', keys[b] ?? ''));
    case 'bitop': {
      // bitop or destination source source
      const sources = [keys[c] ?? '', keys[args[4]] ?? ''];
      const length = Math.max(...sources.map((s) => s.length));
      let text = '';
      for (let i = 0; i < length; i++)
        text += String.fromCharCode((sources[0].charCodeAt(i) || 0) | (sources[1].charCodeAt(i) || 0));
      if (length === 0) delete keys[b];
      else keys[b] = text;
      return String(length);
    }
    default:
      throw new Error(`no family knows ${name}`);
  }
}

/** Length of the longest common subsequence. */
function common(a: string, b: string): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const x of a) {
    const next = [0];
    for (let j = 0; j < b.length; j++) next.push(x === b[j] ? row[j] + 1 : Math.max(row[j + 1], next[j]));
    row = next;
  }
  return row[b.length];
}
