/**
 * What the replicas say of a tick's operations, and what becomes of the replies that wait for them.
 *
 * - Enough have taken it: the reply goes out (`Output.releaseReady`).
 * - Too few are left: an error goes out in its place.
 * - One had news: it is merged. Of what rested on less than there is, the reply is taken back before it has gone out, what
 *   was written is undone, and the command runs again, with every later one on the key, in their order.
 * - Too many have refused a firm write: the same, when it is known what those had seen.
 * - Another run of the command counts: this one is undone, and the other's reply goes out.
 *
 * A reply that has gone out is never touched: news that come later are merged and no more. An undo is an event of its own,
 * so it may meet what others have written meanwhile and all replicas still arrive at one state (docs/ARCHITECTURE.md,
 * *Tenure, news and undo*).
 */
import { breaks } from '../base/breaks.ts';
import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { Peer } from '../cluster/peers.ts';
import type { Group, Refusal, Ticket } from '../cluster/replicator.ts';
import type { Done } from '../cluster/requests.ts';
import { ASK_RUN } from '../cluster/rpc.ts';
import type { Log } from '../ports/log.ts';
import type { Argv } from '../resp/argv.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import { REGISTER } from '../types/kinds.ts';
import { KeyState } from '../types/state.ts';
import { incrementOf, valueFor } from './command-facts.ts';
import { argumentsOf, type Operation, type Operations, operationsOf } from './operations.ts';
import type { Hole, Output } from './output.ts';
import { type Sink, VirtualClient, type VirtualClients } from './virtual.ts';

/** Rounds of news and running again after which the client is told to try itself. */
const MAX_RERUNS = 8;
/** Who has run a command that another has run too is asked about it for so many ms. */
const ASK_RUN_MS = 500;

const TRY_AGAIN = Buffer.from(
  '-TRYAGAIN other writes to the key came between, again and again; nothing was changed\r\n',
  'latin1',
);
const NO_REPLICAS_TO_READ = Buffer.from(
  '-NOREPLICAS not enough replicas of the key can be reached to read it\r\n',
  'latin1',
);
const NO_REPLICAS = Buffer.from(
  '-NOREPLICAS not enough replicas took the write in time; it may still show up\r\n',
  'latin1',
);

/** An operation whose reply has been taken back. */
interface Taken {
  op: Operation;
  argv: Argv;
  hole: Hole;
}

export class Verdicts {
  /** Commands that ran again, writes undone, runs undone since another counts. */
  readonly stats = { reruns: 0, undone: 0, twice: 0 };
  private readonly cluster: Cluster;
  private readonly store: Store;
  private readonly output: Output;
  private readonly log: Log;
  private readonly operations: Operations;
  private readonly virtuals: VirtualClients;
  /** Operations that replicas have refused, by key, while it is asked what those had seen. */
  private readonly settling = new Map<string, Taken[]>();

  constructor(
    cluster: Cluster,
    store: Store,
    output: Output,
    log: Log,
    operations: Operations,
    virtuals: VirtualClients,
  ) {
    this.cluster = cluster;
    this.store = store;
    this.output = output;
    this.log = log;
    this.operations = operations;
    this.virtuals = virtuals;
    cluster.rpc.on(ASK_RUN, (_, r, w) => this.answerRun(r, w));
  }

  /** Enough have taken all that is in the ticket, or must do: its replies go out. */
  done(ticket: Ticket): void {
    this.output.releaseReady();
    if (!ticket.hasRequests) this.operations.recycle(ticket);
  }

  /** Nobody will ask for the ticket's operations any more. */
  forgotten(ticket: Ticket): void {
    this.operations.recycle(ticket);
  }

  /** Too few copies for a group's operations: an error goes out in place of their replies. */
  failed(ticket: Ticket, group: Group): void {
    for (const op of operationsOf(ticket)) {
      if (op === undefined || op.replaced || op.end <= op.start) continue;
      if (op.group !== group && !op.groups?.includes(group)) continue;
      const hole = this.patch(ticket, op);
      op.replaced = true;
      if (hole !== null) this.output.fill(hole, op.wrote ? NO_REPLICAS : NO_REPLICAS_TO_READ);
    }
  }

