/**
 * A cluster in one process: real nodes (`server/node`) on fake machines, and everything that can happen to a machine.
 *
 * A machine has a host name, a disk and a clock; a process runs on it, dies, and is followed by another. Each process
 * has ports of its own, and once it is dead none of its timers, sockets or disk calls does anything: its code may
 * still be referenced by promises that never settle, but it can't act.
 */

import { actorHex } from '../causality/actors.ts';
import type { Membership } from '../cluster/membership.ts';
import type { Host } from '../ports/host.ts';
import type { Log } from '../ports/log.ts';
import { slotOf } from '../ring/slots.ts';
import { Config, type Setting } from '../server/config.ts';
import type { GrammeServer } from '../server/gramme.ts';
import { openNode } from '../server/node.ts';
import { MISS } from '../store/keyspace.ts';
import type { StoredKey } from '../store/object.ts';
import { fingerprint } from '../types/state.ts';
import type { Gauges } from './checkers/bounded.ts';
import type { Copy } from './checkers/convergence.ts';
import { type Outcome, SimClient } from './client.ts';
import { SimDisk, SimEngine } from './disk.ts';
import { SimNetwork } from './network.ts';
import { SeededRandom } from './random.ts';
import { NodeTime, VirtualTime } from './time.ts';
import { Trace } from './trace.ts';
import { SimTransport } from './transport.ts';

export const CLIENT_PORT = 6379;
export const BUS_PORT = 16379;
/** A process that a full disk keeps from starting is tried again after this. */
const RESTART_MS = 500;
const SECRET = 'one for all';

export interface ClusterOptions {
  seed: number;
  nodes: number;
  n?: number;
  r?: number;
  w?: number;
  partitions?: number;
  appendfsync?: 'always' | 'everysec' | 'no';
  /** Directives beyond those that the simulator sets: name, arguments. */
  settings?: readonly (readonly string[])[];
  /** Prints each line of the trace. */
  print?: (line: string) => void;
  /** A place for planted bugs: may replace or change a node's ports before it opens. */
  tamper?: (ports: Parameters<typeof openNode>[0], machine: Machine) => void;
  /** A look at each machine before it is stopped at the end of a run. */
  atEnd?: (machine: Machine) => void;
}

/** What a process logs: counted, traced, and the last lines kept. */
class SimLog implements Log {
  readonly last: string[] = [];
  private readonly trace: Trace;
  private readonly name: string;
  private readonly problems: string[];

  constructor(trace: Trace, name: string, problems: string[]) {
    this.trace = trace;
    this.name = name;
    this.problems = problems;
  }

  debug(fields: object, message: string): void {
    this.line('debug', fields, message);
  }

  info(fields: object, message: string): void {
    this.line('info', fields, message);
  }

  warn(fields: object, message: string): void {
    this.line('warn', fields, message);
  }

  error(fields: object, message: string): void {
    const line = this.line('error', fields, message);
    // nobody garbles frames here: one that can not be read was written so
    if (/a command failed|assertion failed|were not replicated|(Type|Reference|Range|Truncated)Error/.test(line))
      this.problems.push(line);
  }

  private line(level: string, fields: object, message: string): string {
    const line = `${this.name} ${level} ${message} ${JSON.stringify(fields)}`;
    this.trace.note(line);
    this.last.push(line);
    if (this.last.length > 200) this.last.splice(0, 100);
    return line;
  }
}

/** One machine, and the process that runs on it. */
export class Machine {
  readonly index: number;
  readonly name: string;
  readonly host: string;
  readonly disk: SimDisk;
  /** What its wall clock is wrong by, whatever runs on it. */
  skewMs = 0;
  incarnation = 0;
  state: 'down' | 'starting' | 'up' | 'paused' = 'down';
  /** It has left the cluster, or was never asked in. */
  member = true;
  time: NodeTime | null = null;
  transport: SimTransport | null = null;
  server: GrammeServer | null = null;
  log: SimLog | null = null;

  constructor(index: number, disk: SimDisk) {
    this.index = index;
    this.name = `n${index}`;
    this.host = `10.0.${index >> 8}.${(index & 255) + 1}`;
    this.disk = disk;
  }

  get address(): string {
    return `${this.host}:${CLIENT_PORT}`;
  }
}

const FAKE_HOST: Host = {
  pid: 1,
  os: 'sim',
  arch: 'sim',
  runtime: 'sim',
  residentBytes: () => 100 * 1024 * 1024,
  heapUsedBytes: () => 50 * 1024 * 1024,
  heapLimitBytes: () => 4 * 1024 * 1024 * 1024,
  totalMemoryBytes: () => 16 * 1024 * 1024 * 1024,
  idleShare: () => 1,
  cpu: () => ({ user: 0, system: 0 }),
  executable: 'sim',
};

