/**
 * Measures Gramme beside a real redis-server on this machine, in turns, several rounds, and takes the median of the
 * rounds' ratios: absolute figures say more about the machine than about the server.
 *
 *   npm run bench                       everything (about 10 minutes); `npm run build` comes first
 *   npm run bench -- --quick            about a minute: fewer requests, one round, no long runs
 *   npm run bench -- --only set,get     some of: set get incr mix always cold sustained restart
 *   npm run bench -- --rounds 5         rounds of the rate rows (default 3)
 *   npm run bench -- --sustained 60     seconds of the sustained run
 *   npm run bench -- --cold-mb 1000     size of the data that doesn't fit into memory
 *   npm run bench -- --keys 1000000     keys of the restart measurement
 *   npm run bench -- --check            exit code 1 when a floor is missed
 */
import { parseArgs } from 'node:util';
import { info, Pipeline, text } from '../compat-tests/durability/pipeline.ts';
import { type Server, sleep } from '../compat-tests/durability/server.ts';
import { fill, filled, type LoadOptions, type Measured, run, type Workload } from './bench/load.ts';
import { endServer, isInstalled, type Policy, startServer, type Who } from './bench/servers.ts';
import { machine, markdown, median, type Row, thousands, updatePage } from './bench/table.ts';

const MB = 1024 * 1024;
const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    only: { type: 'string' },
    sustained: { type: 'string' },
    'cold-mb': { type: 'string' },
    keys: { type: 'string' },
  },
});
const quick = flags.quick;
const rounds = Number(flags.rounds ?? (quick ? 1 : 3));
const sustainedSeconds = Number(flags.sustained ?? (quick ? 6 : 60));
/** The part of the sustained run that buffers may hide. */
const burstSeconds = Math.min(5, sustainedSeconds / 2);
const coldMb = Number(flags['cold-mb'] ?? (quick ? 60 : 1000));
const restartKeys = Number(flags.keys ?? (quick ? 50_000 : 1_000_000));
const only = flags.only?.split(',') ?? null;
const wants = (name: string) => only === null || only.includes(name);

const rows: Row[] = [];
const notes: string[] = [];
const missed: string[] = [];

function row(what: string, gramme: string, redis: string, ratio: string): void {
  rows.push([what, gramme, redis, ratio]);
  console.log(`${what.padEnd(44)} ${gramme.padStart(16)} ${redis.padStart(16)} ${ratio.padStart(8)}`);
}

function floor(what: string, ratio: number, least: number | undefined): void {
  if (least !== undefined && ratio < least) missed.push(`${what}: ${ratio.toFixed(2)}, the floor is ${least}`);
}

// ---------------------------------------------------------------------- rates

/** One server's turn: fresh process and directory, data to read where the workload reads, a warm-up, the run. */
async function turn(who: Who, policy: Policy, workload: Workload, options: LoadOptions): Promise<Measured> {
  const started = await startServer(who, policy);
  try {
    const { port } = started.server;
    if (workload === 'get' || workload === 'mix') await run(port, 'set', { requests: 200_000, pipeline: 32 });
    await run(port, workload, { ...options, requests: Math.ceil(options.requests / 10) });
    return await run(port, workload, options);
  } finally {
    await endServer(started);
  }
}

async function rate(
  what: string,
  workload: Workload,
  options: LoadOptions,
  policy: Policy = 'everysec',
  least?: number,
): Promise<void> {
  const ours: Measured[] = [];
  const theirs: Measured[] = [];
  for (let i = 0; i < rounds; i++) {
    // whoever goes first goes second in the next round
    const order: Who[] = i % 2 === 0 ? ['gramme', 'redis'] : ['redis', 'gramme'];
    for (const who of order) (who === 'gramme' ? ours : theirs).push(await turn(who, policy, workload, options));
  }
  const ratio = median(ours.map((m, i) => m.perSecond / theirs[i].perSecond));
  const shown = (list: Measured[]) =>
    `${thousands(median(list.map((m) => m.perSecond)))}/s (p99 ${median(list.map((m) => m.p99)).toFixed(1)} ms)`;
  row(what, shown(ours), shown(theirs), ratio.toFixed(2));
  floor(what, ratio, least);
}

// ---------------------------------------------------------------------- more data than memory

