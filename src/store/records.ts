/**
 * Journal records: one for each thing that changes a node's data.
 *
 * A record is its length (u32), a kind, and the kind's fields. The two compact kinds are what nearly all writes are;
 * they decode to the same events as the general kind, and a test holds them against it.
 */
import { type ByteReader, type ByteWriter, TruncatedError, u53At } from '../base/bytes.ts';
import { ACTOR_BYTES, actorName, actorNumber } from '../causality/actors.ts';
import { Context } from '../causality/context.ts';
import { runField, sumPayload } from '../types/increment.ts';
import { REGISTER } from '../types/kinds.ts';
import { decodeEvent, decodeState, encodeEvent, encodeState, type KeyEvent, type KeyState } from '../types/state.ts';

/** db, key, event. */
const KEY_EVENT = 1;
/** A register that overwrites what its own chain alone has made: db, key, actor, to, from, start of the chain, deadline, value. */
export const OVERWRITE = 2;
/** A step of a counter's run: db, key, actor, to, from, start of the run, sum. */
const STEP = 3;
/** Everything of one database with hlc <= floor is void: db, floor. */
const FLUSH = 4;
/** Two databases change names: db, db. */
const SWAP = 5;

/** What another replica held of a key, to be joined: db, key, state. */
const STATE = 6;

/** A key that its owners have, and that leaves this node: db, key. */
const FORGET = 7;

export type JournalRecord =
  | { kind: 'forget'; db: number; key: string }
  | { kind: 'state'; db: number; key: string; state: KeyState }
  | { kind: 'event'; db: number; key: string; event: KeyEvent }
  | {
      kind: 'step';
      db: number;
      key: string;
      actor: number;
      to: number;
      from: number;
      runStart: number;
      sum: number;
    }
  | {
      kind: 'overwrite';
      db: number;
      key: string;
      actor: number;
      to: number;
      from: number;
      start: number;
      deadline: number;
      value: string;
    }
  | { kind: 'flush'; db: number; floor: number }
  | { kind: 'swap'; a: number; b: number };

export function begin(w: ByteWriter, kind: number, db: number): number {
  const at = w.pos;
  w.ensure(6);
  w.pos = at + 4;
  w.buf[w.pos++] = kind;
  w.buf[w.pos++] = db;
  return at;
}

export function finish(w: ByteWriter, at: number): void {
  const length = w.pos - at - 4;
  w.buf[at] = length;
  w.buf[at + 1] = length >>> 8;
  w.buf[at + 2] = length >>> 16;
  w.buf[at + 3] = length >>> 24;
}

export function recordEvent(w: ByteWriter, db: number, key: string, event: KeyEvent): void {
  const at = begin(w, KEY_EVENT, db);
  w.str(key);
  encodeEvent(w, event);
  finish(w, at);
}

/** @param start where the chain's interval begins; equal to `from` when nothing was seen before */
export function recordOverwrite(
  w: ByteWriter,
  db: number,
  key: string,
  actor: number,
  to: number,
  from: number,
  start: number,
  deadline: number,
  value: string,
): void {
  const at = begin(w, OVERWRITE, db);
  w.str(key);
  w.rawStr(actorName(actor));
  w.u53(to);
  w.u53(from);
  w.u53(start);
  w.varint(deadline);
  w.rawStr(value);
  finish(w, at);
}

/** The same without a deadline, of a key and a value as bytes of buf. */
export function recordOverwriteBytes(
  w: ByteWriter,
  db: number,
  buf: Uint8Array,
  keyStart: number,
  keyEnd: number,
  actor: number,
  to: number,
  from: number,
  start: number,
  valueStart: number,
  valueEnd: number,
): void {
  const at = begin(w, OVERWRITE, db);
  w.varint(keyEnd - keyStart);
  w.copy(buf, keyStart, keyEnd);
  w.rawStr(actorName(actor));
  w.u53(to);
  w.u53(from);
  w.u53(start);
  w.varint(0);
  w.copy(buf, valueStart, valueEnd);
  finish(w, at);
}

