/**
 * Where a command runs in a cluster, and what becomes of its reply.
 *
 * - Here, when this node coordinates its keys: at once when it has tenure of them (nothing can have been missed), else
 *   after it has read them from R replicas.
 * - Here, when it only reads and this node is a home replica: R - 1 others compare what they have.
 * - At the coordinator otherwise: the command is forwarded, and the reply is a hole in the client's output until it
 *   comes. When the coordinator fails meanwhile, the next one is asked.
 * - In parts, when it is one of the plain commands over many keys.
 *
 * What it wrote goes to the other replicas (`cluster/replicator`), and the reply waits for as many as it must. When one of
 * them turns out to have had news, a reply that rests on the state is taken back before it has gone out: the write is
 * undone, and the command runs again on the merged state (DESIGN section 6).
 */
import { breaks } from '../base/breaks.ts';
import { ByteReader, ByteWriter, copyBytes, TruncatedError, u53At } from '../base/bytes.ts';
import { ReplyError } from '../base/errors.ts';
import type { Cluster, ClusterServer, Route } from '../cluster/cluster.ts';
import { FORWARD, FORWARDED, FORWARDED_BY } from '../cluster/messages.ts';
import type { Peer } from '../cluster/peers.ts';
import type { Group, Refusal, Ticket } from '../cluster/replicator.ts';
import { type Done, replyBytes } from '../cluster/requests.ts';
import type { Command } from '../commands/table.ts';
import { Argv } from '../resp/argv.ts';
import { slotOfBytes } from '../ring/slots.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import { KeyState } from '../types/state.ts';
import type { Client } from './client.ts';
import type { GrammeServer } from './gramme.ts';
import type { Hole } from './output.ts';
import { type Sink, VirtualClient } from './virtual.ts';

/** A command that found no coordinator is tried again for this long, in ms. */
const PATIENCE_MS = 5000;
/**
 * A forwarded command is begun within so many ms of being sent, or not at all: the sender knows the receiver's clock. So
 * nobody who is asked instead can be overtaken by it later.
 */
const BEGIN_MS = 400;
/** Rounds of news and running again after which the client is told to try itself. */
const MAX_RERUNS = 3;
const SPARE_CLIENTS = 1024;
const SPARE_PENDING = 4096;
/** Forwarded commands are kept in slabs of so many bytes, which go when all that is in them is answered. */
const SLAB_BYTES = 256 * 1024;
/** A forwarded command whose reply has not come after so many ms is sent again, whatever its node is taken for. */
const LOST_FORWARD_MS = 2000;
/** A forwarded command is not given up sooner, in ms. */
const MIN_FORWARD_MS = 250;
/** Bytes for other nodes that are sent on before the tick is over. */
const PUSH_BYTES = 16 * 1024;

const RESP3 = 1;
/** Another node may have run it. */
const RETRY = 4;
/** Bytes of a FORWARD frame before its payload: number, deadline. */
const FORWARD_HEADER = 14;

const EXPELLED =
  '-CLUSTERDOWN this node was expelled from its cluster while it was away; what it holds is kept and not merged. Start it with an empty dir to join again\r\n';
const MAY_BE_DONE = Buffer.from(
  '-NOREPLICAS the nodes that were asked to run the command have not answered; it may have been done\r\n',
  'latin1',
);
const CLUSTER_DOWN = Buffer.from('-CLUSTERDOWN No node that holds the key can be reached\r\n', 'latin1');
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

/** Commands whose reply does not rest on what was there: they are not run again. */
const BLIND = new Set(['mset', 'setex', 'psetex', 'dset', 'ddel', 'restore', 'del', 'unlink', 'touch']);
/** Commands over many keys that may run in parts, and how their replies are put together. */
const SCATTER: Record<string, 'list' | 'sum' | 'ok'> = {
  mget: 'list',
  mset: 'ok',
  del: 'sum',
  unlink: 'sum',
  exists: 'sum',
  touch: 'sum',
};

/** One operation of a ticket: what it takes to run its command again. */
interface Operation {
  client: Client;
  start: number;
  end: number;
  /** Where its arguments are in the table's bytes; negative when nobody will ask for them. */
  at: number;
  /** Its reply rests on the state: it runs again when there was news. */
  again: boolean;
  group: Group;
  /** Its other keys' groups, when it has several. */
  groups: readonly Group[] | null;
  db: number;
  resp: 2 | 3;
  /** What the keys were, for a write that may have to be undone. */
  before: Map<string, KeyState | null> | null;
  /** Stamps that it wrote with: from, and to. */
  since: number;
  until: number;
  /** Partition of its only key, negative when it has several. */
  partition: number;
  /** How much of others' the keyspace had seen when it ran (`Keyspace.news`). */
  seen: number;
  wrote: boolean;
  /** It only reads, and somebody else coordinates. */
  foreign: boolean;
  replaced: boolean;
  reruns: number;
  tag: number;
  number: number;
  undone: boolean;
}

/** An operation whose reply has been taken back. */
interface Taken {
  op: Operation;
  argv: Argv;
  hole: Hole;
}

/** A command that another node runs for us. */
interface Pending {
  id: number;
  peer: Peer | null;
  /** The frame without its number and deadline: what it takes to send it again. Bytes [start, end) of a slab. */
  slab: Buffer;
  start: number;
  end: number;
  hole: Hole | null;
  sink: Sink | null;
  at: number;
  began: number;
  write: boolean;
  /** Its node is not waited for any longer; another is asked as soon as that one can't begin it any more. */
  doubtful: boolean;
  /** A write's former nodes: any of them may have run it, and may still answer. */
  tried: Peer[] | null;
}

