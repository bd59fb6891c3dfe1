/**
 * Increments: one sum per (actor, run) beside the base value, so that concurrent ones all count.
 *
 * A run starts afresh with its actor's chain on the key and after any overwrite that the actor sees. An overwrite
 * records, by run, the sums that it saw; the value is base + the sum of (sum - recorded), so increments count
 * except those that an overwrite saw. Each increment also carries the exact result that it returned, which is the
 * value as long as nothing concurrent is live: that keeps floats as they were printed.
 *
 * Payload of an INCREMENT entry: num = the run's sum when it is a safe integer, else data = the sum in decimal;
 * aux = '' when the result is just the sum and nothing else was live, else `basis:result`.
 */

import { hash32 } from '../base/hash.ts';
import {
  addLongDouble,
  formatLongDouble,
  type LongDouble,
  negateLongDouble,
  parseLongDouble,
} from '../base/longdouble.ts';
import { actorName } from '../causality/actors.ts';
import { laterDot } from '../causality/dot.ts';
import { INCREMENT, RECORD, REGISTER } from './kinds.ts';
import type { Addition, Entry, KeyState } from './state.ts';

const INTEGER = /^-?(0|[1-9]\d*)$/;
export const INT64_MAX = 9223372036854775807n;
export const INT64_MIN = -9223372036854775808n;

/** Field of a run: the actor and the hlc of the run's first event. */
export function runField(actor: number, hlc: number): string {
  return INCREMENT + actorName(actor) + hlc.toString(36);
}

/** A run's sum in decimal. */
export function sumText(e: { data: string; num: number }): string {
  return e.data === '' ? String(e.num) : e.data;
}

export function sumPayload(text: string): { data: string; num: number } {
  const n = Number(text);
  return Number.isSafeInteger(n) && String(n) === text ? { data: '', num: n } : { data: text, num: 0 };
}

function add(a: string, b: string): string {
  if (INTEGER.test(a) && INTEGER.test(b)) return (BigInt(a) + BigInt(b)).toString();
  return formatLongDouble(addLongDouble(parse(a), parse(b)));
}

export function addDecimals(a: string, b: string): string {
  return add(a, b);
}

function subtract(a: string, b: string): string {
  if (INTEGER.test(a) && INTEGER.test(b)) return (BigInt(a) - BigInt(b)).toString();
  return formatLongDouble(addLongDouble(parse(a), negateLongDouble(parse(b))));
}

function parse(text: string): LongDouble {
  return parseLongDouble(text) ?? { mantissa: 0n, exponent: 0 };
}

/** A name for the set of live value entries other than `own`: equal sets, equal names. */
export function basisOf(state: KeyState, own: string): string {
  const dots: string[] = [];
  for (const e of state.entries()) {
    const kind = e.field.charAt(0);
    if ((kind === REGISTER || kind === INCREMENT || kind === RECORD) && e.field !== own) {
      dots.push(`${e.hlc}${actorName(e.actor)}${kind}`);
    }
  }
  if (dots.length === 0) return '';
  return hash32(dots.sort().join()).toString(36);
}

export interface CounterView {
  /** The value in decimal, or null when the base is no number (the increments are then kept but not shown). */
  value: string | null;
  /** True when a merge of concurrent increments left 64 bits. */
  overflow: boolean;
}

/** The value that base and runs make together. */
export function counterValue(state: KeyState, base: string | null): CounterView {
  let latest: Entry | null = null;
  for (const e of state.entries()) {
    if (e.field.charAt(0) !== INCREMENT) continue;
    if (latest === null || laterDot(e.actor, e.hlc, latest.actor, latest.hlc)) latest = e;
  }
  if (latest === null) return { value: base, overflow: false };
  const basis = basisOf(state, latest.field);
  if (latest.aux === '') {
    if (basis === '') return { value: sumText(latest), overflow: false };
  } else {
    const colon = latest.aux.indexOf(':');
    if (latest.aux.slice(0, colon) === basis) return { value: latest.aux.slice(colon + 1), overflow: false };
  }
  if (base !== null && parseLongDouble(base) === null) return { value: null, overflow: false };
  let total = base ?? '0';
  for (const e of state.entries()) {
    if (e.field.charAt(0) !== INCREMENT) continue;
    const recorded = recordedSum(state, e.field.slice(1));
    total = add(total, recorded === null ? sumText(e) : subtract(sumText(e), recorded));
  }
  const integer = INTEGER.test(total);
  return { value: total, overflow: integer && (BigInt(total) > INT64_MAX || BigInt(total) < INT64_MIN) };
}

/** What overwrites saw of a run: the record made at the run's highest point. */
function recordedSum(state: KeyState, run: string): string | null {
  let best: Entry | null = null;
  for (let e = state.get(RECORD + run); e !== null; e = e.next) if (best === null || e.num > best.num) best = e;
  return best?.data ?? null;
}

/**
 * The records that an overwrite of this state must add: for each run that it sees, live or recorded before, the
 * highest point seen.
 */
export function recordsForOverwrite(state: KeyState): Addition[] {
  const best = new Map<string, Addition>();
  for (const e of state.entries()) {
    const kind = e.field.charAt(0);
    if (kind !== INCREMENT && kind !== RECORD) continue;
    const field = RECORD + e.field.slice(1);
    const at = kind === INCREMENT ? e.hlc : e.num;
    const known = best.get(field);
    if (known === undefined || known.num < at) {
      best.set(field, { field, data: kind === INCREMENT ? sumText(e) : e.data, num: at, aux: '' });
    }
  }
  return [...best.values()];
}
