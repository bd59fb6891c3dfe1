/**
 * `gramme recover`: what only the directory of an expelled node holds is told, and brought back when somebody says so.
 *
 * Nothing is merged silently: what the node held may have been deleted by the others long ago, and they have forgotten
 * the delete. So each sibling is compared with what the cluster knows of its key *now*, by the dots of the writes that
 * made it:
 *
 *   has       it is a value of the key there
 *   replaced  the cluster has seen the write, and replaced it
 *   deleted   the cluster has seen the write, and deleted the key
 *   lacks     the cluster knows the key and has never seen the write: this is written
 *   no trace  the cluster knows nothing of the key: it never came there, or it was deleted and that is forgotten
 *   expired   its deadline has passed
 *   by hand   a counter that counted on; no sibling can stand for that beside the other count
 *   unknown   a replica that holds the key does not answer, so nothing can be said
 *
 * What is written is a sibling, by a DSET without a context: it replaces nothing, and whoever reads by DGET settles it.
 */
import * as fs from 'node:fs';
import { type Reply, ToolConnection } from './connection.ts';
import { openSalvage, type Salvaged, type SalvagedKey } from './salvage.ts';
import { CONNECT_MS, listOf, pairs, splitAddress } from './target.ts';

/** Keys that are asked about at once. */
const BATCH_KEYS = 64;
/** How long the cluster has for one batch, in ms. */
const BATCH_MS = 60_000;

export interface RecoverOptions {
  out?: string;
  to?: string;
  yes?: boolean;
  since?: string;
  includeDeleted?: boolean;
  work?: string;
  password?: string;
}

export const OUTCOMES = ['has', 'replaced', 'deleted', 'lacks', 'no trace', 'expired', 'by hand', 'unknown'] as const;
export type Outcome = (typeof OUTCOMES)[number];

// ---------------------------------------------------------------------- lines

/** Bytes as text where they are text, else in base64 with a mark. */
export function shown(bytes: string): string | { base64: string } {
  const buffer = Buffer.from(bytes, 'latin1');
  const text = buffer.toString('utf8');
  return Buffer.from(text, 'utf8').equals(buffer) ? text : { base64: buffer.toString('base64') };
}

function lineOf(k: SalvagedKey, outcomes: readonly Outcome[] | null): string {
  return JSON.stringify({
    db: k.db,
    key: shown(k.key),
    ...(k.counter && { counter: true }),
    siblings: k.siblings.map((s, i) => ({
      value: shown(s.value),
      written: new Date(s.at).toISOString(),
      deadline: s.deadline === 0 ? null : s.deadline,
      ...(outcomes !== null && { cluster: outcomes[i] }),
    })),
    deadline: k.deadline === 0 ? null : k.deadline,
  });
}

// ---------------------------------------------------------------------- what the cluster knows

/** What the cluster has of one key. */
export interface Known {
  values: string[];
  /** Each replica's context as text, `actor:(from,to] ...`; null for one that did not answer. */
  contexts: (string | null)[];
}

function covers(contexts: readonly (string | null)[], s: Salvaged): boolean {
  const intervals = contexts.flatMap((c) => [...(c ?? '').matchAll(/([0-9a-f]{16}):\((\d+),(\d+)\]/g)]);
  return s.dots.every(({ actor, hlc }) =>
    intervals.some(([, a, from, to]) => a === actor && hlc > Number(from) && hlc <= Number(to)),
  );
}

/** @param since what was written at this time or later was never in the cluster; null when nobody can say */
export function judge(k: SalvagedKey, s: Salvaged, known: Known, now: number, since: number | null): Outcome {
  if (known.values.includes(s.value)) return 'has';
  if (s.deadline !== 0 && s.deadline <= now) return 'expired';
  const live = known.values.length > 0;
  if (covers(known.contexts, s)) return live ? 'replaced' : 'deleted';
  if (known.contexts.includes(null)) return 'unknown';
  if (live && k.counter) return 'by hand';
  if (known.contexts.some((c) => c !== '')) return 'lacks';
  return since !== null && s.at >= since ? 'lacks' : 'no trace';
}

/** One node of the cluster, asked about one database after another. */
class Cluster {
  private readonly node: ToolConnection;
  private db = 0;

  private constructor(node: ToolConnection) {
    this.node = node;
  }

  static async open(address: string, password: string | undefined): Promise<Cluster> {
    const { host, port } = splitAddress(address);
    if (host === '' || !Number.isInteger(port)) throw new Error(`--to takes HOST:PORT, not '${address}'`);
    return new Cluster(await ToolConnection.open(host, port, password, CONNECT_MS, true));
  }

  private async use(db: number): Promise<void> {
    if (db === this.db) return;
    await this.node.ask(BATCH_MS, 'SELECT', String(db));
    this.db = db;
  }

  /** What is known of these keys, all of one database; an error for each that can't be told. */
  async known(db: number, keys: readonly SalvagedKey[]): Promise<(Known | Error)[]> {
    await this.use(db);
    return Promise.all(
      keys.map(async ({ key }) => {
        const asked = [
          this.node.ask(BATCH_MS, 'DGET', key).catch((error: Error) => error),
          this.node.ask(BATCH_MS, 'DYNAMO', 'EXPLAIN', key).catch((error: Error) => error),
        ] as const;
        const [got, told] = await Promise.all(asked);
        if (got instanceof Error) return got;
        if (told instanceof Error) return told;
        const values = ((got as Reply[])[1] as Reply[]).map(String);
        const contexts = listOf(pairs(told)['context']).map((x) =>
          x['context'] === null ? null : String(x['context']),
        );
        return { values, contexts };
      }),
    );
  }

