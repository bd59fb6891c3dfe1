/**
 * The transport port over `node:net`.
 *
 * A socket that Node made with `onread` reads into a buffer that we own, without allocating per read: half again as
 * many unpipelined commands per second. A server's accepted sockets don't offer that, so the accepted handle is moved
 * into a socket of our own making. Only `_handle` is semi-private; where it is missing the plain `data` event serves,
 * behind the same interface. So it does under TLS, which has no `onread`.
 *
 * What is written goes to the handle too, past the socket's stream: nearly always the system takes all of it at once, and
 * then there is nothing that a stream would be good for. Where Node doesn't tell how, the stream serves.
 */
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as tls from 'node:tls';
import { GrammeError } from '../base/errors.ts';
import { READ_BUFFER_BYTES } from '../base/limits.ts';
import type {
  Connection,
  ConnectionHandler,
  ConnectOptions,
  Listener,
  ListenOptions,
  Transport,
} from '../ports/transport.ts';
import { clientTls, serverTls } from './tls.ts';

/** One for all sockets: its bytes are dealt with before the read callback returns. */
const shared = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

const NOBODY: ConnectionHandler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

/** What makes a socket read into the shared buffer. */
type OnRead = { buffer: Uint8Array; callback: (bytes: number, buf: Uint8Array) => boolean };

/** A write under way in Node's own terms. One that was finished at once may be used again. */
interface WriteRequest {
  oncomplete: ((status: number) => void) | null;
  /** Keeps the bytes where they are. */
  buffer: Buffer | null;
}

/** What a socket's handle can do, as far as it is used here; `writeBuffer` returns 0 or an error's number. */
interface Handle {
  fd?: number;
  writeBuffer?(request: WriteRequest, bytes: Buffer): number;
}

interface StreamWrap {
  WriteWrap: new () => WriteRequest;
  /** What the last write was like. */
  streamBaseState: ArrayLike<number>;
  kLastWriteWasAsync: number;
}

/** Node's own means of writing to a handle; null where they are not what they were. */
function findStreamWrap(): StreamWrap | null {
  try {
    const wrap = (process as unknown as { binding(name: string): Partial<StreamWrap> }).binding('stream_wrap');
    const { WriteWrap, streamBaseState, kLastWriteWasAsync } = wrap;
    if (WriteWrap === undefined || streamBaseState === undefined || kLastWriteWasAsync === undefined) return null;
    return { WriteWrap, streamBaseState, kLastWriteWasAsync };
  } catch {
    return null;
  }
}

const streamWrap = findStreamWrap();

class SocketConnection implements Connection {
  handler: ConnectionHandler = NOBODY;
  remote = '';
  local = '';
  fd = -1;
  private readonly socket: net.Socket;
  /** What is written to; null where the socket's stream is. */
  private handle: Handle | null = null;
  private request: WriteRequest | null = null;
  /** Bytes given to the handle that the system has not taken. */
  private queued = 0;

