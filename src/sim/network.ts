/**
 * A network in one process: named nodes, virtual time, and every fault that a seed can bring (after TigerBeetle's packet
 * simulator and FoundationDB's clogging).
 *
 * Two ways to send. `send` is a datagram: it may be lost, doubled and overtaken. `connect` is a session like TCP's: what
 * arrives does so once and in order; what is under way when the link is cut is lost, nothing arrives after it, and both
 * ends learn of the break some time later. A session that nobody uses meanwhile outlives a cut. The bus runs over sessions; datagrams are for what has to bear
 * more than TCP would do to it.
 *
 * Links are directed, so that a cut can be asymmetric. All chance comes from the seed, and is drawn in the order in which
 * messages are sent: the same seed and the same sends are the same history.
 */
import type { Clock, Timers } from '../ports/clock.ts';
import { SeededRandom } from './random.ts';

/** How long a message is under way, in ms. */
export type Delay =
  | { kind: 'fixed'; ms: number }
  | { kind: 'uniform'; min: number; max: number }
  /** Most take little, a few take very long: a mean, above a minimum. */
  | { kind: 'exponential'; min: number; mean: number };

/** What may happen to a link's messages. Shares are from 0 to 1. */
export interface LinkFaults {
  delay: Delay;
  /** Of datagrams: lost, doubled, and delayed once more so that later ones overtake them. */
  loss: number;
  duplication: number;
  reordering: number;
  /** Of messages of sessions: the share at which the session breaks. */
  breakage: number;
}

export const CALM: LinkFaults = {
  delay: { kind: 'uniform', min: 0.2, max: 1 },
  loss: 0,
  duplication: 0,
  reordering: 0,
  breakage: 0,
};

/** Ends of a session that lost something hear of it after this, in ms: what TCP's user timeout would be set to. */
export const CUT_NOTICE_MS = 5000;
/** Messages that wait on one clogged link, at most; later datagrams are lost, sessions break. */
export const MAX_CLOGGED = 100_000;
/** What a lost packet costs a session: the first retransmission, in ms; each further one takes twice as long. */
export const RETRANSMIT_MS = 200;
const MAX_RETRANSMITS = 6;

export interface NodeHandler {
  onDatagram?(from: string, bytes: Buffer): void;
  /** Whether anybody listens there; without it, every port is open. */
  accepts?(port: number): boolean;
  /** A session that a peer has opened. Set its handler before returning. */
  onSession?(session: Session, port: number): void;
}

export interface SessionHandler {
  onMessage(bytes: Buffer): void;
  onBreak(): void;
}

/** One end of a session. */
export interface Session {
  readonly local: string;
  readonly remote: string;
  handler: SessionHandler | null;
  readonly isOpen: boolean;
  /** Told when the process at the other end has taken so many bytes, or they are lost. */
  onTaken: ((bytes: number) => void) | null;
  /** Returns false when the session is known to be broken. */
  send(bytes: Buffer): boolean;
  /** Tells the other end that so many of its bytes have been taken. */
  take(bytes: number): void;
  close(): void;
}

export interface NetworkStats {
  sent: number;
  delivered: number;
  lost: number;
  doubled: number;
  broken: number;
}

/** Something that is under way: exactly one of the two is called. */
interface Parcel {
  deliver(): void;
  lost(): void;
}

interface Link {
  cut: boolean;
  /** Counts cuts: what was sent before one does not arrive after it, healed or not. */
  cuts: number;
  clogged: boolean;
  /** What waits until the link is unclogged. */
  waiting: Parcel[];
  faults: LinkFaults | null;
}

interface SimNode {
  handler: NodeHandler;
  up: boolean;
  paused: boolean;
  /** Deliveries that wait while the node is paused. */
  waiting: (() => void)[];
}

class End implements Session {
  readonly local: string;
  readonly remote: string;
  handler: SessionHandler | null = null;
  onTaken: ((bytes: number) => void) | null = null;
  isOpen = true;
  other!: End;
  /** Under way to the other end, oldest first: whatever arrives is the oldest. */
  readonly underWay: (() => void)[] = [];
  /** When the latest of these arrives, in ms of the clock. */
  lastArrival = 0;
  /** Something was lost: nothing sent after it may arrive. */
  holed = false;
  private readonly network: SimNetwork;

