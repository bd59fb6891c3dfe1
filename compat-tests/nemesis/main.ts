/**
 * A soak: rounds of the nemesis, one after another, with other seeds.
 *
 *   npm run nemesis                               about two minutes (npm run build comes first)
 *   npm run nemesis -- --minutes 60 --nodes 5     for so long, with so many nodes (default: 3 and 5 in turn)
 *   npm run nemesis -- --seed 42                  begins with this seed; it decides faults and victims, though not when
 *   npm run nemesis -- --faults kill,pause        some of: kill pause cut half-cut isolate swizzle wipe add leave
 *   npm run nemesis -- --seconds 30               length of a round
 *
 * Exit code 1 when anything was wrong; the first round that is ends the run.
 */
import { parseArgs } from 'node:util';
import { FAULTS, type Fault } from './faults.ts';
import { round } from './round.ts';

const { values: flags } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    nodes: { type: 'string' },
    seed: { type: 'string' },
    seconds: { type: 'string', default: '20' },
    faults: { type: 'string' },
  },
});
const SHOWN = 20;
const faults = (flags.faults?.split(',') ?? [...FAULTS]) as Fault[];
const unknown = faults.filter((f) => !FAULTS.includes(f));
if (unknown.length > 0) {
  console.error(`unknown fault ${unknown[0]}; there are ${FAULTS.join(', ')}`);
  process.exit(2);
}
const until = Date.now() + Number(flags.minutes) * 60_000;
let seed = Number(flags.seed ?? Math.floor(Math.random() * 1_000_000));
for (let i = 0; i === 0 || Date.now() < until; i++, seed++) {
  const nodes = Number(flags.nodes ?? (i % 2 === 0 ? 3 : 5));
  // every other round is one in which the cluster must answer as a single server does
  const chosen = flags.faults === undefined && i % 4 >= 2 ? (['kill', 'pause'] as const) : faults;
  console.log(`round ${i + 1}: ${nodes} nodes, seed ${seed}, ${chosen.join(' ')}`);
  const directives = nodes > 3 ? ['--cluster-partitions', '64'] : [];
  const result = await round({
    nodes,
    seed,
    seconds: Number(flags.seconds),
    faults: chosen,
    directives,
    say: (text) => console.log(`  ${text}`),
  });
  console.log(`  ${result.faults} faults, ${result.acks} commands answered, ${result.unknown} not`);
  for (const [text, n] of result.errors) console.log(`  ${n} x ${text}`);
  for (const text of result.violations.slice(0, SHOWN)) console.log(`  WRONG: ${text}`);
  if (result.violations.length > SHOWN) console.log(`  and ${result.violations.length - SHOWN} more`);
  if (result.violations.length > 0) process.exit(1);
}
process.exit(0);
