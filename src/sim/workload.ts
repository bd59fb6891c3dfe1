/**
 * What clients do to the cluster under test, from the seed, and the history of it.
 *
 * Keys come in classes by the first letter of their names, so that each checker gets histories which it can judge
 * sharply: `r` registers (SET, GET, SET NX, DEL, GETDEL, MSET), `c` counters (INCR alone), `x` both at once, `d`
 * versions (DGET, DSET, DDEL), `a` appends, `e` values with short deadlines. A few keys of each class are hot. `m` are
 * families of keys under commands over several of them (MSETNX, RENAME, COPY, BITOP, LCS ...); there are none by default.
 */
import { NO_SUCH_KEY } from './checkers/isolation.ts';
import type { Outcome, SimClient } from './client.ts';
import { mix, type SimCluster } from './cluster.ts';
import type { FamilyOp, Op, OpName } from './history.ts';
import { SeededRandom } from './random.ts';

export type KeyClass = 'r' | 'c' | 'x' | 'd' | 'a' | 'e' | 'm';

export interface WorkloadOptions {
  clients: number;
  /** Mean ms that a client waits between two operations. */
  thinkMs: number;
  timeoutMs: number;
  hotKeys: number;
  coldKeys: number;
  /** Share of operations that go to hot keys. */
  hotShare: number;
  /** Classes and their weights. */
  classes: Partial<Record<KeyClass, number>>;
  /** Share of DSETs with context that use the one a DSET gave back, not one that DGET did. */
  writeTokens: number;
  /** Share of operations that go straight to the key's first home, as those of a cluster client do. */
  direct: number;
  /** Share of increments that come as several at once, in a pipeline. */
  bursts: number;
}

export const USUAL: WorkloadOptions = {
  clients: 5,
  thinkMs: 25,
  timeoutMs: 4000,
  hotKeys: 2,
  coldKeys: 60,
  hotShare: 0.3,
  classes: { r: 40, c: 15, x: 10, d: 20, a: 5, e: 10 },
  writeTokens: 0,
  direct: 0.2,
  bursts: 0,
};

/** Increments that are sent at once. */
const BURST = 4;

/** Families at a time, and the keys of one. */
const FAMILIES = 3;
const FAMILY = ['a', 'b', 'c'];

/** Share of a client's operations that go to the node which it asked last. */
const STAY_SHARE = 0.8;
const TTLS_MS = [50, 200, 1000, 3000];

type Fields = Partial<Pick<Op, 'value' | 'ttlMs' | 'seenOp'>>;

interface Client {
  index: number;
  sim: SimClient;
  random: SeededRandom;
  node: number;
  /** The latest operation on each key that gave back a context. */
  reads: Map<string, Op>;
  writes: Map<string, Op>;
}

export class Workload {
  readonly history: Op[] = [];
  /** Commands on families. */
  readonly families: FamilyOp[] = [];
  /** Families that were named before this start are not named again: what they hold is not known for sure. */
  private generation = 0;
  readonly options: WorkloadOptions;
  private readonly cluster: SimCluster;
  private readonly clients: Client[] = [];
  private nextId = 1;
  private stopped = false;
  private running: Promise<void>[] = [];

  constructor(cluster: SimCluster, seed: number, options: WorkloadOptions) {
    this.cluster = cluster;
    this.options = options;
    for (let i = 0; i < options.clients; i++) {
      const random = new SeededRandom(mix(seed, 5000 + i));
      this.clients.push({ index: i, sim: cluster.client(), random, node: 0, reads: new Map(), writes: new Map() });
    }
  }

  /** Lets the clients loose. @param classes other weights than the options' */
  start(classes = this.options.classes, readOnly: readonly KeyClass[] = []): void {
    this.stopped = false;
    this.generation++;
    this.running = this.clients.map((c) => this.client(c, classes, readOnly));
  }

