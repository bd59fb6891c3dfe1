/**
 * Where a command runs in a cluster.
 *
 * - Here, when this node coordinates its keys: at once when it has tenure of them (nothing can have been missed), else
 *   after it has read them from R replicas.
 * - Here, when it only reads and this node is a home replica: R - 1 others compare what they have.
 * - At the coordinator otherwise: the command is forwarded (`forwarding`), and the reply is a hole in the client's output
 *   until it comes.
 * - In parts, when it is one of the plain commands over many keys (`scatter`).
 * - At one node that borrows the keys of the others, when it is another command over keys of several coordinators
 *   (`borrowing`). A command on a key that is lent waits for its return.
 *
 * `enter` is asked before a command runs, `leave` is told when it has: what it wrote goes to the other replicas, what it
 * read is compared (`cluster/replicator`), and the reply waits for as many as it must. What they say of it is for
 * `verdicts`. Both are on the path of every command of a node in a cluster: a read, or a write that rests on nothing,
 * allocates nothing here when this node may run it at once.
 */
import { breaks } from '../base/breaks.ts';
import type { ByteReader } from '../base/bytes.ts';
import { ReplyError } from '../base/errors.ts';
import type { Cluster, ClusterServer } from '../cluster/cluster.ts';
import type { Peer } from '../cluster/peers.ts';
import type { Group, Refusal, RequestName, Ticket } from '../cluster/replicator.ts';
import { type Done, replyBytes } from '../cluster/requests.ts';
import type { Route } from '../cluster/routes.ts';
import type { Command } from '../commands/table.ts';
import type { Argv } from '../resp/argv.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { KeyState } from '../types/state.ts';
import { Borrowing } from './borrowing.ts';
import type { Client } from './client.ts';
import { dependsOnState, inParts, isTakenAnywhere } from './command-facts.ts';
import { Forwarding, PUSH_BYTES } from './forwarding.ts';
import type { GrammeServer } from './gramme.ts';
import { Intake } from './intake.ts';
import { AtHand, Operations } from './operations.ts';
import { scatter } from './scatter.ts';
import { Verdicts } from './verdicts.ts';
import { isPinned, isRetry, VirtualClient, VirtualClients } from './virtual.ts';

const EXPELLED =
  '-CLUSTERDOWN this node was expelled from its cluster while it was away; what it holds is kept and not merged. Start it with an empty dir to join again\r\n';
/** The key of a command that has only one, among its keys. */
const ONE = [0];

export class Router implements ClusterServer {
  readonly cluster: Cluster;
  private readonly server: GrammeServer;
  private readonly atHand = new AtHand();
  readonly intake: Intake;
  private readonly operations: Operations;
  private readonly forwarding: Forwarding;
  private readonly verdicts: Verdicts;
  private readonly borrowing: Borrowing;
  /** Commands that ran here as coordinator, read here as a replica, read from R replicas first. */
  private readonly counts = { local: 0, replicaReads: 0, freshened: 0 };
  /** Clients that came before this node serves. */
  private readonly early: Client[] = [];
  private lastRoute: Route | null = null;
  /** Of the command at hand: the write's own group, when it asks for one. */
  private strictGroup: Group | null = null;
  /** Ms after which what there is must do for it; 0 for none. */
  private timeoutMs = 0;
  /** What it reads is compared. */
  private compareToo = true;

  constructor(server: GrammeServer, cluster: Cluster) {
    this.server = server;
    this.cluster = cluster;
    const { store, output, log } = server;
    this.operations = new Operations(store, server.table, this.atHand);
    const virtuals = new VirtualClients(server, (peer, number, buf, start, end, by) =>
      this.forwarding.reply(peer, number, buf, start, end, by),
    );
    this.forwarding = new Forwarding(server, cluster, virtuals);
    this.intake = new Intake(() => this.forwarding.underWay);
    this.verdicts = new Verdicts(cluster, store, output, log, this.operations, virtuals);
    this.borrowing = new Borrowing(server, cluster);
  }

  /** Replicas that each key has. */
  get replicas(): number {
    const { ring, options } = this.cluster;
    return Math.max(1, Math.min(options.n, ring.members.length));
  }