export class SimCluster {
  readonly time = new VirtualTime();
  readonly trace: Trace;
  readonly network: SimNetwork;
  readonly machines: Machine[] = [];
  /** What no process may do: uncaught errors, broken beliefs, internal errors. */
  readonly problems: string[] = [];
  private readonly options: ClusterOptions;
  private readonly admin: SimClient;
  private clients = 0;
  /** The admin's commands go one after another. */
  private asking: Promise<unknown> = Promise.resolve();

  constructor(options: ClusterOptions) {
    this.options = options;
    this.trace = new Trace(this.time, options.print ?? null);
    this.network = new SimNetwork(this.time, mix(options.seed, 1));
    this.network.onDelivered = (from, to, bytes) =>
      this.trace.note(`${from} > ${to} ${bytes.length} ${sumOf(bytes).toString(16)}`);
    this.admin = this.client();
    for (let i = 0; i < options.nodes; i++) this.addMachine();
  }

  /** A client on a host of its own. */
  client(): SimClient {
    const i = this.clients++;
    return new SimClient(this.network, this.time, `10.1.${i >> 8}.${(i & 255) + 1}`, mix(this.options.seed, 1000 + i));
  }

  addMachine(): Machine {
    const index = this.machines.length;
    const machine = new Machine(index, new SimDisk(new SeededRandom(mix(this.options.seed, 2000 + index))));
    this.machines.push(machine);
    return machine;
  }

  get members(): Machine[] {
    return this.machines.filter((m) => m.member);
  }

  get clustered(): boolean {
    return this.options.nodes > 1;
  }

  /** Copies of each key. */
  get n(): number {
    return this.clustered ? (this.options.n ?? 3) : 1;
  }

  // ------------------------------------------------------------------ processes

  private settings(machine: Machine): Setting[] {
    const { options } = this;
    const seeds = this.machines.slice(0, Math.max(3, options.nodes)).map((m) => `${m.host}:${BUS_PORT}`);
    const directives: (readonly string[])[] = [
      ['port', String(CLIENT_PORT)],
      ['bind', machine.host],
      ['protected-mode', 'no'],
      ['databases', '1'],
      ['appendfsync', options.appendfsync ?? 'everysec'],
      ['cluster-partitions', String(options.partitions ?? 16)],
      ['enable-debug-command', 'yes'],
    ];
    if (this.clustered) {
      directives.push(
        ['cluster-port', String(BUS_PORT)],
        ['cluster-seeds', ...seeds],
        ['cluster-auto-join', 'yes'],
        ['cluster-secret', SECRET],
        ['cluster-n', String(options.n ?? 3)],
        ['cluster-r', String(options.r ?? 2)],
        ['cluster-w', String(options.w ?? 2)],
      );
    }
    return [...directives, ...(options.settings ?? [])].map(([name, ...values]) => ({ name, values, where: 'sim' }));
  }

