/**
 * The server: connections in, commands run, replies out, all in one thread and in one place.
 *
 * The path of a command is short on purpose and allocates nothing: bytes are parsed in place, the command is found by
 * its bytes, its handler runs against resident keys and writes its reply into the tick's output. What must wait (a key
 * on disk, an asynchronous command, a pause) suspends its client, whose later input queues behind it.
 */
import { NO_AUTH, READ_ONLY_DISK, ReplyError } from '../base/errors.ts';
import { MAX_STRING_BYTES, OUTPUT_PAUSE_BYTES, PREFETCH_COMMANDS } from '../base/limits.ts';
import type { CommandContext } from '../commands/command.ts';
import type { Command, CommandTable } from '../commands/table.ts';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { SyncPolicy } from '../ports/engine.ts';
import type { Host } from '../ports/host.ts';
import type { Log } from '../ports/log.ts';
import type { Connection, Listener, TlsOptions, Transport } from '../ports/transport.ts';
import { Argv } from '../resp/argv.ts';
import { INCOMPLETE, INVALID, RequestParser } from '../resp/parser.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import { type Database, type KeyPlace, type Keyspace, MISS } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import { Client, REPLY_OFF, REPLY_ON, REPLY_SKIP } from './client.ts';
import type { Config } from './config.ts';
import { Coverage } from './coverage.ts';
import type { Intake } from './intake.ts';
import { formatMonitorLine } from './monitor.ts';
import { Output } from './output.ts';
import type { Router } from './router.ts';
import type { Server } from './server.ts';
import { Sla } from './sla.ts';
import { Stats } from './stats.ts';
import { tlsOptions } from './tls.ts';

const CRON_MS = 100;
const MIN_PENDING_BYTES = 4096;
/** One in so many calls of a fast command is timed; the others are reckoned to take as long. */
const TIMING_SAMPLE = 32;

const DENIED =
  '-DENIED Gramme is running in protected mode because protected mode is enabled and no password is set for the default user. ' +
  'In this mode connections are only accepted from the loopback interface. To connect from other computers, either set a password ' +
  "with 'requirepass', bind to trusted addresses only, or turn protected mode off with CONFIG SET protected-mode no.\r\n";

export interface ServerParts {
  config: Config;
  store: Store;
  table: CommandTable;
  transport: Transport;
  clock: Clock;
  timers: Timers;
  random: Random;
  host: Host;
  log: Log;
  /** Called when SHUTDOWN (or a signal) has stopped everything. */
  onStopped: () => void;
}

export class GrammeServer implements Server, CommandContext {
  readonly config: Config;
  readonly store: Store;
  readonly keys: Keyspace;
  readonly coverage: Coverage;
  readonly table: CommandTable;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly host: Host;
  readonly log: Log;
  readonly stats: Stats;
  readonly clients = new Map<number, Client>();
  readonly monitors = new Set<Client>();
  readonly runId: string;
  readonly nodeId: string;
  readonly startedMs: number;
  pausedUntilMs = 0;
  private pausedWritesOnly = false;

  // the command context: one for all commands, since they run one at a time
  readonly server: Server = this;
  argv: Argv;
  out: ReplyWriter;
  client!: Client;
  db!: Database;
  now = 0;

  private readonly transport: Transport;
  readonly output: Output;
  readonly sla: Sla;
  /** Set in a cluster. */
  router: Router | null = null;
  private readonly parsed = new Argv(1024);
  private readonly peeked = new Argv(64);
  private readonly peeker = new RequestParser();
  /** The command that has just run needs a key from disk. */
  private missed = false;
  /** A command is being run. */
  private executing = false;
  private readonly listeners: Listener[] = [];
  private readonly onStopped: () => void;
  private readonly background: Timer[] = [];
  private nextClientId = 1;
  private deferred: Promise<(out: ReplyWriter) => void> | null = null;
  private calls = 0;
  private stopping: Promise<void> | null = null;
  private throttled = false;
  /** Set in a cluster. */
  private intake: Intake | null = null;
  /** Clients whose input waits until there is room. */
  private readonly held = new Set<Client>();
  /** Clients held back by CLIENT PAUSE or by an overload. */
  private readonly waitingForGate = new Set<Client>();