  /** Counts since the start, for INFO and `/metrics`. */
  get stats() {
    return { ...this.counts, ...this.forwarding.stats, ...this.verdicts.stats, ...this.borrowing.stats };
  }

  // ------------------------------------------------------------------ before a command

  /** May the command run here and now? When not, it has been taken care of. */
  enter(client: Client, command: Command, argv: Argv): boolean {
    this.atHand.begin();
    this.server.keys.firm = false;
    this.strictGroup = null;
    this.timeoutMs = 0;
    this.compareToo = true;
    const { cluster } = this;
    if (!command.keyed || command.local) return true;
    if (cluster.ring.layout === null) {
      this.server.replyNow(client, '-LOADING Gramme is waiting to join its cluster\r\n');
      return false;
    }
    if (client instanceof VirtualClient && client.tag !== 0 && !this.forwarding.mayBegin(client)) return false;
    if (cluster.isExpelled) {
      this.server.replyNow(client, EXPELLED);
      return false;
    }
    if (cluster.isStarting) {
      // what was read before the stall says nothing of what has been written since
      client.fresh = false;
      this.server.suspend(client, argv);
      this.early.push(client);
      return false;
    }
    if (cluster.isAlone) return true;
    const fresh = client.fresh;
    client.fresh = false;
    if (command.onlyKey > 0) return this.enterOne(client, command, argv, command.onlyKey, fresh);
    const positions = this.server.table.keyPositions(command.spec, argv);
    if (positions === null || positions.length === 0) return true;
    if (positions.length === 1) return this.enterOne(client, command, argv, positions[0], fresh);
    return this.enterMany(client, command, argv, positions, fresh);
  }

  /** This node's disk takes no writes: may another node be asked by whoever has forwarded this one? */
  refuse(client: Client): boolean {
    return this.forwarding.refuse(client);
  }

  /**
   * Nothing is built on what will probably be undone: commands whose outcome rests on the state wait until that is
   * decided.
   */
  private mustWait(client: Client, command: Command, argv: Argv, slot: number): boolean {
    const { replicator } = this.cluster;
    if (!replicator.isDoubtful(slot) || breaks.takesStale) return false;
    if (command.write && !dependsOnState(command, argv)) return false;
    this.server.suspend(client, argv);
    replicator.decided(slot).then(() => this.server.retry(client));
    return true;
  }

  private enterOne(client: Client, command: Command, argv: Argv, i: number, fresh: boolean): boolean {
    const slot = argv.slot(i);
    const partition = this.server.keys.partitionOf(slot);
    const route = this.cluster.routes.of(partition);
    this.lastRoute = route;
    this.atHand.partition = partition;
    const pinned = isPinned(client);
    if (pinned || (route.coordinator === null && !route.nobody)) {
      if (!this.cluster.locks.isFree(slot) && this.borrowing.waits(client, argv, i)) return false;
      if (this.mustWait(client, command, argv, slot)) return false;
    }
    if (route.coordinator === null && !route.nobody) {
      if (argv.argc > 2 && command.spec.group === 'dynamo' && !this.enterDynamo(client, command, argv, fresh))
        return false;
      const held =
        (this.cluster.repair.tenure[partition] === 1 || breaks.assumesTenure) && !isRetry(client) && !client.mustRead;
      // no home can be reached: a write that rests on nothing is taken all the same, and handed over later
      const blind = !route.home && isTakenAnywhere(command, argv) && !isRetry(client);
      if (fresh || held || blind) return this.go(client, command, argv, i);
      this.freshen(client, argv, [i]);
      return false;
    }
    if (pinned) {
      if (argv.argc > 2 && command.spec.group === 'dynamo' && !this.enterDynamo(client, command, argv, fresh))
        return false;
      if (fresh) return this.go(client, command, argv, i);
      this.freshen(client, argv, [i]);
      return false;
    }
    if (!command.write && route.home && !client.noReplica && command.spec.group !== 'dynamo') {
      this.atHand.foreign = true;
      this.counts.replicaReads++;
      return true;
    }
    this.forwarding.send(client, argv, route);
    return false;
  }

