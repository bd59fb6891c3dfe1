/**
 * Commands that other nodes run for this one, and those that this node runs for others.
 *
 * A forwarded command has a name and a deadline. The deadline is on the receiver's clock: when it is over the command has
 * been begun or never will be, so whoever is asked instead can't be overtaken. The name (this process's tag, and a
 * number) goes with what the command writes, so that a node that is asked again finds out whether it has been run. What
 * can't be found out is left to the first answer that comes: the other runs are undone (`cluster/voids`).
 *
 * Every command that is kept here ends with one reply: from whoever has run it, or that nobody can be reached.
 */
import { breaks } from '../base/breaks.ts';
import { ByteReader, ByteWriter, putU53, TruncatedError, u53At } from '../base/bytes.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { FORWARD, FORWARDED, FORWARDED_BY } from '../cluster/messages.ts';
import type { Peer } from '../cluster/peers.ts';
import { replyBytes } from '../cluster/requests.ts';
import type { Route } from '../cluster/routes.ts';
import { Argv } from '../resp/argv.ts';
import type { Client } from './client.ts';
import type { GrammeServer } from './gramme.ts';
import type { Hole } from './output.ts';
import { type Sink, VirtualClient, type VirtualClients } from './virtual.ts';

/** A command that found no coordinator is tried again for this long, in ms. */
const PATIENCE_MS = 5000;
/**
 * A forwarded command is begun within so many ms of being sent, or not at all: the sender knows the receiver's clock. So
 * nobody who is asked instead can be overtaken by it later.
 */
const BEGIN_MS = 400;
const SPARE_PENDING = 4096;
/** Forwarded commands are kept in slabs of so many bytes, which go when all that is in them is answered. */
const SLAB_BYTES = 256 * 1024;
/** A forwarded command whose reply has not come after so many ms is sent again, whatever its node is taken for. */
const LOST_FORWARD_MS = 2000;
/** A forwarded command is not given up sooner, in ms. */
const MIN_FORWARD_MS = 250;
/** Bytes for other nodes that are sent on before the tick is over. */
export const PUSH_BYTES = 32 * 1024;

const RESP3 = 1;
/** Another node may have run it. */
const RETRY = 4;
/** Its reply may come with its write. */
const RIDES = 8;
/** Bytes of a FORWARD frame before its payload: number, deadline. */
const FORWARD_HEADER = 14;

/** At most so many bytes come before its arguments, and before each of these. */
const FIXED_BYTES = 24;
const LENGTH_BYTES = 8;

const NOTHING = Buffer.alloc(0);
/** In place of a reply: the disk refuses. No reply is one byte long. */
const REFUSED = Buffer.from('!', 'latin1');
const MAY_BE_DONE = Buffer.from(
  '-NOREPLICAS the nodes that were asked to run the command have not answered; it may have been done\r\n',
  'latin1',
);
const CLUSTER_DOWN = Buffer.from('-CLUSTERDOWN No node that holds the key can be reached\r\n', 'latin1');

/** A command that another node runs for us. */
interface Pending {
  id: number;
  peer: Peer | null;
  /** The frame without its number and deadline, which come before it. Bytes [start, end) of a slab. */
  slab: Buffer;
  start: number;
  end: number;
  hole: Hole | null;
  sink: Sink | null;
  /** When it was sent last, and first, in ms of the monotonic clock. */
  at: number;
  began: number;
  write: boolean;
  /** Its node is not waited for any longer; another is asked as soon as that one can't begin it any more. */
  doubtful: boolean;
  /** A write's former nodes: any of them may have run it, and may still answer. */
  tried: Peer[] | null;
}

export class Forwarding {
  /** Commands: sent away, run for others, sent again, come too late to be begun, answered by their writes. */
  readonly stats = { forwarded: 0, served: 0, retried: 0, expired: 0, rode: 0 };
  private readonly server: GrammeServer;
  private readonly cluster: Cluster;
  private readonly virtuals: VirtualClients;
  /** Sent and not answered, by number. */
  private readonly pending = new Map<number, Pending>();
  /** Commands for which nobody can be found at the moment. */
  private homeless: Pending[] = [];
  private lastId: number;
  /** Names this process in the names of its commands. */
  private readonly tag: number;
  /** Bytes that links have been given and have not been told to send. */
  private unsent = 0;
  private readonly w = new ByteWriter(16 * 1024);
  private readonly sparePending: Pending[] = [];
  private slab = new ByteWriter(SLAB_BYTES);
  private readonly incoming = new Argv(256);

