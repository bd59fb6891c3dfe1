/**
 * The transport port over the simulated network: what a process has as sockets.
 *
 * A host is a node of the network; a process on it listens on ports. Bytes arrive in other pieces than they were
 * sent in, and the buffer that `onData` gets is spoilt as soon as it returns: whoever keeps a slice of it, or relies on
 * message borders, is found out. What is written and not yet taken by the other end's process counts against a send
 * buffer, as with TCP's windows.
 */
import { GrammeError } from '../base/errors.ts';
import type {
  Connection,
  ConnectionHandler,
  ConnectOptions,
  Listener,
  ListenOptions,
  Transport,
} from '../ports/transport.ts';
import type { Session, SimNetwork } from './network.ts';
import type { SeededRandom } from './random.ts';
import type { NodeTime } from './time.ts';

/** Bytes that the systems of both ends hold together; more are `pending`. */
export const SOCKET_BUFFER_BYTES = 256 * 1024;
/** Share of messages that arrive in two pieces. */
const SPLIT_SHARE = 0.1;
/** What the bytes of a buffer become once `onData` has returned. */
const SPOILT = 0xdb;

const DATA = 0;
const FIN = 1;
const FIN_FRAME = Buffer.from([FIN]);

const NOBODY: ConnectionHandler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

class SimConnection implements Connection {
  handler: ConnectionHandler = NOBODY;
  readonly remote: string;
  readonly local: string;
  readonly fd = -1;
  private readonly transport: SimTransport;
  private readonly session: Session;
  /** Written and not yet taken by the other process. */
  private untaken = 0;
  private full = false;
  private paused = false;
  private inbox: Buffer[] = [];
  private ended = false;
  private closed = false;

  constructor(transport: SimTransport, session: Session, local: string, remote: string) {
    this.transport = transport;
    this.session = session;
    this.local = local;
    this.remote = remote;
    session.handler = {
      onMessage: (bytes) => transport.time.guard(() => this.message(bytes)),
      onBreak: () => transport.time.guard(() => this.gone()),
    };
    session.onTaken = (bytes) => this.taken(bytes);
  }

  // ------------------------------------------------------------------ out

  write(buf: Buffer, start: number, end: number): boolean {
    if (this.closed || this.ended || this.transport.time.isDead) return true;
    const frame = Buffer.allocUnsafe(end - start + 1);
    frame[0] = DATA;
    buf.copy(frame, 1, start, end);
    this.untaken += end - start;
    this.session.send(frame);
    if (this.untaken <= SOCKET_BUFFER_BYTES) return true;
    this.full = true;
    return false;
  }

  pending(): number {
    return Math.max(0, this.untaken - SOCKET_BUFFER_BYTES);
  }

  private taken(bytes: number): void {
    this.untaken -= bytes;
    if (!this.full || this.untaken > SOCKET_BUFFER_BYTES) return;
    this.full = false;
    // the process hears of it when it runs again
    this.transport.time.endOfTick(() => {
      if (!this.closed && !this.full) this.handler.onDrain();
    });
  }

  end(): void {
    if (this.closed || this.transport.time.isDead) return;
    this.halfClose();
    this.destroy();
  }

  /** Sends nothing more, but goes on reading: for clients that do so. */
  halfClose(): void {
    if (this.closed || this.ended) return;
    this.ended = true;
    this.session.send(FIN_FRAME);
  }

  destroy(): void {
    if (this.closed || this.transport.time.isDead) return;
    this.session.close();
    this.closed = true;
    this.inbox = [];
    const { handler } = this;
    this.handler = NOBODY;
    this.transport.forget(this);
    this.transport.time.endOfTick(() => handler.onClose());
  }

