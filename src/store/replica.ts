/**
 * Another node's writes, as records of its journal: applied here, journalled here, and compared with what was here.
 *
 * A replica is *clean* for a write when it had seen exactly what the coordinator had. The compact kinds of records say
 * what that was; for the others the sender adds the hash of its context. When it wasn't clean, what was here before is
 * given back: the coordinator sees from it whether this replica was merely behind, or has news for it. A firm write that
 * was made on less than is here is not applied at all.
 */
import { breaks } from '../base/breaks.ts';
import { ByteReader, TruncatedError } from '../base/bytes.ts';
import { intervalHash } from '../causality/actors.ts';
import { Context } from '../causality/context.ts';
import { slotOf, slotOfBytes } from '../ring/slots.ts';
import { type KeyEvent, KeyState } from '../types/state.ts';
import type { Database, Keyspace } from './keyspace.ts';
import { CompactRecord, OVERWRITE, overwriteEvent, readRecord, stepEvent } from './records.ts';

export interface RecordKey {
  db: Database;
  key: string;
  slot: number;
}

/** Which key a record is about; its bytes begin at `start` with their length. Throws TruncatedError. */
export function keyOfRecord(keys: Keyspace, buf: Buffer, start: number): RecordKey {
  const r = new ByteReader(buf, start + 5, buf.length);
  const db = keys.databases[r.u8()];
  if (db === undefined) throw new TruncatedError();
  const key = r.str();
  return { db, key, slot: slotOf(key) };
}

/** What was here before a write that was not clean, null when the write was refused; and null for a clean one. */
export type Unclean = { key: RecordKey; before: KeyState | null } | null;

/** What a write was made on, when its record does not say it itself: a context, or merely its hash. */
export type Basis = Context | number;
export const SAID_BY_RECORD = -1;

/**
 * Applies one record and journals it. The key must be resident.
 * @param firm it is not applied when something has been seen here that it was not made on: the coordinator's reply would
 *   rest on less than there is, and nobody must see a write that will have to be undone
 */
export function applyRecord(
  keys: Keyspace,
  buf: Buffer,
  start: number,
  end: number,
  before: Basis,
  firm: boolean,
): Unclean {
  const unclean = COMPACT.read(buf, start, end)
    ? applyCompact(keys, buf, firm)
    : applyGeneral(keys, buf, start, end, before, firm);
  if (unclean?.before !== null) keys.journal.w.copy(buf, start, end);
  return unclean;
}

/** One for all records: what it holds of one is used before the next is read. */
const COMPACT = new CompactRecord();

function applyCompact(keys: Keyspace, buf: Buffer, firm: boolean): Unclean {
  const db = keys.databases[COMPACT.db];
  if (db === undefined) throw new TruncatedError();
  const left = replayCompact(keys, db, COMPACT, buf);
  if (left === null) return null;
  const { actor, from, start } = COMPACT;
  const basis = sole(firm, actor, COMPACT.kind === OVERWRITE ? start : start - 1, from);
  return replay(keys, db, left.key, left.event, basis, firm);
}

/** Replays a compact record in its own way. What can't be done so is given back: the key, and the event it stands for. */
export function replayCompact(
  keys: Keyspace,
  db: Database,
  record: CompactRecord,
  buf: Buffer,
): { key: string; event: KeyEvent } | null {
  const { keyStart, keyEnd, actor, to, from, start } = record;
  const slot = slotOfBytes(buf, keyStart, keyEnd);
  if (record.kind === OVERWRITE) {
    const { deadline, valueStart, end } = record;
    if (keys.replayOverwrite(db, buf, keyStart, keyEnd, slot, actor, to, from, start, deadline, valueStart, end))
      return null;
    const value = buf.latin1Slice(valueStart, end);
    return {
      key: buf.latin1Slice(keyStart, keyEnd),
      event: overwriteEvent({ actor, to, from, start, deadline, value }),
    };
  }
  const key = buf.latin1Slice(keyStart, keyEnd);
  const { sum } = record;
  if (keys.replayStep(db, key, slot, actor, to, from, start, sum)) return null;
  return { key, event: stepEvent({ actor, to, from, runStart: start, sum }) };
}

function applyGeneral(keys: Keyspace, buf: Buffer, start: number, end: number, before: Basis, firm: boolean): Unclean {
  const record = readRecord(new ByteReader(buf, start, end));
  if (record === null || record.kind !== 'event') throw new TruncatedError();
  const db = keys.databases[record.db];
  if (db === undefined) throw new TruncatedError();
  return replay(keys, db, record.key, record.event, before, firm);
}

/** What a compact record was made on: one interval, or nothing. */
function sole(firm: boolean, actor: number, from: number, to: number): Basis {
  if (firm) return from < to ? Context.of(actor, from, to) : NOTHING_SEEN;
  return from < to ? intervalHash(actor, from, to) : 0;
}

const NOTHING_SEEN = new Context();

/** The general way. */
function replay(keys: Keyspace, db: Database, key: string, event: KeyEvent, basis: Basis, firm: boolean): Unclean {
  const slot = slotOf(key);
  const o = keys.object(db, key, slot);
  let unclean: Unclean = null;
  const expected = typeof basis === 'number' ? basis : basis.hash();
  if ((o?.contextHash() ?? 0) !== expected) {
    // the event itself may have come before, by another way; there may have been more besides
    const place = { db, key, slot };
    if (firm && o !== null && typeof basis !== 'number' && !breaks.takesStale) {
      const seen = o.context();
      if (!seen.has(event.actor, event.to) && !basis.covers(seen)) return { key: place, before: null };
    }
    unclean = { key: place, before: keys.snapshot(o) ?? new KeyState() };
  }
  keys.replay(db, key, event);
  return unclean;
}