export function recordStep(
  w: ByteWriter,
  db: number,
  key: string,
  actor: number,
  to: number,
  from: number,
  runStart: number,
  sum: number,
): void {
  const at = begin(w, STEP, db);
  w.str(key);
  w.rawStr(actorName(actor));
  w.u53(to);
  w.u53(from);
  w.u53(runStart);
  w.f64(sum);
  finish(w, at);
}

export function recordState(w: ByteWriter, db: number, key: string, state: KeyState): void {
  const at = begin(w, STATE, db);
  w.str(key);
  encodeState(w, state, false);
  finish(w, at);
}

/** The same, of a state's canonical bytes: buf[start, end). */
export function recordStateBytes(
  w: ByteWriter,
  db: number,
  key: string,
  buf: Uint8Array,
  start: number,
  end: number,
): void {
  const at = begin(w, STATE, db);
  w.str(key);
  w.copy(buf, start, end);
  finish(w, at);
}

export function recordForget(w: ByteWriter, db: number, key: string): void {
  const at = begin(w, FORGET, db);
  w.str(key);
  finish(w, at);
}

export function recordFlush(w: ByteWriter, db: number, floor: number): void {
  const at = begin(w, FLUSH, db);
  w.u53(floor);
  finish(w, at);
}

export function recordSwap(w: ByteWriter, a: number, b: number): void {
  const at = begin(w, SWAP, a);
  w.u8(b);
  finish(w, at);
}

/** The event that a compact overwrite stands for. */
export function overwriteEvent(
  r: Pick<Extract<JournalRecord, { kind: 'overwrite' }>, 'actor' | 'to' | 'from' | 'start' | 'deadline' | 'value'>,
): KeyEvent {
  return {
    actor: r.actor,
    from: r.from,
    to: r.to,
    covers: r.start < r.from ? Context.of(r.actor, r.start, r.from) : null,
    coversGone: [],
    removes: [],
    adds: [{ field: REGISTER, data: r.value, num: r.deadline, aux: '' }],
  };
}

/** The event that a compact step stands for. */
export function stepEvent(
  r: Pick<Extract<JournalRecord, { kind: 'step' }>, 'actor' | 'to' | 'from' | 'runStart' | 'sum'>,
): KeyEvent {
  const field = runField(r.actor, r.runStart);
  return {
    actor: r.actor,
    from: r.from,
    to: r.to,
    covers: null,
    coversGone: [],
    removes: r.from >= r.runStart ? [{ field, actor: r.actor, hlc: r.from }] : [],
    adds: [{ field, ...sumPayload(String(r.sum)), aux: '' }],
  };
}

/** The event of a record of any kind that has one. */
export function eventOf(r: Extract<JournalRecord, { kind: 'event' | 'overwrite' | 'step' }>): KeyEvent {
  return r.kind === 'event' ? r.event : r.kind === 'step' ? stepEvent(r) : overwriteEvent(r);
}

/** Reads the next record, or null at the end. */
export function readRecord(r: ByteReader): JournalRecord | null {
  if (r.done) return null;
  const length = r.u32();
  const end = r.pos + length;
  if (end > r.end) throw new TruncatedError();
  const kind = r.u8();
  const db = r.u8();
  switch (kind) {
    case KEY_EVENT: {
      const key = r.str();
      return { kind: 'event', db, key, event: decodeEvent(r) };
    }
    case OVERWRITE: {
      const key = r.str();
      const actor = actorNumber(r.rawStr(ACTOR_BYTES));
      const to = r.u53();
      const from = r.u53();
      const start = r.u53();
      const deadline = r.varint();
      const value = r.rawStr(end - r.pos);
      if (start > from || from >= to) throw new TruncatedError();
      return { kind: 'overwrite', db, key, actor, to, from, start, deadline, value };
    }
    case STEP: {
      const key = r.str();
      const actor = actorNumber(r.rawStr(ACTOR_BYTES));
      const to = r.u53();
      const from = r.u53();
      const runStart = r.u53();
      return { kind: 'step', db, key, actor, to, from, runStart, sum: r.f64() };
    }
    case STATE: {
      const key = r.str();
      return { kind: 'state', db, key, state: decodeState(r) };
    }
    case FORGET:
      return { kind: 'forget', db, key: r.str() };
    case FLUSH:
      return { kind: 'flush', db, floor: r.u53() };
    case SWAP:
      return { kind: 'swap', a: db, b: r.u8() };
    default:
      throw new TruncatedError();
  }
}

