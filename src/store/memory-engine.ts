/**
 * The `memory` engine: the paper's in-memory buffer, as an engine. Nothing survives the process; everything else is
 * as with files, so tests and the simulator use it where the disk is not what they are about.
 */
import type { Engine, EntryRow, HintRow, JournalRow, KeyRow, RowBatch, SyncPolicy } from '../ports/engine.ts';

interface Tables {
  keys: Map<string, KeyRow>;
  entries: Map<string, Map<string, EntryRow>>;
}

export class MemoryEngine implements Engine {
  private meta = new Map<string, Buffer>();
  private journal: JournalRow[] = [];
  private tables: Tables = { keys: new Map(), entries: new Map() };
  private staged: (() => void)[] | null = null;
  /** Set to make every write fail: what a full disk does. */
  failing: string | null = null;

  async open(): Promise<void> {}
  async close(): Promise<void> {}

  async getMeta(name: string): Promise<Buffer | null> {
    return this.meta.get(name) ?? null;
  }

  async setMeta(name: string, value: Buffer): Promise<void> {
    this.meta.set(name, value);
  }

  async append(seq: number, bytes: Buffer, length: number): Promise<void> {
    if (this.failing !== null) throw new Error(this.failing);
    this.journal.push({ seq, bytes: Buffer.from(bytes.subarray(0, length)) });
  }

  async setSync(_policy: SyncPolicy): Promise<void> {}
  async syncJournal(): Promise<void> {}

  async readJournal(each: (row: JournalRow) => Promise<void>): Promise<void> {
    for (const row of [...this.journal]) await each(row);
  }

  async dropJournal(upTo: number): Promise<void> {
    this.journal = this.journal.filter((row) => row.seq > upTo);
  }

  private hints = new Map<string, HintRow>();

  async putHints(hints: HintRow[]): Promise<void> {
    for (const h of hints) this.hints.set(`${h.owner}:${h.db}:${h.key}`, h);
  }

  async dropHints(hints: HintRow[]): Promise<void> {
    for (const h of hints) this.hints.delete(`${h.owner}:${h.db}:${h.key}`);
  }

  async readHints(): Promise<HintRow[]> {
    return [...this.hints.values()];
  }

  async beginRows(): Promise<void> {
    this.staged = [];
  }

  async writeRows(batch: RowBatch): Promise<void> {
    if (this.failing !== null) throw new Error(this.failing);
    // the caller reuses the batch's bytes
    const bytes = Buffer.from(batch.bytes);
    const text = (start: number, length: number) => bytes.latin1Slice(start, start + length);
    const { keys, entries } = this.tables;
    const steps = this.staged!;
    const name = (at: number[]) => `${at[0]}:${text(at[2], at[3])}`;
    const entry = (at: number[]) => `${text(at[4], at[5])}\0${text(at[6], 8)}\0${at[7]}`;
    steps.push(() => {
      for (const at of batch.entryClears) entries.delete(name(at));
      for (const at of batch.deletes) {
        keys.delete(name(at));
        entries.delete(name(at));
      }
      for (const at of batch.entryDeletes) entries.get(name(at))?.delete(entry(at));
      for (const at of batch.entryPuts) {
        let rows = entries.get(name(at));
        if (rows === undefined) entries.set(name(at), (rows = new Map()));
        rows.set(entry(at), {
          field: text(at[4], at[5]),
          actor: text(at[6], 8),
          hlc: at[7],
          payload: bytes.subarray(at[8], at[8] + at[9]) as Buffer,
        });
      }
      for (const at of batch.puts) {
        keys.set(name(at), {
          db: at[0],
          pos: at[1],
          key: text(at[2], at[3]),
          deadline: at[4],
          state: bytes.subarray(at[5], at[5] + at[6]) as Buffer,
          spread: at[7] !== 0,
        });
      }
    });
  }

  async commitRows(meta: Record<string, Buffer>): Promise<void> {
    for (const step of this.staged ?? []) step();
    this.staged = null;
    for (const [name, value] of Object.entries(meta)) this.meta.set(name, value);
  }

  async syncRows(): Promise<void> {}

  async rollbackRows(): Promise<void> {
    this.staged = null;
  }

  async clearDb(db: number): Promise<void> {
    const { keys, entries } = this.tables;
    this.staged!.push(() => {
      for (const name of [...keys.keys()]) if (name.startsWith(`${db}:`)) keys.delete(name);
      for (const name of [...entries.keys()]) if (name.startsWith(`${db}:`)) entries.delete(name);
    });
  }

  async load(places: number[]): Promise<KeyRow[]> {
    const wanted = new Set<string>();
    for (let i = 0; i < places.length; i += 2) wanted.add(`${places[i]}:${places[i + 1]}`);
    return [...this.tables.keys.values()].filter((row) => wanted.has(`${row.db}:${row.pos}`));
  }

  async range(db: number, from: number, to: number, limit: number): Promise<KeyRow[]> {
    const rows = [...this.tables.keys.values()]
      .filter((row) => row.db === db && row.pos >= from && row.pos < to)
      .sort((a, b) => a.pos - b.pos);
    let end = Math.min(limit, rows.length);
    while (end > 0 && end < rows.length && rows[end].pos === rows[end - 1].pos) end++;
    return rows.slice(0, end);
  }

  async keyNames(db: number, from: number, to: number): Promise<string[]> {
    return (await this.range(db, from, to, Number.MAX_SAFE_INTEGER)).map((row) => row.key);
  }

  async entries(db: number, _pos: number, key: string): Promise<EntryRow[]> {
    return [...(this.tables.entries.get(`${db}:${key}`)?.values() ?? [])];
  }

  async due(until: number, limit: number): Promise<{ db: number; pos: number; key: string; deadline: number }[]> {
    return [...this.tables.keys.values()].filter((row) => row.deadline > 0 && row.deadline <= until).slice(0, limit);
  }

  async isEmpty(): Promise<boolean> {
    return this.tables.keys.size === 0;
  }

  async backup(): Promise<void> {
    throw new Error('the memory engine has nothing to back up');
  }

  async verify(): Promise<string | null> {
    return null;
  }

  async size(): Promise<{ data: number; journal: number }> {
    return { data: 0, journal: this.journal.reduce((n, row) => n + row.bytes.length, 0) };
  }
}
