/**
 * The operator's tool's own connection: one socket, commands in order, replies parsed by `redis-parser`.
 *
 * A parser that must never meet hostile bytes is fine here: the other end is our own server.
 */
import * as net from 'node:net';
import RedisParser from 'redis-parser';

export type Reply = string | number | null | Error | Reply[];

/** A reply of which each string was given as bytes. */
function latin1(reply: Reply | Buffer): Reply {
  if (Buffer.isBuffer(reply)) return reply.latin1Slice();
  return Array.isArray(reply) ? reply.map(latin1) : reply;
}

export class ToolConnection {
  private readonly socket: net.Socket;
  private readonly waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];

  private readonly bytes: boolean;

  private constructor(socket: net.Socket, bytes: boolean) {
    this.socket = socket;
    this.bytes = bytes;
    const parser = new RedisParser({
      returnBuffers: bytes,
      returnReply: (reply: Reply) => this.waiting.shift()?.resolve(bytes ? latin1(reply) : reply),
      returnError: (error: Error) => this.waiting.shift()?.reject(error),
      returnFatalError: (error: Error) => this.socket.destroy(error),
    });
    socket.on('data', (data) => parser.execute(data));
    const lost = (error?: Error) => {
      for (const w of this.waiting.splice(0)) w.reject(error ?? new Error('the server closed the connection'));
    };
    socket.on('error', lost);
    socket.on('close', () => lost());
  }

  /**
   * @param timeoutMs 0 for as long as it takes
   * @param bytes strings stand for bytes, one character each, in both directions: for keys and values that are no text
   */
  static open(
    host: string,
    port: number,
    password: string | undefined,
    timeoutMs = 0,
    bytes = false,
  ): Promise<ToolConnection> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host, port });
      const failed = (why: string) => reject(new Error(`can't connect to ${host}:${port}: ${why}`));
      socket.setTimeout(timeoutMs, () => {
        failed('no answer in time');
        socket.destroy();
      });
      socket.once('error', (error: NodeJS.ErrnoException) => failed(error.message || String(error.code)));
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        socket.setTimeout(0);
        socket.removeAllListeners('timeout');
        const connection = new ToolConnection(socket, bytes);
        if (password === undefined) resolve(connection);
        else connection.call('AUTH', password).then(() => resolve(connection), reject);
      });
    });
  }

  /** Sends one command; rejects on an error reply. */
  call(...args: string[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      const encoding = this.bytes ? 'latin1' : 'utf8';
      const parts = args.map((a) => `$${Buffer.byteLength(a, encoding)}\r\n${a}\r\n`);
      this.socket.write(`*${args.length}\r\n${parts.join('')}`, encoding);
    });
  }

  /** As `call`, but rejects when there is no answer in time; the connection is of no use any more then. */
  async ask(timeoutMs: number, ...args: string[]): Promise<Reply> {
    const timer = setTimeout(() => this.socket.destroy(new Error('no answer in time')), timeoutMs);
    try {
      return await this.call(...args);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.socket.end();
  }
}
