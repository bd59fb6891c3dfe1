/**
 * The cluster bus: one authenticated link to each node that is in reach. What the frames mean is for others to say.
 *
 * A connection begins as a `Wire` that shakes hands (`handshake`) and becomes the node's `Link` when both ends have
 * proven themselves and one of them, the node with the lower id, has confirmed it. Only it decides, so two nodes that
 * dial each other at the same moment settle on the same connection, before anybody has been told of either. A link is
 * ordered and loses nothing while it is up; when it goes down, what was under way may be lost.
 *
 * A connection that comes while there is a link is a *challenger*: the link is asked for a sign of life, and goes on if
 * it gives one. So a connection that is dead without knowing it gives way to a fresh one within a moment, and one that
 * lives is never given up. A peer that has started again (a higher session) replaces its link at once.
 *
 * The frame path allocates nothing per frame: frames of a tick are gathered in one buffer and written at its end, and
 * are read in place.
 */
import { assert } from '../base/assert.ts';
import { TruncatedError } from '../base/bytes.ts';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Connection, ConnectionHandler, Listener, TlsOptions, Transport } from '../ports/transport.ts';
import {
  FIRST_MESSAGE_KIND,
  FRAME_HEADER_BYTES,
  FrameReader,
  type FrameSink,
  MAX_FRAME_BYTES,
  MAX_UNPROVEN_FRAME_BYTES,
  writeFrame,
} from './frames.ts';
import {
  BUS_VERSION,
  busKey,
  CLOSE_CODES,
  CLOSE_TEXTS,
  type CloseReason,
  closeReason,
  Handshake,
  type Hello,
  KIND_CLOSE,
  KIND_CONFIRM,
  KIND_HELLO,
  KIND_PING,
  KIND_PONG,
  MIN_BUS_VERSION,
  NONCE_BYTES,
  type Role,
  type Versions,
} from './handshake.ts';

export { BUS_VERSION, type Hello, MIN_BUS_VERSION, type Versions } from './handshake.ts';

/** Bytes that wait for a peer above which `send` refuses. */
export const MAX_LINK_QUEUE_BYTES = 64 * 1024 * 1024;
/** Accepted connections that have not yet proven themselves; the oldest goes when there are more. */
export const MAX_UNPROVEN_CONNECTIONS = 256;
/** A handshake takes no longer than this, in ms. */
export const HANDSHAKE_MS = 5000;
/** Dialling gives up after this many ms. */
export const CONNECT_TIMEOUT_MS = 2000;
/** Pauses between dials: the first, doubled each time up to the last, in ms; each by a random factor of 0.5 to 1. */
export const REDIAL_FIRST_MS = 50;
export const REDIAL_LAST_MS = 1000;
/** An address whose node is linked by another address is looked at again after this many ms: it may be another's now. */
export const REDIAL_ALIAS_MS = 30_000;
/** A challenged link must give a sign of life within this many ms. */
export const CHALLENGE_MS = 500;
/** A link that has been silent for this long is asked for a sign of life, and is given up after so long, in ms. */
export const LINK_PING_MS = 2000;
export const LINK_DEAD_MS = 10_000;
/** Frames gathered in a tick are written early above this many bytes. */
export const LINK_BUFFER_BYTES = 64 * 1024;
/** While a peer has this much yet to take, small writes wait for it, so that they go out together. */
const LINK_HOLD_BYTES = 64 * 1024;
/** A write below this that has to wait is copied, so that its buffer can go on being used. */
const LINK_COPY_BYTES = 16 * 1024;
const MAX_SPARE_BUFFERS = 64;
/** The same trouble with the same address is logged this often, in ms, for so many addresses. */
export const COMPLAINT_MS = 60_000;
const MAX_COMPLAINTS = 1024;
/** When the bus closes, peers have so many ms to take what is under way. */
const CLOSE_MS = 250;
/** TCP's own probes, for what a silent link's do not find. */
const KEEPALIVE_SECONDS = 30;