  constructor(parts: ServerParts) {
    this.config = parts.config;
    this.store = parts.store;
    this.keys = parts.store.keys;
    this.coverage = new Coverage(parts.store);
    this.table = parts.table;
    this.transport = parts.transport;
    this.clock = parts.clock;
    this.timers = parts.timers;
    this.random = parts.random;
    this.host = parts.host;
    this.log = parts.log;
    this.onStopped = parts.onStopped;
    this.stats = new Stats(parts.clock, parts.config);
    this.sla = new Sla(
      () => parts.clock.monotonic(),
      () => this.stats.commands,
    );
    this.followConfig();
    this.runId = parts.random.bytes(20).toString('hex');
    this.nodeId = parts.store.identity.nodeId;
    this.startedMs = parts.clock.now();
    this.now = this.startedMs;
    this.output = new Output((run) => parts.timers.endOfTick(run));
    this.output.sla = this.sla;
    this.output.batchToAwait = () => this.store.journal.tickEnd();
    this.output.onWritten = (_, bytes) => {
      this.stats.netOut += bytes;
    };
    this.store.journal.onCommitted = (upTo) => {
      this.output.release(upTo);
      // under `always` the next batch is sealed at the end of a tick, with the replies that belong to it
      this.output.wake();
    };
    this.store.journal.onFailure = () => this.output.abandon();
    this.store.journal.onSynced = (ms) => this.stats.latency('journal-fsync', ms);
    this.store.fold.onProgress = () => this.checkLoad();
    this.store.fold.idleShare = () => this.host.idleShare();
    // what other nodes have done here is work like any
    this.store.fold.commands = () =>
      this.stats.commands + this.keys.stats.events + (this.router?.cluster.receiver.stats.compares ?? 0);
    this.argv = this.parsed;
    this.out = this.output.w;
  }

  // ------------------------------------------------------------------ start and stop

  async listen(): Promise<string[]> {
    const port = this.config.num('port');
    const backlog = this.config.num('tcp-backlog');
    const accept = (connection: Connection) => this.accept(connection);
    const keepAliveSeconds = this.config.num('tcp-keepalive');
    const tlsPort = this.config.num('tls-port');
    const ports: { port: number; tls?: TlsOptions }[] = [];
    if (port > 0) ports.push({ port });
    if (tlsPort > 0) ports.push({ port: tlsPort, tls: tlsOptions(this.config) });
    for (const { port, tls } of ports) {
      for (const bind of this.config.list('bind')) {
        const optional = bind.startsWith('-');
        const address = optional ? bind.slice(1) : bind;
        const host = address === '*' ? '0.0.0.0' : address === '::*' ? '::' : address;
        try {
          this.listeners.push(await this.transport.listen({ host, port, backlog, keepAliveSeconds, tls }, accept));
        } catch (error) {
          if (!optional) throw error;
          this.log.debug({ address, error: String(error) }, 'an optional address is not available');
        }
      }
    }
    const path = this.config.get('unixsocket');
    if (path !== '') {
      const mode = Number.parseInt(this.config.get('unixsocketperm'), 8) || 0;
      this.listeners.push(await this.transport.listen({ path, mode, backlog }, accept));
    }
    this.background.push(this.timers.every(CRON_MS, () => this.cron()));
    if (this.router !== null) {
      const address = await this.router.cluster.start(this.router);
      this.log.info({ bus: address }, 'the cluster bus is open');
    }
    return this.listeners.map((l) => l.address);
  }

