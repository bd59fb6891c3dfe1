/**
 * One node's data: opens it, replays what a crash left, keeps its background work going, closes it.
 *
 * Commands use `keys`; everything else here is what keeps that true on disk.
 */
import { breaks } from '../base/breaks.ts';
import { GrammeError } from '../base/errors.ts';
import { CLOCK_LEASE_MS, FOLD_POLITE_BYTES, FOLD_START_BYTES, JOURNAL_LIMIT_BYTES } from '../base/limits.ts';
import { ACTOR_BYTES, actorHex, actorNumber } from '../causality/actors.ts';
import { COUNTS_PER_MS, HybridClock, hlcOfMs } from '../causality/clock.ts';
import { TokenMint } from '../causality/token.ts';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { Engine, SyncPolicy } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { slotOf } from '../ring/slots.ts';
import { Expiry } from './expiry.ts';
import { Fold, type RowsMeta } from './fold.ts';
import { Journal } from './journal.ts';
import { type Database, type KeyPlace, Keyspace } from './keyspace.ts';
import { Replay } from './replay.ts';
import { Residency } from './residency.ts';
import { Scanner } from './scan.ts';

export interface StoreOptions {
  engine: Engine;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  databases: number;
  partitions: number;
  maxSiblings: number;
  sync: SyncPolicy;
  /**
   * False when there are, or will be, other replicas: everything is then replayed by the rules of a cluster, since what
   * one member may forget others must still be told.
   */
  sole?: boolean;
}

/** Lasting facts about a node, in `node.db`. */
interface Identity {
  nodeId: string;
  clusterId: string;
  actor: string;
  /** Signs client tokens; hex. */
  tokenKey: string;
  session: number;
}

const POKE_MS = 20;

export class Store {
  readonly keys: Keyspace;
  readonly journal: Journal;
  readonly fold: Fold;
  readonly residency: Residency;
  readonly expiry: Expiry;
  readonly scanner: Scanner;
  readonly engine: Engine;
  readonly hlc: HybridClock;
  readonly identity: Identity;
  tokens: TokenMint;
  /** What the replay at start did, and does until it is through. */
  readonly replayed: Replay;
  /** What the background check of the whole file found: null until it is done, then 'ok' or the damage. */
  integrity: string | null = null;

  private readonly options: StoreOptions;
  private readonly timers: Timer[] = [];
  private lease: number;
  private closed = false;

  private constructor(options: StoreOptions, identity: Identity, lease: number, meta: RowsMeta, empty: boolean) {
    const { engine, clock, timers, log } = options;
    this.options = options;
    this.engine = engine;
    this.identity = identity;
    this.tokens = new TokenMint(identity.clusterId, identity.tokenKey);
    this.lease = lease;
    this.hlc = new HybridClock(clock, lease);
    this.journal = new Journal(engine, clock, timers, log, options.sync);
    this.keys = new Keyspace({
      actor: actorNumber(Buffer.from(identity.actor, 'hex').latin1Slice()),
      clock: this.hlc,
      journal: this.journal,
      databases: options.databases,
      partitions: options.partitions,
      maxSiblings: options.maxSiblings,
      complete: empty,
    });
    this.keys.sole = options.sole ?? true;
    this.keys.chainStart = breaks.hidesGaps ? 0 : this.hlc.current();
    this.keys.now = clock.now();
    this.keys.databases.forEach((db, i) => {
      db.keys = meta.keys[i] ?? 0;
      db.expires = meta.expires[i] ?? 0;
      db.floor = meta.floors[i] ?? 0;
    });
    this.keys.names = this.keys.databases.map((_, i) => this.keys.databases[meta.names[i] ?? i]);
    this.fold = new Fold({ engine, keys: this.keys, journal: this.journal, clock, timers, log, meta });
    this.residency = new Residency(engine, this.keys, timers, log);
    this.replayed = new Replay({ keys: this.keys, residency: this.residency, hlc: this.hlc, clock, timers, log });
    this.expiry = new Expiry({ keys: this.keys, engine, residency: this.residency, clock, log });
    this.scanner = new Scanner(this.keys, engine);
  }

