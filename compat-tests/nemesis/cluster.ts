/**
 * A cluster of real processes on this machine, whose members can be killed, paused, cut off, emptied, added and sent
 * away. What it starts is ended by its process id: when it is told to, and in any case with the test's process.
 *
 * Ports lie below those that the system gives to outgoing connections: one of these must not have taken a port by the
 * time that a killed node comes back to it.
 */
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { freshDirectory, removeDirectory, Server, sleep } from '../durability/server.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** What is tested; another build can be named. */
const SERVER = resolve(process.env['GRAMME_SERVER'] ?? join(ROOT, 'bin/gramme-server'));
const FIRST_PORT = Number(process.env['NEMESIS_PORT'] ?? 7501);
const LAST_PORT = 9999;
const BUS_OFFSET = 10_000;
const PAGES_OFFSET = 20_000;
/** Ports that a cluster sets aside: its nodes and those that may be added. */
const BLOCK = 12;
const CALL_TIMEOUT_MS = 5000;
const FORM_TIMEOUT_MS = 20_000;
const POLL_MS = 50;

/**
 * A connection that never sends a command twice and never keeps one for later: whatever was not answered is unknown, and
 * is counted as that.
 */
export function connectTo(port: number, commandTimeout = CALL_TIMEOUT_MS): Redis {
  const redis = new Redis({
    host: '127.0.0.1',
    port,
    commandTimeout,
    connectTimeout: 1000,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: () => 50,
  });
  redis.on('error', () => {});
  return redis;
}