  /** Has peers from now on; called before `listen`. */
  joinCluster(router: Router): void {
    this.router = router;
    const { cluster } = router;
    this.coverage.join(cluster);
    this.output.onTickEnd = () => cluster.receiver.tickEnd();
    this.output.ticketToAwait = () => cluster.replicator.seal();
    this.output.onHeld = () => cluster.replicator.check();
    this.intake = this.output.intake = this.router.intake;
    this.output.onSent = () => {
      cluster.flushLinks();
      this.letIn();
    };
    const committed = this.store.journal.onCommitted;
    this.store.journal.onCommitted = (upTo) => {
      committed(upTo);
      cluster.receiver.committed(upTo);
    };
  }

  /** Resolves when this node belongs to the cluster that it is to join; at once when it is alone. */
  async joined(): Promise<void> {
    if (this.router === null) return;
    await this.router.cluster.membership.joined;
    await this.router.cluster.started;
  }

  shutdown(): Promise<void> {
    this.stopping ??= this.stop();
    return this.stopping;
  }

  private async stop(): Promise<void> {
    this.log.info({}, 'shutting down');
    for (const t of this.background) t.cancel();
    for (const l of this.listeners) void l.close();
    // nothing new comes in, what was acknowledged goes to disk, and its replies go out
    for (const client of this.clients.values()) {
      client.waiting = true;
      client.connection.pause();
    }
    this.output.flush();
    await this.store.journal.flush();
    this.output.flush();
    await this.router?.cluster.stop();
    await this.store.close();
    for (const client of this.clients.values()) client.connection.destroy();
    this.log.info({}, 'everything is on disk; bye');
    this.onStopped();
  }

  // ------------------------------------------------------------------ connections

  private accept(connection: Connection): void {
    this.stats.connectionsReceived++;
    if (this.clients.size >= this.config.num('maxclients')) {
      this.stats.connectionsRejected++;
      this.refuse(connection, '-ERR max number of clients reached\r\n');
      return;
    }
    if (this.config.bool('protected-mode') && this.config.get('requirepass') === '' && !isLoopback(connection.remote)) {
      this.stats.connectionsRejected++;
      this.refuse(connection, DENIED);
      return;
    }
    const client = new Client(this.nextClientId++, connection, this.clock.now());
    client.authenticated = this.config.get('requirepass') === '';
    client.parser.authenticated = client.authenticated;
    client.parser.maxBulkBytes = Math.min(this.config.num('proto-max-bulk-len'), MAX_STRING_BYTES);
    this.clients.set(client.id, client);
    if (this.throttled) connection.pause();
    connection.handler = {
      onData: (buf, start, end) => this.input(client, buf, start, end),
      onEnd: () => this.inputEnded(client),
      onDrain: () => this.drained(client),
      onClose: () => this.gone(client),
    };
  }

  private refuse(connection: Connection, text: string): void {
    const bytes = Buffer.from(text, 'latin1');
    connection.write(bytes, 0, bytes.length);
    connection.end();
  }

  private gone(client: Client): void {
    client.closed = true;
    client.pending = null;
    this.clients.delete(client.id);
    this.monitors.delete(client);
    this.waitingForGate.delete(client);
    this.held.delete(client);
  }

  /** The other end is done sending: it still gets what it asked for. */
  private inputEnded(client: Client): void {
    if (client.closed) return;
    if (client.waiting || client.held) client.endAfterWaiting = true;
    else this.closeClient(client, true);
  }

  closeClient(client: Client, afterReply: boolean): void {
    if (client.closed || client.closing) return;
    if (!afterReply) {
      client.connection.destroy();
      return;
    }
    client.closing = true;
    const current = this.client;
    this.output.select(client);
    if (current !== undefined && current !== client && !current.closed) this.output.select(current);
  }

  push(client: Client, write: (out: ReplyWriter) => void): void {
    if (client.closed || client.closing) return;
    write(this.output.select(client));
  }