const SWEEP_MS = 1000;
const NO_BUFFER = Buffer.alloc(0);
const NO_PAYLOAD = Buffer.alloc(0);

export interface BusOptions {
  transport: Transport;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  /** This node as it is now. The node id never changes. */
  hello: () => Hello;
  /** `cluster-secret`; '' for none. */
  secret: string;
  tls: TlsOptions | null;
  versions?: Versions;
  connectTimeoutMs?: number;
}

export interface Link {
  readonly nodeId: string;
  /** Protocol version negotiated. */
  readonly version: number;
  /** What the peer said of itself when the link was made. */
  readonly hello: Hello;
  /** The address it was dialled at; of an accepted one, what the peer announces. */
  readonly address: string;
  /**
   * Queues one frame, copied before this returns; it goes out with the tick's others. Returns false, with nothing
   * queued, when the link is down or its queue is full.
   */
  send(kind: number, buf: Buffer, start: number, end: number): boolean;
  /** Writes what is queued now; while the peer lags behind it goes out when that has caught up. */
  flush(): void;
  /** Bytes queued or not yet taken by the system. */
  pending(): number;
  /** Closes now; `onDown` is called before this returns. */
  destroy(): void;
}

export interface BusStats {
  framesIn: number;
  framesOut: number;
  /** Writes to connections: what was queued went out together. */
  writes: number;
  bytesIn: number;
  bytesOut: number;
  /** Links made since the start. */
  links: number;
  /** Dials and handshakes that failed. */
  refused: number;
  /** Frames lost to `cut`. */
  dropped: number;
  /** Frames that `send` refused because of a full queue. */
  full: number;
}

const SHAKING = 0;
/** Both ends have proven themselves; the one with the lower id has yet to confirm. */
const PROVEN = 1;
const UP = 2;
const DOWN = 3;

/** An address to stay connected to. */
interface Want {
  readonly address: string;
  readonly host: string;
  readonly port: number;
  /** Who was last found there; '' when nobody was. */
  nodeId: string;
  /** It is our own address. */
  self: boolean;
  failures: number;
  connecting: boolean;
  wire: Wire | null;
  timer: Timer | null;
}

// ---------------------------------------------------------------------- one connection

class Wire implements Link, ConnectionHandler, FrameSink {
  readonly bus: Bus;
  readonly connection: Connection;
  readonly shake: Handshake;
  readonly want: Want | null;
  phase = SHAKING;
  /** Cut off: nothing passes. */
  muted = false;
  /** Sweeps since anything came. */
  quiet = 0;
  upSince = 0;
  /** A newer connection of the same node, which gets this link's place if it gives no sign of life. */
  challenger: Wire | null = null;
  private deadline: Timer | null;
  private readonly reader: FrameReader;
  /** What is queued: the first `used` bytes of `out`. An idle link has no buffer. */
  private out: Buffer = NO_BUFFER;
  private used = 0;
  private scheduled = false;
  /** At least what the connection had not yet taken at the last look. */
  private waiting = 0;
  /** Buffers that the connection still needs. */
  private lent: Buffer[] = [];

  constructor(bus: Bus, connection: Connection, shake: Handshake, want: Want | null, deadline: Timer) {
    this.bus = bus;
    this.connection = connection;
    this.shake = shake;
    this.want = want;
    this.deadline = deadline;
    this.reader = new FrameReader(this, MAX_UNPROVEN_FRAME_BYTES);
    connection.handler = this;
  }

  get nodeId(): string {
    return this.shake.peer?.nodeId ?? '';
  }

  get hello(): Hello {
    return this.shake.peer!;
  }

  get address(): string {
    return this.want?.address ?? (this.shake.peer?.bus || this.connection.remote);
  }

  get version(): number {
    return this.shake.version;
  }

  // ---------------------------------------------------------------- phases, as the bus rules them