export class Router implements ClusterServer {
  readonly cluster: Cluster;
  private readonly server: GrammeServer;
  private readonly pending = new Map<number, Pending>();
  /** Commands for which nobody can be found at the moment. */
  private homeless: Pending[] = [];
  private lastId: number;
  /** Names this process in the names of its commands. */
  private readonly tag: number;
  private unsent = 0;
  private readonly w = new ByteWriter(16 * 1024);
  private readonly spare: VirtualClient[] = [];
  private readonly sparePending: Pending[] = [];
  private slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  private slabUsed = 0;
  private readonly incoming = new Argv(256);
  /** Set by `enter`: the command at hand reads as a replica and not as the coordinator. */
  private foreign = false;
  /** Operations that replicas have refused, by key, while it is asked what those had seen. */
  private readonly settling = new Map<string, Taken[]>();
  /** Clients that came before this node serves. */
  private readonly early: Client[] = [];
  private lastRoute: Route | null = null;
  /** Slot of the key that was looked at last. */
  private slot = 0;
  /** Partition of the command's only key; negative when it has several. */
  private partition = -1;
  private readonly spareOps: Operation[] = [];
  private readonly spareTables: Table[] = [];
  private strictGroup: Group | null = null;
  private timeoutMs = 0;
  private compareToo = true;
  private before: Map<string, KeyState | null> | null = null;
  private since = 0;
  private reruns = 0;
  stats = {
    local: 0,
    replicaReads: 0,
    forwarded: 0,
    served: 0,
    reruns: 0,
    freshened: 0,
    retried: 0,
    undone: 0,
    expired: 0,
    twice: 0,
  };

  constructor(server: GrammeServer, cluster: Cluster) {
    this.server = server;
    this.cluster = cluster;
    this.tag = server.random.bytes(4).readUInt32LE(0) || 1;
    // what is still on its way to an earlier process of this node must find nobody
    this.lastId = server.random.bytes(4).readUInt32LE(0) >>> 2;
  }

  /** Replicas that each key has. */
  get replicas(): number {
    const { ring, options } = this.cluster;
    return Math.max(1, Math.min(options.n, ring.members.length));
  }

  // ------------------------------------------------------------------ before a command

