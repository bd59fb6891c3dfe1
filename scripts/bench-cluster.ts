/**
 * Measures a cluster of three nodes (N = 3, R = W = 2) beside one real redis-server with AOF everysec, all on this
 * machine, in turns. Whoever is not measured is not running.
 *
 *   npm run bench:cluster                      everything (some 15 minutes); `npm run build` comes first
 *   npm run bench:cluster -- --quick           about two minutes: fewer requests and keys, one round
 *   npm run bench:cluster -- --only rates      some of: rates latency converge join
 *   npm run bench:cluster -- --rounds 5        rounds of the rate rows (default 3)
 *   npm run bench:cluster -- --check           exit code 1 when a floor is missed
 *
 * A client of one node has two thirds of its commands forwarded. "Spread" is three redis-benchmark processes, one for
 * each node: `redis-benchmark --cluster` draws its keys from the hash tags of one slot a node and so would measure a
 * few partitions, all of them local.
 */
import { parseArgs } from 'node:util';
import { sendAll } from '../compat-tests/durability/pipeline.ts';
import { killLeftovers, sleep } from '../compat-tests/durability/server.ts';
import { converged } from '../compat-tests/nemesis/check.ts';
import { TestCluster } from '../compat-tests/nemesis/cluster.ts';
import { fill, type Measured, run } from './bench/load.ts';
import { paced } from './bench/paced.ts';
import { endServer, isInstalled, startServer } from './bench/servers.ts';
import { machine, markdown, median, type Row, thousands, updatePage } from './bench/table.ts';

const NODES = 3;
const CLIENTS = 50;
const CUT_MS = 10_000;
const DIVERGENT_KEYS = 10_000;
const CONVERGE_FLOOR_MS = 5000;
const CONVERGE_LIMIT_MS = 60_000;
const JOIN_LIMIT_MS = 600_000;
const POLICY = ['--appendfsync', 'everysec'];

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    only: { type: 'string' },
  },
});
const quick = flags.quick;
const rounds = Number(flags.rounds ?? (quick ? 1 : 3));
const only = flags.only?.split(',') ?? null;
const wants = (name: string) => only === null || only.includes(name);

const rows: Row[] = [];
const missed: string[] = [];

function row(what: string, gramme: string, redis: string, ratio: string): void {
  rows.push([what, gramme, redis, ratio]);
  console.log(`${what.padEnd(60)} ${gramme.padStart(26)} ${redis.padStart(26)} ${ratio.padStart(6)}`);
}

// ---------------------------------------------------------------------- rates

interface Step {
  name: string;
  workload: 'set' | 'get';
  pipeline: number;
  floor: number;
}

const STEPS: Step[] = [
  { name: 'SET', workload: 'set', pipeline: 1, floor: 0.35 },
  { name: 'GET', workload: 'get', pipeline: 1, floor: 0.4 },
  { name: 'SET -P 16', workload: 'set', pipeline: 16, floor: 0.3 },
  { name: 'GET -P 16', workload: 'get', pipeline: 16, floor: 0.25 },
];
const REQUESTS = quick ? 40_000 : 200_000;

/** One workload over all ports at once. The slowest share ends the clock. */
async function spread(ports: readonly number[], { workload, pipeline }: Step, requests: number): Promise<Measured> {
  const share = { requests: Math.ceil(requests / ports.length), clients: Math.ceil(CLIENTS / ports.length), pipeline };
  const parts = await Promise.all(ports.map((port) => run(port, workload, share)));
  const seconds = Math.max(...parts.map((m) => share.requests / m.perSecond));
  return {
    perSecond: (share.requests * ports.length) / seconds,
    p50: Math.max(...parts.map((m) => m.p50)),
    p99: Math.max(...parts.map((m) => m.p99)),
  };
}

/** All workloads on one set of fresh servers, each after a warm-up of its own. */
async function allSteps(ports: readonly number[]): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const step of STEPS) {
    const requests = REQUESTS * (step.pipeline > 1 ? 3 : 1);
    await spread(ports, step, requests / 5);
    measured.push(await spread(ports, step, requests));
  }
  return measured;
}