/** Resolves once a connection can be used; false when that takes longer. */
export async function usable(redis: Redis, timeoutMs = CALL_TIMEOUT_MS): Promise<boolean> {
  for (const until = Date.now() + timeoutMs; redis.status !== 'ready'; await sleep(10)) {
    if (redis.status === 'end' || Date.now() > until) return false;
  }
  return true;
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Polls until something holds; false when it does not in time. */
export async function eventually(timeoutMs: number, holds: () => Promise<boolean>): Promise<boolean> {
  for (const until = Date.now() + timeoutMs; ; await sleep(POLL_MS)) {
    if (await holds()) return true;
    if (Date.now() > until) return false;
  }
}

/** What is said to each node, or what depends on its port. */
type Argument = string | ((port: number) => string);

/** Directives for a cluster whose nodes have a port for browsers. */
export const PAGES: readonly Argument[] = ['--metrics-port', (port) => String(port + PAGES_OFFSET)];

/** One node: a place (ports, directory) and the process that is there at the moment. */
export class Member {
  readonly port: number;
  readonly directory: string;
  server: Server;
  /** Its id in the cluster; another one after its disk was emptied. */
  id = '';
  state: 'up' | 'paused' | 'down' = 'up';
  /** For questions about the node itself. */
  private admin: Redis | null = null;
  private readonly args: string[];

  constructor(port: number, args: readonly Argument[]) {
    this.port = port;
    this.directory = freshDirectory('gramme-nemesis-');
    this.args = [
      '--max-semi-space-size=32',
      '--no-parallel-scavenge',
      SERVER,
      '--bind',
      '127.0.0.1',
      '--port',
      String(port),
    ];
    this.args.push('--cluster-port', String(port + BUS_OFFSET), '--dir', this.directory);
    for (const arg of args) this.args.push(typeof arg === 'string' ? arg : arg(port));
    this.server = this.spawn();
  }

  get name(): string {
    return String(this.port);
  }

  /** Where a browser and a Prometheus look, in a cluster that was started with PAGES. */
  get pages(): string {
    return `http://127.0.0.1:${this.port + PAGES_OFFSET}`;
  }

  private spawn(): Server {
    return new Server(process.execPath, this.args, this.port);
  }

  /** Runs a command on this very node. */
  async call(command: string, ...args: string[]): Promise<unknown> {
    if (this.admin === null || this.admin.status === 'end') this.admin = connectTo(this.port);
    if (!(await usable(this.admin))) throw new Error(`${this.name} can not be reached`);
    return this.admin.call(command, ...args);
  }

  /** Fields of INFO. */
  async info(section: string): Promise<Map<string, string>> {
    const lines = String(await this.call('INFO', section)).split('\r\n');
    return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
  }

  async ready(): Promise<void> {
    await this.server.ready();
    this.id = String(await this.call('CLUSTER', 'MYID'));
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.state = 'down';
    await this.server.kill();
  }

  /** Comes back to what its process left. */
  async restart(): Promise<void> {
    this.server = this.spawn();
    await this.ready();
    this.state = 'up';
  }

  /** Comes back with an empty disk; the node must be down. */
  async restartEmpty(): Promise<void> {
    rmSync(this.directory, { recursive: true, force: true });
    await this.restart();
  }

  pause(): void {
    this.state = 'paused';
    this.server.child.kill('SIGSTOP');
  }

  resume(): void {
    this.server.child.kill('SIGCONT');
    this.state = 'up';
  }

  async end(): Promise<void> {
    this.state = 'down';
    this.admin?.disconnect();
    await this.server.kill();
    removeDirectory(this.directory);
  }
}

/** The first port of a block in which nobody listens: not for clients, not for nodes, not for browsers. */
async function freeBlock(): Promise<number> {
  const isFree = (port: number) =>
    new Promise<boolean>((done) => {
      const probe = createServer();
      probe.once('error', () => done(false));
      probe.listen(port, '127.0.0.1', () => probe.close(() => done(true)));
    });
  for (let first = FIRST_PORT; first + BLOCK <= LAST_PORT; first += BLOCK) {
    const ports = Array.from({ length: BLOCK }, (_, i) => first + i);
    const free = await Promise.all(ports.flatMap((p) => [p, p + BUS_OFFSET, p + PAGES_OFFSET].map(isFree)));
    if (free.every((x) => x)) return first;
  }
  throw new Error(`no ${BLOCK} free ports between ${FIRST_PORT} and ${LAST_PORT}`);
}

export class TestCluster {
  /** Those that belong to it; who has left is gone from here. */
  members: Member[] = [];
  private readonly args: readonly Argument[];
  private nextPort: number;

  private constructor(first: number, args: readonly Argument[]) {
    this.args = args;
    this.nextPort = first;
  }

  /** Starts so many nodes at once, and waits until they are one cluster. */
  static async start(nodes: number, ...directives: Argument[]): Promise<TestCluster> {
    const first = await freeBlock();
    const seeds = Array.from({ length: nodes }, (_, i) => `127.0.0.1:${first + i + BUS_OFFSET}`).join(' ');
    const args: Argument[] = ['--cluster-seeds', seeds, '--cluster-auto-join', 'yes', '--cluster-secret', 'nemesis'];
    args.push('--enable-debug-command', 'yes', ...directives);
    const cluster = new TestCluster(first, args);
    try {
      for (let i = 0; i < nodes; i++) cluster.members.push(new Member(cluster.nextPort++, args));
      await Promise.all(cluster.members.map((m) => m.ready()));
      await cluster.settled();
      return cluster;
    } catch (error) {
      await cluster.end();
      throw error;
    }
  }

  get up(): Member[] {
    return this.members.filter((m) => m.state === 'up');
  }

  /** Resolves when all nodes own their parts of the ring, and nothing is moving. */
  async settled(timeoutMs = FORM_TIMEOUT_MS): Promise<void> {
    let last = '';
    const ok = await eventually(timeoutMs, async () => {
      const states = await Promise.all(
        this.members.map(async (m) => {
          const cluster = new Map(
            String(await m.call('CLUSTER', 'INFO'))
              .split('\r\n')
              .map((line) => line.split(':') as [string, string]),
          );
          const moving = (await m.info('dynamo')).get('partitions_moving');
          return `${m.name} ${cluster.get('cluster_state')}, ${cluster.get('cluster_size')} nodes, ${moving} moving`;
        }),
      ).catch((error) => [reasonOf(error)]);
      last = states.join('; ');
      return states.every((s) => s.endsWith(`ok, ${this.members.length} nodes, 0 moving`));
    });
    if (!ok) throw new Error(`the cluster of ${this.members.length} has not settled: ${last}`);
  }

  /** A new node, which joins by itself. */
  async add(): Promise<Member> {
    const member = new Member(this.nextPort++, this.args);
    try {
      await member.ready();
    } catch (error) {
      await member.end();
      throw error;
    }
    this.members.push(member);
    return member;
  }

  /** Another layout, without a node that wishes to leave. */
  async planWithout(member: Member): Promise<void> {
    const other = this.up.find((m) => m !== member)!;
    await other.call('DYNAMO', 'LEAVE', member.id);
    // that it wishes so has to be heard first
    const planned = await eventually(CALL_TIMEOUT_MS, async () => (await other.call('DYNAMO', 'PLAN')) !== null);
    if (!planned) throw new Error(`${other.name} plans nothing, though ${member.name} wishes to leave`);
    await other.call('DYNAMO', 'COMMIT');
  }

  async end(): Promise<void> {
    await Promise.all(this.members.map((m) => m.end()));
    this.members = [];
  }
}