  /** May the command run here and now? When not, it has been taken care of. */
  enter(client: Client, command: Command, argv: Argv): boolean {
    this.foreign = false;
    this.server.keys.firm = false;
    this.cluster.seenBefore = this.server.keys.news;
    this.strictGroup = null;
    this.timeoutMs = 0;
    this.compareToo = true;
    this.before = null;
    this.partition = -1;
    const { cluster } = this;
    if (!command.keyed || command.local) return true;
    if (cluster.ring.layout === null) {
      this.server.replyNow(client, '-LOADING Gramme is waiting to join its cluster\r\n');
      return false;
    }
    if (client instanceof VirtualClient && client.tag !== 0 && !this.mayBegin(client)) return false;
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

  /** Has a forwarded command come in time, and has nobody run it? */
  private mayBegin(client: VirtualClient): boolean {
    if (client.deadline > 0 && this.server.clock.monotonic() > client.deadline) {
      // not begun: the sender asks again
      this.stats.expired++;
      const { peer, number } = client;
      this.recycle(client);
      if (peer !== null) this.reply(peer, number, NOTHING, 0, 0, '');
      return false;
    }
    const done = this.cluster.requests.get(client.tag, client.number);
    if (done === undefined) return true;
    const others = done.by !== this.cluster.self;
    // what was run here may be run again, after news
    if (!others && !client.retry) return true;
    if (others) client.by = done.by;
    this.server.replyBytes(client, done.reply);
    return false;
  }

  /** This node's disk takes no writes: whoever has forwarded one is told to ask another. */
  refuse(client: Client): boolean {
    if (!(client instanceof VirtualClient) || client.peer === null || this.cluster.isAlone) return false;
    const { peer, number } = client;
    this.recycle(client);
    this.reply(peer, number, REFUSED, 0, REFUSED.length, '');
    return true;
  }

  private routeOf(argv: Argv, i: number): Route {
    this.slot = slotOfBytes(argv.buf, argv.offsets[2 * i], argv.offsets[2 * i + 1]);
    return this.cluster.route(this.server.keys.partitionOf(this.slot));
  }

  /**
   * Nothing is built on what will probably be undone: commands whose outcome rests on the state wait until that is
   * decided.
   */
  private mustWait(client: Client, command: Command, argv: Argv, slot: number): boolean {
    const { replicator } = this.cluster;
    if (!replicator.isDoubtful(slot, this.server.keys.newsAt[slot]) || breaks.takesStale) return false;
    if (command.write && !dependsOnState(command, argv)) return false;
    this.server.suspend(client, argv);
    replicator.decided(slot).then(() => this.server.retry(client));
    return true;
  }

  private isPinned(client: Client): boolean {
    return client instanceof VirtualClient && client.pinned;
  }

  private enterOne(client: Client, command: Command, argv: Argv, i: number, fresh: boolean): boolean {
    const route = this.routeOf(argv, i);
    this.lastRoute = route;
    this.partition = route.partition;
    const pinned = this.isPinned(client);
    if ((pinned || (route.coordinator === null && !route.nobody)) && this.mustWait(client, command, argv, this.slot))
      return false;
    if (route.coordinator === null && !route.nobody) {
      if (argv.argc > 2 && command.spec.group === 'dynamo' && !this.enterDynamo(client, command, argv, route, fresh))
        return false;
      const held =
        (this.cluster.repair.tenure[route.partition] === 1 || breaks.assumesTenure) &&
        !isRetry(client) &&
        !client.mustRead;
      // no home can be reached: a write that rests on nothing is taken all the same, and handed over later
      const blind = !route.home && command.write && !dependsOnState(command, argv) && !isRetry(client);
      if (fresh || held || blind) return this.go(command, argv, i);
      this.freshen(client, argv, [i]);
      return false;
    }
    if (pinned) {
      if (argv.argc > 2 && command.spec.group === 'dynamo' && !this.enterDynamo(client, command, argv, route, fresh))
        return false;
      if (fresh) return this.go(command, argv, i);
      this.freshen(client, argv, [i]);
      return false;
    }
    if (!command.write && route.home && !client.noReplica && command.spec.group !== 'dynamo') {
      this.foreign = true;
      this.stats.replicaReads++;
      return true;
    }
    this.send(client, argv, route);
    return false;
  }

  /** The command runs here. */
  private go(command: Command, argv: Argv, i: number): boolean {
    this.stats.local++;
    if (!command.write) return true;
    this.since = this.server.store.hlc.current() + 1;
    if (dependsOnState(command, argv)) {
      this.before = new Map();
      this.server.keys.firm = true;
      this.remember(argv, i);
    }
    return true;
  }

  private remember(argv: Argv, i: number): void {
    const { keys } = this.server;
    const key = argv.str(i);
    const slot = slotOfBytes(argv.buf, argv.offsets[2 * i], argv.offsets[2 * i + 1]);
    const db = this.server.dbOf();
    if (!keys.isResident(db, key, slot)) return;
    this.before!.set(`${db.index}:${key}`, keys.snapshot(keys.object(db, key, slot)));
  }

  /** `R n`, `W n` and `TIMEOUT ms` of DGET, DSET and DDEL. */
  private enterDynamo(client: Client, command: Command, argv: Argv, route: Route, fresh: boolean): boolean {
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
      const homes = this.cluster.ring.homes(route.partition).length;
      const asked = Math.min(w, homes);
      this.strictGroup = this.cluster.writeGroup(route.partition, asked, asked, false);
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
    const routes = positions.map((i) => this.routeOf(argv, i));
    const { tenure } = this.cluster.repair;
    const own = routes.every((r) => r.coordinator === null && !r.nobody);
    const pinned = this.isPinned(client);
    if (own || pinned) {
      const slots = positions.map((i) => slotOfBytes(argv.buf, argv.offsets[2 * i], argv.offsets[2 * i + 1]));
      if (slots.some((slot) => this.mustWait(client, command, argv, slot))) return false;
      if (
        fresh ||
        (own &&
          !client.mustRead &&
          !isRetry(client) &&
          routes.every((r) => tenure[r.partition] === 1 || breaks.assumesTenure))
      ) {
        this.stats.local++;
        this.since = this.server.store.hlc.current() + 1;
        if (command.write && dependsOnState(command, argv)) {
          this.before = new Map();
          this.server.keys.firm = true;
          for (const i of positions) this.remember(argv, i);
        }
        return true;
      }
      this.freshen(client, argv, positions);
      return false;
    }
    if (!command.write && !client.noReplica && routes.every((r) => r.home)) {
      this.foreign = true;
      this.stats.replicaReads++;
      return true;
    }
    const first = routes[0];
    const together = routes.every((r) => r.coordinator === first.coordinator && r.nobody === first.nobody);
    const how = SCATTER[command.spec.name];
    if (!together && how !== undefined) {
      this.scatter(client, command, argv, positions, routes, how);
      return false;
    }
    // several coordinators: one of them reads the others' keys and writes to all their replicas
    this.send(client, argv, routes.find((r) => r.coordinator === null && !r.nobody) ?? first);
    return false;
  }

  /** Reads keys from R replicas, then runs the command again. */
  private freshen(
    client: Client,
    argv: Argv,
    positions: number[],
    options?: { r: number; min: number; timeoutMs: number },
  ): void {
    this.stats.freshened++;
    const { server, cluster } = this;
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
    const usual = { r: cluster.options.r, min: cluster.options.readMin(), timeoutMs: 0 };
    const request = isRetry(client) ? { tag: client.tag, id: client.number } : undefined;
    // whoever has run it may have told nobody else yet: all homes are asked
    const asked = request === undefined ? (options ?? usual) : { ...usual, r: cluster.options.n, request };
    Promise.all(places.map((p) => cluster.reads.read(p, asked))).then(
      (outcomes) => {
        const done = outcomes.find((o) => o.done !== null)?.done;
        if (done && request !== undefined) cluster.requests.put(request.tag, request.id, done);
        client.fresh = true;
        server.retry(client);
      },
      (error) =>
        server.failWaiting(client, error instanceof ReplyError ? error : new ReplyError(`ERR ${String(error)}`)),
    );
  }

  // ------------------------------------------------------------------ after a command

  /** The handler has run: what it wrote goes out, what it read is compared. */
  leave(client: Client, command: Command, argv: Argv, start: number, end: number, failed: boolean): void {
    const { cluster, server } = this;
    if (cluster.isAlone || cluster.ring.layout === null) {
      const made = server.keys.made!;
      made.slots.length = made.befores.length = made.contexts.length = 0;
      return;
    }
    const request =
      client instanceof VirtualClient &&
      client.tag !== 0 &&
      server.keys.made!.slots.length > 0 &&
      !breaks.retriesUnnamed
        ? { tag: client.tag, id: client.number, reply: replyBytes(server.output.w.buf, start, end) }
        : null;
    const wrote = cluster.replicate(this.strictGroup, request, this.before !== null);
    server.keys.firm = false;
    if (wrote >= 0) {
      const ticket = cluster.replicator.ticket();
      if (request !== null) {
        ticket.hasRequests = true;
        cluster.requests.put(request.tag, request.id, { by: cluster.self, reply: request.reply });
      }
      this.enterOperation(ticket, wrote, client, argv, start, end, this.before !== null, true, cluster.lastGroup!);
      const group = cluster.lastGroup!;
      if (this.timeoutMs > 0) server.timers.after(this.timeoutMs, () => cluster.replicator.expire(ticket, group));
      server.output.wake();
      return;
    }
    if (failed || !command.keyed || !this.compareToo || command.local) return;
    this.compare(client, command, argv, start, end);
  }

  /** Enters the command at hand into the ticket's table, as operation `n`. */
  private enterOperation(
    ticket: Ticket,
    n: number,
    client: Client,
    argv: Argv,
    start: number,
    end: number,
    again: boolean,
    wrote: boolean,
    group: Group,
  ): void {
    let table = ticket.table as Table | null;
    if (table === null) {
      table = this.spareTables.pop() ?? { ops: [], args: new ByteWriter(1024) };
      ticket.table = table;
    }
    const op = this.spareOps.pop() ?? blankOperation();
    op.client = client;
    op.start = start;
    op.end = end;
    op.at = -1;
    op.again = again;
    if (again || (client instanceof VirtualClient && client.tag !== 0)) {
      op.at = table.args.pos;
      writeArguments(table.args, argv);
    }
    op.group = group;
    op.groups = wrote ? this.cluster.moreGroups : null;
    op.db = client.db;
    op.resp = client.resp;
    op.before = this.before;
    op.since = this.since;
    op.until = this.server.store.hlc.current();
    op.partition = this.partition;
    op.seen = this.server.keys.news;
    op.wrote = wrote;
    op.foreign = this.foreign;
    op.replaced = false;
    op.reruns = this.reruns;
    const virtual = client instanceof VirtualClient;
    op.tag = virtual ? client.tag : 0;
    op.number = virtual ? client.number : 0;
    op.undone = false;
    table.ops[n] = op;
  }

  /** Nobody asks for the ticket's operations any more. */
  private recycleTable(ticket: Ticket): void {
    const table = ticket.table as Table | null;
    if (table === null) return;
    ticket.table = null;
    for (const op of table.ops) {
      if (op === undefined || op.replaced || this.spareOps.length >= SPARE_OPERATIONS) continue;
      op.before = null;
      this.spareOps.push(op);
    }
    table.ops.length = 0;
    table.args.reset();
    if (this.spareTables.length < SPARE_TABLES && table.args.buf.length <= 1024 * 1024) this.spareTables.push(table);
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
      const slot = one ? 0 : slotOfBytes(buf, from, to);
      const { read } = one ? this.lastRoute! : cluster.route(keys.partitionOf(slot));
      if (read.targets.length === 0) continue;
      group ??= read;
      let o = keys.lastFound;
      if (!one) {
        const key = argv.str(i);
        o = keys.isResident(db, key, slot) ? keys.object(db, key, slot) : null;
      }
      if (op < 0) op = cluster.replicator.begin(read);
      else cluster.replicator.join(cluster.replicator.ticket(), read);
      cluster.replicator.compare(read, op, db.index, buf, from, to, o?.contextHash() ?? 0);
    }
    if (op < 0) return;
    const ticket = cluster.replicator.ticket();
    this.enterOperation(ticket, op, client, argv, start, end, true, false, group!);
  }