  /**
   * A replica had seen something else of a key than this node.
   * @param ticket null when its replies have gone out
   * @param theirs what the replica has; null when that is too large to come along
   */
  unclean(
    peer: Peer,
    ticket: Ticket | null,
    opNumber: number,
    dbIndex: number,
    key: string,
    theirs: KeyState | null,
  ): void {
    const { cluster } = this;
    const db = this.store.keys.databases[dbIndex];
    if (db === undefined) return;
    const place = this.store.placeOf(db, key);
    const op = ticket === null ? undefined : operationsOf(ticket)[opNumber];
    if (theirs === null || !this.store.keys.isResident(db, key, place.slot)) {
      // too large to come along: it is fetched and merged. What was read is read again; what was written stands, since
      // without the state of that moment it can't be told what an undo would have to bring back
      const reads = ticket !== null && op !== undefined && !op.wrote;
      const hole = reads ? this.takeBack(ticket, op) : null;
      const argv = hole === null ? null : argumentsOf(ticket!, op!);
      const options = { r: cluster.options.r, min: 1, timeoutMs: 0 };
      const finish = () => {
        if (op !== undefined && hole !== null && argv !== null) this.again(op, hole, argv, false);
      };
      cluster.reads.read(place, options).then(finish, finish);
      return;
    }
    // what runs in this very tick is to be judged with the rest
    if (cluster.replicator.open !== null) this.output.flush();
    const name = `${dbIndex}:${key}`;
    if (op !== undefined && !op.wrote && (cluster.replicator.isOpen(place.slot) || this.settling.has(name))) {
      // what is here may have to be undone: nothing is to be mixed with it before that is known
      if (!breaks.repliesDespiteNews) this.readAgain(ticket!, op, true);
      return;
    }
    const { behind } = cluster.reads.merge(place, theirs);
    if (behind) cluster.states.send(peer, place);
    if (op === undefined || op.replaced || breaks.repliesDespiteNews) return;
    // it may have come by another way since the command ran, and be no news any more
    if (!this.store.keys.hadNews(place.slot, op.seen)) return;
    if (op.wrote) this.rerun(place, theirs, []);
    else this.readAgain(ticket!, op, false);
  }

  /** A replica has something else than what was read here, and what that is is not decided yet: it is read again. */
  undecided(ticket: Ticket, opNumber: number): void {
    const op = operationsOf(ticket)[opNumber];
    if (op !== undefined && !op.wrote && !breaks.repliesDespiteNews) this.readAgain(ticket, op, true);
  }

  /** What was read rested on less than there is. */
  private readAgain(ticket: Ticket, op: Operation, mustRead: boolean): void {
    const hole = this.takeBack(ticket, op);
    if (hole !== null) this.again(op, hole, argumentsOf(ticket, op), mustRead);
  }

  /** An operation's groups; null when nobody waits for its reply. */
  groupsOf(ticket: Ticket, opNumber: number): readonly Group[] | null {
    const op = operationsOf(ticket)[opNumber];
    if (op === undefined || op.replaced) return null;
    return op.groups === null ? [op.group] : [op.group, ...op.groups];
  }

  /** Too many have refused a firm write: it is undone, and runs again when it is known what they had seen. */
  refused(ticket: Ticket, { op: opNumber, peer, db: dbIndex, key }: Refusal): void {
    const op = operationsOf(ticket)[opNumber];
    const place = this.cluster.place(dbIndex, key);
    const run = this.taken(ticket, op);
    if (run === null) return;
    // others on this key may be decided before it is settled: they belong together, in their order
    const name = `${dbIndex}:${key}`;
    const known = this.settling.get(name);
    if (known !== undefined) {
      known.push(run);
      return;
    }
    const runs = [run];
    const over = () => this.settling.delete(name);
    const settled = this.settleRefused(peer, place, runs, over).catch((error) => {
      over();
      this.log.error({ error: String(error) }, 'a write that was refused could not be undone');
    });
    this.settling.set(name, runs);
    this.cluster.replicator.settles(place.slot, settled);
  }

  /** What the replicas have refused is undone, as soon as it is known what they had seen. */
  private async settleRefused(peer: Peer, place: KeyPlace, runs: Taken[], over: () => void): Promise<void> {
    const { cluster, store } = this;
    const { keys } = store;
    const { db, key, slot } = place;
    const hash = () => (keys.isResident(db, key, slot) ? (keys.object(db, key, slot)?.contextHash() ?? 0) : 0);
    let theirs: KeyState | null = null;
    try {
      theirs = await cluster.reads.settled(peer, place, hash());
    } catch {
      // whoever it was is gone: what there is elsewhere is read before the command runs again
    }
    while (!keys.isResident(db, key, slot)) await store.residency.load([place]);
    if (cluster.replicator.open !== null) this.output.flush();
    if (theirs !== null) {
      const { behind } = cluster.reads.merge(place, theirs);
      if (behind) cluster.states.send(peer, place);
    }
    // what is refused from now on has come after this
    over();
    this.rerun(place, theirs ?? new KeyState(), runs);
  }