/** Keys to read, as many for each server. */
const prefill = (port: number) => run(port, 'set', { requests: quick ? 100_000 : 300_000, pipeline: 16 });

async function redisTurn(): Promise<Measured[]> {
  const started = await startServer('redis', 'everysec');
  try {
    await prefill(started.server.port);
    return await allSteps([started.server.port]);
  } finally {
    await endServer(started);
  }
}

async function withCluster<T>(use: (cluster: TestCluster) => Promise<T>): Promise<T> {
  const cluster = await TestCluster.start(NODES, ...POLICY);
  try {
    return await use(cluster);
  } finally {
    await cluster.end();
  }
}

const grammeTurn = (nodes: number) =>
  withCluster(async ({ members }) => {
    const ports = members.map((m) => m.port);
    await prefill(ports[0]);
    return allSteps(ports.slice(0, nodes));
  });

/** What three nodes do together, in commands a second: half of it is the load of the latency row. */
let grammeRate = 0;

async function rates(): Promise<void> {
  const one: Measured[][] = [];
  const three: Measured[][] = [];
  const redis: Measured[][] = [];
  for (let i = 0; i < rounds; i++) {
    redis.push(await redisTurn());
    one.push(await grammeTurn(1));
    three.push(await grammeTurn(NODES));
  }
  const shown = (list: Measured[]) =>
    `${thousands(median(list.map((m) => m.perSecond)))}/s (p99 ${median(list.map((m) => m.p99)).toFixed(1)} ms)`;
  for (const [where, ours] of [
    ['client of one node', one],
    ['spread over three', three],
  ] as const) {
    STEPS.forEach(({ name, floor }, s) => {
      const ratio = median(ours.map((turn, i) => turn[s].perSecond / redis[i][s].perSecond));
      const what = `${name}, ${where}`;
      row(what, shown(ours.map((t) => t[s])), shown(redis.map((t) => t[s])), ratio.toFixed(2));
      if (ratio < floor) missed.push(`${what}: ${ratio.toFixed(2)}, the floor is ${floor}`);
    });
  }
  grammeRate = median(three.map((t) => (t[0].perSecond + t[1].perSecond) / 2));
}

// ---------------------------------------------------------------------- latency at half load

async function latency(): Promise<void> {
  const seconds = quick ? 10 : 30;
  const warmUp = 3;
  if (grammeRate === 0) {
    grammeRate = await withCluster(async ({ members }) => {
      await prefill(members[0].port);
      const ports = members.map((m) => m.port);
      const [set, get] = [await spread(ports, STEPS[0], REQUESTS), await spread(ports, STEPS[1], REQUESTS)];
      return (set.perSecond + get.perSecond) / 2;
    });
  }
  const rate = Math.round(grammeRate / 2);
  const ours = await withCluster(async ({ members }) => {
    const ports = members.map((m) => m.port);
    await prefill(ports[0]);
    await paced(ports, rate, warmUp);
    return paced(ports, rate, seconds);
  });
  const started = await startServer('redis', 'everysec');
  try {
    const ports = [started.server.port];
    await prefill(ports[0]);
    await paced(ports, rate, warmUp);
    const theirs = await paced(ports, rate, seconds);
    for (const [name, of] of [
      ['p50', 'p50'],
      ['p99', 'p99'],
      ['p99.9', 'p999'],
    ] as const) {
      const what = `${name} at ${thousands(rate)}/s, SET and GET, spread (half of what three nodes can do)`;
      row(what, `${ours[of].toFixed(2)} ms`, `${theirs[of].toFixed(2)} ms`, (ours[of] / theirs[of]).toFixed(2));
    }
    if (ours.errors > 0) missed.push(`${ours.errors} error replies at half load`);
    const behind = ours.perSecond / rate;
    if (behind < 0.98)
      missed.push(`at half load only ${Math.round(behind * 100)} % of the commands came through in time`);
  } finally {
    await endServer(started);
  }
}

// ---------------------------------------------------------------------- convergence

