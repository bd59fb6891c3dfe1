// Turns results into a table and readable differences.

import type { KeptDifference } from '../kept-differences.ts';
import type { Difference, FamilyResult } from './compare.ts';
import { aroundDifference, pretty } from './pretty.ts';

const SHOWN_PER_SEQUENCE = 12;

const COLUMNS: readonly [string, (result: FamilyResult) => string | number][] = [
  ['family', (result) => result.family],
  ['resp', (result) => result.protocol],
  ['sequences', (result) => result.sequences],
  ['steps', (result) => result.steps],
  ['same', (result) => result.same],
  ['different', (result) => result.different],
  ['kept on purpose', (result) => result.kept],
];

export function table(results: readonly FamilyResult[]): string {
  const rows = [
    COLUMNS.map(([title]) => title),
    ...results.map((result) => COLUMNS.map(([, value]) => String(value(result)))),
  ];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
  );
  lines.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '));
  return lines.join('\n');
}

export function describe(difference: Difference): string {
  const [expected, actual] = aroundDifference(pretty(difference.expected), pretty(difference.actual));
  const lines = [
    `${difference.family} / ${difference.sequence} / RESP${difference.protocol}, step ${difference.step}: ${difference.label}`,
    `    redis:  ${expected}`,
    `    server: ${actual}`,
  ];
  if (difference.kept !== undefined) lines.push(`    kept:   ${difference.kept}`);
  if (difference.note !== undefined) lines.push(...difference.note.split('\n').map((line) => `    ${line}`));
  return lines.join('\n');
}

/** All unexpected differences; of one sequence only the first few, for the rest mostly follow from them. */
export function describeAll(results: readonly FamilyResult[]): string {
  const blocks: string[] = [];
  for (const result of results) {
    const shown = new Map<string, number>();
    for (const difference of result.differences) {
      if (difference.kept !== undefined) continue;
      const soFar = shown.get(difference.sequence) ?? 0;
      shown.set(difference.sequence, soFar + 1);
      if (soFar < SHOWN_PER_SEQUENCE) blocks.push(describe(difference));
    }
    for (const [sequence, total] of shown) {
      const more = total - SHOWN_PER_SEQUENCE;
      if (more > 0) blocks.push(`${result.family} / ${sequence} / RESP${result.protocol}: and ${more} more`);
    }
  }
  return blocks.join('\n\n');
}

export function describeUnused(entries: readonly KeptDifference[]): string {
  return entries
    .map((entry) => {
      const where = [entry.family, entry.sequence ?? 'any sequence', entry.step ?? 'any step'].map(String).join(' / ');
      const protocol = entry.protocol === undefined ? '' : ` (RESP${entry.protocol})`;
      return `kept on purpose, but no longer different: ${where}${protocol}: ${entry.reason}`;
    })
    .join('\n');
}
