/**
 * A history by hand: clients and faults go step by step as a test says, and the checkers look at what is left. For
 * what chance brings about too seldom.
 */
import type { Cluster } from '../cluster/cluster.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import { checkConvergence, checkSameContextSameState } from './checkers/convergence.ts';
import { checkIncrements, checkNothingLost } from './checkers/lost.ts';
import { checkOrder } from './checkers/order.ts';
import { checkSiblings } from './checkers/siblings.ts';
import { checkNothingUndead } from './checkers/undead.ts';
import { type Verdict, verdict } from './checkers/verdict.ts';
import { type ClusterOptions, type Machine, SimCluster } from './cluster.ts';
import { type Op, type OpName, op } from './history.ts';

const READY_MS = 60_000;
const CONVERGE_MS = 60_000;
const LIMIT_MS = 600_000;
/** How often the replicas are compared while the scene is played. */
const SAMPLE_MS = 50;

export class Scene {
  readonly cluster: SimCluster;
  readonly history: Op[] = [];
  /** Keys of which the scene has spoilt a copy: until it is repaired, that copy is no state that its context tells. */
  readonly damaged = new Set<string>();
  /** No links are cut in this scene, and no more than one node at a time is away: then order is promised. */
  orderly = false;
  private readonly same = verdict('same context, same state');

  constructor(options: ClusterOptions) {
    this.cluster = new SimCluster(options);
  }

  get time() {
    return this.cluster.time;
  }

  sleep(ms: number): Promise<void> {
    return this.time.sleep(ms);
  }

  /** Waits until this is so; a scene that does not get there has not been played. */
  async until(what: string, is: () => boolean, limitMs = 20_000): Promise<void> {
    const end = this.time.monotonic() + limitMs;
    while (!is()) {
      if (this.time.monotonic() >= end) throw new Error(`it never came to this: ${what}`);
      await this.time.sleep(1);
    }
  }

  parts(machine: Machine): Cluster {
    return machine.server!.router!.cluster;
  }

  /** Does `from` take `to` to be well? */
  trusts(from: Machine, to: Machine): boolean {
    return to.server !== null && this.parts(from).peers.isHealthy(to.server.nodeId);
  }

  place(machine: Machine, key: string): KeyPlace {
    const { store } = machine.server!;
    return store.placeOf(store.keys.names[0], key);
  }

  /** What a node has of a key in memory: null when it is no more than a key that never was. */
  has(machine: Machine, key: string): boolean {
    const copy = this.cluster.residentCopies([key]).get(key)!;
    return copy.some((c) => c.node === machine.index && c.context !== null && c.context !== '');
  }

  cut(a: Machine, b: Machine): void {
    this.cluster.network.cut(a.host, b.host);
    this.cluster.network.cut(b.host, a.host);
  }

  heal(a: Machine, b: Machine): void {
    this.cluster.network.heal(a.host, b.host);
    this.cluster.network.heal(b.host, a.host);
  }

  /** A client's operation on one key, by way of this node. */
  async ask(at: Machine, name: OpName, args: readonly string[], fields: Partial<Op> = {}): Promise<Op> {
    // one that was there before may have a connection to a process that is gone
    const client = this.cluster.client();
    const invokeMs = this.time.monotonic();
    const outcome = await client.call(at.address, args, 8000);
    const done = op({
      id: this.history.length + 1,
      name,
      node: at.index,
      key: args[1],
      value: WRITES_VALUE.has(name) ? args[2] : null,
      invokeMs,
      respondMs: this.time.monotonic(),
      result: outcome.kind,
      ...fields,
    });
    if (outcome.kind === 'ok') {
      const { reply } = outcome;
      if (name === 'dget' && Array.isArray(reply)) {
        done.token = String(reply[0]);
        done.values = (reply[1] as string[]).map(String);
      } else if (name === 'dset' || name === 'ddel') done.token = String(reply);
      else done.reply = reply === null ? null : String(reply);
    } else {
      this.cluster.trace.note(`scene ${args.join(' ')}: ${outcome.message}`);
    }
    this.history.push(done);
    return done;
  }

  /** Plays a scene on a cluster that is whole, heals it, and judges. The keys' first letters are a workload's. */
  async play(scene: () => Promise<void>): Promise<Verdict[]> {
    const { cluster } = this;
    const verdicts: Verdict[] = [];
    const work = async () => {
      if (!(await cluster.startAll(READY_MS))) throw new Error(`no cluster: ${cluster.unready()}`);
      const sampler = this.time.every(SAMPLE_MS, () => {
        const one = checkSameContextSameState(cluster.residentCopies(this.keys().filter((k) => !this.damaged.has(k))));
        this.same.judged += one.judged;
        for (const p of one.problems) if (!this.same.problems.includes(p)) this.same.problems.push(p);
      });
      await scene();
      cluster.network.healAll();
      for (const m of cluster.machines) {
        cluster.skew(m, 0);
        if (m.state === 'down') void cluster.start(m);
      }
      if (!(await cluster.ready(READY_MS))) throw new Error(`not whole after healing: ${cluster.unready()}`);
      // until all that was held back has come, and every node has compared with every other
      const until = this.time.monotonic() + CONVERGE_MS;
      await this.sleep(15_000);
      let converged = checkConvergence(await cluster.copies(this.keys()));
      while (converged.problems.length > 0 && this.time.monotonic() < until) {
        await this.sleep(1000);
        converged = checkConvergence(await cluster.copies(this.keys()));
      }
      sampler.cancel();
      verdicts.push(converged, this.same);
      const final = new Map<string, string[]>();
      for (const key of this.keys()) {
        const outcome = await cluster.ask(cluster.members[0], ['DGET', key], 8000);
        if (outcome.kind !== 'ok') throw new Error(`${key} can't be read: ${outcome.message}`);
        final.set(key, ((outcome.reply as [string, string[]])[1] ?? []).map(String));
      }
      const of = (kind: string) => this.history.filter((o) => o.key.startsWith(kind));
      verdicts.push(checkNothingLost(of('r'), final), checkIncrements(of('c'), final), checkSiblings(of('d'), final));
      // each scene sees to it that a write knows of those before it
      const dated = [...of('r'), ...of('e')];
      verdicts.push(checkNothingUndead(dated, final, 0, { atMs: this.time.monotonic(), clockErrorMs: 1000 }));
      if (this.orderly) verdicts.push(checkOrder(this.history, [{ fromMs: 0, toMs: this.time.monotonic() }]));
      for (const m of cluster.machines) if (m.server !== null) await cluster.stop(m);
    };
    await this.time.until(work(), LIMIT_MS);
    const alive = verdict('no process fails');
    alive.problems.push(...cluster.problems);
    return [alive, ...verdicts];
  }

  private keys(): string[] {
    return [...new Set(this.history.map((o) => o.key))];
  }
}

const WRITES_VALUE: ReadonlySet<OpName> = new Set<OpName>(['set', 'setnx', 'append', 'dset']);