  setUp(now: number): void {
    this.phase = UP;
    this.upSince = now;
    this.quiet = 0;
    this.endDeadline();
    this.reader.max = MAX_FRAME_BYTES;
  }

  restartDeadline(timer: Timer): void {
    this.endDeadline();
    this.deadline = timer;
  }

  endDeadline(): void {
    this.deadline?.cancel();
    this.deadline = null;
  }

  /** Loses what is queued, and drops everything from now on. */
  mute(): void {
    this.muted = true;
    this.used = 0;
  }

  /** The end of it; `gently` lets what is queued out first. */
  shut(gently: boolean): void {
    if (gently && !this.muted) this.write();
    this.phase = DOWN;
    this.endDeadline();
    this.reader.stop();
    this.used = 0;
    this.out = NO_BUFFER;
    this.lent = [];
    if (gently) this.connection.end();
    else this.connection.destroy();
  }

  // ---------------------------------------------------------------- out

  send(kind: number, buf: Buffer, start: number, end: number): boolean {
    if (this.phase !== UP) return false;
    assert(kind >= FIRST_MESSAGE_KIND && kind < 256, 'a message has a kind of its own');
    assert(end - start < MAX_FRAME_BYTES, 'a message fits a frame');
    const { stats } = this.bus;
    if (this.muted) {
      stats.dropped++;
      return true;
    }
    const n = end - start + FRAME_HEADER_BYTES;
    if (this.waiting + this.used + n > MAX_LINK_QUEUE_BYTES && !this.hasRoom(n)) {
      stats.full++;
      return false;
    }
    stats.framesOut++;
    this.put(kind, buf, start, end);
    if (!this.scheduled) this.schedule();
    return true;
  }

  /** A frame of the bus's own, at the next flush. */
  say(kind: number, payload: Buffer = NO_PAYLOAD): void {
    if (!this.muted) this.put(kind, payload, 0, payload.length);
  }

  flush(): void {
    if (this.used === 0) return;
    if (this.waiting > 0) this.look();
    // many small writes would each cost the system more than their bytes: `onDrain` sends them together
    if (this.waiting < LINK_HOLD_BYTES) this.write();
  }

  pending(): number {
    return this.used + this.connection.pending();
  }

  destroy(): void {
    this.bus.end(this);
  }

  /** The end of the tick. */
  tickEnd(): void {
    this.scheduled = false;
    this.flush();
  }

  private schedule(): void {
    this.scheduled = true;
    this.bus.schedule(this);
  }

  private put(kind: number, buf: Buffer, start: number, end: number): void {
    const n = end - start + FRAME_HEADER_BYTES;
    if (this.used + n > this.out.length) this.makeRoom(n);
    this.used = writeFrame(this.out, this.used, kind, buf, start, end);
    if (this.used > LINK_BUFFER_BYTES) this.write();
  }

  private makeRoom(n: number): void {
    if (this.used > 0) this.write();
    if (this.out.length >= n) return;
    this.bus.giveBuffer(this.out);
    this.out = this.bus.takeBuffer(n);
  }

  /** An empty queue takes any frame. */
  private hasRoom(n: number): boolean {
    this.look();
    const queued = this.waiting + this.used;
    return queued === 0 || queued + n <= MAX_LINK_QUEUE_BYTES;
  }

  /** How much the connection has yet to take; when it is nothing, lent buffers are ours again. */
  private look(): void {
    this.waiting = this.connection.pending();
    if (this.waiting > 0) return;
    for (const buf of this.lent) this.bus.giveBuffer(buf);
    this.lent = [];
  }

