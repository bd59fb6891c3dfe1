/**
 * LCS: the longest common subsequence of two strings, by the textbook table of lengths.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { STRING } from '../types/kinds.ts';
import { integer } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';

const NOT_STRINGS = new ReplyError('ERR The specified keys must contain string values');
const LENGTH_AND_INDEXES = new ReplyError('ERR If you want both the length and indexes, please just use IDX.');
const TOO_LARGE = new ReplyError('ERR Insufficient memory, failed allocating transient memory for LCS');

/** Cells of the table (4 bytes each) that one call may take. */
const MAX_CELLS = 2 ** 28;

interface Match {
  a: [from: number, to: number];
  b: [from: number, to: number];
}

/** Lengths of the longest common subsequences of all prefixes: cell (i, j) is at i * (b.length + 1) + j. */
function lengths(a: string, b: string): Uint32Array {
  const width = b.length + 1;
  const cells = new Uint32Array((a.length + 1) * width);
  for (let i = 1; i <= a.length; i++) {
    const row = i * width;
    const above = row - width;
    const char = a.charCodeAt(i - 1);
    for (let j = 1; j <= b.length; j++) {
      if (char === b.charCodeAt(j - 1)) cells[row + j] = cells[above + j - 1] + 1;
      else {
        const up = cells[above + j];
        const left = cells[row + j - 1];
        cells[row + j] = Math.max(up, left);
      }
    }
  }
  return cells;
}

/** Walks the table back from its end: the subsequence, and the runs that it takes from both, the last one first. */
function walk(a: string, b: string, cells: Uint32Array): { text: string; matches: Match[] } {
  const width = b.length + 1;
  const chars: string[] = [];
  const matches: Match[] = [];
  let run: Match | null = null;
  let i = a.length;
  let j = b.length;
  while (i > 0 && j > 0) {
    if (a.charCodeAt(i - 1) === b.charCodeAt(j - 1)) {
      i--;
      j--;
      chars.push(a[i]);
      if (run === null) matches.push((run = { a: [i, i], b: [j, j] }));
      run.a[0] = i;
      run.b[0] = j;
    } else {
      run = null;
      if (cells[(i - 1) * width + j] > cells[i * width + j - 1]) i--;
      else j--;
    }
  }
  return { text: chars.reverse().join(''), matches };
}

function lcs(c: CommandContext): void {
  const { argv, out, keys, db } = c;
  const first = keys.find(db, argv.str(1), c.slot(1));
  const second = keys.find(db, argv.str(2), c.slot(2));
  if ((first !== null && first.type !== STRING) || (second !== null && second.type !== STRING)) throw NOT_STRINGS;
  let length = false;
  let indexes = false;
  let withLength = false;
  let minimum = 0;
  for (let i = 3; i < argv.argc; i++) {
    if (argv.is(i, 'IDX')) indexes = true;
    else if (argv.is(i, 'LEN')) length = true;
    else if (argv.is(i, 'WITHMATCHLEN')) withLength = true;
    else if (argv.is(i, 'MINMATCHLEN') && i + 1 < argv.argc) minimum = Math.max(0, integer(argv, ++i));
    else throw SYNTAX_ERROR;
  }
  if (indexes && length) throw LENGTH_AND_INDEXES;
  const a = first?.text() ?? '';
  const b = second?.text() ?? '';
  if ((a.length + 1) * (b.length + 1) > MAX_CELLS) throw TOO_LARGE;
  const cells = lengths(a, b);
  const total = cells[cells.length - 1];
  if (length) {
    out.int(total);
    return;
  }
  const { text, matches } = walk(a, b, cells);
  if (!indexes) {
    out.bulk(text);
    return;
  }
  const shown = matches.filter((m) => m.a[1] - m.a[0] + 1 >= minimum);
  out.map(2);
  out.bulk('matches');
  out.array(shown.length);
  for (const m of shown) {
    out.array(withLength ? 3 : 2);
    for (const [from, to] of [m.a, m.b]) {
      out.array(2);
      out.int(from);
      out.int(to);
    }
    if (withLength) out.int(m.a[1] - m.a[0] + 1);
  }
  out.bulk('len');
  out.int(total);
}

export const lcsCommands: CommandSpec[] = [
  {
    name: 'lcs',
    arity: -3,
    flags: ['readonly'],
    categories: ['string'],
    keys: [{ flags: ['RO', 'access'], begin: 1, range: { last: 1, step: 1 } }],
    summary: 'Finds the longest common subsequence of two strings.',
    since: '7.0.0',
    group: 'string',
    complexity: 'O(N*M) where N and M are the lengths of s1 and s2, respectively',
    syntax: 'key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]',
    handler: lcs,
  },
];