  /** The command runs here. */
  private go(client: Client, command: Command, argv: Argv, i: number): boolean {
    this.counts.local++;
    if (!command.write) return true;
    this.atHand.since = this.server.store.hlc.current() + 1;
    this.rememberAll(client, command, argv, [i]);
    return true;
  }

  /** What the keys of a write are, where it may have to be undone. */
  private rememberAll(client: Client, command: Command, argv: Argv, positions: readonly number[]): void {
    const { atHand } = this;
    if (dependsOnState(command, argv)) {
      atHand.before = new Map();
      this.server.keys.firm = true;
    } else if (isRetry(client)) atHand.kept = new Map();
    const states = atHand.before ?? atHand.kept;
    if (states !== null) for (const i of positions) this.remember(states, argv, i);
  }

  private remember(states: Map<string, KeyState | null>, argv: Argv, i: number): void {
    const { keys } = this.server;
    const key = argv.str(i);
    const slot = argv.slot(i);
    const db = this.server.dbOf();
    if (!keys.isResident(db, key, slot)) return;
    states.set(`${db.index}:${key}`, keys.snapshot(keys.object(db, key, slot)));
  }

  /** `R n`, `W n` and `TIMEOUT ms` of DGET, DSET and DDEL. */
  private enterDynamo(client: Client, command: Command, argv: Argv, fresh: boolean): boolean {
    const from = command.spec.name === 'dset' ? 3 : 2;
    let r = 0;
    let w = 0;
    let timeoutMs = 0;
    for (let k = from; k + 1 < argv.argc; k += 2) {
      if (argv.is(k, 'R')) r = argv.int(k + 1);
      else if (argv.is(k, 'W')) w = argv.int(k + 1);
      else if (argv.is(k, 'TIMEOUT')) timeoutMs = argv.int(k + 1);
    }
    if (w > 0) {
      const { partition } = this.atHand;
      const asked = Math.min(w, this.cluster.ring.homes(partition).length);
      this.strictGroup = this.cluster.routes.writeGroup(partition, asked, asked, false);
    }
    this.timeoutMs = timeoutMs;
    if (r > 0) {
      this.compareToo = false;
      if (!fresh) {
        this.freshen(client, argv, [1], { r, min: r, timeoutMs });
        return false;
      }
    }
    return true;
  }

  private enterMany(client: Client, command: Command, argv: Argv, positions: number[], fresh: boolean): boolean {
    const { keys } = this.server;
    const slots = positions.map((i) => argv.slot(i));
    const routes = slots.map((slot) => this.cluster.routes.of(keys.partitionOf(slot)));
    const { tenure } = this.cluster.repair;
    const own = routes.every((r) => r.coordinator === null && !r.nobody);
    const pinned = isPinned(client);
    const how = inParts(command);
    if (own || pinned) {
      if (!this.borrowing.hasKeys(client)) {
        if (!own && how === undefined && this.borrows(client, argv, positions, routes)) return false;
        const { locks } = this.cluster;
        if (positions.some((i, k) => !locks.isFree(slots[k]) && this.borrowing.waits(client, argv, i))) return false;
      }
      if (slots.some((slot) => this.mustWait(client, command, argv, slot))) return false;
      if (
        fresh ||
        (own &&
          !client.mustRead &&
          !isRetry(client) &&
          slots.every((slot) => tenure[keys.partitionOf(slot)] === 1 || breaks.assumesTenure))
      ) {
        this.counts.local++;
        this.atHand.since = this.server.store.hlc.current() + 1;
        if (command.write) this.rememberAll(client, command, argv, positions);
        return true;
      }
      this.freshen(client, argv, positions);
      return false;
    }
    const first = routes[0];
    const together = routes.every((r) => r.coordinator === first.coordinator && r.nobody === first.nobody);
    // one that has to see several coordinators' keys in one moment sees that at none of the replicas
    if (!command.write && !client.noReplica && (together || how !== undefined) && routes.every((r) => r.home)) {
      this.atHand.foreign = true;
      this.counts.replicaReads++;
      return true;
    }
    if (!together && how !== undefined) {
      scatter(this.forwarding, this.server.output, client, command, argv, positions, routes, how);
      return false;
    }
    // several coordinators: one of them borrows the others' keys and writes to all their replicas
    this.forwarding.send(client, argv, routes.find((r) => r.coordinator === null && !r.nobody) ?? first);
    return false;
  }

