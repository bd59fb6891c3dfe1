// The command line of the compatibility suite: plays every family against a server and says where its
// replies differ from Redis's. `npm run compat -- --help` lists the options.

import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { FAMILIES } from './families/index.ts';
import { KEPT_DIFFERENCES } from './kept-differences.ts';
import { compareFamily, type FamilyResult, KeptList, liveReference } from './lib/compare.ts';
import { PROTOCOLS } from './lib/play.ts';
import { compareRandom, RANDOM_FAMILY } from './lib/random.ts';
import { record, recordedReference } from './lib/recorded.ts';
import { describeAll, describeUnused, table } from './lib/report.ts';
import { type Address, hasRedisServer, type RunningServer, startGramme, startRedis } from './lib/servers.ts';

const USAGE = `npm run compat -- [options]

  --port N       a server that is already running (ALL ITS DATA IS DELETED); otherwise one is started
  --host H       its host (127.0.0.1)
  --password P   its password
  --family F     only this family; may be given several times; 'random' are the random sequences
  --random N     how many random sequences (40)
  --seed S       the first one's seed (1)
  --record       write the replies of the installed redis-server to recorded/ and compare nothing
  --json         the results as JSON
`;

const { values: options } = parseArgs({
  options: {
    port: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    password: { type: 'string' },
    family: { type: 'string', multiple: true },
    random: { type: 'string', default: '40' },
    seed: { type: 'string', default: '1' },
    record: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const started: RunningServer[] = [];

async function remembered(starting: Promise<RunningServer>): Promise<RunningServer> {
  const server = await starting;
  started.push(server);
  return server;
}

function chosenFamilies(): Set<string> {
  const all = [...FAMILIES.map((family) => family.name), RANDOM_FAMILY];
  for (const name of options.family ?? []) {
    if (!all.includes(name)) throw new Error(`there is no family '${name}'; there are: ${all.join(', ')}`);
  }
  return new Set(options.family ?? all);
}

async function recordAll(chosen: Set<string>): Promise<number> {
  const redis = await remembered(startRedis());
  const version = /v=([\d.]+)/.exec(spawnSync('redis-server', ['--version']).stdout.toString())?.[1] ?? 'unknown';
  const unstable: string[] = [];
  for (const family of FAMILIES) {
    if (!chosen.has(family.name)) continue;
    for (const protocol of PROTOCOLS) unstable.push(...(await record(family, protocol, redis, version)));
  }
  for (const step of unstable) console.log(`not the same twice on one server: ${step}`);
  console.log(`recorded the replies of Redis ${version}`);
  return unstable.length > 0 ? 1 : 0;
}

async function compareAll(chosen: Set<string>): Promise<number> {
  const target: Address =
    options.port === undefined
      ? await remembered(startGramme())
      : { host: options.host, port: Number(options.port), password: options.password };
  const redis = hasRedisServer() ? await remembered(startRedis({ password: options.password })) : undefined;
  const reference = redis ? liveReference(redis) : recordedReference();
  const kept = new KeptList(KEPT_DIFFERENCES);
  const results: FamilyResult[] = [];
  for (const family of FAMILIES) {
    if (!chosen.has(family.name)) continue;
    for (const protocol of PROTOCOLS) results.push(await compareFamily(family, protocol, target, reference, kept));
  }
  // Random sequences are drawn anew all the time, so nothing recorded can answer for them.
  if (chosen.has(RANDOM_FAMILY) && redis) {
    const seeds = Array.from({ length: Number(options.random) }, (_, i) => Number(options.seed) + i);
    for (const protocol of PROTOCOLS) {
      results.push(await compareRandom(seeds, { server: target, reference: redis, protocol }, kept, { shrink: true }));
    }
  }

  const unused = kept.unused(new Set(results.map((result) => result.family)));
  const failed = results.reduce((sum, result) => sum + result.failedSequences, 0);
  const passed = results.reduce((sum, result) => sum + result.sequences, 0) - failed;
  if (options.json) {
    console.log(JSON.stringify({ reference: reference.name, passed, failed, results, unused }, null, 2));
  } else {
    console.log(`compared with: ${reference.name}\n`);
    console.log(table(results));
    const differences = describeAll(results);
    if (differences !== '') console.log(`\n${differences}`);
    if (unused.length > 0) console.log(`\n${describeUnused(unused)}`);
    console.log(`\n${passed} passed, ${failed} failed`);
  }
  return failed > 0 ? 1 : 0;
}

async function main(): Promise<number> {
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const chosen = chosenFamilies();
  try {
    return options.record ? await recordAll(chosen) : await compareAll(chosen);
  } finally {
    await Promise.all(started.map((server) => server.stop()));
  }
}

process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));
process.exitCode = await main();
