/**
 * One seed from beginning to end: a cluster comes up, clients work, things go wrong, everything heals, and the checkers
 * look at what is left.
 */
import { checkBounded, type Gauges } from './checkers/bounded.ts';
import { checkConvergence, checkSameContextSameState } from './checkers/convergence.ts';
import { checkIsolation } from './checkers/isolation.ts';
import { checkAppends, checkIncrements, checkNothingLost } from './checkers/lost.ts';
import { checkOrder, type Window } from './checkers/order.ts';
import { checkSiblingReads, checkSiblings } from './checkers/siblings.ts';
import { checkNothingUndead } from './checkers/undead.ts';
import { type Verdict, verdict } from './checkers/verdict.ts';
import { type ClusterOptions, mix, SimCluster } from './cluster.ts';
import type { Op } from './history.ts';
import { type Fault, Nemesis, ORDERLY } from './nemesis.ts';
import { SeededRandom } from './random.ts';
import { USUAL, Workload, type WorkloadOptions } from './workload.ts';

export interface RunOptions {
  seed: number;
  nodes: number;
  /** Virtual seconds of trouble. */
  seconds: number;
  faults: readonly Fault[];
  cluster?: Partial<ClusterOptions>;
  workload?: Partial<WorkloadOptions>;
  /** Judge order over the whole run, whatever the faults; by default only where it is promised. */
  strict?: boolean;
  /** Nodes join and leave while other things go wrong, and not by themselves. */
  mixed?: boolean;
  print?: (line: string) => void;
}

export interface RunResult {
  seed: number;
  digest: string;
  verdicts: Verdict[];
  passed: boolean;
  stats: {
    operations: number;
    acknowledged: number;
    unknown: number;
    messages: number;
    steps: number;
    episodes: number;
    virtualMs: number;
    /** From healing until all replicas agreed; negative when they never did. */
    convergedAfterMs: number;
  };
  history: Op[];
}

/** Virtual ms of undisturbed work before the trouble and after it. */
const CALM_MS = 2500;
const READY_MS = 60_000;
const CONVERGE_MS = 180_000;
/** How often the replicas are compared while things go wrong. */
const SAMPLE_MS = 1000;
/** What a gauge may be when nothing is going on. */
const FLOORS: Gauges = { 'journal backlog bytes': 64 * 1024, 'dirty keys': 100, hints: 0, 'frames queued': 0 };