  /** Writes a sibling that replaces nothing. */
  async write(k: SalvagedKey, s: Salvaged): Promise<void> {
    await this.use(k.db);
    const deadline = s.deadline === 0 ? [] : ['PX', String(Math.max(1, s.deadline - Date.now()))];
    await this.node.ask(BATCH_MS, 'DSET', k.key, s.value, ...deadline);
  }

  close(): void {
    this.node.close();
  }
}

// ---------------------------------------------------------------------- the command

function timeOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw new Error(`--since takes a time as in 2026-01-31T12:00:00Z, not '${text}'`);
  return ms;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Lines go to the file, or to the standard output; a file is there only when all of it is. */
class Lines {
  private readonly file: string | null;
  private readonly fd: number;

  constructor(file: string | undefined) {
    this.file = file ?? null;
    this.fd = file === undefined ? 1 : fs.openSync(`${file}.part`, 'w', 0o600);
  }

  write(line: string): void {
    if (this.file === null) process.stdout.write(`${line}\n`);
    else fs.writeSync(this.fd, `${line}\n`);
  }

  end(): void {
    if (this.file === null) return;
    fs.fsyncSync(this.fd);
    fs.closeSync(this.fd);
    fs.renameSync(`${this.file}.part`, this.file);
  }
}

/** Resolves with the exit code: 1 when something could not be read, compared or written. */
export async function recover(directory: string, options: RecoverOptions): Promise<number> {
  const since = timeOf(options.since);
  const password = options.password ?? process.env['GRAMME_PASSWORD'];
  if (options.yes && options.to === undefined) throw new Error('--yes says nothing without --to');
  const cluster = options.to === undefined ? null : await Cluster.open(options.to, password);
  try {
    const salvage = await openSalvage(directory, options.work);
    try {
      const run = new Recovery(cluster, options, since);
      let batch: SalvagedKey[] = [];
      for await (const key of salvage.keys()) {
        if (batch.length === BATCH_KEYS || (batch.length > 0 && batch[0].db !== key.db)) {
          await run.take(batch);
          batch = [];
        }
        batch.push(key);
      }
      await run.take(batch);
      for (const line of salvage.damage) tell(`damage: ${line}`);
      return run.end() && salvage.damage.length === 0 ? 0 : 1;
    } finally {
      await salvage.close();
    }
  } finally {
    cluster?.close();
  }
}

class Recovery {
  private readonly cluster: Cluster | null;
  private readonly options: RecoverOptions;
  private readonly since: number | null;
  private readonly lines: Lines;
  private readonly counts = new Map<Outcome, number>();
  private keys = 0;
  private siblings = 0;
  private wanted = 0;
  private written = 0;
  private failed = 0;

  constructor(cluster: Cluster | null, options: RecoverOptions, since: number | null) {
    this.cluster = cluster;
    this.options = options;
    this.since = since;
    this.lines = new Lines(options.out);
  }

  /** Keys of one database. */
  async take(batch: readonly SalvagedKey[]): Promise<void> {
    if (batch.length === 0) return;
    const known = await this.cluster?.known(batch[0].db, batch);
    for (const [i, k] of batch.entries()) {
      this.keys++;
      this.siblings += k.siblings.length;
      if (known === undefined) this.lines.write(lineOf(k, null));
      else await this.compare(k, known[i]);
    }
  }

  private async compare(k: SalvagedKey, known: Known | Error): Promise<void> {
    if (known instanceof Error) {
      this.failed++;
      tell(`${JSON.stringify(shown(k.key))} can't be compared: ${known.message}`);
    }
    const outcomes = k.siblings.map((s) =>
      known instanceof Error ? 'unknown' : judge(k, s, known, Date.now(), this.since),
    );
    for (const o of outcomes) this.counts.set(o, (this.counts.get(o) ?? 0) + 1);
    // a value that the cluster has, or has seen and replaced, is nobody's loss
    if (outcomes.some((o) => o !== 'has' && o !== 'replaced')) this.lines.write(lineOf(k, outcomes));
    // the oldest first, so that of several the latest is the one that GET shows
    for (const [i, s] of [...k.siblings.entries()].reverse()) if (this.isWanted(outcomes[i])) await this.bring(k, s);
  }

  private isWanted(o: Outcome): boolean {
    return o === 'lacks' || (this.options.includeDeleted === true && (o === 'deleted' || o === 'no trace'));
  }

  private async bring(k: SalvagedKey, s: Salvaged): Promise<void> {
    this.wanted++;
    if (!this.options.yes) return;
    try {
      await this.cluster!.write(k, s);
      this.written++;
    } catch (error) {
      this.failed++;
      tell(`${JSON.stringify(shown(k.key))} can't be written: ${(error as Error).message}`);
    }
  }

  /** False when something has failed. */
  end(): boolean {
    this.lines.end();
    tell(`${this.keys} keys with ${this.siblings} siblings`);
    if (this.cluster === null) return true;
    for (const o of OUTCOMES) if (this.counts.has(o)) tell(`${o.padEnd(8)}  ${this.counts.get(o)}`);
    if (this.options.yes) tell(`${this.written} of ${this.wanted} written`);
    else tell(`${this.wanted} to write; nothing is written without --yes`);
    return this.failed === 0 && !this.counts.has('unknown');
  }
}