/** Half of the keys are written on a node that is cut off, half on the others; then the links heal. */
const converge = () =>
  withCluster(async (cluster) => {
    const [alone, ...others] = cluster.members;
    await fill(others[0].port, quick ? 20_000 : 100_000, 100);
    await converged(cluster, CONVERGE_LIMIT_MS);
    const began = performance.now();
    for (const m of others) await alone.call('DYNAMO', 'LINKS', 'CUT', m.id);
    const half = Array.from({ length: DIVERGENT_KEYS / 2 }, (_, i) => i);
    const value = 'y'.repeat(100);
    for (const [port, side] of [
      [alone.port, 'alone'],
      [others[0].port, 'others'],
    ] as const) {
      await sendAll(
        port,
        half,
        (i) => ['SET', `${side}:${i}`, value],
        (i, reply) => {
          if (reply !== 'OK') throw new Error(`${side}:${i} was answered ${reply}`);
        },
      );
    }
    await sleep(CUT_MS - (performance.now() - began));
    for (const m of others) await alone.call('DYNAMO', 'LINKS', 'HEAL', m.id);
    const ms = await converged(cluster, CONVERGE_LIMIT_MS);
    const what = `agreed after a ${CUT_MS / 1000} s cut with ${thousands(DIVERGENT_KEYS)} divergent keys`;
    row(what, `${thousands(ms)} ms`, '', '');
    if (ms > CONVERGE_FLOOR_MS)
      missed.push(`${what}: ${thousands(ms)} ms, the floor is ${thousands(CONVERGE_FLOOR_MS)}`);
  });

// ---------------------------------------------------------------------- a fourth node

/** Bytes that nodes have sent each other; what each received is counted once. */
async function busBytes(cluster: TestCluster): Promise<number> {
  const each = await Promise.all(cluster.members.map((m) => m.info('cluster')));
  return each.reduce((sum, fields) => sum + Number(fields.get('bus_bytes_in') ?? Number.NaN), 0);
}

const join = () =>
  withCluster(async (cluster) => {
    const keys = quick ? 100_000 : 1_000_000;
    const valueBytes = 100;
    await fill(cluster.members[0].port, keys, valueBytes);
    // the writers' own work is over before the clock starts
    await sleep(5000);
    const before = await busBytes(cluster);
    const began = performance.now();
    const added = await cluster.add();
    await cluster.settled(JOIN_LIMIT_MS);
    const seconds = (performance.now() - began) / 1000;
    const bytes = (await busBytes(cluster)) - before;
    const holds = Number((await added.info('dynamo')).get('partitions_held'));
    const partitions = Number((await added.info('dynamo')).get('partitions'));
    const data = (keys * (valueBytes + 'key:000000000000'.length) * holds) / partitions;
    const what = `a fourth node joins ${thousands(keys)} keys of ${valueBytes} bytes`;
    row(what, `${seconds.toFixed(1)} s`, '', '');
    row(
      `bytes on the bus meanwhile (its share of keys and values is ${thousands(data / 1e6)} MB)`,
      `${thousands(bytes / 1e6)} MB`,
      '',
      '',
    );
  });

// ---------------------------------------------------------------------- all of it

for (const tool of ['redis-server', 'redis-benchmark']) {
  if (!isInstalled(tool)) {
    console.error(`${tool} is not installed; it is what Gramme is measured against, and with`);
    process.exit(2);
  }
}
console.log(machine());
try {
  if (wants('rates')) await rates();
  if (wants('latency')) await latency();
  if (wants('converge')) await converge();
  if (wants('join')) await join();
} finally {
  await killLeftovers();
}
const notes = [
  `${machine()}; three nodes and redis-benchmark share the cores; redis-benchmark -c ${CLIENTS} -d 100 -r 1000000, median of ${rounds} rounds, servers in turn, AOF \`everysec\`, N = 3, R = W = 2`,
];
const table = markdown(rows, notes);
console.log(`\n${table}`);
if (!quick && only === null && updatePage(table, 'bench:cluster'))
  console.log('\ndocs/PERFORMANCE.md has the new table');
for (const m of missed) console.log(`below its floor: ${m}`);
process.exit(flags.check && missed.length > 0 ? 1 : 0);