  static async open(options: StoreOptions): Promise<Store> {
    const { engine } = options;
    await engine.open();
    await engine.setSync(options.sync);
    const identity = await readIdentity(engine, options.random);
    const lease = Number((await engine.getMeta('clock'))?.latin1Slice() ?? 0);
    const metaBytes = await engine.getMeta('rows.meta');
    const zeros = () => new Array<number>(options.databases).fill(0);
    const meta: RowsMeta =
      metaBytes === null
        ? { keys: zeros(), expires: zeros(), floors: zeros(), names: zeros().map((_, i) => i), swapsUpTo: 0 }
        : JSON.parse(metaBytes.latin1Slice());
    if (meta.keys.some((n, i) => n > 0 && i >= options.databases)) {
      throw new GrammeError('CONFIG', `there are keys in databases beyond ${options.databases}; raise 'databases'`);
    }
    for (const list of [meta.keys, meta.expires, meta.floors]) while (list.length < options.databases) list.push(0);
    const store = new Store(options, identity, lease, meta, await engine.isEmpty());
    await store.replay(meta);
    await store.start();
    return store;
  }

  // ------------------------------------------------------------------ start and stop

  /**
   * Takes note of what the journal holds beyond the rows. Alone, the node then serves, and each partition is brought up to
   * date before anybody sees it (`store/replay`). What a cluster asks of a node looks into partitions in more ways than
   * commands do: a member has replayed everything before it begins.
   */
  private async replay(meta: RowsMeta): Promise<void> {
    const started = this.options.clock.monotonic();
    let lastSeq = 0;
    await this.engine.readJournal(async ({ seq, bytes }) => {
      // batches are dropped only when rows hold them, so they follow one another from where the rows are
      if (seq !== lastSeq + 1 && (lastSeq > 0 || seq > meta.swapsUpTo + 1)) {
        const from = Math.max(lastSeq, meta.swapsUpTo) + 1;
        this.options.log.error(
          { from, to: seq - 1 },
          'journal batches are missing: data.db or journal.db was damaged, or put here from elsewhere; acknowledged writes may be missing',
        );
        this.integrity = `journal batches ${from} to ${seq - 1} are missing`;
      }
      lastSeq = seq;
      this.journal.found(seq, bytes.length);
      await this.replayed.add(seq, bytes, seq > meta.swapsUpTo);
    });
    this.replayed.read();
    this.replayed.ms = this.options.clock.monotonic() - started;
    this.journal.start(Math.max(lastSeq, meta.swapsUpTo));
    if (this.options.sole === false) await this.replayed.catchUpAll();
    if (this.keys.behind === 0) this.sayReplayed();
    else
      this.options.log.info(
        { batches: this.replayed.batches, partitions: this.keys.behind, ms: this.replayed.ms },
        'the journal has been read; partitions are replayed as they are needed, and in the background',
      );
  }

  private sayReplayed(): void {
    const { batches, events, ms } = this.replayed;
    if (batches > 0) this.options.log.info({ batches, events, ms }, 'replayed the journal');
  }

  /** In the background, with the fold held: the journal is all that knows of what has not been replayed. */
  private async finishReplay(): Promise<void> {
    if (this.keys.behind === 0) return;
    await this.fold.hold(() => this.replayed.finish());
    this.sayReplayed();
  }

  private async start(): Promise<void> {
    const { timers, clock } = this.options;
    await this.renewLease();
    this.timers.push(timers.every(CLOCK_LEASE_MS / 8, () => void this.renewLease().catch(() => {})));
    this.timers.push(
      timers.every(POKE_MS, () => {
        this.keys.now = clock.now();
        this.keys.seconds = Math.floor(this.keys.now / 1000);
        this.residency.evict();
        this.residency.pack();
        this.fold.poke();
      }),
    );
    this.keys.seconds = Math.floor(clock.now() / 1000);
    this.expiry.start(timers);
    void this.finishReplay()
      .then(() => this.residency.warmUp())
      .then(() => this.check());
  }

  /** The whole file is checked in the background; the journal was, when it was read. */
  private async check(): Promise<void> {
    if (this.closed) return;
    try {
      const damage = await this.engine.verify();
      this.integrity = damage ?? this.integrity ?? 'ok';
      if (damage !== null)
        this.options.log.error({ damage }, 'the data file is damaged: restore a backup; reads of damaged keys fail');
    } catch (error) {
      if (!this.closed) this.integrity = String(error);
    }
  }