  // ------------------------------------------------------------------ what the replicas say

  done(ticket: Ticket): void {
    this.server.output.releaseReady();
    if (!ticket.hasRequests) this.recycleTable(ticket);
  }

  forgotten(ticket: Ticket): void {
    this.recycleTable(ticket);
  }

  failed(ticket: Ticket, group: Group, copies: number): void {
    void copies;
    for (const op of tableOf(ticket)) {
      if (op === undefined || op.replaced || op.end <= op.start) continue;
      if (op.group !== group && !op.groups?.includes(group)) continue;
      const hole = this.server.output.patch(ticket, op.client, op.start, op.end);
      op.replaced = true;
      if (hole !== null) this.server.output.fill(hole, op.wrote ? NO_REPLICAS : NO_REPLICAS_TO_READ);
    }
  }

  unclean(
    peer: Peer,
    ticket: Ticket | null,
    opNumber: number,
    dbIndex: number,
    key: string,
    theirs: KeyState | null,
  ): void {
    const { cluster } = this;
    const db = this.server.keys.databases[dbIndex];
    if (db === undefined) return;
    const place = this.server.store.placeOf(db, key);
    const op = ticket === null ? undefined : tableOf(ticket)[opNumber];
    if (theirs === null || !this.server.keys.isResident(db, key, place.slot)) {
      // too large to come along: it is fetched and merged. What was read is read again; what was written stands, since
      // without the state of that moment it can't be told what an undo would have to bring back
      const reads = ticket !== null && op !== undefined && !op.wrote;
      const hole = reads ? this.takeBack(ticket, op) : null;
      const argv = hole === null ? null : readArguments(ticket!, op!);
      const options = { r: cluster.options.r, min: 1, timeoutMs: 0 };
      const finish = () => {
        if (op !== undefined && hole !== null && argv !== null) this.again(op, hole, argv, false);
      };
      cluster.reads.read(place, options).then(finish, finish);
      return;
    }
    // what runs in this very tick is to be judged with the rest
    if (cluster.replicator.open !== null) this.server.output.flush();
    const name = `${dbIndex}:${key}`;
    if (op !== undefined && !op.wrote && (cluster.replicator.isOpen(place.slot) || this.settling.has(name))) {
      // what is here may have to be undone: nothing is to be mixed with it before that is known
      if (!breaks.repliesDespiteNews) this.readAgain(ticket!, op, true);
      return;
    }
    const { behind } = cluster.reads.merge(place, theirs);
    cluster.applied();
    if (behind) cluster.states.send(peer, place);
    if (op === undefined || op.replaced || breaks.repliesDespiteNews) return;
    // it may have come by another way since the command ran, and be no news any more
    if (this.server.keys.newsAt[place.slot] <= op.seen) return;
    if (op.wrote) this.rerun(place, theirs, []);
    else this.readAgain(ticket!, op, false);
  }

  undecided(ticket: Ticket, opNumber: number): void {
    const op = tableOf(ticket)[opNumber];
    if (op !== undefined && !op.wrote && !breaks.repliesDespiteNews) this.readAgain(ticket, op, true);
  }

  private readAgain(ticket: Ticket, op: Operation, mustRead: boolean): void {
    const hole = this.takeBack(ticket, op);
    if (hole !== null) this.again(op, hole, readArguments(ticket, op), mustRead);
  }

  groupsOf(ticket: Ticket, opNumber: number): readonly Group[] | null {
    const op = tableOf(ticket)[opNumber];
    if (op === undefined || op.replaced) return null;
    return op.groups === null ? [op.group] : [op.group, ...op.groups];
  }

