/** Figures as a table for people: printed, and put between the markers of docs/PERFORMANCE.md. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

const PAGE = fileURLToPath(new URL('../../docs/PERFORMANCE.md', import.meta.url));

export type Row = [what: string, gramme: string, redis: string, ratio: string];

export const thousands = (n: number): string => Math.round(n).toLocaleString('en-US');

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function markdown(rows: readonly Row[], notes: readonly string[]): string {
  const head: Row = ['', 'Gramme', 'redis-server', 'ratio'];
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((c, i) => (i === 0 ? c.padEnd(widths[i]) : c.padStart(widths[i]))).join(' | ')} |`;
  const rule = `| ${widths.map((w, i) => (i === 0 ? '-'.repeat(w) : `${'-'.repeat(w - 1)}:`)).join(' | ')} |`;
  const text = [line(head), rule, ...rows.map(line)];
  if (notes.length > 0) text.push('', ...notes.map((note) => `- ${note}`));
  return text.join('\n');
}

/** What the figures were measured on, in one line. */
export function machine(): string {
  const [{ model }] = cpus();
  return `${new Date().toISOString().slice(0, 10)}, ${cpus().length} x ${model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GB, Node ${process.version}`;
}

/** Rewrites what stands between a table's markers; a page without them gets them at its end, no page gets nothing. */
export function updatePage(text: string, table = 'bench'): boolean {
  if (!existsSync(PAGE)) return false;
  const page = readFileSync(PAGE, 'utf8');
  const begin = `<!-- ${table}:begin -->`;
  const end = `<!-- ${table}:end -->`;
  const block = `${begin}\n${text}\n${end}`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  const next =
    from >= 0 && to > from
      ? page.slice(0, from) + block + page.slice(to + end.length)
      : `${page.trimEnd()}\n\n${block}\n`;
  writeFileSync(PAGE, next);
  return true;
}