/** `to`, `from` and where the chain or run starts. */
const STAMPS_BYTES = 3 * 7;
/** The highest byte of the largest stamp. */
const MOST_HIGH_BYTE = 0x1f;

/**
 * A compact record, read in place: no object is made of it, and no string. Of a record of another kind it knows the kind,
 * the database, the key (where there is one) and the end.
 */
export class CompactRecord {
  kind = 0;
  db = 0;
  keyStart = 0;
  keyEnd = 0;
  actor = 0;
  to = 0;
  from = 0;
  /** Start of the chain, or of the run. */
  start = 0;
  /** Of an overwrite: its value is from `valueStart` to `end`. */
  deadline = 0;
  valueStart = 0;
  /** Of a step. */
  sum = 0;
  /** Where the record ends. */
  end = 0;
  /** The name of the actor that was looked up last, in two words. */
  private nameLow = 0;
  private nameHigh = 0;

  /**
   * As `read`, but no more than `kind`, `db`, the key, `to` and `end`, and that the rest can be read.
   */
  skim(buf: Buffer, at: number, limit: number): boolean {
    if (at + 6 > limit) throw new TruncatedError();
    const end = at + 4 + wordAt(buf, at);
    if (end > limit || end < at + 6) throw new TruncatedError();
    this.end = end;
    const kind = (this.kind = buf[at + 4]);
    this.db = buf[at + 5];
    if (kind === FLUSH || kind === SWAP) return false;
    let p = this.varint(buf, at + 6, end);
    this.keyStart = p;
    p += this.length;
    this.keyEnd = p;
    if (p > end) throw new TruncatedError();
    if (kind !== OVERWRITE && kind !== STEP) return false;
    p += ACTOR_BYTES;
    if (p + STAMPS_BYTES > end) throw new TruncatedError();
    // stamps of 53 bits in seven bytes: what is beyond can't be
    if ((buf[p + 6] | buf[p + 13] | buf[p + 20]) > MOST_HIGH_BYTE) throw new TruncatedError();
    this.to = u53At(buf, p);
    p += STAMPS_BYTES;
    if (kind === STEP) {
      if (p + 8 > end) throw new TruncatedError();
    } else this.varint(buf, p, end);
    return true;
  }

  /** Reads the record at `at`, which ends by `limit`. False for a kind that is not compact. */
  read(buf: Buffer, at: number, limit: number): boolean {
    if (!this.skim(buf, at, limit)) return false;
    let p = this.keyEnd;
    const low = wordAt(buf, p);
    const high = wordAt(buf, p + 4);
    if (this.actor === 0 || low !== this.nameLow || high !== this.nameHigh) {
      this.actor = actorNumber(buf.latin1Slice(p, p + ACTOR_BYTES));
      this.nameLow = low;
      this.nameHigh = high;
    }
    p += ACTOR_BYTES;
    this.from = u53At(buf, p + 7);
    this.start = u53At(buf, p + 14);
    p += STAMPS_BYTES;
    if (this.kind === STEP) this.sum = buf.readDoubleLE(p);
    else {
      this.valueStart = this.varint(buf, p, this.end);
      this.deadline = this.length;
      if (this.start > this.from || this.from >= this.to) throw new TruncatedError();
    }
    return true;
  }

  /** What `varint` has read. */
  private length = 0;

  /** Reads a number as `ByteReader.varint` does; returns where it ends. */
  private varint(buf: Buffer, at: number, end: number): number {
    if (at < end && buf[at] < 128) {
      this.length = buf[at];
      return at + 1;
    }
    let v = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      if (at >= end) throw new TruncatedError();
      const b = buf[at++];
      v += (b & 127) * scale;
      if (b < 128) {
        if (v > Number.MAX_SAFE_INTEGER) throw new TruncatedError();
        this.length = v;
        return at;
      }
      scale *= 128;
    }
    throw new TruncatedError();
  }
}

function wordAt(buf: Buffer, at: number): number {
  return (buf[at] | (buf[at + 1] << 8) | (buf[at + 2] << 16) | (buf[at + 3] << 24)) >>> 0;
}
