/**
 * The storage engine of one node (DESIGN: "pluggable local engines", paper section 5).
 *
 * Two things with different lives: an append-only *journal* of batches, whose rows go when they are folded, and
 * *rows*: the latest state of each key, ordered by (db, pos, key), where `pos` is the key's place on the ring
 * (`ring/position`). Everything is bytes; only `store/` knows what they mean.
 */

/** How far an appended batch has got when `append` resolves. */
export type SyncPolicy = 'always' | 'everysec' | 'no';

export interface KeyRow {
  db: number;
  pos: number;
  key: string;
  /** Earliest ms at which something in the state falls due; 0 for never. */
  deadline: number;
  /** Encoded state (`types/codec`). When `spread`, the entries are in rows of their own. */
  state: Buffer;
  spread: boolean;
}

export interface EntryRow {
  field: string;
  actor: string;
  hlc: number;
  payload: Buffer;
}

/** Rows to write in one go. Offsets point into `bytes`, so that nothing is allocated per row. */
export interface RowBatch {
  bytes: Buffer;
  /** Key rows to put: [db, pos, keyStart, keyLength, deadline, stateStart, stateLength, spread] each. */
  puts: number[][];
  /** Key rows to delete, with all their entries: [db, pos, keyStart, keyLength]. */
  deletes: number[][];
  /** Entry rows to put: [db, pos, keyStart, keyLength, fieldStart, fieldLength, actorStart, hlc, payloadStart, payloadLength]. */
  entryPuts: number[][];
  /** Entry rows to delete: [db, pos, keyStart, keyLength, fieldStart, fieldLength, actorStart, hlc]. */
  entryDeletes: number[][];
  /** Keys of which all entry rows go: [db, pos, keyStart, keyLength]. */
  entryClears: number[][];
}

export interface JournalRow {
  seq: number;
  bytes: Buffer;
}

/** A key that an absent owner has missed writes of (paper 4.6). */
export interface HintRow {
  owner: string;
  db: number;
  key: string;
}

export interface Engine {
  /** Opens or creates the files; checks and migrates the schema. */
  open(): Promise<void>;
  close(): Promise<void>;

  /** Small named values: identity, clock lease, counts. Written durably (fsynced) before it resolves. */
  getMeta(name: string): Promise<Buffer | null>;
  setMeta(name: string, value: Buffer): Promise<void>;

  /** Appends one batch. Resolves when the system has it; under `always`, when it is on disk. */
  append(seq: number, bytes: Buffer, length: number): Promise<void>;
  setSync(policy: SyncPolicy): Promise<void>;
  /** Makes everything appended so far survive a power cut. */
  syncJournal(): Promise<void>;
  /** Reads the journal in order, oldest first. A row that fails its checksum throws `DATA_DAMAGED`. */
  readJournal(each: (row: JournalRow) => Promise<void>): Promise<void>;
  dropJournal(upTo: number): Promise<void>;

  /** One transaction of the fold: begin, any number of `writeRows`, then `commitRows`. */
  beginRows(): Promise<void>;
  writeRows(batch: RowBatch): Promise<void>;
  commitRows(meta: Record<string, Buffer>): Promise<void>;
  /** Makes committed rows survive a power cut. */
  syncRows(): Promise<void>;
  /** Gives up the transaction that an error interrupted. */
  rollbackRows(): Promise<void>;
  /** Removes every row of one database. */
  clearDb(db: number): Promise<void>;

  /** Rows of the keys at these places: flat pairs db, pos. (Several keys can share a place; the caller picks.) */
  load(places: number[]): Promise<KeyRow[]>;
  /** Rows of one database with from <= pos < to, in order, at most `limit`, never splitting keys that share a place. */
  range(db: number, from: number, to: number, limit: number): Promise<KeyRow[]>;
  /** Names alone of the keys with from <= pos < to. */
  keyNames(db: number, from: number, to: number): Promise<string[]>;
  entries(db: number, pos: number, key: string): Promise<EntryRow[]>;
  /** Keys with 0 < deadline <= until, at most `limit`. */
  due(until: number, limit: number): Promise<{ db: number; pos: number; key: string; deadline: number }[]>;
  isEmpty(): Promise<boolean>;

  /** Hints, in a file of their own. */
  putHints(hints: HintRow[]): Promise<void>;
  dropHints(hints: HintRow[]): Promise<void>;
  readHints(): Promise<HintRow[]>;

  /** A consistent copy of everything into another directory while serving. */
  backup(directory: string): Promise<void>;
  /** Reads everything and compares checksums; resolves with what is damaged, or null. */
  verify(): Promise<string | null>;
  /** Bytes on disk. */
  size(): Promise<{ data: number; journal: number }>;
}