  private write(): void {
    const n = this.used;
    if (n === 0) return;
    this.used = 0;
    this.bus.stats.writes++;
    this.bus.stats.bytesOut += n;
    const buf = this.out;
    if (this.waiting > 0 && n < LINK_COPY_BYTES) this.connection.write(Buffer.from(buf.subarray(0, n)), 0, n);
    else {
      this.out = NO_BUFFER;
      if (this.connection.write(buf, 0, n)) {
        this.bus.giveBuffer(buf);
        if (this.waiting === 0) return;
      } else if (buf.length === LINK_BUFFER_BYTES) this.lent.push(buf);
    }
    this.look();
  }

  // ---------------------------------------------------------------- in

  onData(buf: Buffer, start: number, end: number): void {
    if (this.muted || this.phase === DOWN) return;
    this.quiet = 0;
    this.bus.stats.bytesIn += end - start;
    if (this.challenger !== null) this.bus.answered(this);
    let good: boolean;
    try {
      good = this.reader.read(buf, start, end);
    } catch (error) {
      // a message that can't be decoded: nothing after it can be trusted
      if (!(error instanceof TruncatedError)) throw error;
      good = false;
    }
    if (!good) this.bus.broken(this);
    else if (this.phase !== UP) this.flush();
  }

  frame(kind: number, buf: Buffer, start: number, end: number): void {
    if (this.muted) return;
    if (this.phase === UP) {
      if (kind >= FIRST_MESSAGE_KIND) {
        this.bus.stats.framesIn++;
        this.bus.onFrame(this, kind, buf, start, end);
      } else if (kind === KIND_PING) {
        this.say(KIND_PONG);
        if (!this.scheduled) this.schedule();
      } else if (kind === KIND_CLOSE) this.bus.end(this);
      else if (kind <= KIND_CONFIRM) this.bus.broken(this);
    } else this.bus.shaking(this, kind, buf, start, end);
  }

  onEnd(): void {
    this.bus.lost(this);
  }

  onDrain(): void {
    if (this.phase === DOWN) return;
    this.look();
    this.flush();
  }

  onClose(): void {
    this.bus.lost(this);
  }
}

// ---------------------------------------------------------------------- the bus

export class Bus {
  onUp: (link: Link) => void = () => {};
  /** Not called for the links that `close` ends. */
  onDown: (link: Link) => void = () => {};
  /** The bytes are valid only until it returns. One that throws `TruncatedError` ends the link. */
  onFrame: (link: Link, kind: number, buf: Buffer, start: number, end: number) => void = () => {};
  /** Dialling or a handshake has failed. */
  onRefused: (address: string, why: string) => void = () => {};
  readonly stats: BusStats = {
    framesIn: 0,
    framesOut: 0,
    writes: 0,
    bytesIn: 0,
    bytesOut: 0,
    links: 0,
    refused: 0,
    dropped: 0,
    full: 0,
  };

  private readonly o: BusOptions;
  private readonly key: Buffer;
  private readonly versions: Versions;
  private readonly ownId: string;
  private readonly nodes = new Map<string, Wire>();
  private readonly wires = new Set<Wire>();
  /** Accepted and not yet proven, oldest first. */
  private readonly strangers = new Set<Wire>();
  private readonly wants = new Map<string, Want>();
  private readonly cuts = new Set<string>();
  private readonly listeners: Listener[] = [];
  private readonly complaints = new Map<string, number>();
  private readonly sweeper: Timer;
  private swept: number;
  private closed = false;
  private dirty: Wire[] = [];
  private dirtyBefore: Wire[] = [];
  private readonly spare: Buffer[] = [];

  constructor(o: BusOptions) {
    this.o = o;
    this.key = busKey(o.secret);
    this.versions = o.versions ?? [MIN_BUS_VERSION, BUS_VERSION];
    this.ownId = o.hello().nodeId;
    this.swept = o.clock.monotonic();
    this.sweeper = o.timers.every(SWEEP_MS, () => this.sweep());
  }

