/**
 * Writes docs/COMMANDS.md from the command table and the list of kept differences, so that neither can drift.
 *   node --import tsx scripts/commands-doc.ts          rewrites the page
 *   node --import tsx scripts/commands-doc.ts --check  fails when it is out of date
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { KEPT_DIFFERENCES } from '../compat-tests/kept-differences.ts';
import type { CommandSpec } from '../src/commands/command.ts';
import { COMMANDS } from '../src/commands/index.ts';

const PAGE = path.join(import.meta.dirname, '..', 'docs', 'COMMANDS.md');
const TITLES: Record<string, string> = {
  string: 'Strings and counters',
  bitmap: 'Bitmaps',
  generic: 'Keys',
  dynamo: "Dynamo's own",
  connection: 'Connections',
  server: 'Server',
  cluster: 'Cluster',
  transactions: 'Transactions',
  scripting: 'Scripts',
};

function line(spec: CommandSpec, parent = ''): string {
  const name = `${parent}${spec.name}`.toUpperCase();
  const syntax = spec.syntax === '' ? '' : ` ${spec.syntax}`;
  return `| \`${name}${syntax.replaceAll('|', '\\|')}\` | ${spec.summary} |`;
}

export function page(): string {
  const groups = new Map<string, CommandSpec[]>();
  for (const spec of COMMANDS) groups.set(spec.group, [...(groups.get(spec.group) ?? []), spec]);
  const out = [
    '# Commands',
    '',
    'Made from the command table by `npm run docs`. Replies and error texts are those of Redis 7.0, compared byte for byte',
    'with a real server by the suite in `compat-tests`; what differs on purpose is at the end.',
  ];
  for (const [group, title] of Object.entries(TITLES)) {
    const specs = groups.get(group);
    if (specs === undefined) continue;
    out.push('', `## ${title}`, '', '| command | what it does |', '|---|---|');
    for (const spec of specs.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (spec.subcommands === undefined) out.push(line(spec));
      else for (const sub of spec.subcommands) out.push(line(sub, `${spec.name} `));
    }
  }
  out.push('', '## Differences that are kept on purpose', '', '| where | what Gramme does, and why |', '|---|---|');
  const seen = new Set<string>();
  for (const kept of KEPT_DIFFERENCES) {
    if (seen.has(kept.reason)) continue;
    seen.add(kept.reason);
    const where = [...new Set(KEPT_DIFFERENCES.filter((k) => k.reason === kept.reason).map((k) => k.family))].join(
      ', ',
    );
    out.push(`| ${where} | ${kept.reason} |`);
  }
  out.push(
    '| random access | `RANDOMKEY` takes a key near a random place on the ring: nearly, not exactly, evenly |',
    '| timing | commands that are fast by nature are timed one in 32, so `INFO commandstats` reckons their microseconds |',
    '| `INCRBYFLOAT` | arithmetic is that of a 64-bit mantissa, as on x86; Redis on other processors prints other digits |',
  );
  return `${out.join('\n')}\n`;
}

if (import.meta.filename === process.argv[1]) {
  if (process.argv.includes('--check')) process.exit(fs.readFileSync(PAGE, 'utf8') === page() ? 0 : 1);
  fs.writeFileSync(PAGE, page());
}