  private async renewLease(): Promise<void> {
    const span = CLOCK_LEASE_MS * COUNTS_PER_MS;
    const wanted = Math.max(hlcOfMs(this.options.clock.now()), this.hlc.current()) + span;
    if (wanted - this.lease < span / 2) return;
    await this.engine.setMeta('clock', Buffer.from(String(wanted)));
    this.lease = wanted;
  }

  /** Folds everything, so that the next start has nothing to replay, and closes the files. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    for (const t of this.timers) t.cancel();
    this.expiry.stop();
    this.residency.stop();
    this.replayed.stop();
    try {
      await this.journal.flush();
      await this.journal.sync(true);
      // a fold drops the journal, and with it what could not be replayed
      await this.replayed.catchUpAll();
      await this.fold.drain();
      // nothing after this stamp was handed out, so the next start needs no lease to pass over
      await this.engine.setMeta('clock', Buffer.from(String(this.hlc.current())));
    } finally {
      this.journal.stop();
      await this.engine.close();
    }
  }

  // ------------------------------------------------------------------ limits

  /** Bytes that resident keys may take: folds start early enough that pinned ones stay a fraction of it. */
  setMemoryLimit(bytes: number): void {
    this.residency.limit = bytes;
    this.fold.startBytes = Math.max(1024 * 1024, Math.min(FOLD_START_BYTES, bytes / 8));
    this.fold.politeBytes = Math.min(FOLD_POLITE_BYTES, bytes / 4);
  }

  /** True when writes come faster than they can be folded: input waits until it is false again. */
  overloaded(): boolean {
    return (
      this.journal.backlogBytes > Math.min(JOURNAL_LIMIT_BYTES, this.residency.limit) ||
      this.keys.bytes > this.residency.limit * 1.5 + 16 * 1024 * 1024
    );
  }

  /**
   * Goes on under another name: peers know a later session of this node than this one, so its disk went back, or a copy of
   * it runs elsewhere. What it has written so far stays what it is.
   */
  async renewActor(session: number): Promise<void> {
    const { identity } = this;
    identity.session = Math.max(identity.session, session) + 1;
    identity.actor = this.options.random.bytes(ACTOR_BYTES).toString('hex');
    this.keys.actor = actorNumber(Buffer.from(identity.actor, 'hex').latin1Slice());
    this.keys.chainStart = this.hlc.current();
    await this.engine.setMeta('identity', Buffer.from(JSON.stringify(identity)));
  }

  /** Joins a cluster: tokens are signed and read with its key from now on. */
  async adoptCluster(clusterId: string, tokenKey: string): Promise<void> {
    const { identity } = this;
    if (identity.clusterId === clusterId && identity.tokenKey === tokenKey) return;
    identity.clusterId = clusterId;
    identity.tokenKey = tokenKey;
    this.tokens = new TokenMint(clusterId, tokenKey);
    await this.engine.setMeta('identity', Buffer.from(JSON.stringify(identity)));
  }

  placeOf(db: Database, key: string): KeyPlace {
    return { db, key, slot: slotOf(key) };
  }

  /** A consistent copy into another directory while serving. */
  async backup(directory: string): Promise<void> {
    await this.fold.hold(async () => {
      await this.journal.flush();
      await this.engine.backup(directory);
    });
  }

  get actorHex(): string {
    return actorHex(this.keys.actor);
  }
}

async function readIdentity(engine: Engine, random: Random): Promise<Identity> {
  const bytes = await engine.getMeta('identity');
  const hex = (n: number) => random.bytes(n).toString('hex');
  const identity: Identity =
    bytes === null
      ? { nodeId: hex(20), clusterId: hex(8), actor: hex(ACTOR_BYTES), tokenKey: hex(32), session: 0 }
      : JSON.parse(bytes.latin1Slice());
  // a restored copy must not go on under the name of the one it was taken from
  const restored = await engine.getMeta('restored');
  if (restored !== null && restored.length > 0) identity.actor = hex(ACTOR_BYTES);
  identity.session++;
  await engine.setMeta('identity', Buffer.from(JSON.stringify(identity)));
  if (restored !== null && restored.length > 0) await engine.setMeta('restored', Buffer.alloc(0));
  return identity;
}