  /** Starts a process on a machine that has none; resolves when it serves. Takes virtual time. */
  async start(machine: Machine): Promise<void> {
    const { time: base, trace, network, options } = this;
    const incarnation = ++machine.incarnation;
    const seed = mix(options.seed, 10_000 + machine.index * 1000 + incarnation);
    const random = new SeededRandom(seed);
    trace.note(`${machine.name} start ${incarnation}`);
    const name = `${machine.name}.${incarnation}`;
    const time = new NodeTime(base, random.next() * 1e6, machine.skewMs, (error) => {
      this.problems.push(`${name} uncaught: ${error instanceof Error ? error.stack : String(error)}`);
      trace.note(`${name} uncaught ${String(error)}`);
      // nobody would have caught it in a real process either
      if (machine.time === time) this.kill(machine);
    });
    const transport = new SimTransport(network, machine.host, time, new SeededRandom(mix(seed, 1)));
    const log = new SimLog(trace, name, this.problems);
    machine.time = time;
    machine.transport = transport;
    machine.log = log;
    machine.server = null;
    machine.state = 'starting';
    const ports = {
      engine: new SimEngine(machine.disk, time),
      transport,
      clock: time,
      timers: time,
      random: new SeededRandom(mix(seed, 2)),
      host: FAKE_HOST,
      log,
    };
    options.tamper?.(ports, machine);
    const stopped = () => {
      if (machine.time === time) this.bury(machine, 'stopped');
    };
    try {
      const server = await openNode(ports, new Config(this.settings(machine)), stopped);
      // a call that a dead process waited for never comes back, so whoever gets here is alive
      machine.server = server;
      await server.listen();
      if (machine.state === 'starting') machine.state = 'up';
      trace.note(`${name} serves`);
    } catch (error) {
      if (machine.time === time) this.bury(machine, 'failed');
      if (/SQLITE_FULL/.test(String(error))) {
        // whoever looks after the process starts it again
        base.after(RESTART_MS, () => {
          if (machine.state === 'down' && machine.incarnation === incarnation) void this.start(machine);
        });
      } else this.problems.push(`${name} could not start: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }

  private bury(machine: Machine, how: string): void {
    if (machine.time === null) return;
    this.trace.note(`${machine.name} ${how}`);
    machine.time.kill();
    machine.disk.release();
    machine.time = null;
    machine.transport = null;
    machine.server = null;
    machine.state = 'down';
    this.network.remove(machine.host);
  }

  /** kill -9: the system keeps what it had taken, and resets the connections. */
  kill(machine: Machine): void {
    this.bury(machine, 'killed');
  }

  /** The plug is pulled: unsynced bytes are gone, and nobody tells the peers. */
  powerCut(machine: Machine): void {
    if (machine.time === null) return;
    this.network.vanish(machine.host);
    this.bury(machine, 'power cut');
    machine.disk.powerCut();
  }

  /** A clean stop (SIGTERM). Resolves when the process has ended. */
  async stop(machine: Machine): Promise<void> {
    this.trace.note(`${machine.name} SIGTERM`);
    await machine.server?.shutdown();
  }

  pause(machine: Machine): void {
    if (machine.state !== 'up') return;
    this.trace.note(`${machine.name} SIGSTOP`);
    machine.state = 'paused';
    machine.time!.pause();
    this.network.pause(machine.host);
  }

  resume(machine: Machine): void {
    if (machine.state !== 'paused') return;
    this.trace.note(`${machine.name} SIGCONT`);
    machine.state = 'up';
    machine.time!.resume();
    this.network.resume(machine.host);
  }

  /** The wall clock jumps to being wrong by so much. */
  skew(machine: Machine, ms: number): void {
    this.trace.note(`${machine.name} clock off by ${ms}`);
    machine.skewMs = ms;
    if (machine.time !== null) machine.time.skewMs = ms;
  }

  /** A new, empty disk; the process that had the old one is killed. */
  wipe(machine: Machine): void {
    this.kill(machine);
    this.trace.note(`${machine.name} wiped`);
    machine.disk.wipe();
  }

  /** A fresh machine joins. Resolves when its process serves; it is a full member some time later. */
  async join(): Promise<Machine> {
    const machine = this.addMachine();
    await this.start(machine);
    return machine;
  }

  /** A node leaves for good: the others take over what it holds, then it stops. False when that did not happen in time. */
  async leave(machine: Machine, limitMs: number): Promise<boolean> {
    const other = this.members.find((m) => m !== machine && m.state === 'up');
    if (other === undefined || machine.server === null) return false;
    this.trace.note(`${machine.name} leaves`);
    const leaver = machine.server.nodeId;
    machine.server.router!.cluster.membership.leave();
    const until = this.time.monotonic() + limitMs;
    // an operator looks at the plan until it says what was wished, and commits it
    while (!this.commit(other, [], (membership) => membership.isLeaving(leaver))) {
      if (this.time.monotonic() >= until) return false;
      await this.time.sleep(250);
    }
    machine.member = false;
    if (!(await this.ready(until - this.time.monotonic()))) return false;
    await this.stop(machine);
    return true;
  }

  /** An operator at one node commits the plan without these, once it says what is wished. */
  private commit(at: Machine, without: readonly string[], wished: (membership: Membership) => boolean): boolean {
    const membership = at.server?.router?.cluster.membership;
    if (at.state !== 'up' || membership === undefined || !wished(membership)) return false;
    return membership.plan(without) !== null && membership.commit(without) !== null;
  }

  /** What was on a wiped disk is another node's now: the one that it was is expelled. */
  async expel(nodeId: string, limitMs: number): Promise<boolean> {
    this.trace.note(`${nodeId.slice(0, 8)} is expelled`);
    const until = this.time.monotonic() + limitMs;
    const known = (m: Membership) => m.ring.isMember(nodeId);
    while (this.time.monotonic() < until) {
      const at = this.members.find((m) => m.state === 'up' && m.server?.router?.cluster.ring.isMember(nodeId));
      if (at === undefined || this.commit(at, [nodeId], known)) return true;
      await this.time.sleep(250);
    }
    return false;
  }

  // ------------------------------------------------------------------ readiness

  /** Sends a node a command from a client that nothing bad happens to. */
  ask(machine: Machine, command: readonly string[], timeoutMs = 2000): Promise<Outcome> {
    const asked = this.asking.then(() => this.admin.call(machine.address, command, timeoutMs));
    this.asking = asked;
    return asked;
  }

  /** Why the cluster is not whole, or null: all members up, of one layout with all of them in it, and nothing moving. */
  unready(): string | null {
    const { members } = this;
    let digest: number | null = null;
    for (const m of members) {
      if (m.state !== 'up' || m.server === null) return `${m.name} is ${m.state}`;
      if (!this.clustered) continue;
      const cluster = m.server.router?.cluster;
      if (cluster === undefined) return `${m.name} has no cluster`;
      const { ring, peers } = cluster;
      if (ring.members.length !== members.length) return `${m.name} knows ${ring.members.length} members`;
      if (ring.moving().length > 0) return `${m.name} sees ${ring.moving().length} partitions moving`;
      if (digest !== null && ring.digest() !== digest) return `${m.name} has another ring`;
      digest = ring.digest();
      for (const o of members) {
        if (o !== m && o.server !== null && !peers.isHealthy(o.server.nodeId))
          return `${m.name} does not trust ${o.name}`;
      }
    }
    return null;
  }

  /** Waits until the cluster is whole. False when it isn't in time. */
  async ready(limitMs: number): Promise<boolean> {
    const until = this.time.monotonic() + limitMs;
    for (;;) {
      if (this.unready() === null) return true;
      if (this.time.monotonic() >= until) return false;
      await this.time.sleep(100);
    }
  }

  /** Starts all machines at once and waits for the cluster. */
  async startAll(limitMs = 60_000): Promise<boolean> {
    for (const m of this.machines) void this.start(m);
    return this.ready(limitMs);
  }

  // ------------------------------------------------------------------ looking inside

  /** The machines whose nodes are the home replicas of a key. */
  homes(key: string): Machine[] {
    const { members } = this;
    if (!this.clustered) return members;
    for (const { server } of members) {
      const ring = server?.router?.cluster.ring;
      if (ring === undefined) continue;
      const ids = ring.homes(server!.keys.partitionOf(slotOf(key)));
      return ids.flatMap((id) => members.filter((m) => m.server?.nodeId === id));
    }
    return [];
  }

  /** A node's own object of a key, loaded where it is not resident. */
  async object(machine: Machine, key: string): Promise<StoredKey | null> {
    const { server } = machine;
    if (server === null) return null;
    const db = server.keys.names[0];
    const slot = slotOf(key);
    for (;;) {
      try {
        return server.keys.object(db, key, slot);
      } catch (error) {
        if (error !== MISS) throw error;
      }
      await server.store.residency.load([{ db, key, slot }]);
    }
  }

  /** What each home replica holds of these keys. */
  async copies(keys: Iterable<string>): Promise<Map<string, Copy[]>> {
    const found = new Map<string, Copy[]>();
    for (const key of keys) {
      const list: Copy[] = [];
      for (const m of this.homes(key)) if (m.server !== null) list.push(copyOf(m, await this.object(m, key)));
      found.set(key, list);
    }
    return found;
  }

  /** What is in memory of these keys now, on every process that runs: for looks at a run while it goes on. */
  residentCopies(keys: Iterable<string>): Map<string, Copy[]> {
    const found = new Map<string, Copy[]>();
    const servers = this.machines.filter((m) => m.server !== null);
    for (const key of keys) {
      const slot = slotOf(key);
      const list: Copy[] = [];
      for (const m of servers) {
        const { keys: keyspace } = m.server!;
        const o = keyspace.shard(keyspace.names[0], slot).peek(key);
        if (o !== undefined) list.push(copyOf(m, o));
      }
      found.set(key, list);
    }
    return found;
  }

  gauges(): Map<number, Gauges> {
    const found = new Map<number, Gauges>();
    for (const m of this.machines) {
      if (m.server === null) continue;
      found.set(m.index, {
        'journal backlog bytes': m.server.store.journal.backlogBytes,
        'dirty keys': m.server.store.keys.dirty.length + m.server.store.keys.dirtyRecords.length,
        connections: m.transport!.open,
        clients: m.server.clients.size,
        hints: m.server.router?.cluster.hints.count ?? 0,
      });
    }
    return found;
  }
}

function copyOf(machine: Machine, o: StoredKey | null): Copy {
  if (o === null) return { node: machine.index, context: null, state: null, live: false };
  const state = o.toState();
  const context = o.context();
  const intervals = context.actors.map((a, i) => `${actorHex(a)}:(${context.froms[i]},${context.tos[i]}]`);
  return {
    node: machine.index,
    context: intervals.sort().join(' '),
    state: fingerprint(state),
    live: state.count > 0,
  };
}

/** One number from two, so that parts of a run have seeds of their own. */
export function mix(a: number, b: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return (h ^ (h >>> 15)) | 0;
}

/** A checksum of bytes for the trace. */
function sumOf(bytes: Buffer): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i], 0x01000193);
  return h >>> 0;
}