  // ------------------------------------------------------------------ in

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    if (this.inbox.length > 0) this.transport.time.endOfTick(() => this.empty());
  }

  private message(frame: Buffer): void {
    if (this.closed) return;
    if (this.paused || this.inbox.length > 0) {
      this.inbox.push(frame);
      return;
    }
    this.hand(frame);
  }

  /** What came in during a pause is read in one go, as far as it goes. */
  private empty(): void {
    while (this.inbox.length > 0 && !this.paused && !this.closed) {
      let frame = this.inbox.shift()!;
      while (frame[0] === DATA && this.inbox.length > 0 && this.inbox[0][0] === DATA) {
        frame = Buffer.concat([frame, this.inbox.shift()!.subarray(1)]);
      }
      this.hand(frame);
    }
  }

  private hand(frame: Buffer): void {
    if (frame[0] === FIN) {
      this.handler.onEnd();
      return;
    }
    const length = frame.length - 1;
    const { random } = this.transport;
    const split = length > 1 && random.next() < SPLIT_SHARE ? 1 + random.int(length - 1) : length;
    // somewhere in a larger buffer, as a shared read buffer is
    const read = (from: number, to: number) => {
      const buf = Buffer.allocUnsafe(to - from + 16).fill(SPOILT);
      frame.copy(buf, 8, 1 + from, 1 + to);
      this.handler.onData(buf, 8, 8 + to - from);
      buf.fill(SPOILT);
    };
    read(0, split);
    if (split < length) {
      if (this.closed) return;
      const rest = Buffer.concat([Buffer.from([DATA]), frame.subarray(1 + split)]);
      if (this.paused) this.inbox.unshift(rest);
      else read(split, length);
      this.session.take(this.paused ? split : length);
      return;
    }
    this.session.take(length);
  }

  /** The session broke, or the other end has closed it. */
  private gone(): void {
    if (this.closed) return;
    this.closed = true;
    this.inbox = [];
    const { handler } = this;
    this.handler = NOBODY;
    this.transport.forget(this);
    handler.onClose();
  }
}

/** One process's sockets. */
export class SimTransport implements Transport {
  readonly time: NodeTime;
  readonly random: SeededRandom;
  readonly host: string;
  private readonly network: SimNetwork;
  private readonly listening = new Map<number, (connection: Connection) => void>();
  private readonly connections = new Set<SimConnection>();
  private nextPort = 30_000;

  /** Puts the host on the network: whatever an earlier process on it had is gone. */
  constructor(network: SimNetwork, host: string, time: NodeTime, random: SeededRandom) {
    this.network = network;
    this.host = host;
    this.time = time;
    this.random = random;
    network.add(host, {
      accepts: (port) => this.listening.has(port),
      onSession: (session, port) => {
        const accept = this.listening.get(port);
        if (accept === undefined) session.close();
        else {
          const from = `${session.remote}:${this.nextPort++}`;
          this.time.guard(() => accept(this.adopt(session, `${this.host}:${port}`, from)));
        }
      },
    });
  }

  /** Open connections: for checks that nothing leaks. */
  get open(): number {
    return this.connections.size;
  }

  /** @internal */
  forget(connection: SimConnection): void {
    this.connections.delete(connection);
  }

  private adopt(session: Session, local: string, remote: string): SimConnection {
    const connection = new SimConnection(this, session, local, remote);
    this.connections.add(connection);
    return connection;
  }

  listen(options: ListenOptions, accept: (connection: Connection) => void): Promise<Listener> {
    const { time } = this;
    return new Promise((resolve, reject) => {
      time.endOfTick(() => {
        const port = options.port ?? 0;
        if (options.path !== undefined || port === 0) {
          reject(new GrammeError('IO', `the simulated transport listens on fixed ports alone`));
        } else if (this.listening.has(port)) {
          reject(new GrammeError('BUSY', `can't listen on ${this.host}:${port}: address in use`));
        } else {
          this.listening.set(port, accept);
          resolve({
            address: `${options.host ?? this.host}:${port}`,
            close: async () => void this.listening.delete(port),
          });
        }
      });
    });
  }

  connect(options: ConnectOptions): Promise<Connection> {
    const { host, port, timeoutMs } = options;
    return new Promise((resolve, reject) => {
      if (this.time.isDead) return;
      let settled = false;
      const fail = (why: string) => {
        if (settled) return;
        settled = true;
        timer.cancel();
        reject(new GrammeError('IO', `can't connect to ${host}:${port}: ${why}`));
      };
      const timer = this.time.after(timeoutMs, () => fail('timed out'));
      const opened = (session: Session | null, refused: boolean) =>
        this.time.guard(() => {
          if (settled) session?.close();
          else if (session === null) fail(refused ? 'connection refused' : 'connection reset');
          else {
            settled = true;
            timer.cancel();
            const connection = this.adopt(session, `${this.host}:${this.nextPort++}`, `${host}:${port}`);
            resolve(connection);
          }
        });
      this.network.connect(this.host, host, opened, port);
    });
  }
}
