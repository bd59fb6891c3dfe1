/**
 * The operator's tool's own connection: one socket, commands in order, replies parsed by `redis-parser`.
 *
 * A parser that must never meet hostile bytes is fine here: the other end is our own server.
 */
import * as net from 'node:net';
import RedisParser from 'redis-parser';

export type Reply = string | number | null | Error | Reply[];

export class ToolConnection {
  private readonly socket: net.Socket;
  private readonly waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];

  private constructor(socket: net.Socket) {
    this.socket = socket;
    const parser = new RedisParser({
      returnReply: (reply: Reply) => this.waiting.shift()?.resolve(reply),
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

  static open(host: string, port: number, password: string | undefined): Promise<ToolConnection> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host, port });
      socket.once('error', (error) => reject(new Error(`can't connect to ${host}:${port}: ${error.message}`)));
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        const connection = new ToolConnection(socket);
        if (password === undefined) resolve(connection);
        else connection.call('AUTH', password).then(() => resolve(connection), reject);
      });
    });
  }

  /** Sends one command; rejects on an error reply. */
  call(...args: string[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      const parts = args.map((a) => `$${Buffer.byteLength(a)}\r\n${a}\r\n`);
      this.socket.write(`*${args.length}\r\n${parts.join('')}`);
    });
  }

  close(): void {
    this.socket.end();
  }
}