async function cold(): Promise<void> {
  const valueBytes = 1000;
  const keys = Math.floor((coldMb * 1e6) / valueBytes);
  const started = await startServer('gramme', 'everysec', undefined, '--maxmemory', '64mb');
  try {
    const { server } = started;
    let most = 0;
    const began = performance.now();
    const watch = setInterval(() => {
      most = Math.max(most, server.rss());
    }, 200);
    await fill(server.port, keys, valueBytes);
    const writes = keys / ((performance.now() - began) / 1000);
    const requests = quick ? 20_000 : 100_000;
    const name = `${coldMb} MB under \`maxmemory 64mb\``;
    for (const pipeline of [1, 16]) {
      const { perSecond, p99 } = await run(server.port, 'get', { requests, keyspace: keys, pipeline });
      row(`GET -P ${pipeline}, ${name}`, `${thousands(perSecond)}/s (p99 ${p99.toFixed(1)} ms)`, '', '');
    }
    clearInterval(watch);
    row(`SET, ${name}`, `${thousands(writes)}/s`, '', '');
    row(`resident at most, ${name}`, `${thousands(most / MB)} MB`, '', '');
  } finally {
    await endServer(started);
  }
}

// ---------------------------------------------------------------------- sustained

/** Unique keys for so many seconds, which no burst buffer hides: the rate that folding keeps up with. */
async function sustained(
  who: Who,
): Promise<{ perSecond: number; firstSeconds: number; backlogMb: number; rssMb: number }> {
  const started = await startServer(who, 'everysec');
  try {
    const { server } = started;
    const watcher = await Pipeline.connect(server.port);
    let backlog = 0;
    let rss = 0;
    let done = 0;
    let atBurst = 0;
    const began = performance.now();
    const seconds = () => (performance.now() - began) / 1000;
    const watch = setInterval(async () => {
      rss = Math.max(rss, server.rss());
      if (atBurst === 0 && seconds() >= burstSeconds) atBurst = done / seconds();
      if (who === 'redis') return;
      // the run may end while the question is under way
      const fields = await info(watcher, 'dynamo').catch(() => new Map<string, string>());
      backlog = Math.max(backlog, Number(fields.get('journal_backlog_bytes') ?? 0));
    }, 250);
    const clients = await Promise.all(Array.from({ length: 50 }, () => Pipeline.connect(server.port)));
    const value = 'x'.repeat(100);
    let next = 0;
    await Promise.all(
      clients.map(async (client) => {
        while (seconds() < sustainedSeconds && !client.closed) {
          client.send(['SET', `key:${next++}`, value], (reply) => {
            if (reply === '+OK\r\n') done++;
          });
          await client.room(16);
        }
        await client.drained();
        client.close();
      }),
    );
    const perSecond = done / seconds();
    clearInterval(watch);
    watcher.close();
    return { perSecond, firstSeconds: atBurst, backlogMb: backlog / MB, rssMb: rss / MB };
  } finally {
    await endServer(started);
  }
}

async function sustainedRows(): Promise<void> {
  const ours = await sustained('gramme');
  const theirs = await sustained('redis');
  const shown = (m: typeof ours) => `${thousands(m.perSecond)}/s`;
  row(
    `SET of unique keys, ${sustainedSeconds} s, 50 x 16 under way`,
    shown(ours),
    shown(theirs),
    (ours.perSecond / theirs.perSecond).toFixed(2),
  );
  row(
    `its first ${burstSeconds} seconds`,
    `${thousands(ours.firstSeconds)}/s`,
    `${thousands(theirs.firstSeconds)}/s`,
    (ours.firstSeconds / theirs.firstSeconds).toFixed(2),
  );
  row('largest backlog of the journal', `${thousands(ours.backlogMb)} MB`, '', '');
  row(
    'resident at most',
    `${thousands(ours.rssMb)} MB`,
    `${thousands(theirs.rssMb)} MB`,
    (ours.rssMb / theirs.rssMb).toFixed(2),
  );
}

// ---------------------------------------------------------------------- restart

/** Ms until a key is answered correctly: the process's start, the replay, the first read. */
async function untilFirstAnswer(who: Who, directory: string, key: number): Promise<{ ms: number; server: Server }> {
  const began = performance.now();
  const { server } = await startServer(who, 'everysec', directory);
  const name = `key:${String(key).padStart(12, '0')}`;
  for (;;) {
    const client = await Pipeline.connect(server.port);
    const value = text(await client.call('GET', name));
    client.close();
    if (value === filled(key, 100)) return { ms: performance.now() - began, server };
    if (performance.now() - began > 120_000) throw new Error(`${name} is ${value}`);
    await sleep(5);
  }
}