  refused(ticket: Ticket, { op: opNumber, peer, db: dbIndex, key }: Refusal): void {
    const op = tableOf(ticket)[opNumber];
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
      this.server.log.error({ error: String(error) }, 'a write that was refused could not be undone');
    });
    this.settling.set(name, runs);
    this.cluster.replicator.settles(place.slot, settled);
  }

  /** What the replicas have refused is undone, as soon as it is known what they had seen. */
  private async settleRefused(peer: Peer, place: KeyPlace, runs: Taken[], over: () => void): Promise<void> {
    const { cluster, server } = this;
    const { keys } = server;
    const { db, key, slot } = place;
    const hash = () => (keys.isResident(db, key, slot) ? (keys.object(db, key, slot)?.contextHash() ?? 0) : 0);
    let theirs: KeyState | null = null;
    try {
      theirs = await cluster.reads.settled(peer, place, hash());
    } catch {
      // whoever it was is gone: what there is elsewhere is read before the command runs again
    }
    while (!keys.isResident(db, key, slot)) await server.store.residency.load([place]);
    if (cluster.replicator.open !== null) server.output.flush();
    if (theirs !== null) {
      const { behind } = cluster.reads.merge(place, theirs);
      cluster.applied();
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
    const { keys } = this.server;
    const partition = keys.partitionOf(place.slot);
    const stale = refused.slice();
    for (const ticket of cluster.replicator.unanswered())
      for (const op of tableOf(ticket)) {
        if (op === undefined || !op.again || op.replaced) continue;
        if (refused.length === 0 && op.seen >= keys.newsAt[place.slot]) continue;
        if (op.partition >= 0 && op.partition !== partition) continue;
        const argv = readArguments(ticket, op);
        if (!this.placesOf(op, argv).some((x) => x.key === place.key && x.db === place.db)) continue;
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
    return { op: run, argv: readArguments(ticket, op), hole };
  }

  /** The keys that an operation is about. */
  private placesOf(op: Operation, argv: Argv): KeyPlace[] {
    const command = this.server.table.find(argv);
    if (command === null) return [];
    const positions =
      command.onlyKey > 0 ? [command.onlyKey] : (this.server.table.keyPositions(command.spec, argv) ?? []);
    return positions.map((i) => this.server.store.placeOf(this.server.keys.names[op.db], argv.str(i)));
  }

  /**
   * What an operation did to a key is undone, by an event of its own. False when nothing of it is there any more.
   * @param others stamps of what is undone with it (`Keyspace.undo`)
   */
  private undo(
    op: Operation,
    argv: Argv,
    place: KeyPlace,
    theirs: KeyState | null,
    others: readonly number[] = [],
  ): boolean {
    const { keys } = this.server;
    const { db, key, slot } = place;
    if (!keys.isResident(db, key, slot)) return true;
    this.stats.undone++;
    keys.undoneAt[slot]++;
    const delta = incrementOf(argv);
    const there =
      delta !== null
        ? keys.undoIncrement(db, key, slot, delta, op.until, argv.is(0, 'INCRBYFLOAT'))
        : keys.undo(db, key, slot, op.since, op.until, op.before?.get(`${db.index}:${key}`) ?? null, theirs, others);
    this.cluster.replicateOwn();
    this.server.output.wake();
    return there;
  }

  undoByName(tag: number, id: number, done: Done): void {
    for (const ticket of this.cluster.replicator.undoable())
      for (const op of tableOf(ticket)) {
        if (op === undefined || !op.wrote || op.undone || op.tag !== tag || op.number !== id || op.at < 0) continue;
        this.voidOperation(ticket, op, tag, id, done);
        return;
      }
  }

  /** Another run of this command counts: what this one has written is undone. */
  private voidOperation(ticket: Ticket, op: Operation, tag: number, id: number, done: Done): void {
    op.undone = true;
    this.stats.twice++;
    const argv = readArguments(ticket, op);
    this.server.log.debug(
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
    for (const place of this.placesOf(op, argv)) {
      const undo = () => {
        if (!this.undo(run, argv, place, null)) superseded();
      };
      if (this.remembers(run, place)) undo();
      else {
        // on disk, or handed over to its owners since
        const options = { r: this.cluster.options.r, min: 1, timeoutMs: 0 };
        this.cluster.reads
          .read(place, options)
          .then(undo, (error) =>
            this.server.log.error({ error: String(error) }, 'a key could not be read: a write to it is not undone'),
          );
      }
    }
    if (ticket.done || op.replaced) return;
    op.replaced = true;
    const hole = this.server.output.patch(ticket, op.client, op.start, op.end);
    if (hole !== null) this.server.output.fill(hole, done.reply);
  }

  /** Does this node's copy of a key have what the operation did to it? */
  private remembers(op: Operation, { db, key, slot }: KeyPlace): boolean {
    const { keys } = this.server;
    if (!keys.isResident(db, key, slot)) return false;
    const seen = keys.object(db, key, slot)?.context().max(keys.actor) ?? 0;
    return seen >= op.since;
  }

  /** The reply is not to go out: it rested on less than there is. */
  private takeBack(ticket: Ticket, op: Operation): Hole | null {
    if (!op.again || op.replaced) return null;
    op.replaced = true;
    return this.server.output.patch(ticket, op.client, op.start, op.end);
  }

  private again(op: Operation, hole: Hole, argv: Argv, mustRead: boolean): void {
    this.stats.reruns++;
    if (op.reruns >= MAX_RERUNS) {
      this.server.output.fill(hole, TRY_AGAIN);
      return;
    }
    const client = this.virtual(op.db, op.resp, !op.foreign);
    client.sink = this.filler(hole);
    client.noReplica = op.foreign;
    client.mustRead = mustRead;
    client.tag = op.tag;
    client.number = op.number;
    this.run(client, argv, op.reruns + 1);
  }

  private filler(hole: Hole): Sink {
    return (buf, start, end) => this.server.output.fill(hole, Buffer.from(buf.subarray(start, end)));
  }

  // ------------------------------------------------------------------ commands without a connection

  private virtual(db: number, resp: 2 | 3, pinned: boolean): VirtualClient {
    const client = this.spare.pop() ?? new VirtualClient((c, buf, start, end) => this.finished(c, buf, start, end));
    client.prepare(db, resp, pinned);
    return client;
  }

  private finished(client: VirtualClient, buf: Buffer, start: number, end: number): void {
    const { peer, sink, number, by } = client;
    this.recycle(client);
    if (peer !== null) this.reply(peer, number, buf, start, end, by);
    else sink?.(buf, start, end, by);
  }

  private recycle(client: VirtualClient): void {
    if (this.spare.length < SPARE_CLIENTS) this.spare.push(client);
  }

  private run(client: VirtualClient, argv: Argv, reruns: number): void {
    const before = this.reruns;
    this.reruns = reruns;
    this.server.executeFor(client, argv);
    this.reruns = before;
  }

  // ------------------------------------------------------------------ forwarding

  private send(client: Client, argv: Argv, route: Route): void {
    const hole = this.server.output.hole(client);
    this.dispatch(argv, client, hole, null, route);
  }

  private dispatch(argv: Argv, client: Client, hole: Hole | null, sink: Sink | null, route: Route): void {
    const { w } = this;
    w.reset();
    w.u53(++this.lastId);
    w.u53(0);
    w.u8(client.resp === 3 ? RESP3 : 0);
    w.u32(this.tag);
    w.varint(client.db);
    writeArguments(w, argv);
    const now = this.server.clock.monotonic();
    const p = this.sparePending.pop() ?? blankPending();
    p.id = this.lastId;
    p.hole = hole;
    p.sink = sink;
    p.at = p.began = now;
    p.write = this.server.table.find(argv)?.write ?? true;
    this.keep(p);
    const peer = route.coordinator;
    if (peer === null || !this.transmit(p, peer, now)) this.place(p, route);
  }

  /** Keeps what is in `w` behind its header. */
  private keep(p: Pending): void {
    const { w } = this;
    const n = w.pos - FORWARD_HEADER;
    if (this.slabUsed + n > this.slab.length) {
      this.slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, n));
      this.slabUsed = 0;
    }
    p.slab = this.slab;
    p.start = this.slabUsed;
    p.end = this.slabUsed = copyBytes(this.slab, this.slabUsed, w.buf, FORWARD_HEADER, w.pos);
  }

  /** Nobody refers to it any more. */
  private release(p: Pending): void {
    if (this.sparePending.length >= SPARE_PENDING) return;
    p.peer = null;
    p.hole = null;
    p.sink = null;
    p.slab = NOTHING;
    p.doubtful = false;
    p.tried = null;
    this.sparePending.push(p);
  }

  private argvOf(p: Pending): ReturnType<typeof decodeForward> {
    return decodeForward(p.slab, p.start, p.end, new Argv());
  }

  /** Puts the frame that is in `w` on its way. */
  private transmit(p: Pending, peer: Peer, now: number): boolean {
    const { w } = this;
    const end = w.pos;
    w.pos = 7;
    w.u53(Math.floor(peer.clockAt(now) + BEGIN_MS));
    w.pos = end;
    if (!peer.isWell || !peer.link!.send(FORWARD, w.buf, 0, end)) return false;
    this.stats.forwarded++;
    p.peer = peer;
    p.at = now;
    p.doubtful = false;
    this.pending.set(p.id, p);
    this.server.output.wake();
    this.push(end);
    return true;
  }

  /**
   * In the middle of a long tick: what there is goes out, so that the other nodes work while this one goes on.
   * Otherwise a tick's commands would travel as one herd, and only one node would be busy at a time.
   */
  private push(bytes: number): void {
    this.unsent += bytes;
    if (this.unsent < PUSH_BYTES) return;
    this.unsent = 0;
    this.cluster.flushLinks();
  }

  /** Called between commands. */
  pushIfLarge(): void {
    if (this.cluster.replicator.frameBytes < PUSH_BYTES) return;
    this.server.output.flush();
    this.cluster.flushLinks();
  }

  /** Sends a command to whoever coordinates, or runs it here when that is us. */
  private place(p: Pending, route: Route): void {
    const peer = route.coordinator;
    if (route.nobody) {
      this.homeless.push(p);
      return;
    }
    if (peer === null) {
      const { argv, db, resp, flags } = this.argvOf(p);
      const client = this.virtual(db, resp, true);
      client.sink = this.sinkOf(p);
      client.tag = this.tag;
      client.number = p.id;
      client.retry = (flags & RETRY) !== 0;
      this.run(client, argv, 0);
      return;
    }
    const { w } = this;
    w.reset();
    w.u53(p.id);
    w.u53(0);
    w.copy(p.slab, p.start, p.end);
    if (!this.transmit(p, peer, this.server.clock.monotonic())) this.homeless.push(p);
  }

  /** A command's own run is over. */
  private sinkOf(p: Pending): Sink {
    return (buf, start, end, by) => this.answered(p, by === '' ? this.cluster.self : by, buf, start, end);
  }

  /** A command has been answered, by a run of this node's: no other run of it counts. */
  private answered(p: Pending, by: string, buf: Buffer, start: number, end: number): void {
    const { tried } = p;
    if (tried !== null) {
      const done = { by, reply: replyBytes(buf, start, end) };
      if (p.peer !== null && !tried.includes(p.peer)) tried.push(p.peer);
      for (const peer of tried) if (peer.id !== by) this.cluster.voids.say(peer, this.tag, p.id, done);
      if (by !== this.cluster.self) this.cluster.requests.put(this.tag, p.id, done);
    }
    this.settle(p, buf, start, end);
  }

  private settle(p: Pending, buf: Buffer, start: number, end: number): void {
    const { hole, sink } = p;
    this.release(p);
    if (hole !== null) this.server.output.fill(hole, replyBytes(buf, start, end));
    else sink!(buf, start, end, '');
  }

  private firstRoute(argv: Argv): Route {
    const command = this.server.table.find(argv);
    const sub = command?.subcommands?.get(argv.lower(1)) ?? command;
    const i =
      sub === null || sub === undefined ? 1 : sub.onlyKey || (this.server.table.keyPositions(sub.spec, argv)?.[0] ?? 1);
    return this.routeOf(argv, i);
  }

  /** A command from another node. */
  forward(peer: Peer, buf: Buffer, start: number, end: number): void {
    if (end - start < FORWARD_HEADER) throw new TruncatedError();
    const id = u53At(buf, start);
    const deadline = u53At(buf, start + 7);
    const { argv, db, resp, flags, tag } = decodeForward(buf, start + FORWARD_HEADER, end, this.incoming);
    this.stats.served++;
    this.server.beginTick();
    const client = this.virtual(db, resp, true);
    client.peer = peer;
    client.number = id;
    client.tag = tag;
    client.retry = (flags & RETRY) !== 0;
    client.deadline = deadline;
    this.server.executeFor(client, argv);
    this.pushIfLarge();
  }

  private reply(peer: Peer, id: number, buf: Buffer, start: number, end: number, by: string): void {
    const { w } = this;
    w.reset();
    w.u53(id);
    if (by !== '') w.str(by);
    w.copy(buf, start, end);
    if (peer.link?.send(by === '' ? FORWARDED : FORWARDED_BY, w.buf, 0, w.pos)) {
      this.server.output.wake();
      this.push(w.pos);
    }
  }

  forwarded(peer: Peer, buf: Buffer, start: number, end: number, others: boolean): void {
    if (end - start < 7) throw new TruncatedError();
    const id = u53At(buf, start);
    let at = start + 7;
    const p = this.pending.get(id) ?? this.homeless.find((x) => x.id === id);
    const now = this.server.clock.monotonic();
    if (p === undefined) return;
    const current = p.peer === peer;
    if (!current && !p.tried?.includes(peer)) return;
    this.cluster.peers.heard(peer, now);
    let by = peer.id;
    if (others) {
      const r = new ByteReader(buf, at, end);
      by = r.str();
      at = r.pos;
    }
    const refused = !others && end - at === 1 && buf[at] === REFUSED[0];
    if (refused) this.cluster.peers.refuses(peer);
    if (refused || end === at) {
      // it has not been begun there
      if (!current) return;
      this.pending.delete(id);
      this.retryElsewhere(p, false);
      return;
    }
    if (!this.pending.delete(id)) this.homeless = this.homeless.filter((x) => x !== p);
    this.answered(p, by, buf, at, end);
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

  // ------------------------------------------------------------------ failures

  lost(peer: Peer): void {
    const again: Pending[] = [];
    const now = this.server.clock.monotonic();
    for (const p of this.pending.values()) {
      if (p.peer !== peer) continue;
      if (!p.write || peer.isGone || now - p.at > BEGIN_MS) again.push(p);
      else p.doubtful = true;
    }
    for (const p of again) {
      // sending one elsewhere may have ended another link, and have moved the rest
      if (p.peer !== peer || this.pending.get(p.id) !== p) continue;
      this.pending.delete(p.id);
      this.retryElsewhere(p, true);
    }
  }

  /** @param begun it may have been run where it was */
  private retryElsewhere(p: Pending, begun: boolean): void {
    this.stats.retried++;
    this.server.log.debug({ id: p.id, begun, peer: p.peer?.id.slice(0, 8) }, 'a forwarded command is sent elsewhere');
    if (begun && p.write && !breaks.retriesUnnamed) {
      p.slab[p.start] |= RETRY;
      p.tried ??= [];
      if (p.peer !== null && !p.tried.includes(p.peer)) p.tried.push(p.peer);
    }
    p.peer = null;
    if (this.server.clock.monotonic() - p.began > PATIENCE_MS) {
      this.giveUp(p);
      return;
    }
    this.place(p, this.firstRoute(this.argvOf(p).argv));
  }

  routesChanged(): void {
    if (!this.cluster.isStarting && this.early.length > 0) for (const c of this.early.splice(0)) this.server.retry(c);
    const { homeless } = this;
    if (homeless.length === 0) return;
    this.homeless = [];
    for (const p of homeless) this.retryElsewhere(p, false);
  }

  sweep(now: number): void {
    this.server.output.drainLate();
    const again: Pending[] = [];
    let looked = false;
    for (const p of this.pending.values()) {
      // a reply that is this late is lost, though its node may be well: asking again is safe
      if (p.doubtful || now - p.at > LOST_FORWARD_MS) {
        if (now - p.at > BEGIN_MS) again.push(p);
        continue;
      }
      if (looked) continue;
      const peer = p.peer!;
      looked = true;
      // one opinion a sweep; when it turns to suspicion, `lost` sees to all that the peer has
      if (now - p.at > Math.max(MIN_FORWARD_MS, this.cluster.peers.timeoutMs(peer)))
        this.cluster.peers.timedOut(peer, now, p.at);
    }
    for (const p of again) {
      if (this.pending.get(p.id) !== p || now < p.at) continue;
      this.pending.delete(p.id);
      this.retryElsewhere(p, true);
    }
    if (this.homeless.length > 0) this.routesChanged();
    const late = this.homeless.filter((p) => now - p.began > PATIENCE_MS);
    if (late.length === 0) return;
    this.homeless = this.homeless.filter((p) => now - p.began <= PATIENCE_MS);
    for (const p of late) this.giveUp(p);
  }

  /** Nobody has answered: the client is told that it can't be known. */
  private giveUp(p: Pending): void {
    // no run is undone: there may be no other
    const why = p.tried === null ? CLUSTER_DOWN : MAY_BE_DONE;
    this.settle(p, why, 0, why.length);
  }

  // ------------------------------------------------------------------ parts

  private scatter(
    client: Client,
    command: Command,
    argv: Argv,
    positions: number[],
    routes: Route[],
    how: 'list' | 'sum' | 'ok',
  ): void {
    const hole = this.server.output.hole(client);
    const step = command.spec.name === 'mset' ? 2 : 1;
    const name = argv.str(0);
    const byNode = new Map<Peer | null, number[]>();
    routes.forEach((r, k) => {
      const list = byNode.get(r.coordinator);
      if (list === undefined) byNode.set(r.coordinator, [k]);
      else list.push(k);
    });
    const answers = new Array<Buffer>(positions.length);
    let open = byNode.size;
    let error: Buffer | null = null;
    let sum = 0;
    const finish = () => {
      if (--open > 0) return;
      if (error !== null) this.server.output.fill(hole, error);
      else if (how === 'ok') this.server.output.fill(hole, Buffer.from('+OK\r\n'));
      else if (how === 'sum') this.server.output.fill(hole, Buffer.from(`:${sum}\r\n`));
      else this.server.output.fill(hole, Buffer.concat([Buffer.from(`*${answers.length}\r\n`), ...answers]));
    };
    const parts = [...byNode.values()].map((list) => ({
      list,
      argv: Argv.from([
        name,
        ...list.flatMap((k) => Array.from({ length: step }, (_, j) => argv.str(positions[k] + j))),
      ]),
    }));
    for (const part of parts) {
      const { list } = part;
      this.dispatch(
        part.argv,
        client,
        null,
        (buf, start, end) => {
          if (buf[start] === 45) error ??= Buffer.from(buf.subarray(start, end));
          else if (how === 'sum') sum += Number(buf.latin1Slice(start + 1, end - 2));
          else if (how === 'list') splitList(buf, start, list, answers);
          finish();
        },
        routes[list[0]],
      );
    }
  }
}

const ONE = [0];
const NOTHING = Buffer.alloc(0);

function blankPending(): Pending {
  return {
    id: 0,
    peer: null,
    slab: NOTHING,
    start: 0,
    end: 0,
    hole: null,
    sink: null,
    at: 0,
    began: 0,
    write: false,
    doubtful: false,
    tried: null,
  };
}

/** In place of a reply: the disk refuses. No reply is one byte long. */
const REFUSED = Buffer.from('!', 'latin1');

function isRetry(client: Client): client is VirtualClient {
  return client instanceof VirtualClient && client.retry;
}

/** Reads a FORWARD frame behind its number. The arguments stay where they are. */
function decodeForward(
  buf: Buffer,
  start: number,
  end: number,
  argv: Argv,
): { argv: Argv; db: number; resp: 2 | 3; flags: number; tag: number } {
  const r = new ByteReader(buf, start, end);
  const flags = r.u8();
  const tag = r.u32();
  const db = r.varint();
  takeArguments(r, argv);
  if (r.pos > end || db > 1000) throw new TruncatedError();
  return { argv, db, resp: flags & RESP3 ? 3 : 2, flags, tag };
}

/** A ticket's operations by number, and the arguments of those that may run again. */
interface Table {
  ops: Operation[];
  args: ByteWriter;
}

const SPARE_OPERATIONS = 4096;
const SPARE_TABLES = 64;
const NO_OPERATIONS: Operation[] = [];

function tableOf(ticket: Ticket): Operation[] {
  return ticket.table === null ? NO_OPERATIONS : (ticket.table as Table).ops;
}

function blankOperation(): Operation {
  return {
    client: null as unknown as Client,
    start: 0,
    end: 0,
    at: -1,
    again: false,
    group: null as unknown as Group,
    groups: null,
    db: 0,
    resp: 2,
    before: null,
    since: 0,
    until: 0,
    partition: -1,
    seen: 0,
    wrote: false,
    foreign: false,
    replaced: false,
    reruns: 0,
    tag: 0,
    number: 0,
    undone: false,
  };
}

function writeArguments(w: ByteWriter, argv: Argv): void {
  w.varint(argv.argc);
  const { buf, offsets } = argv;
  for (let i = 0; i < argv.argc; i++) {
    const from = offsets[2 * i];
    const to = offsets[2 * i + 1];
    w.varint(to - from);
    w.copy(buf, from, to);
  }
}

/** Reads arguments in place. */
function takeArguments(r: ByteReader, argv: Argv): void {
  const argc = r.varint();
  argv.reserve(argc);
  argv.buf = r.buf;
  argv.argc = argc;
  for (let i = 0; i < argc; i++) {
    const n = r.varint();
    argv.offsets[2 * i] = r.pos;
    r.pos += n;
    argv.offsets[2 * i + 1] = r.pos;
  }
}

/** A command's arguments, in bytes of their own. */
function readArguments(ticket: Ticket, op: Operation): Argv {
  const { args } = ticket.table as Table;
  const argv = new Argv();
  takeArguments(new ByteReader(args.buf, op.at, args.pos), argv);
  return argv.copy();
}

/** What a counting command adds, in decimal; null for other commands. */
function incrementOf(argv: Argv): string | null {
  switch (argv.lower(0)) {
    case 'incr':
      return '1';
    case 'decr':
      return '-1';
    case 'incrby':
    case 'incrbyfloat':
      return argv.str(2);
    case 'decrby': {
      const n = argv.str(2);
      return n.startsWith('-') ? n.slice(1) : `-${n}`;
    }
    default:
      return null;
  }
}

/** Must the command run again when it turns out that there was more than it saw? */
function dependsOnState(command: Command, argv: Argv): boolean {
  const { name } = command.spec;
  if (name !== 'set') return !BLIND.has(name);
  if (argv.argc === 3) return false;
  for (let i = 3; i < argv.argc; i++)
    if (argv.is(i, 'NX') || argv.is(i, 'XX') || argv.is(i, 'GET') || argv.is(i, 'KEEPTTL')) return true;
  return false;
}

/** The elements of an array reply, copied to their places. */
function splitList(buf: Buffer, start: number, places: number[], answers: Buffer[]): void {
  const line = (at: number) => buf.indexOf(13, at);
  let at = line(start) + 2;
  for (const k of places) {
    const end = line(at) + 2;
    let stop = end;
    if (buf[at] === 36) {
      const n = Number(buf.latin1Slice(at + 1, end - 2));
      if (n >= 0) stop = end + n + 2;
    }
    answers[k] = Buffer.from(buf.subarray(at, stop));
    at = stop;
  }
}
