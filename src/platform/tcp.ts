/**
 * The transport port over `node:net`.
 *
 * A socket that Node made with `onread` reads into a buffer that we own, without allocating per read: half again as
 * many unpipelined commands per second. A server's accepted sockets don't offer that, so the accepted handle is moved
 * into a socket of our own making. Only `_handle` is semi-private; where it is missing the plain `data` event serves,
 * behind the same interface.
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import { GrammeError } from '../base/errors.ts';
import { READ_BUFFER_BYTES } from '../base/limits.ts';
import type { ConnectOptions, Connection, ConnectionHandler, Listener, ListenOptions, Transport } from '../ports/transport.ts';

/** One for all sockets: its bytes are dealt with before the read callback returns. */
const shared = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

const NOBODY: ConnectionHandler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

class SocketConnection implements Connection {
  handler: ConnectionHandler = NOBODY;
  readonly remote: string;
  readonly local: string;
  readonly fd: number;
  private readonly socket: net.Socket;

  constructor(accepted: net.Socket, path: string | undefined, port: number, keepAliveSeconds: number) {
    const remote = path !== undefined ? `${path}:0` : endpoint(accepted.remoteAddress, accepted.remotePort);
    this.local = path !== undefined ? `${path}:0` : endpoint(accepted.localAddress, port);
    this.remote = remote;
    const handle = (accepted as unknown as { _handle?: { fd?: number } | null })._handle;
    this.fd = handle?.fd ?? -1;
    let socket = accepted;
    if (handle) {
      (accepted as unknown as { _handle: unknown })._handle = null;
      socket = new net.Socket({
        handle,
        allowHalfOpen: true,
        onread: {
          buffer: shared,
          callback: (bytes: number, buf: Uint8Array): boolean => {
            this.handler.onData(buf as Buffer, 0, bytes);
            return true;
          },
        },
      } as net.SocketConstructorOpts);
      socket.resume();
    } else socket.on('data', (chunk: Buffer) => this.handler.onData(chunk, 0, chunk.length));
    this.socket = socket;
    socket.setNoDelay(true);
    if (keepAliveSeconds > 0 && path === undefined) socket.setKeepAlive(true, keepAliveSeconds * 1000);
    socket.on('end', () => this.handler.onEnd());
    socket.on('drain', () => this.handler.onDrain());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      const { handler } = this;
      this.handler = NOBODY;
      handler.onClose();
    });
  }

  write(buf: Buffer, start: number, end: number): boolean {
    const { socket } = this;
    if (socket.destroyed || socket.writableEnded) return true;
    socket.write(buf.subarray(start, end));
    return socket.writableLength === 0;
  }

  pending(): number {
    return this.socket.writableLength;
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    if (!this.socket.destroyed) this.socket.end(() => this.socket.destroy());
  }

  destroy(): void {
    this.socket.destroy();
  }
}

function endpoint(host: string | undefined, port: number | undefined): string {
  const address = (host ?? '?').replace(/^::ffff:/, '');
  return address.includes(':') ? `[${address}]:${port ?? 0}` : `${address}:${port ?? 0}`;
}

export class TcpTransport implements Transport {
  connect(_options: ConnectOptions): Promise<Connection> {
    return Promise.reject(new GrammeError('IO', 'not yet'));
  }

  listen(options: ListenOptions, accept: (connection: Connection) => void): Promise<Listener> {
    const { path, host } = options;
    if (path !== undefined && fs.existsSync(path) && fs.statSync(path).isSocket()) fs.rmSync(path);
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true });
    const port = () =>
      typeof server.address() === 'object' ? ((server.address() as net.AddressInfo | null)?.port ?? 0) : 0;
    server.on('connection', (socket) => {
      // a client that is gone before we look has no address left
      if (socket.destroyed) return;
      accept(new SocketConnection(socket, path, port(), options.keepAliveSeconds ?? 0));
    });
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const where = path ?? `${host ?? '*'}:${options.port}`;
        const code = error.code === 'EADDRINUSE' ? 'BUSY' : 'IO';
        reject(new GrammeError(code, `can't listen on ${where}: ${error.message}`));
      });
      const listening = () => {
        if (path !== undefined && options.mode) fs.chmodSync(path, options.mode);
        resolve({
          address: path ?? `${host ?? '*'}:${port()}`,
          close: () =>
            new Promise<void>((done) => {
              server.close(() => done());
            }),
        });
      };
      if (path !== undefined) server.listen({ path, backlog: options.backlog }, listening);
      else
        server.listen(
          { host, port: options.port, backlog: options.backlog ?? 511, ipv6Only: host?.includes(':') ?? false },
          listening,
        );
    });
  }
}
