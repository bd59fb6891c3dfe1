/**
 * `DEBUG DIGEST`: one hash over what partitions show: keys, values, siblings and deadlines.
 *
 * It says nothing of contexts, tombstones, or of what is past its deadline, so it compares what clients could read and
 * not how replicas came to it. Each key has a hash of its own and the digest is their exclusive or, as in Redis, so the
 * order does not matter, and memory and rows can be walked as they come.
 */
import { createHash } from 'node:crypto';
import { RANGE_PAGE_ROWS } from '../base/limits.ts';
import { partitionRange } from '../merkle/tree.ts';
import type { Timers } from '../ports/clock.ts';
import { slotOfPosition } from '../ring/position.ts';
import { RECORD, STRING } from '../types/kinds.ts';
import { liveSiblings } from '../types/register.ts';
import type { Database } from './keyspace.ts';
import { StoredKey } from './object.ts';
import { decodeObject } from './rows.ts';
import type { Store } from './store.ts';

const DIGEST_BYTES = 20;
/** Keys after which other clients have their turn. */
const SLICE_KEYS = 2000;

function text(parts: (string | number)[]): string {
  return parts.map((p) => `${String(p).length}:${p}`).join('');
}

/** What the key shows, in one order on every node. */
function shown(store: Store, db: number, o: StoredKey): string {
  const parts: (string | number)[] = [db, o.key, o.type, o.deadline];
  if (o.type === STRING) {
    parts.push(o.text());
    const siblings = o.state === null ? [] : liveSiblings(o.state, store.keys.now);
    for (const e of siblings.slice(1)) parts.push(e.data, e.num);
    return text(parts);
  }
  const fields: string[] = [];
  for (const e of o.toState().entries())
    if (e.field.charAt(0) !== RECORD) fields.push(text([e.field, e.data, e.num, e.aux]));
  return text([...parts, ...fields.sort()]);
}

class Digest {
  readonly sum = Buffer.alloc(DIGEST_BYTES);
  keys = 0;
  private readonly store: Store;

  constructor(store: Store) {
    this.store = store;
  }

  add(db: number, o: StoredKey): void {
    if (!this.store.keys.isLive(o)) return;
    this.keys++;
    const hash = createHash('sha1')
      .update(shown(this.store, db, o), 'latin1')
      .digest();
    for (let i = 0; i < DIGEST_BYTES; i++) this.sum[i] ^= hash[i];
  }
}

/** 40 hex digits over the live data of these partitions: zeros when there is none. */
export async function digestOf(store: Store, timers: Timers, partitions: readonly number[]): Promise<string> {
  const digest = new Digest(store);
  let slice = SLICE_KEYS;
  for (const p of partitions) {
    for (let i = 0; i < store.keys.names.length; i++) await addPartition(store, digest, i, store.keys.names[i], p);
    if (digest.keys < slice) continue;
    slice = digest.keys + SLICE_KEYS;
    await new Promise<void>((resolve) => timers.after(1, resolve));
  }
  return digest.sum.toString('hex');
}

async function addPartition(store: Store, digest: Digest, name: number, db: Database, p: number): Promise<void> {
  const { keys, engine } = store;
  if (db.shards[p].behind !== null) await keys.catchUp(db, p);
  const shard = db.shards[p];
  const seen = new Set<string>();
  if (!shard.complete) {
    const { first, span } = partitionRange(p, keys.partitions);
    const end = first + span;
    for (let from = first; from < end; ) {
      const rows = await engine.range(db.index, from, end, RANGE_PAGE_ROWS);
      for (const row of rows) {
        if (seen.has(row.key)) continue;
        let o = shard.peek(row.key);
        if (o === undefined) {
          o = new StoredKey(row.key, slotOfPosition(row.pos), row.db);
          const entries = row.spread ? await engine.entries(row.db, row.pos, row.key) : null;
          decodeObject(keys, o, row.state, entries);
        }
        seen.add(row.key);
        digest.add(name, o);
      }
      from = rows.length < RANGE_PAGE_ROWS ? end : rows[rows.length - 1].pos + 1;
    }
  }
  for (const o of shard.values()) if (!seen.has(o.key)) digest.add(name, o);
}