  /**
   * All that has run on a key on less than there is, and has not been answered, is undone, then run again in the same
   * order: what came later has seen what came first.
   * @param refused operations that replicas have refused: then all later ones rest on them
   */
  private rerun(place: KeyPlace, theirs: KeyState, refused: readonly Taken[]): void {
    const { cluster } = this;
    const { keys } = this.store;
    const partition = keys.partitionOf(place.slot);
    const stale = refused.slice();
    for (const ticket of cluster.replicator.unanswered())
      for (const op of operationsOf(ticket)) {
        if (op === undefined || !op.again || op.replaced) continue;
        if (refused.length === 0 && !keys.hadNews(place.slot, op.seen)) continue;
        if (op.partition >= 0 && op.partition !== partition) continue;
        const argv = argumentsOf(ticket, op);
        if (!this.operations.placesOf(op, argv).some((x) => x.key === place.key && x.db === place.db)) continue;
        const run = this.taken(ticket, op);
        if (run !== null) stale.push(run);
      }
    const stamps = stale.flatMap(({ op }) => (op.wrote ? [op.since, op.until] : []));
    for (let i = stale.length - 1; i >= 0; i--) {
      const { op, argv } = stale[i];
      if (!op.wrote || op.undone) continue;
      op.undone = true;
      this.undo(op, argv, place, theirs, stamps);
      // what it wrote to its other keys goes too: there nobody had news
      for (const name of op.before?.keys() ?? []) {
        const colon = name.indexOf(':');
        const other = cluster.place(Number(name.slice(0, colon)), name.slice(colon + 1));
        if (other.key !== place.key || other.db !== place.db) this.undo(op, argv, other, new KeyState(), stamps);
      }
    }
    for (const { op, hole, argv } of stale) this.again(op, hole, argv, refused.length > 0);
  }

  /** Takes an operation's reply back; null when that has gone out, or when it is none that runs again. */
  private taken(ticket: Ticket, op: Operation): Taken | null {
    const hole = this.takeBack(ticket, op);
    if (hole === null) return null;
    if (op.tag !== 0) this.cluster.requests.drop(op.tag, op.number);
    // the table's operations are used again; nobody else is to undo this one
    const run = { ...op };
    op.undone = true;
    return { op: run, argv: argumentsOf(ticket, op), hole };
  }

  /**
   * What an operation did to a key is undone, by an event of its own. False when nothing of it is there any more.
   * @param others stamps of what is undone with it, @param after the stamp of the run that counts (`Keyspace.undo`)
   */
  private undo(
    op: Operation,
    argv: Argv,
    place: KeyPlace,
    theirs: KeyState | null,
    others: readonly number[] = [],
    after = Number.POSITIVE_INFINITY,
  ): boolean {
    const { keys } = this.store;
    const { db, key, slot } = place;
    const name = `${db.index}:${key}`;
    const before = (op.before ?? op.kept)?.get(name) ?? null;
    if (!keys.isResident(db, key, slot)) return true;
    this.stats.undone++;
    keys.undoneAt[slot]++;
    const delta = incrementOf(argv);
    const there =
      delta !== null
        ? keys.undoIncrement(db, key, slot, delta, op.until, argv.is(0, 'INCRBYFLOAT'))
        : keys.undo(db, key, slot, op.since, op.until, before, theirs, others, after);
    this.cluster.replicateOwn();
    this.output.wake();
    return there;
  }

  /** A forwarded command was run here, and another run of it counts, which replied `done`. */
  undoByName(tag: number, id: number, done: Done): void {
    for (const ticket of this.cluster.replicator.undoable())
      for (const op of operationsOf(ticket)) {
        if (op === undefined || !op.wrote || op.undone || op.tag !== tag || op.number !== id || op.at < 0) continue;
        this.voidOperation(ticket, op, tag, id, done);
        return;
      }
  }