  private drained(client: Client): void {
    if (!client.paused || client.connection.pending() > OUTPUT_PAUSE_BYTES / 2) return;
    client.paused = false;
    this.readOn(client);
    this.resumeInput(client);
  }

  /** Reads from a client again, unless there is another reason not to. */
  private readOn(client: Client): void {
    if (!this.throttled && !client.paused && !client.held) client.connection.resume();
  }

  /** Too much is under way: the client's input waits. */
  private hold(client: Client): void {
    client.held = true;
    this.held.add(client);
    this.intake!.held++;
    client.connection.pause();
  }

  /** Input that waits goes on, as far as there is room. */
  letIn(): void {
    if (this.held.size === 0 || !this.intake!.hasRoom) return;
    const clients = [...this.held];
    for (const client of clients) {
      if (this.intake!.isFull) return;
      if (!client.held) continue;
      client.held = false;
      this.held.delete(client);
      this.tick();
      this.resumeInput(client);
      if (client.endAfterWaiting && !client.waiting && !client.held) this.closeClient(client, true);
      else this.readOn(client);
    }
  }

  // ------------------------------------------------------------------ input

  private input(client: Client, buf: Buffer, start: number, end: number): void {
    this.tick();
    this.stats.netIn += end - start;
    client.bytesIn += end - start;
    if (client.closing) return;
    if (client.pending === null && !client.waiting && !client.held) {
      const at = this.run(client, buf, start, end);
      if (at < end) this.keep(client, buf, at, end);
      return;
    }
    this.keep(client, buf, start, end);
    this.resumeInput(client);
  }

  private tick(): void {
    this.now = this.keys.now = this.clock.now();
    this.keys.seconds = (this.now / 1000) | 0;
  }

  /** Copies input that can't be executed yet. */
  private keep(client: Client, buf: Buffer, start: number, end: number): void {
    if (client.closed || client.closing) return;
    const n = end - start;
    let used = client.pendingEnd - client.pendingStart;
    if (client.pending === null) {
      client.pending = Buffer.allocUnsafeSlow(Math.max(MIN_PENDING_BYTES, n));
      client.pendingStart = client.pendingEnd = used = 0;
    }
    if (used + n > this.config.num('client-query-buffer-limit')) {
      this.log.warn({ client: client.id, bytes: used + n }, 'closing a client that reached client-query-buffer-limit');
      this.closeClient(client, false);
      return;
    }
    if (client.pendingEnd + n > client.pending.length) {
      let target = client.pending;
      if (used + n > client.pending.length || client.pendingStart < client.pending.length / 2) {
        // growth by doubling, towards what the command is known to need
        let size = client.pending.length;
        while (size < used + n) size *= 2;
        target = Buffer.allocUnsafeSlow(size);
      }
      client.pending.copy(target, 0, client.pendingStart, client.pendingEnd);
      client.pending = target;
      client.pendingStart = 0;
      client.pendingEnd = used;
    }
    buf.copy(client.pending, client.pendingEnd, start, end);
    client.pendingEnd += n;
    // one that pipelines while it waits is not read from without bound
    if (client.waiting && client.pendingEnd - client.pendingStart > OUTPUT_PAUSE_BYTES && !client.paused) {
      client.paused = true;
      client.connection.pause();
    }
  }

  private resumeInput(client: Client): void {
    if (client.pending === null || client.waiting || client.closing || client.closed || client.paused || client.held)
      return;
    const { pendingStart, pendingEnd } = client;
    if (pendingEnd - pendingStart < client.parser.wanted()) return;
    const at = this.run(client, client.pending, pendingStart, pendingEnd);
    if (client.pending === null) return;
    if (at >= client.pendingEnd) client.pending = null;
    else client.pendingStart = at;
  }

