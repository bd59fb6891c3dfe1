/**
 * Byte streams, as the listener sees them: real sockets in `platform`, a seeded network in `sim`.
 *
 * Input is handed over in place: `onData` gets a buffer that is only valid until it returns, so whatever is
 * kept must be copied. Output buffers must stay untouched until `write` says that they were taken.
 */
export interface Connection {
  /** Address of the other end, as `host:port` or the socket's path. */
  readonly remote: string;
  readonly local: string;
  readonly fd: number;
  /**
   * Writes a slice and returns true when the system took all of it at once, so that the buffer may be reused;
   * false when it is still needed and `pending` bytes wait.
   */
  write(buf: Buffer, start: number, end: number): boolean;
  /** Bytes written but not yet taken by the system. */
  pending(): number;
  pause(): void;
  resume(): void;
  /** Closes after what is pending has gone out. */
  end(): void;
  /** Closes now. */
  destroy(): void;
  handler: ConnectionHandler;
}

export interface ConnectionHandler {
  onData(buf: Buffer, start: number, end: number): void;
  /** The other end will send nothing more. */
  onEnd(): void;
  /** All pending output has been taken. */
  onDrain(): void;
  onClose(): void;
}

/** Files and choices of TLS, as Redis's `tls-*` directives name them. */
export interface TlsOptions {
  certFile: string;
  keyFile: string;
  keyFilePass?: string;
  caFile?: string;
  caDir?: string;
  /** A listener's: must clients show a certificate that the CA has signed? */
  authClients?: 'yes' | 'no' | 'optional';
  /** e.g. `TLSv1.2 TLSv1.3` */
  protocols?: string;
  ciphers?: string;
  ciphersuites?: string;
  preferServerCiphers?: boolean;
}

export interface ListenOptions {
  tls?: TlsOptions;
  host?: string;
  port?: number;
  path?: string;
  /** Permission bits of a unix socket. */
  mode?: number;
  backlog?: number;
  keepAliveSeconds?: number;
}

export interface Listener {
  readonly address: string;
  close(): Promise<void>;
}

export interface ConnectOptions {
  host: string;
  port: number;
  /** Gives up after so many ms. */
  timeoutMs: number;
  keepAliveSeconds?: number;
  tls?: TlsOptions;
}

export interface Transport {
  /** Resolves once it listens. `accept` sets the connection's handler before it returns. */
  listen(options: ListenOptions, accept: (connection: Connection) => void): Promise<Listener>;
  /** Resolves with an open connection; nothing is read from it before its handler is set, in the same tick. Rejects with an IO error. */
  connect(options: ConnectOptions): Promise<Connection>;
}