async function restart(who: Who): Promise<{ clean: number; killed: number }> {
  const first = await startServer(who, 'everysec');
  const { directory } = first;
  await fill(first.server.port, restartKeys, 100);
  await first.server.stop();
  const clean = await untilFirstAnswer(who, directory, restartKeys >> 1);
  // a burst of writes right before the kill is what there is to replay
  await fill(clean.server.port, Math.floor(restartKeys / 10), 100);
  await sleep(60);
  await clean.server.kill();
  const killed = await untilFirstAnswer(who, directory, restartKeys >> 1);
  await endServer({ server: killed.server, directory });
  return { clean: clean.ms, killed: killed.ms };
}

/** The server is killed as soon as the keys are in it: what it has not folded yet is all there is to replay. */
async function killedWhenFull(who: Who): Promise<{ ms: number; unfoldedMb: number }> {
  const { server, directory } = await startServer(who, 'everysec');
  await fill(server.port, restartKeys, 100);
  await sleep(60);
  let unfolded = 0;
  if (who === 'gramme') {
    const client = await Pipeline.connect(server.port);
    unfolded = Number((await info(client, 'dynamo')).get('journal_backlog_bytes') ?? 0);
    client.close();
  }
  await server.kill();
  const again = await untilFirstAnswer(who, directory, restartKeys - 1);
  await endServer({ server: again.server, directory });
  return { ms: again.ms, unfoldedMb: unfolded / MB };
}

async function restartRows(): Promise<void> {
  const ours = await restart('gramme');
  const theirs = await restart('redis');
  const full = await killedWhenFull('gramme');
  const fullTheirs = await killedWhenFull('redis');
  const ms = (n: number) => `${thousands(n)} ms`;
  const name = `${thousands(restartKeys)} keys of 100 bytes: first answer after`;
  row(`${name} a clean stop`, ms(ours.clean), ms(theirs.clean), (ours.clean / theirs.clean).toFixed(2));
  row(`${name} kill -9`, ms(ours.killed), ms(theirs.killed), (ours.killed / theirs.killed).toFixed(2));
  row(
    `${name} kill -9 as the last was written (${thousands(full.unfoldedMb)} MB unfolded)`,
    ms(full.ms),
    ms(fullTheirs.ms),
    (full.ms / fullTheirs.ms).toFixed(2),
  );
}

// ---------------------------------------------------------------------- all of it

for (const tool of ['redis-server', 'redis-benchmark']) {
  if (!isInstalled(tool)) {
    console.error(`${tool} is not installed; it is what Gramme is measured against, and with`);
    process.exit(2);
  }
}

const PLAIN_FLOORS: Partial<Record<Workload, number>> = { set: 0.65, get: 0.75 };
const PIPELINED_FLOORS: Partial<Record<Workload, number>> = { set: 0.65, get: 0.65 };
const requests = quick ? 60_000 : 300_000;

console.log(machine());
for (const workload of ['set', 'get', 'incr', 'mix'] as const) {
  if (!wants(workload)) continue;
  const name = workload === 'mix' ? '3 GET : 1 SET' : workload.toUpperCase();
  await rate(name, workload, { requests }, 'everysec', PLAIN_FLOORS[workload]);
  await rate(
    `${name} -P 16`,
    workload,
    { requests: requests * 4, pipeline: 16 },
    'everysec',
    PIPELINED_FLOORS[workload],
  );
}
if (wants('always')) await rate('SET, `appendfsync always`', 'set', { requests: requests / 3 }, 'always', 0.6);
if (wants('cold')) await cold();
if (wants('sustained')) await sustainedRows();
if (wants('restart')) await restartRows();

notes.push(
  `${machine()}; redis-benchmark -c 50 -d 100 -r 1000000, median of ${rounds} rounds, servers in turn, AOF \`everysec\` unless said`,
);
const table = markdown(rows, notes);
console.log(`\n${table}`);
if (!quick && only === null && updatePage(table)) console.log('\ndocs/PERFORMANCE.md has the new table');
for (const m of missed) console.log(`below its floor: ${m}`);
process.exit(flags.check && missed.length > 0 ? 1 : 0);