  /** Resolves when each client has had its last answer. */
  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.running);
  }

  /** Every key that was ever named. */
  keys(): string[] {
    const families = this.families.flatMap((o) => FAMILY.map((k) => o.family + k));
    return [...new Set([...this.history.map((o) => o.key), ...families])].sort();
  }

  private async client(c: Client, classes: WorkloadOptions['classes'], readOnly: readonly KeyClass[]): Promise<void> {
    const { cluster, options } = this;
    while (!this.stopped) {
      await cluster.time.sleep(-Math.log(1 - c.random.next()) * options.thinkMs);
      if (this.stopped) return;
      if (c.random.next() >= STAY_SHARE) c.node = c.random.int(cluster.machines.length);
      const kind = weighted(c.random, classes);
      if (kind === 'm') {
        await this.family(c);
        continue;
      }
      const hot = c.random.next() < options.hotShare;
      const key = `${kind}${hot ? 'h' : ''}${c.random.int(hot ? options.hotKeys : options.coldKeys)}`;
      const home = c.random.next() < options.direct ? cluster.homes(key)[0] : undefined;
      if (home !== undefined) c.node = home.index;
      await this.one(c, kind, key, readOnly.includes(kind));
    }
  }

  private async one(c: Client, kind: KeyClass, key: string, readOnly: boolean): Promise<void> {
    const id = this.nextId;
    const dice = c.random.next();
    // drawn whatever comes of it, so that what happened before does not change what is asked after
    const other = c.random.int(this.options.coldKeys);
    const ttl = TTLS_MS[c.random.int(TTLS_MS.length)];
    const useWrite = c.random.next() < this.options.writeTokens;
    const value = `v${id}`;
    if (kind === 'd') {
      if (readOnly || dice < 0.4) return this.run(c, 'dget', key, ['DGET', key]);
      const seen = (useWrite ? c.writes.get(key) : null) ?? c.reads.get(key);
      if (dice < 0.6 || seen === undefined) return this.run(c, 'dset', key, ['DSET', key, value], { value });
      const args = ['CONTEXT', seen.token!];
      if (dice < 0.95) return this.run(c, 'dset', key, ['DSET', key, value, ...args], { value, seenOp: seen.id });
      return this.run(c, 'ddel', key, ['DDEL', key, ...args], { seenOp: seen.id });
    }
    if (readOnly || dice < 0.4) return this.run(c, 'get', key, ['GET', key]);
    if (kind === 'c') {
      const { bursts } = this.options;
      if (bursts > 0 && c.random.next() < bursts) return this.burst(c, key);
      return this.run(c, 'incr', key, ['INCR', key]);
    }
    if (kind === 'a') {
      const text = `<${id}>`;
      return this.run(c, 'append', key, ['APPEND', key, text], { value: text });
    }
    if (kind === 'e') {
      if (dice < 0.8) return this.run(c, 'set', key, ['SET', key, value, 'PX', String(ttl)], { value, ttlMs: ttl });
      return this.run(c, 'pexpire', key, ['PEXPIRE', key, String(ttl)], { ttlMs: ttl });
    }
    if (kind === 'x') {
      if (dice < 0.75) return this.run(c, 'incr', key, ['INCR', key]);
      if (dice < 0.85) return this.run(c, 'del', key, ['DEL', key]);
      if (dice < 0.92) return this.run(c, 'getdel', key, ['GETDEL', key]);
      const number = String(id * 1000);
      return this.run(c, 'set', key, ['SET', key, number], { value: number });
    }
    if (dice < 0.7) return this.run(c, 'set', key, ['SET', key, value], { value });
    if (dice < 0.78) return this.run(c, 'setnx', key, ['SET', key, value, 'NX'], { value });
    if (dice < 0.86) return this.run(c, 'del', key, ['DEL', key]);
    if (dice < 0.92) return this.run(c, 'getdel', key, ['GETDEL', key]);
    return this.several(c, [...new Set([key, `r${other}`, `r${(other * 7 + 1) % this.options.coldKeys}`])]);
  }

  /** A command on a family, mostly over several of its keys. */
  private async family(c: Client): Promise<void> {
    const { cluster } = this;
    const family = `m${this.generation}x${c.random.int(FAMILIES)}`;
    const first = c.random.int(FAMILY.length);
    const [a, b, d] = [0, 1, 2].map((k) => FAMILY[(first + k) % FAMILY.length]);
    const op: FamilyOp = {
      id: this.nextId++,
      client: c.index,
      node: c.node,
      family,
      args: [],
      invokeMs: cluster.time.monotonic(),
      respondMs: Number.POSITIVE_INFINITY,
      result: 'unknown',
      reply: null,
    };
    const value = `v${op.id}`;
    const dice = c.random.next();
    if (dice < 0.2) op.args = ['msetnx', a, value, b, value, ...(c.random.next() < 0.5 ? [d, value] : [])];
    else if (dice < 0.4) op.args = ['rename', a, b];
    else if (dice < 0.45) op.args = ['renamenx', a, b];
    else if (dice < 0.5) op.args = ['copy', a, b];
    else if (dice < 0.55) op.args = ['bitop', 'or', a, b, d];
    else if (dice < 0.65) op.args = ['lcs', a, b, 'LEN'];
    else if (dice < 0.75) op.args = ['get', a];
    else if (dice < 0.82) op.args = ['set', a, value];
    else if (dice < 0.85) op.args = ['append', a, value];
    else op.args = ['del', a];
    this.families.push(op);
    const machine = cluster.machines[c.node];
    const words = op.args.map((x) => (FAMILY.includes(x) ? family + x : x));
    cluster.trace.note(`c${c.index} > ${machine.name} ${words.join(' ')}`);
    const outcome = await c.sim.call(machine.address, words, this.options.timeoutMs);
    cluster.trace.note(`c${c.index} < ${machine.name} ${JSON.stringify(outcome)}`);
    op.result = outcome.kind;
    if (outcome.kind === 'unknown' && /internal error/.test(outcome.message))
      cluster.problems.push(`${machine.name}: ${words[0]}: ${outcome.message}`);
    if (outcome.kind !== 'unknown') op.respondMs = cluster.time.monotonic();
    if (outcome.kind === 'ok') op.reply = outcome.reply === null ? null : String(outcome.reply);
    else if (outcome.kind === 'error' && /no such key/.test(outcome.message)) {
      op.result = 'ok';
      op.reply = NO_SUCH_KEY;
    }
  }

  /** Runs one command on one key and writes down what came of it. */
  private async run(c: Client, name: OpName, key: string, args: string[], fields: Fields = {}): Promise<void> {
    await this.record(c, [this.begin(c, name, key, fields)], args);
  }

  private async several(c: Client, keys: string[]): Promise<void> {
    const ops = keys.map((key) => {
      const op = this.begin(c, 'set', key, {});
      op.value = `v${op.id}`;
      return op;
    });
    await this.record(c, ops, ['MSET', ...ops.flatMap((o) => [o.key, o.value!])]);
  }

  private async burst(c: Client, key: string): Promise<void> {
    const ops = Array.from({ length: BURST }, () => this.begin(c, 'incr', key, {}));
    const machine = this.cluster.machines[c.node];
    this.cluster.trace.note(`c${c.index} > ${machine.name} ${BURST} times INCR ${key}`);
    const commands = ops.map(() => ['INCR', key]);
    const outcomes = await c.sim.pipeline(machine.address, commands, this.options.timeoutMs);
    for (const [i, op] of ops.entries()) this.note(c, [op], ['INCR', key], outcomes[i]);
  }

  private begin(c: Client, name: OpName, key: string, fields: Fields): Op {
    const op: Op = {
      id: this.nextId++,
      client: c.index,
      node: c.node,
      key,
      name,
      value: null,
      invokeMs: this.cluster.time.monotonic(),
      respondMs: Number.POSITIVE_INFINITY,
      result: 'unknown',
      reply: null,
      values: null,
      token: null,
      ttlMs: null,
      seenOp: null,
      ...fields,
    };
    this.history.push(op);
    return op;
  }

  private async record(c: Client, ops: Op[], args: string[]): Promise<void> {
    const { cluster } = this;
    const machine = cluster.machines[c.node];
    cluster.trace.note(`c${c.index} > ${machine.name} ${args.join(' ')}`);
    this.note(c, ops, args, await c.sim.call(machine.address, args, this.options.timeoutMs));
  }

  /** Writes down what came of a command. */
  private note(c: Client, ops: Op[], args: readonly string[], outcome: Outcome): void {
    const { cluster } = this;
    const machine = cluster.machines[c.node];
    cluster.trace.note(`c${c.index} < ${machine.name} ${JSON.stringify(outcome)}`);
    if (outcome.kind === 'unknown' && /internal error/.test(outcome.message))
      cluster.problems.push(`${machine.name}: ${args[0]}: ${outcome.message}`);
    // a command on several keys is several writes: when one was refused, others may have been made
    const sure = ops.length === 1 || outcome.kind === 'ok' || outcome.message.startsWith('not sent');
    for (const o of ops) {
      o.result = sure ? outcome.kind : 'unknown';
      if (o.result !== 'unknown') o.respondMs = cluster.time.monotonic();
      if (outcome.kind !== 'ok') continue;
      const { reply } = outcome;
      if (o.name === 'dget' && Array.isArray(reply)) {
        o.token = String(reply[0]);
        o.values = (reply[1] as string[]).map(String);
        c.reads.set(o.key, o);
      } else if (o.name === 'dset' || o.name === 'ddel') {
        o.token = String(reply);
        c.writes.set(o.key, o);
      } else if (o.name === 'setnx') o.reply = reply === null ? '0' : '1';
      else o.reply = reply === null ? null : String(reply);
    }
  }

  /** Reads all versions of every key, from a node of the seed's choosing; null where no answer is to be had. */
  async final(seed: number): Promise<Map<string, string[] | null>> {
    const random = new SeededRandom(mix(seed, 77));
    const client = this.cluster.client();
    const found = new Map<string, string[] | null>();
    for (const key of this.keys()) {
      const machines = this.cluster.members;
      const machine = machines[random.int(machines.length)];
      const outcome = await client.call(machine.address, ['DGET', key], this.options.timeoutMs);
      this.cluster.trace.note(`final ${key} ${JSON.stringify(outcome)}`);
      found.set(key, outcome.kind === 'ok' ? ((outcome.reply as [string, string[]])[1] ?? []).map(String) : null);
    }
    return found;
  }
}

function weighted(random: SeededRandom, weights: Partial<Record<KeyClass, number>>): KeyClass {
  const list = Object.entries(weights) as [KeyClass, number][];
  let at = random.next() * list.reduce((sum, [, w]) => sum + w, 0);
  for (const [name, w] of list) {
    at -= w;
    if (at < 0) return name;
  }
  return list[list.length - 1][0];
}