  /** Executes the commands in buf[start, end); returns where it stopped. */
  private run(client: Client, buf: Buffer, start: number, end: number): number {
    const { parser } = client;
    const argv = this.parsed;
    let at = start;
    while (at < end) {
      const next = parser.next(argv, buf, at, end);
      if (next === INCOMPLETE) break;
      if (next === INVALID) {
        this.output.select(client).error(parser.error);
        this.stats.errorReply(parser.error);
        this.closeClient(client, true);
        return end;
      }
      at = next;
      if (argv.argc === 0) continue;
      if (this.intake !== null) this.intake.taken++;
      this.execute(client, argv);
      if (client.waiting || client.closing || client.closed) {
        if (this.missed) this.prefetch(buf, at, end);
        break;
      }
      if (this.router !== null) {
        this.router.pushIfLarge();
        if (this.intake!.isFull && !this.router.cluster.isAlone) {
          this.hold(client);
          break;
        }
      }
      if (this.output.w.pos > 65536) {
        this.output.flushIfLarge();
        if (client.connection.pending() > OUTPUT_PAUSE_BYTES) {
          client.paused = true;
          client.connection.pause();
          break;
        }
      }
    }
    return at;
  }

  // ------------------------------------------------------------------ execution

  private execute(client: Client, argv: Argv): void {
    const out = this.output.select(client);
    this.client = client;
    this.argv = argv;
    this.out = out;
    this.executing = true;
    this.db = this.keys.names[client.db];
    client.lastMs = this.now;
    client.commands++;
    this.stats.commands++;
    const before = out.pos;
    const skip = client.skipNext;
    client.skipNext = false;
    let command = this.table.find(argv);
    if (command === null) {
      this.fail(out, unknownCommand(argv), null);
    } else {
      if (command.subcommands !== null && argv.argc > 1) command = this.subcommand(command, argv, out);
      if (command !== null && this.admit(client, command, argv, out)) this.call(client, command, argv, out, before);
    }
    if (client.replyMode !== REPLY_ON || skip) this.dropReply(client, out, before, skip);
    this.executing = false;
  }

  private dropReply(client: Client, out: ReplyWriter, before: number, skip: boolean): void {
    if (client.replyMode === REPLY_OFF || skip) out.pos = before;
    else if (client.replyMode === REPLY_SKIP) {
      client.replyMode = REPLY_ON;
      client.skipNext = true;
      out.pos = before;
    }
  }

  private subcommand(command: Command, argv: Argv, out: ReplyWriter): Command | null {
    const sub = command.subcommands!.get(argv.lower(1));
    if (sub !== undefined) return sub;
    this.fail(
      out,
      `ERR unknown subcommand '${shown(argv, 1, 128)}'. Try ${command.spec.name.toUpperCase()} HELP.`,
      command,
    );
    return null;
  }

  /** May this command run now? Replies when it may not. */
  private admit(client: Client, command: Command, argv: Argv, out: ReplyWriter): boolean {
    const { arity } = command;
    if (arity > 0 ? argv.argc !== arity : argv.argc < -arity) {
      this.reject(command, out, `ERR wrong number of arguments for '${command.fullName}' command`);
      return false;
    }
    if (!client.authenticated && !command.noAuth) {
      this.reject(command, out, NO_AUTH.message);
      return false;
    }
    if (this.pausedUntilMs > 0 && this.mustPause(command)) {
      this.suspend(client, argv);
      this.waitingForGate.add(client);
      return false;
    }
    // in a cluster another node may take what this one's disk refuses
    if (this.router !== null && !this.router.enter(client, command, argv)) return false;
    if (!command.write || this.store.journal.failure === null) return true;
    if (this.router?.refuse(client)) return false;
    this.reject(command, this.output.select(client), READ_ONLY_DISK.message);
    return false;
  }

  private reject(command: Command, out: ReplyWriter, message: string): void {
    command.stat.rejected++;
    this.stats.errorReply(message);
    out.error(message);
  }

