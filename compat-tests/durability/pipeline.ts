/**
 * A client that keeps many commands under way and is told of each reply as it comes: tests of durability count acks,
 * so the moment of an ack matters, and a connection that breaks is news and not an error.
 */
import { connect, type Socket } from 'node:net';
import { replyEnd } from '../lib/framer.ts';
import { encodeCommand } from '../lib/raw-connection.ts';

/** A reply in its wire form (latin1), or null when the connection ended before it came. */
export type OnReply = (reply: string | null) => void;

const COMPACT_AT = 1024;

export class Pipeline {
  closed = false;
  /** What a reply's handler threw: it ends the connection, and whoever waits for it. */
  private failure: { error: unknown } | null = null;
  private readonly socket: Socket;
  private waiting: OnReply[] = [];
  private head = 0;
  private rest: Buffer = Buffer.alloc(0);
  private out: Buffer[] = [];
  private wakeups: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', () => {});
    socket.on('close', () => this.finish());
  }

  static connect(port: number): Promise<Pipeline> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.removeListener('error', reject);
        resolve(new Pipeline(socket));
      });
    });
  }

  /** Commands sent and not yet answered. */
  get pending(): number {
    return this.waiting.length - this.head;
  }

  /** Sends a command with whatever else is sent in this turn of the event loop. */
  send(args: readonly (string | Buffer)[], onReply: OnReply): void {
    if (this.closed) {
      this.tell(onReply, null);
      return;
    }
    this.waiting.push(onReply);
    if (this.out.length === 0) setImmediate(() => this.flush());
    this.out.push(encodeCommand(args));
  }

  /** Sends a command and waits for its reply; rejects when there is none. */
  call(...args: (string | Buffer)[]): Promise<string> {
    return new Promise((resolve, reject) => {
      this.send(args, (reply) => (reply === null ? reject(new Error(`no reply to ${args[0]}`)) : resolve(reply)));
    });
  }

  /** Resolves when fewer than `limit` commands are waiting, or the connection is gone; rejects with what a handler threw. */
  async room(limit: number): Promise<void> {
    while (this.pending >= limit && !this.closed) await new Promise<void>((resolve) => this.wakeups.push(resolve));
    if (this.failure !== null) throw this.failure.error;
  }

  /** Resolves when everything has been answered, or the connection is gone. */
  drained(): Promise<void> {
    return this.room(1);
  }

  close(): void {
    this.socket.destroy();
  }

  private flush(): void {
    const bytes = Buffer.concat(this.out);
    this.out = [];
    if (!this.closed) this.socket.write(bytes);
  }

  private tell(onReply: OnReply, reply: string | null): void {
    if (this.failure !== null) return;
    try {
      onReply(reply);
    } catch (error) {
      this.failure = { error };
      this.socket.destroy();
    }
  }

  private receive(chunk: Buffer): void {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    let at = 0;
    for (let end = replyEnd(bytes, at); end !== -1; end = replyEnd(bytes, at)) {
      this.tell(this.waiting[this.head++], bytes.latin1Slice(at, end));
      at = end;
    }
    this.rest = bytes.subarray(at);
    if (this.head > COMPACT_AT) {
      this.waiting = this.waiting.slice(this.head);
      this.head = 0;
    }
    this.wake();
  }

  private finish(): void {
    if (this.closed) return;
    this.closed = true;
    const left = this.waiting.slice(this.head);
    this.waiting = [];
    this.head = 0;
    for (const onReply of left) this.tell(onReply, null);
    this.wake();
  }

  private wake(): void {
    for (const resolve of this.wakeups.splice(0)) resolve();
  }
}

/** The text of a bulk or simple reply, null for the null bulk; other replies as they are. */
export function text(reply: string): string | null {
  if (reply === '$-1\r\n') return null;
  if (reply[0] === '$') return reply.slice(reply.indexOf('\n') + 1, -2);
  return reply[0] === '+' || reply[0] === ':' ? reply.slice(1, -2) : reply;
}

const CONNECTIONS = 8;

/** Sends many commands over several connections; `each` gets every reply's text. */
export async function sendAll<T>(
  port: number,
  items: Iterable<T>,
  command: (item: T) => readonly (string | Buffer)[],
  each: (item: T, reply: string | null) => void,
  depth = 100,
): Promise<void> {
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => Pipeline.connect(port)));
  // they share one iterator: whoever has room takes the next
  const shared = items[Symbol.iterator]();
  let failed = false;
  await Promise.all(
    clients.map(async (client) => {
      try {
        for (let next = shared.next(); !next.done && !failed; next = shared.next()) {
          const item = next.value;
          client.send(command(item), (reply) => each(item, reply === null ? null : text(reply)));
          await client.room(depth);
        }
        await client.drained();
      } catch (error) {
        failed = true;
        throw error;
      } finally {
        client.close();
      }
    }),
  );
}

/** Fields of INFO by name. */
export async function info(client: Pipeline, section: string): Promise<Map<string, string>> {
  const lines = text(await client.call('INFO', section))?.split('\r\n') ?? [];
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}