  /** Resolves with the address, `host:port`. Several addresses may be listened on. */
  async listen(host: string, port: number): Promise<string> {
    // a peer must show a certificate even where clients need none
    const tls = this.o.tls === null ? undefined : { ...this.o.tls, authClients: 'yes' as const };
    const any = host === '' || host === '*';
    const listener = await this.o.transport.listen(
      { host: any ? undefined : host, port, tls, keepAliveSeconds: KEEPALIVE_SECONDS },
      (connection) => this.accept(connection),
    );
    this.listeners.push(listener);
    return listener.address;
  }

  /** The link to a node that is in reach. */
  link(nodeId: string): Link | null {
    return this.nodes.get(nodeId) ?? null;
  }

  links(): IterableIterator<Link> {
    return this.nodes.values();
  }

  /** Lets queued frames out and closes everything. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.sweeper.cancel();
    for (const w of this.wants.values()) w.timer?.cancel();
    this.wants.clear();
    const open = [...this.wires];
    this.wires.clear();
    this.nodes.clear();
    this.strangers.clear();
    const ends = open.map(
      (wire) =>
        new Promise<void>((done) => {
          wire.connection.handler = { onData() {}, onEnd() {}, onDrain() {}, onClose: done };
          wire.shut(wire.phase === UP);
        }),
    );
    let late: Timer | null = null;
    const enough = new Promise<void>((done) => {
      late = this.o.timers.after(CLOSE_MS, done);
    });
    await Promise.all(this.listeners.map((l) => l.close()));
    await Promise.race([Promise.all(ends), enough]);
    late!.cancel();
    for (const wire of open) wire.connection.destroy();
  }

  // ------------------------------------------------------------------ dialling

  /** Stays connected to whoever is at `address` (`host:port`), until `forget`. */
  want(address: string): void {
    if (this.closed || this.wants.has(address)) return;
    const m = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address);
    if (m === null || Number(m[3]) > 65535 || Number(m[3]) === 0) {
      this.refused(address, 'not an address: host:port is one', 'warn');
      return;
    }
    const known = [...this.nodes.values()].find((n) => n.hello.bus === address || n.want?.address === address);
    const w: Want = {
      address,
      host: m[1] ?? m[2],
      port: Number(m[3]),
      nodeId: known?.nodeId ?? '',
      self: false,
      failures: 0,
      connecting: false,
      wire: null,
      timer: null,
    };
    this.wants.set(address, w);
    this.dial(w);
  }

  /** A link that stands stays up. */
  forget(address: string): void {
    const w = this.wants.get(address);
    if (w === undefined) return;
    this.wants.delete(address);
    w.timer?.cancel();
    if (w.wire !== null && w.wire.phase !== UP) this.end(w.wire);
  }

  private dial(w: Want): void {
    w.timer?.cancel();
    w.timer = null;
    if (this.wants.get(w.address) !== w || w.connecting || w.wire !== null || w.self) return;
    const linked = this.nodes.get(w.nodeId);
    if (linked !== undefined && (linked.hello.bus === w.address || linked.want?.address === w.address)) return;
    if (this.cuts.has(w.nodeId)) return;
    w.connecting = true;
    const { host, port } = w;
    const timeoutMs = this.o.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const tls = this.o.tls ?? undefined;
    this.o.transport.connect({ host, port, timeoutMs, tls, keepAliveSeconds: KEEPALIVE_SECONDS }).then(
      (connection) => {
        w.connecting = false;
        if (this.closed || this.wants.get(w.address) !== w) connection.destroy();
        else this.begin('dial', connection, w);
      },
      (error: unknown) => {
        w.connecting = false;
        if (this.wants.get(w.address) !== w) return;
        this.refused(w.address, error instanceof Error ? error.message : String(error), 'debug');
        this.redial(w);
      },
    );
  }

  /** After a dial that came to nothing, or the end of a link. */
  private redial(w: Want): void {
    if (this.closed || this.wants.get(w.address) !== w || w.self) return;
    w.timer?.cancel();
    const pause = this.nodes.has(w.nodeId)
      ? REDIAL_ALIAS_MS
      : Math.min(REDIAL_LAST_MS, REDIAL_FIRST_MS * 2 ** Math.min(w.failures++, 16));
    w.timer = this.o.timers.after(pause * (0.5 + this.o.random.next() / 2), () => this.dial(w));
  }

  // ------------------------------------------------------------------ shaking hands

  private accept(connection: Connection): void {
    if (this.closed) {
      connection.destroy();
      return;
    }
    if (this.strangers.size >= MAX_UNPROVEN_CONNECTIONS) {
      // an honest one needs a few round trips and is among the newest
      for (const oldest of this.strangers) {
        this.end(oldest);
        break;
      }
    }
    this.strangers.add(this.begin('accept', connection, null));
  }

  private begin(role: Role, connection: Connection, want: Want | null): Wire {
    const shake = new Handshake(role, this.key, this.versions, this.o.hello(), this.o.random.bytes(NONCE_BYTES));
    const deadline = this.o.timers.after(HANDSHAKE_MS, () => {
      if (wire.muted) this.end(wire);
      else this.refuse(wire, 'timeout', CLOSE_TEXTS.timeout);
    });
    const wire = new Wire(this, connection, shake, want, deadline);
    this.wires.add(wire);
    if (want !== null) want.wire = wire;
    if (role === 'dial') {
      const { kind, payload } = shake.start();
      wire.say(kind, payload);
      wire.flush();
    }
    return wire;
  }

  /** @internal a frame on a connection that is not yet a link */
  shaking(wire: Wire, kind: number, buf: Buffer, start: number, end: number): void {
    if (kind === KIND_CLOSE) {
      const reason = closeReason(end > start ? buf[start] : 0);
      if (reason === 'duplicate') this.end(wire);
      else this.refuse(wire, reason, `it refuses: ${CLOSE_TEXTS[reason]}`, false);
      return;
    }
    if (wire.phase === PROVEN) {
      const { shake } = wire;
      // only the lower id confirms, and it needs no other's word
      if (kind === KIND_CONFIRM && shake.peer!.nodeId < this.ownId) this.install(wire);
      else this.broken(wire);
      return;
    }
    const { shake } = wire;
    const { reply, proven, refusal } = shake.receive(kind, buf, start, end);
    if (kind === KIND_HELLO && shake.peer !== null && this.goesNoFurther(wire)) return;
    if (reply !== null) wire.say(reply.kind, reply.payload);
    if (refusal !== null) this.refuse(wire, refusal.reason, refusal.why);
    else if (proven) this.proven(wire);
  }

  /** Known by its HELLO to lead nowhere. Nothing of this is proven yet, so it ends connections and nothing else. */
  private goesNoFurther(wire: Wire): boolean {
    const { shake, want } = wire;
    const peer = shake.peer!;
    // a port that nobody listens on can connect to itself
    if (shake.peerNonce === shake.nonce) {
      this.end(wire);
      return true;
    }
    if (this.cuts.has(peer.nodeId)) {
      if (want !== null) want.nodeId = peer.nodeId;
      wire.mute();
      return true;
    }
    if (want === null) {
      if (peer.nodeId !== this.ownId) return false;
      // our own nonce: nobody else can be at the other end but somebody who passes our bytes on
      for (const other of this.wires) {
        if (other.want === null || other.shake.nonce !== shake.peerNonce) continue;
        other.want.self = true;
        this.end(other);
        this.end(wire);
        return true;
      }
      return false;
    }
    const linked = this.nodes.get(peer.nodeId);
    if (linked === undefined || linked.hello.session !== peer.session) return false;
    want.nodeId = peer.nodeId;
    this.end(wire);
    return true;
  }

  /** Both ends know who they talk to. */
  private proven(wire: Wire): void {
    this.strangers.delete(wire);
    wire.phase = PROVEN;
    const peer = wire.hello;
    if (wire.want !== null) wire.want.nodeId = peer.nodeId;
    if (this.ownId > peer.nodeId) return;
    const old = this.nodes.get(peer.nodeId);
    if (old === undefined || peer.session > old.hello.session) this.confirm(wire);
    else this.challenge(old, wire);
  }

  private challenge(old: Wire, wire: Wire): void {
    if (old.challenger !== null) this.dismiss(old.challenger);
    old.challenger = wire;
    old.say(KIND_PING);
    old.flush();
    wire.restartDeadline(this.o.timers.after(CHALLENGE_MS, () => this.confirm(wire)));
  }

  /** @internal a challenged link lives */
  answered(link: Wire): void {
    const wire = link.challenger!;
    link.challenger = null;
    this.dismiss(wire);
  }

  private dismiss(wire: Wire): void {
    wire.say(KIND_CLOSE, Buffer.of(CLOSE_CODES.duplicate));
    this.end(wire, true);
  }

  private confirm(wire: Wire): void {
    wire.say(KIND_CONFIRM);
    this.install(wire);
    wire.flush();
  }

  private install(wire: Wire): void {
    const { nodeId, bus } = wire.hello;
    wire.setUp(this.o.clock.monotonic());
    const old = this.nodes.get(nodeId);
    if (old !== undefined) {
      const rival = old.challenger;
      old.challenger = null;
      if (rival !== null && rival !== wire) this.dismiss(rival);
      this.end(old);
    }
    // whoever was told of the old one's end may have ended this one too
    if (wire.phase !== UP) return;
    this.nodes.set(nodeId, wire);
    this.stats.links++;
    if (wire.want !== null) wire.want.wire = null;
    for (const w of this.wants.values()) {
      if (w !== wire.want && w.address !== bus) continue;
      w.nodeId = nodeId;
      w.timer?.cancel();
      w.timer = null;
    }
    this.onUp(wire);
  }

  // ------------------------------------------------------------------ ends

  /** @internal the end of a connection, however it came */
  end(wire: Wire, gently = false): void {
    if (wire.phase === DOWN) return;
    const { phase, challenger, want } = wire;
    wire.challenger = null;
    wire.shut(gently);
    this.wires.delete(wire);
    this.strangers.delete(wire);
    if (this.closed) return;
    if (phase === PROVEN) {
      const rival = this.nodes.get(wire.nodeId);
      if (rival?.challenger === wire) rival.challenger = null;
    }
    if (want !== null && want.wire === wire) {
      want.wire = null;
      if (!this.cuts.has(want.nodeId)) this.redial(want);
    }
    if (phase !== UP || this.nodes.get(wire.nodeId) !== wire) return;
    this.nodes.delete(wire.nodeId);
    const lived = this.o.clock.monotonic() - wire.upSince;
    for (const w of this.wants.values()) {
      if (w.nodeId !== wire.nodeId || w.wire !== null || w.connecting) continue;
      // one that goes down as soon as it is up counts as a failure to dial
      if (lived >= REDIAL_LAST_MS) w.failures = 0;
      if (!this.cuts.has(w.nodeId)) this.redial(w);
    }
    this.onDown(wire);
    if (challenger !== null && challenger.phase === PROVEN) this.confirm(challenger);
  }

  /** @internal the other end has closed */
  lost(wire: Wire): void {
    const { want, phase } = wire;
    this.end(wire);
    if (want === null || wire.muted || (phase !== SHAKING && phase !== PROVEN)) return;
    this.refused(want.address, 'it closed the connection during the handshake', 'warn');
  }

  /** @internal what came is no frame, or one that has no place here */
  broken(wire: Wire): void {
    if (wire.phase === DOWN) return;
    if (wire.phase !== UP) {
      this.refuse(wire, 'protocol', CLOSE_TEXTS.protocol);
      return;
    }
    const { address, nodeId } = wire;
    this.complain(address, 'warn', 'malformed frame on a bus link: it is closed', { node: nodeId });
    this.end(wire);
  }

  private refuse(wire: Wire, reason: CloseReason, why: string, tell = true): void {
    if (wire.phase === DOWN) return;
    // a stranger's port changes with each connection
    const address = wire.want?.address ?? wire.connection.remote;
    if (tell) wire.say(KIND_CLOSE, Buffer.of(CLOSE_CODES[reason]));
    this.end(wire, true);
    this.refused(address, why, 'warn', wire.want === null ? address.replace(/:\d+$/, '') : address);
  }

  private refused(address: string, why: string, level: 'warn' | 'debug', about = address): void {
    this.stats.refused++;
    this.complain(about, level, `no link with ${address}: ${why}`);
    this.onRefused(address, why);
  }

  private complain(about: string, level: 'warn' | 'debug', message: string, fields: object = {}): void {
    const now = this.o.clock.monotonic();
    const last = this.complaints.get(about);
    if (level === 'warn' && last !== undefined && now - last < COMPLAINT_MS) return;
    if (level === 'warn') {
      if (this.complaints.size >= MAX_COMPLAINTS) this.complaints.clear();
      this.complaints.set(about, now);
    }
    this.o.log[level]({ address: about, ...fields }, message);
  }

  // ------------------------------------------------------------------ time

  /** Asks silent links for a sign of life, and gives up those that give none. */
  private sweep(): void {
    const now = this.o.clock.monotonic();
    // we were the ones who stood still: what has come since has not been looked at yet
    const stalled = now - this.swept > 2 * SWEEP_MS;
    this.swept = now;
    for (const wire of [...this.nodes.values()]) {
      if (wire.muted) continue;
      wire.quiet = stalled ? 1 : wire.quiet + 1;
      if (wire.quiet * SWEEP_MS > LINK_DEAD_MS) {
        this.o.log.warn({ node: wire.nodeId, address: wire.address }, 'bus link silent for too long: it is closed');
        this.end(wire);
      } else if (wire.quiet * SWEEP_MS > LINK_PING_MS) {
        wire.say(KIND_PING);
        wire.flush();
      }
    }
  }

  /** @internal at the end of this tick the wire is flushed */
  schedule(wire: Wire): void {
    this.dirty.push(wire);
    if (this.dirty.length === 1) this.o.timers.endOfTick(this.flushAll);
  }

  private readonly flushAll = (): void => {
    const { dirty } = this;
    this.dirty = this.dirtyBefore;
    this.dirtyBefore = dirty;
    for (const wire of dirty) wire.tickEnd();
    dirty.length = 0;
  };

  /** @internal */
  takeBuffer(n: number): Buffer {
    if (n > LINK_BUFFER_BYTES) return Buffer.allocUnsafeSlow(n);
    return this.spare.pop() ?? Buffer.allocUnsafeSlow(LINK_BUFFER_BYTES);
  }

  /** @internal */
  giveBuffer(buf: Buffer): void {
    if (buf.length === LINK_BUFFER_BYTES && this.spare.length < MAX_SPARE_BUFFERS) this.spare.push(buf);
  }

  // ------------------------------------------------------------------ faults on purpose

  /** Drops all traffic to and from a node, silently; no handshake with it completes. */
  cut(nodeId: string): void {
    this.cuts.add(nodeId);
    for (const wire of this.wires) if (wire.nodeId === nodeId) wire.mute();
  }

  /** Ends the cut. A link that was cut goes down, for it has lost frames, and a new one is made. */
  heal(nodeId: string): void {
    if (!this.cuts.delete(nodeId)) return;
    for (const wire of [...this.wires]) if (wire.nodeId === nodeId && wire.muted) this.end(wire);
    for (const w of this.wants.values()) {
      if (w.nodeId !== nodeId) continue;
      w.failures = 0;
      this.dial(w);
    }
  }

  isCut(nodeId: string): boolean {
    return this.cuts.has(nodeId);
  }
}