  private fail(out: ReplyWriter, message: string, command: Command | null): void {
    if (command !== null) command.stat.failed++;
    this.stats.errorReply(message);
    out.error(message);
  }

  private call(client: Client, command: Command, argv: Argv, out: ReplyWriter, before: number): void {
    const timed = !command.fast || this.stats.timeAll || (++this.calls & (TIMING_SAMPLE - 1)) === 0;
    const started = timed ? this.clock.monotonic() : 0;
    client.lastCommand = command.fullName;
    let failed = false;
    try {
      command.handler(this);
    } catch (error) {
      if (error === MISS) {
        out.pos = before;
        this.fetchAndRetry(client, command, argv);
        return;
      }
      this.caught(error, command, out, before);
      failed = true;
    }
    if (this.router !== null) this.router.leave(client, command, argv, before, out.pos, failed);
    if (this.monitors.size > 0 && !command.skipMonitor) this.feedMonitors(client, argv);
    if (this.deferred !== null) this.awaitDeferred(client, command, argv);
    if (timed) {
      const usec = (this.clock.monotonic() - started) * 1000;
      this.stats.called(command.stat, usec);
      if (!command.skipSlowlog) this.stats.slow(usec, argv, client);
    } else command.stat.calls++;
  }

  private caught(error: unknown, command: Command, out: ReplyWriter, before: number): void {
    out.pos = before;
    if (error instanceof ReplyError) {
      this.fail(out, error.message, command);
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    this.log.error(
      { command: command.fullName, error: error instanceof Error ? error.stack : message },
      'a command failed',
    );
    this.fail(out, `ERR internal error: ${message}`, command);
  }

  private feedMonitors(client: Client, argv: Argv): void {
    const line = formatMonitorLine(this.now, client, argv);
    for (const monitor of this.monitors) if (monitor !== client) this.output.select(monitor).simple(line);
    this.output.select(client);
  }

  slot(i: number): number {
    return this.argv.slot(i);
  }

  // ------------------------------------------------------------------ waiting

  /** Stops serving a client until `resume`; what it sends meanwhile is kept. */
  suspend(client: Client, argv: Argv): void {
    client.waiting = true;
    if (client.waitingAt === 0) client.waitingAt = this.sla.now();
    client.waitingArgv = argv.copy();
  }

  /** Runs a suspended client's command again, then what has come in behind it. */
  retry(client: Client): void {
    const argv = client.waitingArgv;
    client.waiting = false;
    client.waitingArgv = null;
    if (client.closed || argv === null) return;
    this.tick();
    client.commands--;
    this.stats.commands--;
    this.execute(client, argv);
    if (!client.waiting) this.goOn(client);
  }

  private goOn(client: Client): void {
    if (client.closed) return;
    if (client.waitingAt > 0) {
      this.sla.filled(client.waitingAt);
      client.waitingAt = 0;
    }
    if (client.paused && client.connection.pending() <= OUTPUT_PAUSE_BYTES) {
      client.paused = false;
      this.readOn(client);
    }
    this.resumeInput(client);
    if (client.endAfterWaiting && !client.waiting && !client.held) this.closeClient(client, true);
  }

  /** Runs a command for somebody who is no connection. */
  executeFor(client: Client, argv: Argv): void {
    const { client: current, argv: was, out, db, executing } = this;
    this.execute(client, argv);
    this.executing = executing;
    this.client = current;
    this.argv = was;
    this.out = out;
    this.db = db;
    // within a handler that ended a link, say: what that one goes on to reply is not part of this command's reply
    if (executing) this.output.resume(current);
    else if (current !== undefined && !current.closed) this.output.reselect(current);
  }

  /** The database of the command at hand. */
  dbOf(): Database {
    return this.db;
  }

  /** What happens from now on happens at this time. */
  beginTick(): void {
    this.tick();
  }

  /** Replies at once to the command that is being admitted. */
  replyNow(client: Client, text: string): void {
    this.output.select(client).raw(text);
  }

  replyBytes(client: Client, bytes: Buffer): void {
    this.output.select(client).raw(bytes.latin1Slice());
  }

  /** The command that a client waits for has failed. */
  failWaiting(client: Client, error: ReplyError): void {
    client.waiting = false;
    client.waitingArgv = null;
    if (client.closed) return;
    this.tick();
    const out = this.output.select(client);
    this.fail(out, error.message, null);
    this.goOn(client);
  }

  /** The command needs keys from disk: brings in all that it names, and runs it again. */
  private fetchAndRetry(client: Client, command: Command, argv: Argv): void {
    this.missed = true;
    // it has removed what was past its deadline, and nothing else
    this.keys.onOwn?.();
    const miss = this.keys.missing!;
    const places: KeyPlace[] = [miss];
    for (const i of this.table.keyPositions(command.spec, argv) ?? []) {
      const key = argv.str(i);
      const slot = this.slot(i);
      if (!this.keys.isResident(miss.db, key, slot)) places.push({ db: miss.db, key, slot });
    }
    this.suspend(client, argv);
    this.store.residency.load(places).then(
      () => this.retry(client),
      (error) => {
        client.waiting = false;
        client.waitingArgv = null;
        if (client.closed) return;
        this.log.error({ error: String(error) }, 'a key could not be read');
        const out = this.output.select(client);
        this.fail(out, 'IOERR the key could not be read from disk; see the server log', command);
        this.goOn(client);
      },
    );
  }

  /**
   * A pipelining client waits for a key from disk: the keys of the commands behind it are read along, in the same
   * read, or each would wait in turn. Nothing is run; a command that turns out otherwise only read in vain.
   */
  private prefetch(buf: Buffer, start: number, end: number): void {
    this.missed = false;
    const parser = this.peeker;
    const argv = this.peeked;
    parser.reset();
    const places: KeyPlace[] = [];
    let at = start;
    for (let n = 0; n < PREFETCH_COMMANDS && at < end; n++) {
      at = parser.next(argv, buf, at, end);
      if (at < 0) break;
      const command = argv.argc === 0 ? null : this.table.find(argv);
      // what changes the database changes what the names behind it mean
      if (command === null || command.spec.name === 'select' || command.subcommands !== null) break;
      for (const i of this.table.keyPositions(command.spec, argv) ?? []) {
        const key = argv.str(i);
        const slot = argv.slot(i);
        if (!this.keys.isResident(this.db, key, slot)) places.push({ db: this.db, key, slot });
      }
    }
    // whoever needs them will see what went wrong
    if (places.length > 0) this.store.residency.load(places).catch(() => {});
  }

  defer(work: Promise<(out: ReplyWriter) => void>): void {
    this.deferred = work;
  }

  private awaitDeferred(client: Client, command: Command, argv: Argv): void {
    const work = this.deferred!;
    this.deferred = null;
    const { name } = command.spec;
    client.waiting = true;
    client.waitingArgv = null;
    void argv;
    const settle = (reply: (out: ReplyWriter) => void) => {
      client.waiting = false;
      if (client.closed) return;
      this.tick();
      const out = this.output.select(client);
      this.client = client;
      const before = out.pos;
      try {
        reply(out);
      } catch (error) {
        this.caught(error, command, out, before);
      }
      if (client.replyMode === REPLY_OFF) out.pos = before;
      this.goOn(client);
    };
    work.then(settle, (error) =>
      settle((out) => {
        if (!(error instanceof ReplyError)) this.log.error({ command: name, error: String(error) }, 'a command failed');
        this.fail(out, error instanceof ReplyError ? error.message : `ERR internal error: ${String(error)}`, command);
      }),
    );
  }

  // ------------------------------------------------------------------ gates

  pause(untilMs: number, writesOnly: boolean): void {
    this.pausedUntilMs = untilMs;
    this.pausedWritesOnly = writesOnly;
    // not within the command that ends the pause: commands run one at a time
    if (untilMs === 0) this.timers.endOfTick(() => this.openGate());
  }

  private mustPause(command: Command): boolean {
    if (this.now >= this.pausedUntilMs) {
      this.pausedUntilMs = 0;
      return false;
    }
    if (command.spec.name === 'client' || command.fullName.startsWith('client|')) return false;
    return !this.pausedWritesOnly || command.write;
  }

  private openGate(): void {
    if (this.pausedUntilMs > 0) return;
    const clients = [...this.waitingForGate];
    this.waitingForGate.clear();
    for (const client of clients) this.retry(client);
  }

  /** Writes that come faster than the disk takes them: clients are not read from until it has caught up. */
  private checkLoad(): void {
    const overloaded = this.store.overloaded();
    if (overloaded === this.throttled) return;
    this.throttled = overloaded;
    for (const client of this.clients.values()) {
      if (overloaded) client.connection.pause();
      else this.readOn(client);
    }
    this.log.debug(
      { backlog: this.store.journal.backlogBytes },
      overloaded ? 'input waits for the fold' : 'input goes on',
    );
  }

  // ------------------------------------------------------------------ configuration

  /** Applies directives now, and whenever CONFIG SET changes them. */
  private followConfig(): void {
    const { config, store } = this;
    const follow = (name: string, apply: () => void) => {
      apply();
      config.onChange(name, apply);
    };
    follow('sla-ms', () => {
      this.sla.limitMs = config.num('sla-ms');
    });
    follow('max-siblings', () => {
      this.keys.maxSiblings = config.num('max-siblings');
    });
    follow('maxmemory', () => {
      // beyond its limit the heap would end the process; half of it leaves room for everything that is no key
      const heap = this.host.heapLimitBytes() * 0.5;
      const asked = config.num('maxmemory');
      store.setMemoryLimit(asked === 0 ? heap : Math.min(asked, heap));
    });
    follow('proto-max-bulk-len', () => {
      const bytes = Math.min(config.num('proto-max-bulk-len'), MAX_STRING_BYTES);
      for (const client of this.clients.values()) client.parser.maxBulkBytes = bytes;
    });
    config.onChange('appendfsync', () => void store.journal.setPolicy(config.get('appendfsync') as SyncPolicy));
    config.onChange('requirepass', () => {
      // clients that are in stay in, as in Redis; new ones must know the password
      for (const client of this.clients.values()) client.parser.authenticated = client.authenticated;
    });
  }

  // ------------------------------------------------------------------ housekeeping

  private cron(): void {
    this.tick();
    this.stats.cron();
    this.checkLoad();
    if (this.pausedUntilMs > 0 && this.now >= this.pausedUntilMs) this.pause(0, false);
    const timeoutSeconds = this.config.num('timeout');
    if (timeoutSeconds > 0) {
      for (const client of this.clients.values()) {
        if (!client.waiting && !client.monitor && this.now - client.lastMs > timeoutSeconds * 1000)
          this.closeClient(client, false);
      }
    }
  }
}

function isLoopback(remote: string): boolean {
  return remote.startsWith('127.') || remote.startsWith('[::1]') || remote.startsWith('/') || !remote.includes(':');
}

function unknownCommand(argv: Argv): string {
  let args = '';
  for (let i = 1; i < argv.argc && args.length < 128; i++) args += `'${shown(argv, i, 128 - args.length)}' `;
  return `ERR unknown command '${shown(argv, 0, 128)}', with args beginning with: ${args}`;
}

/** An argument as error texts echo it: up to its first zero byte, and not too much of it. */
function shown(argv: Argv, i: number, limit: number): string {
  const text = argv.str(i);
  const zero = text.indexOf('\0');
  return text.slice(0, Math.min(limit, zero < 0 ? text.length : zero));
}
