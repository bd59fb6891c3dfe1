/** What clients did and were told: the only thing that checkers know of a run, besides the replicas' final states. */

export type OpName =
  | 'set'
  | 'get'
  | 'incr'
  | 'setnx'
  | 'del'
  | 'getdel'
  | 'append'
  | 'pexpire'
  | 'dget'
  | 'dset'
  | 'ddel';

/** One operation on one key. A command on several keys is several operations with the same times. */
export interface Op {
  id: number;
  client: number;
  /** The node that was asked. */
  node: number;
  key: string;
  name: OpName;
  /** What is written or appended. */
  value: string | null;
  /** Virtual ms of the world: sent, and answered. An answer that never came is at infinity. */
  invokeMs: number;
  respondMs: number;
  result: 'ok' | 'error' | 'unknown';
  /** What was answered, when `ok`: text, a number's text, or null. For DGET the values. */
  reply: string | null;
  values: string[] | null;
  /** DGET, DSET, DDEL: the context that was given back. */
  token: string | null;
  /** SET with PX, and PEXPIRE. */
  ttlMs: number | null;
  /** DSET, DDEL: the operation whose context was given; null for a blind one. */
  seenOp: number | null;
}

/** A command on a family: keys of different coordinators that are judged together (`checkers/isolation`). */
export interface FamilyOp {
  id: number;
  client: number;
  node: number;
  family: string;
  /** The command in small letters, and its arguments; keys are named by their places in the family. */
  args: readonly string[];
  invokeMs: number;
  respondMs: number;
  result: 'ok' | 'error' | 'unknown';
  reply: string | null;
}

export const WRITES: ReadonlySet<OpName> = new Set<OpName>([
  'set',
  'incr',
  'setnx',
  'del',
  'getdel',
  'append',
  'pexpire',
  'dset',
  'ddel',
]);

/** An operation with everything that was not said: for tests and tools. */
export function op(fields: Partial<Op> & Pick<Op, 'id' | 'name'>): Op {
  const result = fields.result ?? 'ok';
  const invokeMs = fields.invokeMs ?? 0;
  return {
    client: 0,
    node: 0,
    key: 'k',
    value: null,
    reply: null,
    values: null,
    token: null,
    ttlMs: null,
    seenOp: null,
    ...fields,
    result,
    invokeMs,
    respondMs: result === 'unknown' ? Number.POSITIVE_INFINITY : (fields.respondMs ?? invokeMs + 1),
  };
}

export function byKey(history: readonly Op[]): Map<string, Op[]> {
  const keys = new Map<string, Op[]>();
  for (const o of history) {
    const list = keys.get(o.key);
    if (list === undefined) keys.set(o.key, [o]);
    else list.push(o);
  }
  return keys;
}

/** One operation in one line. */
export function show(o: Op): string {
  const end = Number.isFinite(o.respondMs) ? o.respondMs.toFixed(1) : '...';
  const said = o.values !== null ? `[${o.values.join(' ')}]` : o.reply === null ? 'nil' : o.reply;
  const seen = o.seenOp === null ? '' : ` seen #${o.seenOp}`;
  const value = o.value === null ? '' : ` ${o.value}`;
  return `#${o.id} c${o.client}@n${o.node} ${o.name} ${o.key}${value}${seen} (${o.invokeMs.toFixed(1)} to ${end}) ${o.result === 'ok' ? said : o.result}`;
}
