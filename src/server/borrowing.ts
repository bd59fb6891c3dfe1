/**
 * Commands over keys of several coordinators: how one of them comes to be alone with its keys before it runs
 * (`cluster/lends`), and what other commands do meanwhile.
 *
 * Such a command is suspended until its keys are lent and pinned; then it runs at once, in the same call that `ready` is,
 * or its keys go back. What it has written goes out in its tick's ticket, and the lenders hear that they may go on when
 * that is done: its reply goes out then, and what it wrote is at the lenders before the word that they may go on.
 */
import { breaks } from '../base/breaks.ts';
import { ReplyError } from '../base/errors.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { Fate, Transaction } from '../cluster/lends.ts';
import type { Peer } from '../cluster/peers.ts';
import type { Ticket } from '../cluster/replicator.ts';
import type { Route } from '../cluster/routes.ts';
import type { Argv } from '../resp/argv.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Client } from './client.ts';
import type { GrammeServer } from './gramme.ts';

/** A command whose keys others take from it, or whose lenders fail, is tried again for this long, in ms ... */
const PATIENCE_MS = 5000;
/** ... and so often. */
const MAX_TRIES = 64;

const TRY_AGAIN = new ReplyError('TRYAGAIN other commands needed the same keys, again and again; nothing was changed');

/** A command that waits for its keys. */
interface Attempt {
  /** The age of its first transaction; 0 before there is one. */
  age: number;
  tries: number;
  began: number;
}

/** Run, and not answered yet. */
interface Committed {
  ticket: Ticket;
  transaction: Transaction;
}

export class Borrowing {
  /** Commands that ran with lent keys; that found a key lent and waited; that gave up. */
  readonly stats = { borrowers: 0, waitedForLend: 0, gaveUp: 0 };
  private readonly server: GrammeServer;
  private readonly cluster: Cluster;
  /** The transaction and the attempt of the command that is being run, of this client. */
  private client: Client | null = null;
  private transaction: Transaction | null = null;
  private attempt: Attempt | null = null;
  private committed: Committed[] = [];

  constructor(server: GrammeServer, cluster: Cluster) {
    this.server = server;
    this.cluster = cluster;
  }

  /** Has the client's command at hand got its keys for itself? */
  hasKeys(client: Client): boolean {
    return this.transaction !== null && this.client === client;
  }

  /** The command waits if somebody has this key, argument `i`, for himself. Asked only where the slot says so. */
  waits(client: Client, argv: Argv, i: number): boolean {
    const { server, cluster } = this;
    const place = server.store.placeOf(server.dbOf(), argv.str(i));
    if (!cluster.locks.isHeld(place) || breaks.servesLent) return false;
    this.stats.waitedForLend++;
    server.suspend(client, argv);
    cluster.locks.wait(place, () => server.retry(client));
    return true;
  }

  /**
   * Gets a command's keys and runs it again. False when there is nobody who could lend any: then it is up to what its
   * replicas say of its writes, as ever.
   * @param read reads keys from R replicas, for this command
   * @param readAll it has to read all of them so, whoever lends them
   */
  begins(
    client: Client,
    argv: Argv,
    positions: readonly number[],
    routes: readonly Route[],
    read: (places: readonly KeyPlace[]) => Promise<unknown>,
    readAll: boolean,
  ): boolean {
    const { server, cluster } = this;
    const { tenure } = cluster.repair;
    const db = server.dbOf();
    const own: KeyPlace[] = [];
    const lent = new Map<Peer, KeyPlace[]>();
    const others: KeyPlace[] = [];
    const seen = new Set<string>();
    positions.forEach((i, k) => {
      const key = argv.str(i);
      if (seen.has(key)) return;
      seen.add(key);
      const place = server.store.placeOf(db, key);
      const { coordinator, nobody } = routes[k];
      if (coordinator === null && !nobody) own.push(place);
      else if (coordinator === null || !cluster.lends.canLend(coordinator)) others.push(place);
      else if (lent.has(coordinator)) lent.get(coordinator)!.push(place);
      else lent.set(coordinator, [place]);
    });
    if (lent.size === 0) return false;
    const toRead = (unlent: readonly KeyPlace[]): readonly KeyPlace[] => {
      if (readAll) return [...own, ...others, ...[...lent.values()].flat()];
      const missed = own.filter((p) => tenure[server.keys.partitionOf(p.slot)] !== 1 && !breaks.assumesTenure);
      return [...missed, ...others, ...unlent];
    };
    const attempt = (this.client === client ? this.attempt : null) ?? {
      age: 0,
      tries: 0,
      began: server.clock.monotonic(),
    };
    const fate: Fate = {
      ready: (t) => this.run(client, attempt, t),
      putBack: (t) => this.again(client, attempt, t),
      failed: (error) =>
        server.failWaiting(client, error instanceof ReplyError ? error : new ReplyError(`ERR ${String(error)}`)),
    };
    server.suspend(client, argv);
    cluster.lends.borrow({ own, lent, age: attempt.age, toRead, read }, fate);
    return true;
  }

  /** It is alone with its keys: it runs now, or they go back. */
  private run(client: Client, attempt: Attempt, t: Transaction): void {
    const { lends } = this.cluster;
    if (!lends.mayRun(t)) {
      // this node was stalled
      lends.giveBack(t);
      this.again(client, attempt, t);
      return;
    }
    this.client = client;
    this.transaction = t;
    client.fresh = true;
    this.server.retry(client);
    // it needs a key from disk after all, came too late, or its client is gone
    if (this.transaction === t) lends.giveBack(t);
    this.client = null;
    this.transaction = null;
  }

  /** Somebody else has got its keys first, or a lender has failed. */
  private again(client: Client, attempt: Attempt, t: Transaction): void {
    attempt.age = t.age;
    attempt.tries++;
    if (attempt.tries > MAX_TRIES || this.server.clock.monotonic() - attempt.began > PATIENCE_MS) {
      this.stats.gaveUp++;
      this.server.failWaiting(client, TRY_AGAIN);
      return;
    }
    this.client = client;
    this.attempt = attempt;
    this.server.retry(client);
    this.client = null;
    this.attempt = null;
  }

  /** The command at hand has run. @param ticket what it wrote is in it; null when it wrote nothing */
  ran(ticket: Ticket | null): void {
    const transaction = this.transaction!;
    this.transaction = null;
    this.stats.borrowers++;
    if (ticket === null) this.cluster.lends.giveBack(transaction);
    else this.committed.push({ ticket, transaction });
  }

  /** The ticket's replies go out. */
  done(ticket: Ticket): void {
    if (this.committed.length === 0) return;
    const rest: Committed[] = [];
    for (const c of this.committed) {
      if (c.ticket === ticket) this.cluster.lends.giveBack(c.transaction);
      else rest.push(c);
    }
    this.committed = rest;
  }
}