  /** Another run of this command counts: what this one has written is undone. */
  private voidOperation(ticket: Ticket, op: Operation, tag: number, id: number, done: Done): void {
    op.undone = true;
    this.stats.twice++;
    const argv = argumentsOf(ticket, op);
    this.log.debug(
      { id: op.number, command: argv.strings(0, 2), by: done.by.slice(0, 8) },
      'a command was run twice: this run is undone',
    );
    // the table's operations are used again
    const run = { ...op };
    const superseded = () => {
      // somebody has replaced what it wrote, and so the write: the other run's is not to come up from behind
      if (done.by !== this.cluster.self)
        this.cluster.voids.say(this.cluster.peers.get(done.by), tag, id, { by: this.cluster.self, reply: done.reply });
    };
    const places = this.operations.placesOf(op, argv);
    const undoAll = (after: number) => {
      for (const place of places) {
        const undo = () => {
          // what the other run wrote may have replaced it: that is to stay
          if (!this.undo(run, argv, place, null, [], after) && !this.isThere(place, valueFor(argv, place.key)))
            superseded();
        };
        if (this.remembers(run, place)) undo();
        else {
          // on disk, or handed over to its owners since
          const options = { r: this.cluster.options.r, min: 1, timeoutMs: 0 };
          this.cluster.reads
            .read(place, options)
            .then(undo, (error) =>
              this.log.error({ error: String(error) }, 'a key could not be read: a write to it is not undone'),
            );
        }
      }
    };
    // what the later run of a blind write has replaced may be younger than the other, which then has not replaced it
    const hasReplaced = [...(run.kept?.values() ?? [])].some((s) => s !== null && s.count > 0);
    if (hasReplaced) {
      this.stampOf(done.by, tag, id)
        .then(undoAll)
        .catch((error) => this.log.error({ error: String(error) }, 'a run that does not count could not be undone'));
    } else undoAll(Number.POSITIVE_INFINITY);
    if (ticket.done || op.replaced) return;
    op.replaced = true;
    const hole = this.patch(ticket, op);
    if (hole !== null) this.fillAs(hole, done.reply, done.by);
  }

  /** The last stamp that another node's run has written with; infinite where that can't be found out. */
  private async stampOf(by: string, tag: number, id: number): Promise<number> {
    const fill = (w: ByteWriter) => {
      w.u32(tag);
      w.u53(id);
    };
    try {
      const { peers, rpc } = this.cluster;
      return (await rpc.call(peers.get(by), ASK_RUN, fill, ASK_RUN_MS)).u53() || Number.POSITIVE_INFINITY;
    } catch {
      return Number.POSITIVE_INFINITY;
    }
  }

  /** Answers that question: 0 for a command that was not run here, or so long ago that it isn't known any more. */
  private answerRun(r: ByteReader, w: ByteWriter): void {
    const tag = r.u32();
    const id = r.u53();
    for (const ticket of this.cluster.replicator.undoable())
      for (const op of operationsOf(ticket))
        if (op?.wrote && op.tag === tag && op.number === id) {
          w.u53(op.until);
          return;
        }
    w.u53(0);
  }

  /** Something else is to go out in place of an operation's reply. */
  private patch(ticket: Ticket, op: Operation): Hole | null {
    const hole = this.output.patch(ticket, op.client, op.start, op.end);
    // whoever has forwarded it is to hear that from here
    if (hole !== null && op.client instanceof VirtualClient) op.client.frame = -1;
    return hole;
  }

  /** Does a key show this value by somebody else's hand? */
  private isThere({ db, key, slot }: KeyPlace, value: string | null): boolean {
    if (value === null) return false;
    const { keys } = this.store;
    const s = keys.object(db, key, slot)?.toState();
    for (let e = s?.get(REGISTER) ?? null; e !== null; e = e.next)
      if (e.actor !== keys.actor && e.data === value) return true;
    return false;
  }

  /** Does this node's copy of a key have what the operation did to it? */
  private remembers(op: Operation, { db, key, slot }: KeyPlace): boolean {
    const { keys } = this.store;
    if (!keys.isResident(db, key, slot)) return false;
    const seen = keys.object(db, key, slot)?.context().max(keys.actor) ?? 0;
    return seen >= op.since;
  }

  /** The reply is not to go out: it rested on less than there is. */
  private takeBack(ticket: Ticket, op: Operation): Hole | null {
    if (!op.again || op.replaced) return null;
    op.replaced = true;
    return this.patch(ticket, op);
  }

  /** Runs a command again whose reply has been taken back. */
  private again(op: Operation, hole: Hole, argv: Argv, mustRead: boolean): void {
    this.stats.reruns++;
    if (op.reruns >= MAX_RERUNS) {
      this.output.fill(hole, TRY_AGAIN);
      return;
    }
    const client = this.virtuals.take(op.db, op.resp, !op.foreign);
    client.sink = this.filler(hole);
    client.noReplica = op.foreign;
    client.mustRead = mustRead;
    client.tag = op.tag;
    client.number = op.number;
    client.reruns = op.reruns + 1;
    this.virtuals.run(client, argv);
  }

  private filler(hole: Hole): Sink {
    return (buf, start, end, by) => this.fillAs(hole, Buffer.from(buf.subarray(start, end)), by);
  }

  /** @param by the node whose run the reply is of, '' for this one: whoever has the client must not take it for ours */
  private fillAs(hole: Hole, reply: Buffer, by: string): void {
    if (by !== '' && by !== this.cluster.self && hole.client instanceof VirtualClient) hole.client.by = by;
    this.output.fill(hole, reply);
  }
}
