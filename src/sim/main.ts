/**
 * The simulator's command line:
 *   npm run sim -- --seed 7 --nodes 5 [--seconds 20] [--faults cut,pause] [--trace] [--history KEY]
 *   npm run sim:soak -- --seeds 1-500 [--nodes 3,5] [--seconds 20] [--faults ...]
 * A run is a function of its arguments and of the code: the same ones give the same digest.
 */
import { parseArgs } from 'node:util';
import { show } from './history.ts';
import { FAULTS, type Fault, USUAL_FAULTS } from './nemesis.ts';
import { type RunOptions, type RunResult, runSeed } from './run.ts';
import { USUAL, type WorkloadOptions } from './workload.ts';

const USAGE = `Usage: npm run sim -- --seed N [--nodes M] [--seconds S] [--faults a,b,...|none|all] [--strict] [--mixed] [--direct SHARE] [--bursts SHARE] [--multi SHARE] [--trace] [--history KEY]
       npm run sim:soak -- --seeds A-B [--nodes M,...] [--seconds S] [--faults ...] [--mixed] [--bursts SHARE] [--multi SHARE]
Faults: ${FAULTS.join(' ')}
`;

const MAX_PROBLEMS_SHOWN = 12;

interface Asked {
  seeds: [number, number];
  nodes: number[];
  seconds: number;
  faults: Fault[];
  strict: boolean;
  mixed: boolean;
  /** Share of operations that go straight to the key's first home. */
  direct: number | null;
  /** Share of increments that come as pipelines. */
  bursts: number | null;
  /** Share of operations that are on families of keys. */
  multi: number | null;
  trace: boolean;
  history: string | null;
}

function read(argv: string[]): Asked | null {
  const { values } = parseArgs({
    args: argv,
    options: {
      seed: { type: 'string' },
      seeds: { type: 'string' },
      nodes: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '20' },
      faults: { type: 'string' },
      strict: { type: 'boolean', default: false },
      mixed: { type: 'boolean', default: false },
      direct: { type: 'string' },
      bursts: { type: 'string' },
      multi: { type: 'string' },
      trace: { type: 'boolean', default: false },
      history: { type: 'string' },
    },
  });
  const range = /^(\d+)(?:-(\d+))?$/.exec(values.seeds ?? values.seed ?? '');
  if (range === null) return null;
  const named = values.faults;
  const list =
    named === undefined ? USUAL_FAULTS : named === 'all' ? [...FAULTS] : named === 'none' ? [] : named.split(',');
  for (const f of list) if (!(FAULTS as readonly string[]).includes(f)) return null;
  return {
    seeds: [Number(range[1]), Number(range[2] ?? range[1])],
    nodes: values.nodes.split(',').map(Number),
    seconds: Number(values.seconds),
    faults: list as Fault[],
    strict: values.strict,
    mixed: values.mixed,
    direct: values.direct === undefined ? null : Number(values.direct),
    bursts: values.bursts === undefined ? null : Number(values.bursts),
    multi: values.multi === undefined ? null : Number(values.multi),
    trace: values.trace,
    history: values.history ?? null,
  };
}

function report(result: RunResult): string {
  const { stats } = result;
  const lines = [
    `seed ${result.seed}  digest ${result.digest}  ${stats.operations} operations (${stats.acknowledged} acknowledged, ${stats.unknown} unknown), ` +
      `${stats.episodes} episodes, ${stats.messages} messages, ${(stats.virtualMs / 1000).toFixed(1)} s of virtual time, ` +
      `converged after ${(stats.convergedAfterMs / 1000).toFixed(1)} s`,
  ];
  for (const v of result.verdicts) {
    const undecided = v.undecided > 0 ? `, ${v.undecided} undecided` : '';
    lines.push(`  ${v.problems.length === 0 ? 'ok  ' : 'FAIL'} ${v.checker} (${v.judged} judged${undecided})`);
    for (const p of v.problems.slice(0, MAX_PROBLEMS_SHOWN)) lines.push(`         ${p}`);
    if (v.problems.length > MAX_PROBLEMS_SHOWN)
      lines.push(`         and ${v.problems.length - MAX_PROBLEMS_SHOWN} more`);
  }
  return lines.join('\n');
}

async function main(argv: string[]): Promise<number> {
  const asked = read(argv);
  if (asked === null) {
    process.stderr.write(USAGE);
    return 2;
  }
  const [from, to] = asked.seeds;
  const print = asked.trace ? (line: string) => void process.stdout.write(`${line}\n`) : undefined;
  const failed: string[] = [];
  const kinds = new Map<string, number>();
  let runs = 0;
  const started = performance.now();
  for (let seed = from; seed <= to; seed++) {
    const nodes = asked.nodes[seed % asked.nodes.length];
    const options: RunOptions = { seed, nodes, seconds: asked.seconds, faults: asked.faults, print };
    if (asked.strict) options.strict = true;
    if (asked.mixed) options.mixed = true;
    options.workload = {
      ...(asked.direct !== null && { direct: asked.direct }),
      ...(asked.bursts !== null && { bursts: asked.bursts }),
      ...(asked.multi !== null && { classes: withFamilies(asked.multi) }),
    };
    const began = performance.now();
    const result = await runSeed(options);
    runs++;
    for (const v of result.verdicts) if (v.problems.length > 0) kinds.set(v.checker, (kinds.get(v.checker) ?? 0) + 1);
    if (!result.passed) failed.push(`${seed} (${nodes} nodes)`);
    const ms = performance.now() - began;
    if (from === to || !result.passed) console.log(`${report(result)}\n  took ${(ms / 1000).toFixed(1)} s`);
    else console.log(`seed ${seed}  digest ${result.digest}  ok  ${(ms / 1000).toFixed(1)} s`);
    if (asked.history !== null) for (const o of result.history) if (o.key === asked.history) console.log(show(o));
  }
  if (from !== to) {
    console.log(`${runs} runs in ${((performance.now() - started) / 1000).toFixed(0)} s, ${failed.length} failed`);
    for (const [checker, count] of kinds) console.log(`  ${checker}: ${count} seeds`);
    if (failed.length > 0) console.log(`  seeds: ${failed.join(', ')}`);
  }
  return failed.length === 0 ? 0 : 1;
}

/** The usual classes, with so large a share of families. */
function withFamilies(share: number): WorkloadOptions['classes'] {
  const others = Object.values(USUAL.classes).reduce((sum, x) => sum + x, 0);
  return { ...USUAL.classes, m: (others * share) / (1 - share) };
}

// a promise that nobody waits for fails: in a real process that is the end, and here it must not pass unseen
process.on('unhandledRejection', (error) => {
  console.error('unhandled rejection:', error);
  process.exit(1);
});
process.exitCode = await main(process.argv.slice(2));
