/** One round of the nemesis: a cluster, its load, faults for so long, and the reckoning. */
import { sleep } from '../durability/server.ts';
import { Prng } from '../lib/prng.ts';
import { converged, differingKeys, violations } from './check.ts';
import { reasonOf, TestCluster } from './cluster.ts';
import { type Fault, inflict, STRICT_FAULTS } from './faults.ts';
import { Ledger } from './ledger.ts';
import { Load } from './load.ts';

export interface RoundOptions {
  nodes: number;
  /** These in turn, the rest by chance. */
  faults: readonly Fault[];
  seconds: number;
  seed: number;
  directives?: readonly string[];
  say?: (text: string) => void;
}

export interface RoundResult {
  /** What is not as it must be; empty when all is well. */
  violations: string[];
  acks: number;
  unknown: number;
  faults: number;
  convergedMs: number;
  /** Error replies and broken connections, by node and text. */
  errors: Map<string, number>;
}

const WARM_UP_MS = 1000;
const REST_MS = 1500;
/** Time to agree after which it is told what differs. */
const SLOW_MS = 3000;
const CONVERGE_MS = 30_000;

export async function round(options: RoundOptions): Promise<RoundResult> {
  const { nodes, faults, seconds, seed, directives = [], say = () => {} } = options;
  const prng = new Prng(seed);
  const ledger = new Ledger();
  const cluster = await TestCluster.start(nodes, ...directives);
  const load = new Load(ledger, prng.int(0x7fff_ffff));
  const began = performance.now();
  const tell = (text: string) => say(`${((performance.now() - began) / 1000).toFixed(1)} s: ${text}`);
  const result: RoundResult = { violations: [], acks: 0, unknown: 0, faults: 0, convergedMs: 0, errors: ledger.errors };
  try {
    for (const m of cluster.members) load.attach(m);
    await sleep(WARM_UP_MS);
    const until = performance.now() + seconds * 1000;
    for (let i = 0; performance.now() < until; i++) {
      const fault = i < faults.length ? faults[i] : prng.pick(faults);
      const done = await inflict(fault, { cluster, load, prng, say: tell }).catch((error) => {
        throw new Error(`${fault}: ${reasonOf(error)}`);
      });
      if (done === null) continue;
      result.faults++;
      tell(done);
      await sleep(prng.int(REST_MS));
    }
    await load.stop();
    const slow = setTimeout(async () => {
      for (const text of await differingKeys(ledger, cluster).catch((error) => [reasonOf(error)]))
        tell(`still: ${text}`);
    }, SLOW_MS);
    result.convergedMs = await converged(cluster, CONVERGE_MS).finally(() => clearTimeout(slow));
    tell(`all replicas agree ${result.convergedMs.toFixed(0)} ms after the last command`);
  } catch (error) {
    result.violations.push(reasonOf(error));
    await load.stop();
  }
  try {
    const strict = faults.every((f) => STRICT_FAULTS.includes(f));
    result.violations.push(...(await violations(ledger, cluster, strict)));
  } catch (error) {
    result.violations.push(`the data can not be checked: ${reasonOf(error)}`);
  } finally {
    await cluster.end();
  }
  result.acks = ledger.acks;
  result.unknown = ledger.unknown;
  return result;
}