  constructor(server: GrammeServer, cluster: Cluster, virtuals: VirtualClients) {
    this.server = server;
    this.cluster = cluster;
    this.virtuals = virtuals;
    this.tag = server.random.bytes(4).readUInt32LE(0) || 1;
    // what is still on its way to an earlier process of this node must find nobody
    this.lastId = server.random.bytes(4).readUInt32LE(0) >>> 2;
  }

  /** Commands that have been sent away, or are to be, and are not answered. */
  get underWay(): number {
    return this.pending.size + this.homeless.length;
  }

  // ------------------------------------------------------------------ sending

  /** The command runs where its keys are coordinated: its reply is a hole in the client's output until it comes. */
  send(client: Client, argv: Argv, route: Route): void {
    const hole = this.server.output.hole(client);
    this.dispatch(argv, client, hole, null, route);
  }

  /**
   * Sends a command away. Its reply fills the hole, or goes to the sink.
   * @param client whose database and protocol it is to have
   */
  dispatch(argv: Argv, client: Client, hole: Hole | null, sink: Sink | null, route: Route): void {
    // the tick's own time will do: a deadline that is a little early harms nobody
    this.server.output.wake();
    const now = this.server.sla.at;
    const p = this.sparePending.pop() ?? blankPending();
    p.id = ++this.lastId;
    p.hole = hole;
    p.sink = sink;
    p.at = p.began = now;
    p.write = this.server.table.find(argv)?.write ?? true;
    this.write(p, argv, client);
    const peer = route.coordinator;
    if (peer === null || !this.transmit(p, peer, now)) this.place(p, route);
  }

