/**
 * Walking the keys: SCAN, KEYS, RANDOMKEY.
 *
 * A cursor is a place on the ring (`store/scan`), so it stays good across restarts, and on any node.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { globMatch } from '../base/glob.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import type { ScanStep } from '../store/scan.ts';
import { TYPE_NAMES } from '../types/kinds.ts';
import { integer } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';

/** What strtoul takes, without blanks before it. */
const CURSOR = /^[+-]?\d*$/;

function scan(c: CommandContext): void {
  const { argv, db } = c;
  const text = argv.str(1);
  if (!CURSOR.test(text) || text.length > 20) throw new ReplyError('ERR invalid cursor');
  const cursor = Number(text === '-' || text === '+' ? 0 : text);
  if (cursor >= 2 ** 64 && text !== '18446744073709551615') throw new ReplyError('ERR invalid cursor');
  let count = 10;
  let pattern: string | null = null;
  let type: string | null = null;
  for (let i = 2; i < argv.argc; i += 2) {
    if (i + 1 >= argv.argc) throw SYNTAX_ERROR;
    if (argv.is(i, 'COUNT')) {
      count = integer(argv, i + 1);
      if (count < 1) throw SYNTAX_ERROR;
    } else if (argv.is(i, 'MATCH')) pattern = argv.str(i + 1);
    else if (argv.is(i, 'TYPE')) type = argv.lower(i + 1);
    else throw SYNTAX_ERROR;
  }
  const { coverage } = c.server;
  const step =
    type === null
      ? coverage.step(db, cursor, Math.min(count, 100_000))
      : coverage.typed(db, cursor, Math.min(count, 100_000));
  const reply = (out: ReplyWriter, { keys: all, cursor: next, types }: ScanStep & { types?: number[] }) => {
    const found = type === null ? all : all.filter((_, i) => TYPE_NAMES[types![i]] === type);
    const list = pattern === null || pattern === '*' ? found : found.filter((key) => globMatch(pattern, key));
    out.array(2);
    out.bulk(String(next));
    out.array(list.length);
    for (const key of list) out.bulk(key);
  };
  if (!(step instanceof Promise)) {
    reply(c.out, step);
    return;
  }
  c.defer(step.then((s) => (out) => reply(out, s)));
}

function keysCommand(c: CommandContext): void {
  const pattern = c.argv.str(1);
  const { coverage } = c.server;
  const { db } = c;
  const collect = async () => {
    const found: string[] = [];
    for await (const page of coverage.all(db))
      for (const key of page) if (pattern === '*' || globMatch(pattern, key)) found.push(key);
    return (out: ReplyWriter) => {
      out.array(found.length);
      for (const key of found) out.bulk(key);
    };
  };
  c.defer(collect());
}

function randomkey(c: CommandContext): void {
  c.keys.needsAll();
  const found = c.server.coverage.random(c.db, c.server.random.next());
  c.defer(
    found.then((key) => (out) => {
      if (key === null) out.nil();
      else out.bulk(key);
    }),
  );
}

export const scanCommands: CommandSpec[] = [
  {
    name: 'keys',
    arity: 2,
    flags: ['readonly'],
    categories: ['keyspace', 'dangerous'],
    tips: ['request_policy:all_shards', 'nondeterministic_output_order'],
    summary: 'Gives all keys that match a pattern.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(N) with N being the number of keys in the database.',
    syntax: 'pattern',
    handler: keysCommand,
  },
  {
    name: 'randomkey',
    arity: 1,
    flags: ['readonly'],
    categories: ['keyspace'],
    tips: ['request_policy:all_shards', 'nondeterministic_output'],
    summary: 'Gives the name of some key.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: '',
    handler: randomkey,
  },
  {
    name: 'scan',
    arity: -2,
    flags: ['readonly'],
    categories: ['keyspace'],
    tips: ['nondeterministic_output', 'request_policy:special'],
    summary: 'Walks over the keys of the database.',
    since: '2.8.0',
    group: 'generic',
    complexity: 'O(1) for every call. O(N) for a complete walk, where N is the number of keys.',
    syntax: 'cursor [MATCH pattern] [COUNT count] [TYPE type]',
    history: [['6.0.0', 'Added the `TYPE` subcommand.']],
    handler: scan,
  },
];
