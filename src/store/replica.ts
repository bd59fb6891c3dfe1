/**
 * Another node's writes, as records of its journal: applied here, journalled here, and compared with what was here.
 *
 * A replica is *clean* for a write when it had seen exactly what the coordinator had. The compact kinds of records say
 * what that was; for the others the sender adds the hash of its context. When it wasn't clean, what was here before is
 * given back: the coordinator sees from it whether this replica was merely behind, or has news for it.
 */
import { ByteReader, TruncatedError } from '../base/bytes.ts';
import { intervalHash } from '../causality/actors.ts';
import { slotOf } from '../ring/slots.ts';
import { type KeyEvent, KeyState } from '../types/state.ts';
import type { Database, Keyspace } from './keyspace.ts';
import { overwriteEvent, readRecord, stepEvent } from './records.ts';

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

/** What was here before a write that was not clean; null for a clean one. */
export type Unclean = { key: RecordKey; before: KeyState } | null;

/**
 * Applies one record and journals it. The key must be resident.
 * @param before hash of the context that the write was made on; negative when the record says it itself
 */
export function applyRecord(keys: Keyspace, buf: Buffer, start: number, end: number, before: number): Unclean {
  const record = readRecord(new ByteReader(buf, start, end));
  if (record === null || !('key' in record) || record.kind === 'state' || record.kind === 'forget')
    throw new TruncatedError();
  const db = keys.databases[record.db];
  if (db === undefined) throw new TruncatedError();
  const { w } = keys.journal;
  let unclean: Unclean = null;
  const { key } = record;
  if (record.kind === 'overwrite') {
    const { actor, to, from, start: begun, deadline, value } = record;
    if (!keys.replayOverwrite(db, key, actor, to, from, begun, deadline, value))
      unclean = replay(keys, db, key, overwriteEvent(record), begun < from ? intervalHash(actor, begun, from) : 0);
  } else if (record.kind === 'step') {
    const { actor, to, from, runStart, sum } = record;
    if (!keys.replayStep(db, key, actor, to, from, runStart, sum))
      unclean = replay(keys, db, key, stepEvent(record), from < runStart ? 0 : intervalHash(actor, runStart - 1, from));
  } else unclean = replay(keys, db, key, record.event, before);
  w.copy(buf, start, end);
  return unclean;
}

/** The general way. @param expected hash of the context that the event was made on */
function replay(keys: Keyspace, db: Database, key: string, event: KeyEvent, expected: number): Unclean {
  const slot = slotOf(key);
  const o = keys.object(db, key, slot);
  let unclean: Unclean = null;
  if ((o?.contextHash() ?? 0) !== expected) {
    const before = keys.snapshot(o) ?? new KeyState();
    if (!before.context.has(event.actor, event.to)) unclean = { key: { db, key, slot }, before };
  }
  keys.replay(db, key, event);
  return unclean;
}