  constructor(network: SimNetwork, local: string, remote: string) {
    this.network = network;
    this.local = local;
    this.remote = remote;
  }

  send(bytes: Buffer): boolean {
    if (!this.isOpen) return false;
    this.network.carry(this, bytes);
    return true;
  }

  take(bytes: number): void {
    if (this.other.isOpen) this.other.onTaken?.(bytes);
  }

  close(): void {
    this.network.closeEnd(this);
  }
}

export class SimNetwork {
  readonly stats: NetworkStats = { sent: 0, delivered: 0, lost: 0, doubled: 0, broken: 0 };
  private readonly time: Clock & Timers;
  private readonly random: SeededRandom;
  private readonly nodes = new Map<string, SimNode>();
  private readonly links = new Map<string, Link>();
  private readonly ends = new Set<End>();
  /** Faults of links that have none of their own. */
  faults: LinkFaults;
  /** Told of each delivery: for traces. */
  onDelivered: ((from: string, to: string, bytes: Buffer) => void) | null = null;

  constructor(time: Clock & Timers, seed: number, faults: LinkFaults = CALM) {
    this.time = time;
    this.random = new SeededRandom(seed);
    this.faults = faults;
  }

  // ------------------------------------------------------------------ nodes

  /** Puts a node on the network, or puts it back after `remove` with nothing left of its sessions. */
  add(name: string, handler: NodeHandler): void {
    this.nodes.set(name, { handler, up: true, paused: false, waiting: [] });
  }

  /** The process is gone: its sessions break, what is under way to it is lost, connecting is refused. */
  remove(name: string): void {
    const node = this.nodes.get(name);
    if (node === undefined) return;
    if (node.paused) for (const to of this.nodes.keys()) this.link(name, to).waiting = [];
    node.up = node.paused = false;
    node.waiting = [];
    for (const end of [...this.ends]) if (end.local === name) this.closeEnd(end);
  }

  /**
   * The machine is gone from one moment to the next (a power cut): nobody sends its peers a reset. They learn of it as
   * from a cut.
   */
  vanish(name: string): void {
    const node = this.nodes.get(name);
    if (node === undefined) return;
    node.up = false;
    node.waiting = [];
    for (const end of [...this.ends]) {
      if (end.local !== name) continue;
      end.isOpen = false;
      this.ends.delete(end);
      this.hole(end);
    }
  }

  /**
   * The process stands still: nothing is handed to it until `resume`, and nobody can tell it from a slow one. What it has
   * sent and nobody has got yet waits too, as if it had been stopped a moment before the socket took it.
   */
  pause(name: string): void {
    this.node(name).paused = true;
  }

  resume(name: string): void {
    const node = this.node(name);
    node.paused = false;
    const waiting = node.waiting;
    node.waiting = [];
    // one at a time, each with what its promises lead to, as the process would read its sockets
    for (const deliver of waiting) this.time.after(0, () => this.handTo(node, deliver));
    for (const to of this.nodes.keys()) if (!this.link(name, to).clogged) this.unclog(name, to);
  }