  /** Writes a command to a slab, where it stays until it is answered; its frame's header has its place before it. */
  private write(p: Pending, argv: Argv, client: Client): void {
    const { slab } = this;
    let room = FORWARD_HEADER + FIXED_BYTES;
    for (let i = 0; i < argv.argc; i++) room += LENGTH_BYTES + argv.len(i);
    if (slab.pos + room > slab.buf.length) this.slab = new ByteWriter(Math.max(SLAB_BYTES, room));
    const w = this.slab;
    p.slab = w.buf;
    w.pos += FORWARD_HEADER;
    p.start = w.pos;
    w.u8(client.resp === 3 ? RESP3 : 0);
    w.u32(this.tag);
    w.varint(client.db);
    argv.write(w);
    p.end = w.pos;
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

  /** Puts a command's frame on its way. */
  private transmit(p: Pending, peer: Peer, now: number): boolean {
    if (!peer.isWell) return false;
    const { slab, end } = p;
    const start = p.start - FORWARD_HEADER;
    // a disk that takes no writes here would refuse the one that brings the reply
    const { journal } = this.server.store;
    const rides = p.write && journal.failure === null && journal.policy !== 'always';
    if (rides) slab[p.start] |= RIDES;
    else slab[p.start] &= ~RIDES;
    putU53(slab, putU53(slab, start, p.id), Math.floor(peer.clockAt(now) + BEGIN_MS));
    if (!peer.link!.send(FORWARD, slab, start, end)) return false;
    this.stats.forwarded++;
    p.peer = peer;
    p.at = now;
    p.doubtful = false;
    this.pending.set(p.id, p);
    this.server.output.wake();
    this.push(end - start);
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

  /** Sends a command to whoever coordinates, or runs it here when that is us. */
  private place(p: Pending, route: Route): void {
    const peer = route.coordinator;
    if (route.nobody) {
      this.homeless.push(p);
      return;
    }
    if (peer === null) {
      const { argv, db, resp, flags } = this.argvOf(p);
      const client = this.virtuals.take(db, resp, true);
      client.sink = this.sinkOf(p);
      client.tag = this.tag;
      client.number = p.id;
      client.retry = (flags & RETRY) !== 0;
      this.virtuals.run(client, argv);
      return;
    }
    if (!this.transmit(p, peer, this.server.clock.monotonic())) this.homeless.push(p);
  }

  /** Who coordinates the first of a command's keys. */
  private firstRoute(argv: Argv): Route {
    const { table, keys } = this.server;
    const command = table.find(argv);
    const sub = command?.subcommands?.get(argv.lower(1)) ?? command;
    const i = sub === null || sub === undefined ? 1 : sub.onlyKey || (table.keyPositions(sub.spec, argv)?.[0] ?? 1);
    return this.cluster.routes.of(keys.partitionOf(argv.slot(i)));
  }

  // ------------------------------------------------------------------ answers

  /**
   * The reply to a command that was sent to a peer.
   * @param others it begins with the id of the node that has run the command
   */
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
    // whoever is asked now may do better
    if (!current && isNoRun(buf, at, end)) return;
    if (!this.pending.delete(id)) this.homeless = this.homeless.filter((x) => x !== p);
    this.answered(p, by, buf, at, end);
  }

  /** This node has taken the write of a command that it has forwarded to a peer, which says that this answers it. */
  rode(peer: Peer, tag: number, id: number, buf: Buffer, start: number, end: number): void {
    if (tag !== this.tag) return;
    const p = this.pending.get(id);
    if (p === undefined || (p.peer !== peer && !p.tried?.includes(peer))) return;
    this.stats.rode++;
    this.pending.delete(id);
    this.answered(p, peer.id, buf, start, end);
  }

  /** A command's own run is over. */
  private sinkOf(p: Pending): Sink {
    return (buf, start, end, by) => this.answered(p, by === '' ? this.cluster.self : by, buf, start, end);
  }

  /**
   * A command has been answered, by a run of this node's: no other run of it counts. Unless that one could not be made:
   * then an earlier one stands, if there was one, and the client is told that it can't be known.
   */
  private answered(p: Pending, by: string, buf: Buffer, start: number, end: number): void {
    const { tried } = p;
    if (tried !== null && isNoRun(buf, start, end)) {
      this.settle(p, MAY_BE_DONE, 0, MAY_BE_DONE.length);
      return;
    }
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

  // ------------------------------------------------------------------ for others

  /** A command from another node. */
  forward(peer: Peer, buf: Buffer, start: number, end: number): void {
    if (end - start < FORWARD_HEADER) throw new TruncatedError();
    const id = u53At(buf, start);
    const deadline = u53At(buf, start + 7);
    const { argv, db, resp, flags, tag } = decodeForward(buf, start + FORWARD_HEADER, end, this.incoming);
    this.stats.served++;
    this.server.beginTick();
    const client = this.virtuals.take(db, resp, true);
    client.peer = peer;
    client.number = id;
    client.tag = tag;
    client.retry = (flags & RETRY) !== 0;
    client.deadline = deadline;
    client.rides = (flags & RIDES) !== 0;
    this.server.executeFor(client, argv);
  }

  /**
   * The reply to a command that a peer has sent, by its number there.
   * @param by the node that has run it, '' for this one
   */
  reply(peer: Peer, id: number, buf: Buffer, start: number, end: number, by: string): void {
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

  /** Has a forwarded command come in time, and has nobody run it? When not, it has been taken care of. */
  mayBegin(client: VirtualClient): boolean {
    if (client.deadline > 0 && this.server.clock.monotonic() > client.deadline) {
      // not begun: the sender asks again
      this.stats.expired++;
      const { peer, number } = client;
      this.virtuals.recycle(client);
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
    this.virtuals.recycle(client);
    this.reply(peer, number, REFUSED, 0, REFUSED.length, '');
    return true;
  }

  // ------------------------------------------------------------------ failures

  /** A peer's link is gone, or it is not waited for any longer: another node is asked. */
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

  /** Who coordinates what has changed: somebody may be found for those that had nobody. */
  routesChanged(): void {
    const { homeless } = this;
    if (homeless.length === 0) return;
    this.homeless = [];
    for (const p of homeless) this.retryElsewhere(p, false);
  }

  /** Looks after replies that are late, every few ms. */
  sweep(now: number): void {
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
    this.routesChanged();
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
}

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
  argv.read(r);
  if (r.pos > end || db > 1000) throw new TruncatedError();
  return { argv, db, resp: flags & RESP3 ? 3 : 2, flags, tag };
}

/** Errors of a node that could not run a command, as opposed to what a command itself says. */
const NO_RUN = [
  // not the one of a write that too few have taken: that has been run
  '-NOREPLICAS not enough replicas of the key can be reached',
  '-TRYAGAIN ',
  '-CLUSTERDOWN ',
  '-LOADING ',
  '-MISCONF ',
];

function isNoRun(buf: Buffer, start: number, end: number): boolean {
  if (buf[start] !== 45) return false;
  const text = buf.latin1Slice(start, Math.min(end, start + 64));
  return NO_RUN.some((x) => text.startsWith(x));
}