  /** `make` gives the socket; one that can't read into the shared buffer must have its `data` event listened to. */
  constructor(make: (onread: OnRead) => net.Socket, keepAliveSeconds: number) {
    const socket = make({
      buffer: shared,
      callback: (bytes: number, buf: Uint8Array): boolean => {
        this.handler.onData(buf as Buffer, 0, bytes);
        return true;
      },
    });
    this.socket = socket;
    socket.setNoDelay(true);
    if (keepAliveSeconds > 0) socket.setKeepAlive(true, keepAliveSeconds * 1000);
    socket.on('end', () => this.handler.onEnd());
    socket.on('drain', () => this.handler.onDrain());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      const { handler } = this;
      this.handler = NOBODY;
      handler.onClose();
    });
  }

  readData(): void {
    this.socket.on('data', (chunk: Buffer) => this.handler.onData(chunk, 0, chunk.length));
  }

  /** From now on what is written goes to the socket's handle. */
  writeDirectly(): void {
    const { _handle } = this.socket as unknown as { _handle?: Handle | null };
    if (streamWrap !== null && _handle?.writeBuffer !== undefined) this.handle = _handle;
  }

  write(buf: Buffer, start: number, end: number): boolean {
    const { socket, handle } = this;
    if (socket.destroyed || socket.writableEnded) return true;
    // a view is another object: it is only made when it is needed
    const bytes = start === 0 && end === buf.length ? buf : buf.subarray(start, end);
    if (handle === null || socket.writableLength > 0) {
      socket.write(bytes);
      return this.pending() === 0;
    }
    const { WriteWrap, streamBaseState, kLastWriteWasAsync } = streamWrap!;
    this.request ??= new WriteWrap();
    if (handle.writeBuffer!(this.request, bytes) !== 0) {
      socket.destroy();
      return true;
    }
    if (streamBaseState[kLastWriteWasAsync] === 0) return true;
    this.await(this.request, bytes);
    this.request = null;
    return false;
  }

  /** The system has not taken all of it; the handle writes the rest when there is room. */
  private await(request: WriteRequest, bytes: Buffer): void {
    request.buffer = bytes;
    this.queued += bytes.length;
    request.oncomplete = (status) => {
      this.queued -= bytes.length;
      if (status < 0) this.socket.destroy();
      else if (this.pending() === 0) this.handler.onDrain();
    };
  }

  pending(): number {
    return this.socket.writableLength + this.queued;
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

function fdOf(socket: net.Socket): number {
  return (socket as unknown as { _handle?: Handle | null })._handle?.fd ?? -1;
}

/** A socket that a listener accepted: its handle moves into one that reads into the shared buffer. */
function acceptPlain(accepted: net.Socket, path: string | undefined, port: number, keepAlive: number): Connection {
  const remote = path !== undefined ? `${path}:0` : endpoint(accepted.remoteAddress, accepted.remotePort);
  const local = path !== undefined ? `${path}:0` : endpoint(accepted.localAddress, port);
  const handle = (accepted as unknown as { _handle?: Handle | null })._handle;
  const connection = new SocketConnection(
    (onread) => {
      if (!handle) return accepted;
      (accepted as unknown as { _handle: unknown })._handle = null;
      // what is left of it is no open connection: a server that closes would wait for it
      accepted.destroy();
      return new net.Socket({ handle, allowHalfOpen: true, onread } as net.SocketConstructorOpts);
    },
    path === undefined ? keepAlive : 0,
  );
  connection.remote = remote;
  connection.local = local;
  connection.fd = handle?.fd ?? -1;
  if (handle) {
    connection.writeDirectly();
    connection.resume();
  } else connection.readData();
  return connection;
}

function acceptTls(accepted: tls.TLSSocket, port: number, keepAlive: number): Connection {
  const connection = new SocketConnection(() => accepted, keepAlive);
  connection.remote = endpoint(accepted.remoteAddress, accepted.remotePort);
  connection.local = endpoint(accepted.localAddress, port);
  connection.fd = fdOf(accepted);
  connection.readData();
  return connection;
}

export class TcpTransport implements Transport {
  connect(options: ConnectOptions): Promise<Connection> {
    const { host, port } = options;
    return new Promise((resolve, reject) => {
      const refuse = (why: string) => reject(new GrammeError('IO', `can't connect to ${endpoint(host, port)}: ${why}`));
      let socket: net.Socket;
      let connection: SocketConnection;
      try {
        const secure = options.tls === undefined ? null : clientTls(options.tls);
        connection = new SocketConnection((onread) => {
          const plain = { host, port, allowHalfOpen: true };
          socket = secure === null ? net.connect({ ...plain, onread }) : tls.connect({ ...plain, ...secure });
          return socket;
        }, options.keepAliveSeconds ?? 0);
      } catch (error) {
        // certificates that can't be read, or a port that can't be one
        refuse((error as Error).message);
        return;
      }
      const timer = setTimeout(() => {
        refuse(`no answer within ${options.timeoutMs} ms`);
        socket.destroy();
      }, options.timeoutMs);
      // several addresses tried in vain give an error without a message
      socket!.once('error', (error: NodeJS.ErrnoException) => refuse(error.message || (error.code ?? 'failed')));
      socket!.once('close', () => {
        clearTimeout(timer);
        refuse('closed');
      });
      socket!.once(options.tls === undefined ? 'connect' : 'secureConnect', () => {
        clearTimeout(timer);
        connection.remote = endpoint(socket.remoteAddress, socket.remotePort);
        connection.local = endpoint(socket.localAddress, socket.localPort);
        connection.fd = fdOf(socket);
        resolve(connection);
        // what has been decrypted already must not come before the handler is there
        if (options.tls !== undefined) setImmediate(() => connection.readData());
        else connection.writeDirectly();
      });
    });
  }

  async listen(options: ListenOptions, accept: (connection: Connection) => void): Promise<Listener> {
    const { path, host } = options;
    if (path !== undefined && fs.existsSync(path) && fs.statSync(path).isSocket()) fs.rmSync(path);
    const port = () =>
      typeof server.address() === 'object' ? ((server.address() as net.AddressInfo | null)?.port ?? 0) : 0;
    const keepAlive = options.keepAliveSeconds ?? 0;
    const server =
      options.tls !== undefined
        ? tls.createServer({ allowHalfOpen: true, noDelay: true, ...serverTls(options.tls) })
        : net.createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true });
    if (options.tls !== undefined) {
      const optional = options.tls.authClients === 'optional';
      server.on('secureConnection', (socket: tls.TLSSocket) => {
        if (socket.destroyed) return;
        // none is fine, a bad one is not
        if (optional && !socket.authorized && Object.keys(socket.getPeerCertificate()).length > 0) socket.destroy();
        else accept(acceptTls(socket, port(), keepAlive));
      });
      // somebody who doesn't speak TLS, or shows no certificate
      server.on('tlsClientError', (_error, socket: tls.TLSSocket) => socket.destroy());
    } else {
      server.on('connection', (socket: net.Socket) => {
        // a client that is gone before we look has no address left
        if (!socket.destroyed) accept(acceptPlain(socket, path, port(), keepAlive));
      });
    }
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
          close: () => {
            // nothing is listened on from here on; connections end when their owners end them
            server.close();
            return Promise.resolve();
          },
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