  private node(name: string): SimNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`no node is named ${name}`);
    return node;
  }

  // ------------------------------------------------------------------ links

  private link(from: string, to: string): Link {
    const key = `${from}\n${to}`;
    let link = this.links.get(key);
    if (link === undefined) {
      link = { cut: false, cuts: 0, clogged: false, waiting: [], faults: null };
      this.links.set(key, link);
    }
    return link;
  }

  /** Faults of one directed link; null for the network's. */
  setFaults(from: string, to: string, faults: LinkFaults | null): void {
    this.link(from, to).faults = faults;
  }

  /** Loses everything from one node to another, what is under way included. */
  cut(from: string, to: string): void {
    const link = this.link(from, to);
    if (link.cut) return;
    link.cut = true;
    link.cuts++;
    const waiting = link.waiting;
    link.waiting = [];
    for (const parcel of waiting) parcel.lost();
  }

  heal(from: string, to: string): void {
    this.link(from, to).cut = false;
  }

  /** Cuts both ways between every node of one side and every node of the other. */
  partition(one: readonly string[], other: readonly string[]): void {
    for (const a of one) {
      for (const b of other) {
        this.cut(a, b);
        this.cut(b, a);
      }
    }
  }

  healAll(): void {
    for (const link of this.links.values()) link.cut = false;
    for (const key of this.links.keys()) {
      const [from, to] = key.split('\n');
      this.unclog(from, to);
    }
  }

  isCut(from: string, to: string): boolean {
    return this.links.get(`${from}\n${to}`)?.cut ?? false;
  }

  /** Holds everything back, in order; nothing is lost. */
  clog(from: string, to: string): void {
    this.link(from, to).clogged = true;
  }

  unclog(from: string, to: string): void {
    const link = this.link(from, to);
    link.clogged = false;
    if (this.nodes.get(from)?.paused) return;
    const waiting = link.waiting;
    link.waiting = [];
    for (const parcel of waiting) this.hand(to, parcel.deliver);
  }

  // ------------------------------------------------------------------ datagrams

  send(from: string, to: string, bytes: Buffer): void {
    const faults = this.faultsOf(from, to);
    this.stats.sent++;
    // every draw is made whatever comes of it, so that one fault more does not change all that follow
    const lost = this.random.next() < faults.loss;
    const doubled = this.random.next() < faults.duplication;
    const overtaken = this.random.next() < faults.reordering;
    const delays = [this.delay(faults), this.delay(faults), this.delay(faults)];
    if (lost || !this.isUp(from) || this.isCut(from, to)) {
      this.stats.lost++;
      return;
    }
    const copy = Buffer.from(bytes);
    const deliver = () => {
      const node = this.nodes.get(to);
      if (node === undefined || !node.up) this.stats.lost++;
      else {
        this.stats.delivered++;
        this.onDelivered?.(from, to, copy);
        node.handler.onDatagram?.(from, Buffer.from(copy));
      }
    };
    const parcel = { deliver, lost: () => void this.stats.lost++ };
    this.travel(from, to, delays[0] + (overtaken ? 2 * delays[1] : 0), parcel);
    if (doubled) {
      this.stats.doubled++;
      this.travel(from, to, delays[0] + delays[2], parcel);
    }
  }

  // ------------------------------------------------------------------ sessions

  /**
   * Opens a session; `opened` is given null when it is refused (nobody is there) or times out (the way is cut). As with
   * TCP it is open here once the answer is back, and there before anything that is sent over it.
   */
  connect(from: string, to: string, opened: (session: Session | null, refused: boolean) => void, port = 0): void {
    const origin = this.nodes.get(from);
    if (origin === undefined || !origin.up) return;
    const there = this.delay(this.faultsOf(from, to));
    const back = this.delay(this.faultsOf(to, from));
    // the process that asked may be gone, and another of its name be there
    const tell = (session: Session | null, refused = false) => {
      if (this.nodes.get(from) === origin && origin.up) opened(session, refused);
    };
    const timeOut = () => void this.time.after(CUT_NOTICE_MS, () => this.hand(from, () => tell(null)));
    const arrive = () => {
      const node = this.nodes.get(to);
      // a machine that is there refuses; one that isn't says nothing, but its router does
      if (node === undefined || !node.up || node.handler.accepts?.(port) === false) {
        this.travel(to, from, back, { deliver: () => tell(null, true), lost: timeOut });
        return;
      }
      const near = new End(this, from, to);
      const far = new End(this, to, from);
      near.other = far;
      far.other = near;
      this.ends.add(far);
      // the answer is the first thing that travels back: whatever the far end sends comes behind it
      const answer = () => {
        if (!near.isOpen || this.nodes.get(from) !== origin || !origin.up) {
          near.isOpen = false;
          this.breakEnd(far);
          tell(null);
          return;
        }
        this.ends.add(near);
        tell(near);
      };
      this.enqueue(far, back, answer, () => {
        near.isOpen = false;
        timeOut();
      });
      node.handler.onSession?.(far, port);
    };
    this.travel(from, to, there, { deliver: arrive, lost: timeOut });
  }

  /** @internal one message of a session */
  carry(end: End, bytes: Buffer): void {
    const faults = this.faultsOf(end.local, end.remote);
    this.stats.sent++;
    const breaks = this.random.next() < faults.breakage;
    const loss = this.random.next();
    let delay = this.delay(faults);
    // TCP sends again what is lost: it comes late, and what follows waits behind it
    for (let i = 0, p = faults.loss; loss < p && i < MAX_RETRANSMITS; i++, p *= faults.loss)
      delay += RETRANSMIT_MS << i;
    if (breaks) {
      this.stats.lost++;
      this.breakSession(end);
      return;
    }
    const copy = Buffer.from(bytes);
    const deliver = () => {
      if (!end.other.isOpen) {
        this.stats.lost++;
        return;
      }
      this.stats.delivered++;
      this.onDelivered?.(end.local, end.remote, copy);
      end.other.handler?.onMessage(copy);
    };
    this.enqueue(end, delay, deliver, () => void this.stats.lost++);
  }

  /** Sends something behind everything that the session has under way. */
  private enqueue(end: End, delay: number, run: () => void, lost: () => void): void {
    const now = this.time.monotonic();
    end.lastArrival = Math.max(now + delay, end.lastArrival);
    end.underWay.push(run);
    const parcel = {
      deliver: () => {
        const oldest = end.underWay.shift()!;
        if (end.holed) lost();
        else oldest();
      },
      lost: () => {
        end.underWay.shift();
        lost();
        this.hole(end);
      },
    };
    this.travel(end.local, end.remote, end.lastArrival - now, parcel);
  }

  /** TCP would send it again, and give up if the cut outlasts that. */
  private hole(end: End): void {
    if (end.holed) return;
    end.holed = true;
    this.time.after(CUT_NOTICE_MS, () => this.breakSession(end));
  }

  private breakSession(end: End): void {
    this.breakEnd(end);
    this.breakEnd(end.other);
  }

  /** Breaks all sessions between two nodes, as a reset by something in between would. */
  reset(a: string, b: string): void {
    for (const end of [...this.ends]) if (end.local === a && end.remote === b) this.breakSession(end);
  }

  private breakEnd(end: End): void {
    if (!end.isOpen) return;
    end.isOpen = false;
    this.ends.delete(end);
    this.stats.broken++;
    this.hand(end.local, () => {
      if (this.isUp(end.local)) end.handler?.onBreak();
    });
  }

  /** @internal closes one end; the other learns of it behind what is under way. */
  closeEnd(end: End): void {
    if (!end.isOpen) return;
    end.isOpen = false;
    this.ends.delete(end);
    const delay = this.delay(this.faultsOf(end.local, end.remote));
    this.enqueue(
      end,
      delay,
      () => this.breakEnd(end.other),
      () => {},
    );
  }

  // ------------------------------------------------------------------ on the way

  private isUp(name: string): boolean {
    return this.nodes.get(name)?.up ?? false;
  }

  private faultsOf(from: string, to: string): LinkFaults {
    return this.links.get(`${from}\n${to}`)?.faults ?? this.faults;
  }

  private delay(faults: LinkFaults): number {
    const d = faults.delay;
    const x = this.random.next();
    if (d.kind === 'fixed') return d.ms;
    if (d.kind === 'uniform') return d.min + x * (d.max - d.min);
    return d.min - Math.log(1 - x) * (d.mean - d.min);
  }

  /** Over the link: lost if it is cut at any time on the way, queued where it is clogged, and into the node. */
  private travel(from: string, to: string, delay: number, parcel: Parcel): void {
    const link = this.link(from, to);
    const { cuts } = link;
    const wasCut = link.cut;
    this.time.after(delay, () => {
      if (wasCut || link.cuts !== cuts) parcel.lost();
      else if (!link.clogged && !this.nodes.get(from)?.paused) this.hand(to, parcel.deliver);
      else if (link.waiting.length >= MAX_CLOGGED) parcel.lost();
      else link.waiting.push(parcel);
    });
  }

  /** Hands over now, or when the node goes on. */
  private hand(to: string, deliver: () => void): void {
    const node = this.nodes.get(to);
    if (node === undefined) deliver();
    else this.handTo(node, deliver);
  }

  private handTo(node: SimNode, deliver: () => void): void {
    if (node.paused) node.waiting.push(deliver);
    else deliver();
  }
}