  /** Borrows what others coordinate of a command's keys, then runs it again. False where nobody can lend. */
  private borrows(client: Client, argv: Argv, positions: number[], routes: readonly Route[]): boolean {
    const read = (places: readonly KeyPlace[]) => this.readFor(client, places);
    return this.borrowing.begins(client, argv, positions, routes, read, client.mustRead || isRetry(client));
  }

  /** Reads keys from R replicas, then runs the command again. */
  private freshen(
    client: Client,
    argv: Argv,
    positions: number[],
    options?: { r: number; min: number; timeoutMs: number },
  ): void {
    const { server } = this;
    const db = server.dbOf();
    const places: KeyPlace[] = [];
    const seen = new Set<string>();
    for (const i of positions) {
      const key = argv.str(i);
      if (seen.has(key)) continue;
      seen.add(key);
      places.push(server.store.placeOf(db, key));
    }
    server.suspend(client, argv);
    this.readFor(client, places, options).then(
      () => {
        client.fresh = true;
        server.retry(client);
      },
      (error) =>
        server.failWaiting(client, error instanceof ReplyError ? error : new ReplyError(`ERR ${String(error)}`)),
    );
  }

  /** Reads keys from R replicas for a command, and finds out whether another node has run it. */
  private async readFor(
    client: Client,
    places: readonly KeyPlace[],
    options?: { r: number; min: number; timeoutMs: number },
  ): Promise<void> {
    this.counts.freshened++;
    const { cluster } = this;
    const usual = { r: cluster.options.r, min: cluster.options.readMin(), timeoutMs: 0 };
    const request = isRetry(client) ? { tag: client.tag, id: client.number } : undefined;
    // whoever has run it may have told nobody else yet: all homes are asked
    const asked = request === undefined ? (options ?? usual) : { ...usual, r: cluster.options.n, request };
    const outcomes = await Promise.all(places.map((p) => cluster.reads.read(p, asked)));
    const done = outcomes.find((o) => o.done !== null)?.done;
    if (done && request !== undefined) cluster.requests.put(request.tag, request.id, done);
  }

  // ------------------------------------------------------------------ after a command

  /** The handler has run: what it wrote goes out, what it read is compared. */
  leave(client: Client, command: Command, argv: Argv, start: number, end: number, failed: boolean): void {
    const { cluster, server } = this;
    if (cluster.isAlone || cluster.ring.layout === null) {
      server.keys.made!.clear();
      return;
    }
    const request =
      client instanceof VirtualClient && client.tag !== 0 && server.keys.made!.count > 0 && !breaks.retriesUnnamed
        ? this.requestOf(client, replyBytes(server.output.w.buf, start, end))
        : null;
    const wrote = cluster.replicate(this.strictGroup, request, this.atHand.before !== null);
    server.keys.firm = false;
    if (this.borrowing.hasKeys(client)) this.borrowing.ran(wrote >= 0 ? cluster.replicator.ticket() : null);
    if (wrote >= 0) {
      const ticket = cluster.replicator.ticket();
      if (request !== null) {
        ticket.hasRequests = true;
        cluster.requests.note(request.tag, request.id, cluster.self, request.reply);
      }
      const group = cluster.lastGroup!;
      this.operations.enter(ticket, wrote, client, argv, start, end, true, group, cluster.moreGroups);
      if (this.timeoutMs > 0) server.timers.after(this.timeoutMs, () => cluster.replicator.expire(ticket, group));
      server.output.wake();
      return;
    }
    if (failed || !command.keyed || !this.compareToo || command.local) return;
    this.compare(client, command, argv, start, end);
  }

  /** The name of a forwarded command, and whether its one write may answer it where it came from. */
  private requestOf(client: VirtualClient, reply: Buffer): RequestName {
    // one that may be undone is answered when it is known to stand; under `always` one is answered when it is on disk
    const rides =
      client.rides &&
      this.atHand.before === null &&
      this.strictGroup === null &&
      this.server.keys.made!.count === 1 &&
      this.server.store.journal.policy !== 'always';
    return { tag: client.tag, id: client.number, reply, rider: rides ? client : null };
  }

