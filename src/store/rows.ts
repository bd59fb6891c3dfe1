/**
 * Objects to rows and back (docs/STORAGE.md, "A key's row").
 *
 * The bytes are `types/state`'s canonical encoding. The common simple form is written and read here directly, without
 * building a state, and must come out the same to the byte: a test compares both.
 */
import { type ByteReader, type ByteWriter, ByteReader as Reader } from '../base/bytes.ts';
import { ACTOR_BYTES, actorName, actorNumber } from '../causality/actors.ts';
import type { EntryRow } from '../ports/engine.ts';
import { REGISTER, STRING } from '../types/kinds.ts';
import {
  DamagedStateError,
  decodePayload,
  decodeState,
  Entry,
  encodePayload,
  encodeState,
  hashEncoded,
  STATE_FORMAT,
} from '../types/state.ts';
import { earliestDeadline } from '../types/view.ts';
import type { Keyspace } from './keyspace.ts';
import { COUNTER, type StoredKey } from './object.ts';

/** Writes an object's state. @param spread its entries are in rows of their own */
export function encodeObject(w: ByteWriter, o: StoredKey, spread: boolean): void {
  if (o.state !== null || o.rest !== null || o.type !== STRING || o.flags & COUNTER) {
    encodeState(w, o.toState(), spread);
    return;
  }
  const name = actorName(o.actor);
  const value = String(o.value);
  w.u8(STATE_FORMAT);
  w.u8(0);
  w.varint(1);
  w.rawStr(name);
  w.u53(o.from);
  w.varint(o.to - o.from);
  w.varint(0);
  const sum = w.pos;
  w.u53(0);
  w.varint(1);
  const entry = w.pos;
  w.str(REGISTER);
  w.rawStr(name);
  w.u53(o.to);
  encodePayload(w, value, o.deadline, '');
  const end = w.pos;
  w.pos = sum;
  w.u53(hashEncoded(w.buf, entry, end));
  w.pos = end;
}

/** Earliest ms at which something in the object falls due. */
export function rowDeadline(o: StoredKey): number {
  return o.state === null ? o.deadline : earliestDeadline(o.state);
}

/**
 * Reads an object's state into a fresh object. Throws `TruncatedError` or `DamagedStateError`.
 * @param entries rows of a spread state
 */
export function decodeObject(keys: Keyspace, o: StoredKey, state: Buffer, entries: EntryRow[] | null): void {
  const r = new Reader(state);
  if (entries === null && decodeSimple(o, r)) return;
  r.pos = 0;
  const rows = entries?.map((row) => {
    const p = decodePayload(new Reader(row.payload));
    return new Entry(row.field, actorNumber(row.actor), row.hlc, p.data, p.num, p.aux);
  });
  o.state = decodeState(r, rows);
  keys.refresh(o);
}

/** Reads a state that is a simple register into a fresh object; false, with the reader anywhere, when it is another. */
export function decodeSimple(o: StoredKey, r: ByteReader): boolean {
  if (r.u8() !== STATE_FORMAT || r.u8() !== 0 || r.varint() !== 1) return false;
  const actor = actorNumber(r.rawStr(ACTOR_BYTES));
  const from = r.u53();
  const to = from + r.varint();
  if (r.varint() !== 0) return false;
  const sum = r.u53();
  if (r.varint() !== 1) return false;
  const entry = r.pos;
  if (r.str() !== REGISTER) return false;
  if (actorNumber(r.rawStr(ACTOR_BYTES)) !== actor || r.u53() !== to) return false;
  const { data, num, aux } = decodePayload(r);
  if (aux !== '' || hashEncoded(r.buf, entry, r.pos) !== sum) throw new DamagedStateError();
  o.actor = actor;
  o.from = from;
  o.to = to;
  o.type = STRING;
  o.value = data;
  o.deadline = num;
  return true;
}
