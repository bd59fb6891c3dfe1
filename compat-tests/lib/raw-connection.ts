// A socket that speaks bytes: commands go out as they are given, replies come back undecoded. A client
// library would hide exactly what this suite is about.

import { connect, type Socket } from 'node:net';
import { replyEnd } from './framer.ts';

/** Stands in a transcript where a reply should have been. */
export const CLOSED = '<closed>';
export const NO_REPLY = '<no reply>';
export const UNREADABLE = '<not RESP>';

export type Argument = string | Buffer;

export function encodeCommand(args: readonly Argument[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = typeof arg === 'string' ? Buffer.from(arg) : arg;
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'));
  }
  return Buffer.concat(parts);
}

export class RawConnection {
  /** Out-of-band RESP3 messages, in the order they came. */
  readonly pushes: string[] = [];
  private readonly replies: string[] = [];
  private readonly pending: Buffer[] = [];
  private pendingLength = 0;
  private neededLength = 0;
  private closed = false;
  private unreadable = false;
  // Once a server has failed to answer there is no telling which reply belongs to which command.
  private stuck = false;
  private wake: (() => void) | undefined;

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', () => this.finish());
    socket.on('close', () => this.finish());
  }

  static connect(host: string, port: number): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.removeListener('error', reject);
        resolve(new RawConnection(socket));
      });
    });
  }

  get localPort(): number {
    return this.socket.localPort ?? 0;
  }

  write(bytes: Buffer): void {
    if (!this.closed) this.socket.write(bytes);
  }

  /** Writes and waits until the bytes left this process, so that the next write is a segment of its own. */
  flush(bytes: Buffer): Promise<void> {
    if (this.closed) return Promise.resolve();
    return new Promise((resolve) => this.socket.write(bytes, () => setImmediate(resolve)));
  }

  /** The next reply as latin1 text, or a marker when there is none. */
  async next(timeoutMs = 3000): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const reply = this.replies.shift();
      if (reply !== undefined) return reply;
      if (this.unreadable) return UNREADABLE;
      if (this.closed) return CLOSED;
      const left = deadline - Date.now();
      if (this.stuck || left <= 0) {
        this.stuck = true;
        return NO_REPLY;
      }
      await this.changed(left);
    }
  }

  /** Whatever arrives within `quietMs`, without calling silence a failure. */
  async nextWithin(quietMs: number): Promise<string> {
    const reply = await this.next(quietMs);
    if (reply === NO_REPLY) this.stuck = false;
    return reply;
  }

  send(args: readonly Argument[]): Promise<string> {
    this.write(encodeCommand(args));
    return this.next();
  }

  close(): Promise<void> {
    if (this.closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.socket.once('close', () => resolve());
      this.socket.destroy();
    });
  }

  private changed(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, timeoutMs);
      const self = this;
      function done() {
        clearTimeout(timer);
        self.wake = undefined;
        resolve();
      }
      this.wake = done;
    });
  }

  private finish(): void {
    this.closed = true;
    this.wake?.();
  }

  private receive(chunk: Buffer): void {
    this.pending.push(chunk);
    this.pendingLength += chunk.length;
    if (this.unreadable || this.pendingLength < this.neededLength) return;
    let bytes = this.pending.length === 1 ? this.pending[0] : Buffer.concat(this.pending);
    try {
      for (let end = replyEnd(bytes); end !== -1; end = replyEnd(bytes)) {
        const text = bytes.toString('latin1', 0, end);
        (text[0] === '>' ? this.pushes : this.replies).push(text);
        bytes = bytes.subarray(end);
      }
    } catch {
      this.unreadable = true;
    }
    this.pending.length = 0;
    this.pending.push(bytes);
    this.pendingLength = bytes.length;
    // A long bulk says how long it is: framing it anew for every segment would take quadratic time.
    const header = bytes[0] === 0x24 ? bytes.indexOf(13) : -1;
    this.neededLength = header === -1 ? 0 : header + 4 + Number(bytes.toString('latin1', 1, header));
    this.wake?.();
  }
}