  private compare(client: Client, command: Command, argv: Argv, start: number, end: number): void {
    const { cluster, server } = this;
    const { keys } = server;
    let op = -1;
    let group: Group | null = null;
    const one = command.onlyKey > 0;
    const positions = one ? ONE : (server.table.keyPositions(command.spec, argv) ?? []);
    const db = server.dbOf();
    for (let k = 0; k < positions.length; k++) {
      const i = one ? command.onlyKey : positions[k];
      const { buf, offsets } = argv;
      const from = offsets[2 * i];
      const to = offsets[2 * i + 1];
      const slot = one ? 0 : argv.slot(i);
      const { read } = one ? this.lastRoute! : cluster.routes.of(keys.partitionOf(slot));
      if (read.targets.length === 0) continue;
      group ??= read;
      const hash = one
        ? keys.lastHash()
        : keys.isResident(db, argv.str(i), slot)
          ? keys.hashOf(db, buf, from, to, slot)
          : 0;
      if (op < 0) op = cluster.replicator.begin(read);
      else cluster.replicator.join(cluster.replicator.ticket(), read);
      cluster.replicator.compare(read, op, db.index, buf, from, to, hash);
    }
    if (op < 0) return;
    const ticket = cluster.replicator.ticket();
    this.operations.enter(ticket, op, client, argv, start, end, false, group!, null);
  }

  /**
   * Called between commands. In the middle of a long tick what there is goes out, so that the other nodes work while this
   * one goes on.
   */
  pushIfLarge(): void {
    if (this.cluster.replicator.frameBytes < PUSH_BYTES) return;
    this.server.output.flush();
    this.cluster.flushLinks();
  }

  // ------------------------------------------------------------------ what the cluster tells its server

  done(ticket: Ticket): void {
    this.verdicts.done(ticket);
    this.borrowing.done(ticket);
  }

  forgotten(ticket: Ticket): void {
    this.verdicts.forgotten(ticket);
  }

  failed(ticket: Ticket, group: Group): void {
    this.verdicts.failed(ticket, group);
  }

  unclean(peer: Peer, ticket: Ticket | null, op: number, db: number, key: string, theirs: KeyState | null): void {
    this.verdicts.unclean(peer, ticket, op, db, key, theirs);
  }

  undecided(ticket: Ticket, op: number): void {
    this.verdicts.undecided(ticket, op);
  }

  groupsOf(ticket: Ticket, op: number): readonly Group[] | null {
    return this.verdicts.groupsOf(ticket, op);
  }

  refused(ticket: Ticket, refusal: Refusal): void {
    this.verdicts.refused(ticket, refusal);
  }

  undoByName(tag: number, id: number, done: Done): void {
    this.verdicts.undoByName(tag, id, done);
  }

  forward(peer: Peer, buf: Buffer, start: number, end: number): void {
    this.forwarding.forward(peer, buf, start, end);
    this.pushIfLarge();
  }

  forwarded(peer: Peer, buf: Buffer, start: number, end: number, others: boolean): void {
    this.forwarding.forwarded(peer, buf, start, end, others);
  }

  answered(peer: Peer, tag: number, id: number, buf: Buffer, start: number, end: number): void {
    this.forwarding.rode(peer, tag, id, buf, start, end);
  }

  lost(peer: Peer): void {
    this.forwarding.lost(peer);
  }

  routesChanged(): void {
    if (!this.cluster.isStarting && this.early.length > 0) for (const c of this.early.splice(0)) this.server.retry(c);
    this.forwarding.routesChanged();
  }

  sweep(now: number): void {
    this.server.output.drainLate();
    this.forwarding.sweep(now);
    this.intake.sweep(now);
    this.server.letIn();
  }

  met(peer: Peer): void {
    this.server.coverage.sayFloors(peer);
  }

  takeFloors(r: ByteReader): Promise<void> {
    return this.server.coverage.takeFloors(r);
  }

  wake(): void {
    this.server.output.wake();
  }

  flush(): void {
    this.server.output.flush();
  }
}