export async function runSeed(options: RunOptions): Promise<RunResult> {
  const { seed } = options;
  const dice = new SeededRandom(mix(seed, 3));
  const appendfsync = options.cluster?.appendfsync ?? (dice.next() < 0.5 ? 'always' : 'everysec');
  const cluster = new SimCluster({
    seed,
    nodes: options.nodes,
    print: options.print,
    ...options.cluster,
    appendfsync,
  });
  const workload = new Workload(cluster, seed, { ...USUAL, ...options.workload });
  const nemesis = new Nemesis(cluster, new SeededRandom(mix(seed, 4)), options.faults, {
    everyWriteSynced: appendfsync === 'always',
    mixed: options.mixed ?? false,
  });
  const verdicts: Verdict[] = [];
  const alive = verdict('no process fails');
  const same = verdict('same context, same state');
  let convergedAfterMs = -1;

  const work = async () => {
    if (!(await cluster.startAll(READY_MS))) {
      alive.problems.push(`no cluster of ${options.nodes} after ${READY_MS} ms: ${cluster.unready()}`);
      return;
    }
    cluster.trace.note('ready');
    workload.start();
    await cluster.time.sleep(CALM_MS);
    const troubleMs = cluster.time.monotonic();
    const sampler = cluster.time.every(SAMPLE_MS, () => {
      const one = checkSameContextSameState(cluster.residentCopies(workload.keys()));
      same.judged += one.judged;
      for (const p of one.problems) if (!same.problems.includes(p)) same.problems.push(p);
    });
    if (options.faults.length > 0) await nemesis.run(troubleMs + options.seconds * 1000);
    else await cluster.time.sleep(options.seconds * 1000);
    sampler.cancel();
    nemesis.heal();
    const healedMs = cluster.time.monotonic();
    // those that hang in a command get its answer, or give up
    await workload.stop();
    if (!(await cluster.ready(READY_MS)))
      alive.problems.push(`not whole ${READY_MS} ms after healing: ${cluster.unready()}`);

    // everybody agrees, some time
    let converged: Verdict;
    for (;;) {
      converged = checkConvergence(await cluster.copies(workload.keys()));
      if (converged.problems.length === 0) convergedAfterMs = cluster.time.monotonic() - healedMs;
      if (converged.problems.length === 0 || cluster.time.monotonic() > healedMs + CONVERGE_MS) break;
      await cluster.time.sleep(1000);
    }
    verdicts.push(converged);
    // a moment more, so that all clocks have passed all deadlines and folds are through
    await cluster.time.sleep(15_000 + nemesis.clockErrorMs);

    const calmMs = cluster.time.monotonic();
    const finalReads = await workload.final(seed);
    const final = new Map<string, string[]>();
    const readable = verdict('everything can be read');
    for (const [key, values] of finalReads) {
      readable.judged++;
      if (values === null) readable.problems.push(`${key} can't be read though everything has healed`);
      else final.set(key, values);
    }
    verdicts.push(readable);
    const past = [...workload.history];
    verdicts.push(judgeFinal(past, final, calmMs, nemesis.clockErrorMs, options.faults.length === 0));
    const of = (kind: string) => past.filter((o) => o.key.startsWith(kind) && final.has(o.key));
    verdicts.push(checkNothingLost(of('r'), final));
    verdicts.push(checkIncrements(of('c'), final));
    verdicts.push(checkSiblings(of('d'), final));
    if (options.faults.length === 0) verdicts.push(checkAppends(of('a'), final));
    verdicts.push(checkBounded(cluster.gauges(), FLOORS));

    // and then it is as calm as ever; registers are only read, so that what was judged stays
    const families = workload.options.classes.m;
    workload.start({ r: 10, c: 20, x: 40, d: 20, a: 5, ...(families && { m: families }) }, ['r']);
    await cluster.time.sleep(CALM_MS);
    await workload.stop();
    const endMs = cluster.time.monotonic();
    const firstFaultMs = nemesis.episodes[0]?.fromMs ?? troubleMs;
    const orderly = options.strict ?? options.faults.every((f) => ORDERLY.has(f));
    const windows: Window[] = orderly
      ? [{ fromMs: 0, toMs: endMs }]
      : [
          { fromMs: 0, toMs: firstFaultMs },
          { fromMs: calmMs, toMs: endMs },
        ];
    verdicts.push(checkOrder(workload.history, windows));
    if (families) {
      const calm: Window[] =
        options.faults.length === 0
          ? [
              { fromMs: 0, toMs: healedMs },
              { fromMs: calmMs, toMs: endMs },
            ]
          : [
              { fromMs: 0, toMs: firstFaultMs },
              { fromMs: calmMs, toMs: endMs },
            ];
      verdicts.push(checkIsolation(workload.families, calm));
    }
    const reads = verdict('sibling reads');
    for (const { fromMs, toMs } of windows) {
      const one = checkSiblingReads(workload.history, fromMs, toMs);
      reads.judged += one.judged;
      reads.problems.push(...one.problems);
    }
    verdicts.push(reads);
    verdicts.push(same);
    for (const m of cluster.machines) if (m.server !== null) options.cluster?.atEnd?.(m);
    for (const m of cluster.machines) if (m.server !== null) await cluster.stop(m);
  };

  try {
    const limitMs = READY_MS * 3 + CONVERGE_MS * 2 + 600_000 + options.seconds * 3000;
    await cluster.time.until(work(), limitMs);
  } catch (error) {
    alive.problems.push(
      `the run broke off: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }
  alive.judged = cluster.machines.reduce((sum, m) => sum + m.incarnation, 0);
  alive.problems.push(...cluster.problems);
  verdicts.unshift(alive);
  const { history } = workload;
  return {
    seed,
    digest: cluster.trace.digest(),
    verdicts,
    passed: verdicts.every((v) => v.problems.length === 0),
    stats: {
      operations: history.length,
      acknowledged: history.filter((o) => o.result === 'ok').length,
      unknown: history.filter((o) => o.result === 'unknown').length,
      messages: cluster.network.stats.delivered,
      steps: cluster.time.steps,
      episodes: nemesis.episodes.length,
      virtualMs: cluster.time.monotonic(),
      convergedAfterMs,
    },
    history,
  };
}

function judgeFinal(
  past: Op[],
  final: Map<string, string[]>,
  atMs: number,
  clockErrorMs: number,
  calm: boolean,
): Verdict {
  const judged = past.filter((o) => (o.key.startsWith('r') || o.key.startsWith('e')) && final.has(o.key));
  return checkNothingUndead(judged, final, calm ? 0 : Number.POSITIVE_INFINITY, {
    atMs,
    clockErrorMs: 2 * clockErrorMs + 1000,
  });
}
