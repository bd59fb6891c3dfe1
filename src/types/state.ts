/**
 * The state of one key, whatever its type: a context, and live entries `(field, dot, payload)`.
 *
 * This is the general form that every type shares; events and joins are defined here once and nowhere else. The
 * rules are DESIGN section 3's: a removal of something not yet seen is remembered in `gone`; an entry survives a
 * join if both sides hold it, or if one holds it and the other has neither seen its dot nor remembers its removal.
 * Same context, same state.
 *
 * The first character of a field says what kind of entry it is (`types/kinds`). A payload is up to three values:
 * bytes, a number and a short string; what they mean is the kind's business.
 */

import { crc32 } from 'node:zlib';
import { breaks } from '../base/breaks.ts';
import { type ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { addHash, spread52, subtractHash } from '../base/hash.ts';
import { ACTOR_BYTES, actorName, actorNumber, compareActors } from '../causality/actors.ts';
import { Context } from '../causality/context.ts';

export class Entry {
  readonly field: string;
  actor: number;
  hlc: number;
  data: string;
  num: number;
  aux: string;
  /** The next live entry of the same field: siblings. */
  next: Entry | null = null;
  /** Written since its row was last folded. */
  dirty = true;

  constructor(field: string, actor: number, hlc: number, data: string, num = 0, aux = '') {
    this.field = field;
    this.actor = actor;
    this.hlc = hlc;
    this.data = data;
    this.num = num;
    this.aux = aux;
  }
}

/** Names one entry: a removal. */
export interface EntryRef {
  field: string;
  actor: number;
  hlc: number;
}

/** What an event adds; its dot is the event's. */
export interface Addition {
  field: string;
  data: string;
  num: number;
  aux: string;
}

/** One write's effect on one key. */
export interface KeyEvent {
  actor: number;
  from: number;
  to: number;
  /** Whole-key removal: everything its maker had seen, and the removals that it remembered. */
  covers: Context | null;
  coversGone: EntryRef[];
  removes: EntryRef[];
  adds: Addition[];
}

const scratch = new ByteWriter(8192);
const hashScratch = new ByteWriter(8192);

function refKey(field: string, actor: number, hlc: number): string {
  return `${hlc}:${actor}:${field}`;
}

export class KeyState {
  context: Context;
  /** Live entries by field; siblings are linked. */
  readonly fields = new Map<string, Entry>();
  /** Remembered removals, by hlc, actor and field. */
  gone: Map<string, EntryRef> | null = null;
  /** Live entries. */
  count = 0;
  /** Bytes of fields and payloads of live entries. */
  bytes = 0;
  /** Entries removed since the last fold whose rows must go; null while all entries live in the key's row. */
  removedRows: EntryRef[] | null = null;
  /** Running sum of entry hashes; negative when it must be computed afresh. */
  private sum = 0;

  constructor(context = new Context()) {
    this.context = context;
  }

  // ------------------------------------------------------------------ entries

  get(field: string): Entry | null {
    return this.fields.get(field) ?? null;
  }

  find(field: string, actor: number, hlc: number): Entry | null {
    let e = this.fields.get(field) ?? null;
    while (e !== null && (e.hlc !== hlc || e.actor !== actor)) e = e.next;
    return e;
  }

  *entries(): IterableIterator<Entry> {
    for (let e of this.fields.values()) {
      for (;;) {
        yield e;
        if (e.next === null) break;
        e = e.next;
      }
    }
  }

  /** Adds an entry that must not be there yet. */
  insert(e: Entry): void {
    e.next = this.fields.get(e.field) ?? null;
    this.fields.set(e.field, e);
    this.count++;
    this.bytes += e.field.length + e.data.length + e.aux.length;
    if (this.sum >= 0) this.sum = addHash(this.sum, hashEntry(e));
  }

  private delete(e: Entry): void {
    const head = this.fields.get(e.field)!;
    if (head === e) {
      if (e.next === null) this.fields.delete(e.field);
      else this.fields.set(e.field, e.next);
    } else {
      let before = head;
      while (before.next !== e) before = before.next!;
      before.next = e.next;
    }
    e.next = null;
    this.count--;
    this.bytes -= e.field.length + e.data.length + e.aux.length;
    if (this.sum >= 0) this.sum = subtractHash(this.sum, hashEntry(e));
    this.removedRows?.push(e);
  }

  /**
   * Rewrites an entry in place for an event that replaces it in its own field: what a counter does, thousands of
   * times a second. The same as removing and adding it.
   */
  replace(e: Entry, hlc: number, data: string, num: number, aux: string): void {
    if (this.removedRows !== null) this.removedRows.push({ field: e.field, actor: e.actor, hlc: e.hlc });
    this.bytes += data.length - e.data.length + aux.length - e.aux.length;
    e.hlc = hlc;
    e.data = data;
    e.num = num;
    e.aux = aux;
    e.dirty = true;
    this.sum = -1;
  }

  // ------------------------------------------------------------------ removals

  private drop(field: string, actor: number, hlc: number): void {
    const e = this.find(field, actor, hlc);
    if (e !== null) this.delete(e);
    if (this.context.has(actor, hlc) || breaks.forgetsRemovals) return;
    this.gone ??= new Map();
    this.gone.set(refKey(field, actor, hlc), { field, actor, hlc });
  }

  /** Remembered removals whose event has come need no remembering. */
  private forgetSeen(): void {
    if (this.gone === null) return;
    for (const [k, g] of this.gone) if (this.context.has(g.actor, g.hlc)) this.gone.delete(k);
    if (this.gone.size === 0) this.gone = null;
  }

  remembersRemoval(e: EntryRef): boolean {
    return this.gone?.has(refKey(e.field, e.actor, e.hlc)) ?? false;
  }

  goneList(): EntryRef[] {
    return this.gone === null ? [] : [...this.gone.values()];
  }

  // ------------------------------------------------------------------ events and joins

  apply(event: KeyEvent): void {
    if (event.covers !== null) {
      for (const e of [...this.entries()]) if (event.covers.has(e.actor, e.hlc)) this.delete(e);
      for (const g of event.coversGone) this.drop(g.field, g.actor, g.hlc);
      this.context.join(event.covers);
    }
    for (const r of event.removes) this.drop(r.field, r.actor, r.hlc);
    const seen = this.context.has(event.actor, event.to);
    if (!seen) {
      for (const a of event.adds) {
        if (!this.remembersRemoval({ field: a.field, actor: event.actor, hlc: event.to })) {
          this.insert(new Entry(a.field, event.actor, event.to, a.data, a.num, a.aux));
        }
      }
    }
    this.context.add(event.actor, event.from, event.to);
    this.forgetSeen();
  }

  join(other: KeyState): void {
    for (const e of [...this.entries()]) {
      if (
        other.find(e.field, e.actor, e.hlc) === null &&
        (other.context.has(e.actor, e.hlc) || other.remembersRemoval(e))
      ) {
        this.delete(e);
      }
    }
    for (const e of other.entries()) {
      if (
        this.find(e.field, e.actor, e.hlc) === null &&
        !this.context.has(e.actor, e.hlc) &&
        !this.remembersRemoval(e)
      ) {
        this.insert(new Entry(e.field, e.actor, e.hlc, e.data, e.num, e.aux));
      }
    }
    this.context.join(other.context);
    if (other.gone !== null) {
      this.gone ??= new Map();
      for (const [k, g] of other.gone) this.gone.set(k, g);
    }
    this.forgetSeen();
  }

  clone(): KeyState {
    const s = new KeyState(this.context.clone());
    for (const e of this.entries()) s.insert(new Entry(e.field, e.actor, e.hlc, e.data, e.num, e.aux));
    if (this.gone !== null) s.gone = new Map(this.gone);
    return s;
  }

  /** The running sum over live entries: equal contexts with unequal sums are damage. */
  checksum(): number {
    if (this.sum < 0) {
      let sum = 0;
      for (const e of this.entries()) sum = addHash(sum, hashEntry(e));
      this.sum = sum;
    }
    return this.sum;
  }

  /** Live entries in canonical order: by field, then dot. */
  sorted(): Entry[] {
    return [...this.entries()].sort(
      (a, b) =>
        (a.field < b.field ? -1 : a.field > b.field ? 1 : 0) || a.hlc - b.hlc || compareActors(a.actor, b.actor),
    );
  }
}

/** Hash of (field, dot, payload), 52 bits: of the entry's canonical bytes. */
export function hashEntry(e: Entry): number {
  hashScratch.reset();
  encodeEntry(hashScratch, e);
  return hashEncoded(hashScratch.buf, 0, hashScratch.pos);
}

/** The same, of an entry that has been encoded already. */
export function hashEncoded(buf: Buffer, start: number, end: number): number {
  return spread52(crc32(buf.subarray(start, end)));
}

// ---------------------------------------------------------------------- encoding

const HAS_NUM = 1;
const HAS_AUX = 2;

export function encodePayload(w: ByteWriter, data: string, num: number, aux: string): void {
  w.u8((num !== 0 ? HAS_NUM : 0) | (aux !== '' ? HAS_AUX : 0));
  if (num !== 0) w.f64(num);
  if (aux !== '') w.str(aux);
  w.str(data);
}

export function decodePayload(r: ByteReader): { data: string; num: number; aux: string } {
  const flags = r.u8();
  if (flags > (HAS_NUM | HAS_AUX)) throw new TruncatedError();
  const num = flags & HAS_NUM ? r.f64() : 0;
  const aux = flags & HAS_AUX ? r.str() : '';
  return { num, aux, data: r.str() };
}

export function encodeRef(w: ByteWriter, g: EntryRef): void {
  w.str(g.field);
  w.rawStr(actorName(g.actor));
  w.u53(g.hlc);
}

export function decodeRef(r: ByteReader): EntryRef {
  return { field: r.str(), actor: actorNumber(r.rawStr(ACTOR_BYTES)), hlc: r.u53() };
}

function encodeRefs(w: ByteWriter, refs: EntryRef[]): void {
  w.varint(refs.length);
  for (const g of refs) encodeRef(w, g);
}

function decodeRefs(r: ByteReader): EntryRef[] {
  const n = r.varint();
  const refs: EntryRef[] = [];
  for (let i = 0; i < n; i++) refs.push(decodeRef(r));
  return refs;
}

export const STATE_FORMAT = 1;
const SPREAD = 1;

/**
 * Canonical bytes of a state: format, flags, context, remembered removals, checksum, count, and the entries unless
 * they are `spread` over rows of their own.
 */
export function encodeState(w: ByteWriter, s: KeyState, spread: boolean): void {
  w.u8(STATE_FORMAT);
  w.u8(spread ? SPREAD : 0);
  s.context.encode(w);
  const gone = s.goneList();
  gone.sort((a, b) => (refKey(a.field, a.actor, a.hlc) < refKey(b.field, b.actor, b.hlc) ? -1 : 1));
  encodeRefs(w, gone);
  w.u53(s.checksum());
  w.varint(s.count);
  if (!spread) for (const e of s.sorted()) encodeEntry(w, e);
}

export function encodeEntry(w: ByteWriter, e: Entry): void {
  w.str(e.field);
  w.rawStr(actorName(e.actor));
  w.u53(e.hlc);
  encodePayload(w, e.data, e.num, e.aux);
}

/** Thrown when a row's entries don't add up to its checksum. */
export class DamagedStateError extends Error {
  constructor() {
    super('the entries of a key do not add up to its checksum');
    this.name = 'DamagedStateError';
  }
}

/** @param rows entries from rows of their own, when the state is spread */
export function decodeState(r: ByteReader, rows?: Entry[]): KeyState {
  if (r.u8() !== STATE_FORMAT) throw new TruncatedError();
  const spread = (r.u8() & SPREAD) !== 0;
  const s = new KeyState(Context.decode(r));
  const gone = decodeRefs(r);
  if (gone.length > 0) s.gone = new Map(gone.map((g) => [refKey(g.field, g.actor, g.hlc), g]));
  const sum = r.u53();
  const count = r.varint();
  if (spread) {
    for (const e of rows ?? []) s.insert(e);
    s.removedRows = [];
  } else {
    for (let i = 0; i < count; i++) {
      const field = r.str();
      const actor = actorNumber(r.rawStr(ACTOR_BYTES));
      const hlc = r.u53();
      const { data, num, aux } = decodePayload(r);
      const e = new Entry(field, actor, hlc, data, num, aux);
      s.insert(e);
    }
  }
  if (s.count !== count || s.checksum() !== sum) throw new DamagedStateError();
  for (const e of s.entries()) e.dirty = false;
  return s;
}

const EV_COVERS = 1;
const EV_REMOVES = 2;
const EV_ADDS = 4;

/** An event's bytes: flags, actor, to, distance to `from`, then what it covers, removes and adds. */
export function encodeEvent(w: ByteWriter, ev: KeyEvent): void {
  w.u8((ev.covers ? EV_COVERS : 0) | (ev.removes.length ? EV_REMOVES : 0) | (ev.adds.length ? EV_ADDS : 0));
  w.rawStr(actorName(ev.actor));
  w.u53(ev.to);
  w.u53(ev.from);
  if (ev.covers) {
    ev.covers.encode(w);
    encodeRefs(w, ev.coversGone);
  }
  if (ev.removes.length) encodeRefs(w, ev.removes);
  if (ev.adds.length) {
    w.varint(ev.adds.length);
    for (const a of ev.adds) {
      w.str(a.field);
      encodePayload(w, a.data, a.num, a.aux);
    }
  }
}

export function decodeEvent(r: ByteReader): KeyEvent {
  const flags = r.u8();
  const actor = actorNumber(r.rawStr(ACTOR_BYTES));
  const to = r.u53();
  const from = r.u53();
  if (from >= to) throw new TruncatedError();
  const covers = flags & EV_COVERS ? Context.decode(r) : null;
  const coversGone = covers ? decodeRefs(r) : [];
  const removes = flags & EV_REMOVES ? decodeRefs(r) : [];
  const adds: Addition[] = [];
  if (flags & EV_ADDS) {
    const n = r.varint();
    for (let i = 0; i < n; i++) adds.push({ field: r.str(), ...decodePayload(r) });
  }
  return { actor, from, to, covers, coversGone, removes, adds };
}

/** Canonical bytes as a latin1 string: two states are the same exactly when these are equal. */
export function fingerprint(s: KeyState): string {
  scratch.reset();
  encodeState(scratch, s, false);
  return scratch.latin1();
}
