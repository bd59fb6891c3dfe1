/**
 * Keys of any type: existence, names, databases (https://redis.io/docs/latest/commands/?group=generic).
 */
import { NO_SUCH_KEY, ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import type { Database } from '../store/keyspace.ts';
import { RAW, type StoredKey, TEXT } from '../store/object.ts';
import { STRING, TYPE_NAMES } from '../types/kinds.ts';
import { integer32, parseInt64 } from './args.ts';
import type { CommandContext, CommandSpec, KeySpec } from './command.ts';

const KEYS_RO: KeySpec[] = [{ flags: ['RO'], begin: 1, range: { last: -1, step: 1 } }];
const SUM_TIPS = ['request_policy:multi_shard', 'response_policy:agg_sum'];
const OBJECT_KEY: KeySpec[] = [{ flags: ['RO'], begin: 2, range: { last: 0, step: 1 } }];
const DB_RANGE = new ReplyError('ERR DB index is out of range');

function del(c: CommandContext): void {
  const { argv, keys, db } = c;
  for (let i = 1; i < argv.argc; i++) keys.object(db, argv.str(i), c.slot(i));
  let n = 0;
  for (let i = 1; i < argv.argc; i++) {
    const key = argv.str(i);
    const o = keys.peekForWrite(db, key, c.slot(i));
    if (o === null) continue;
    keys.remove(db, o);
    if (keys.notify !== null) keys.notify(db, 'del', key, 'g');
    n++;
  }
  c.out.int(n);
}

function exists(c: CommandContext): void {
  const { argv, keys, db } = c;
  let n = 0;
  const { buf, offsets } = argv;
  for (let i = 1; i < argv.argc; i++) {
    if (keys.touchRecord(db, buf, offsets[2 * i], offsets[2 * i + 1]) !== 0) n++;
    else if (keys.find(db, argv.str(i), c.slot(i)) !== null) n++;
  }
  c.out.int(n);
}

function type(c: CommandContext): void {
  const { buf, offsets } = c.argv;
  if (c.keys.touchRecord(c.db, buf, offsets[2], offsets[3]) !== 0) {
    c.out.simple(TYPE_NAMES[STRING]);
    return;
  }
  const o = c.keys.find(c.db, c.argv.str(1), c.slot(1));
  c.out.simple(TYPE_NAMES[o?.type ?? 0]);
}

// ---------------------------------------------------------------------- names

function rename(onlyNew: boolean): (c: CommandContext) => void {
  return (c) => {
    const { argv, keys, db } = c;
    const from = argv.str(1);
    const to = argv.str(2);
    const source = keys.peekForWrite(db, from, c.slot(1));
    const target = keys.peekForWrite(db, to, c.slot(2));
    if (source === null) throw NO_SUCH_KEY;
    if (from === to || (onlyNew && target !== null)) {
      if (onlyNew) c.out.int(0);
      else c.out.ok();
      return;
    }
    keys.copyTo(source, db, to, c.slot(2));
    keys.remove(db, source);
    keys.notify?.(db, 'rename_from', from, 'g');
    keys.notify?.(db, 'rename_to', to, 'g');
    if (onlyNew) c.out.int(1);
    else c.out.ok();
  };
}

/** Database number in argument i. */
function databaseArgument(c: CommandContext, i: number): Database {
  const n = integer32(c.argv, i);
  const db = c.keys.names[n];
  if (db === undefined) throw DB_RANGE;
  return db;
}

function copy(c: CommandContext): void {
  const { argv, keys, db } = c;
  let target = db;
  let replace = false;
  for (let i = 3; i < argv.argc; i++) {
    if (argv.is(i, 'REPLACE')) replace = true;
    else if (argv.is(i, 'DB') && i + 1 < argv.argc) target = databaseArgument(c, ++i);
    else throw SYNTAX_ERROR;
  }
  const from = argv.str(1);
  const to = argv.str(2);
  if (target === db && from === to) throw new ReplyError('ERR source and destination objects are the same');
  const source = keys.peek(db, from, c.slot(1));
  const old = keys.peekForWrite(target, to, c.slot(2));
  if (source === null || (old !== null && !replace)) {
    c.out.int(0);
    return;
  }
  keys.copyTo(source, target, to, c.slot(2));
  keys.notify?.(target, 'copy_to', to, 'g');
  c.out.int(1);
}

function move(c: CommandContext): void {
  const { argv, keys, db } = c;
  const target = databaseArgument(c, 2);
  if (target === db) throw new ReplyError('ERR source and destination objects are the same');
  const key = argv.str(1);
  const slot = c.slot(1);
  const source = keys.peekForWrite(db, key, slot);
  const old = keys.peekForWrite(target, key, slot);
  if (source === null || old !== null) {
    c.out.int(0);
    return;
  }
  keys.copyTo(source, target, key, slot);
  keys.remove(db, source);
  keys.notify?.(db, 'move_from', key, 'g');
  keys.notify?.(target, 'move_to', key, 'g');
  c.out.int(1);
}

function swapdb(c: CommandContext): void {
  const numbers = [1, 2].map((i) => {
    const n = parseInt64(c.argv.str(i));
    if (n === null) throw new ReplyError(`ERR invalid ${i === 1 ? 'first' : 'second'} DB index`);
    return Number(n);
  });
  for (const n of numbers) if (n < 0 || n >= c.keys.names.length) throw DB_RANGE;
  if (!c.server.coverage.isAlone)
    throw new ReplyError(
      'ERR SWAPDB is for a node that is alone: the members of a cluster can not change names at once',
    );
  if (numbers[0] !== numbers[1]) c.keys.swap(numbers[0], numbers[1]);
  c.out.ok();
}

function dbsize(c: CommandContext): void {
  c.keys.needsAll();
  const count = c.server.coverage.count(c.db);
  if (typeof count === 'number') c.out.int(count);
  else c.defer(count.then((n) => (out) => out.int(n)));
}

function flush(all: boolean): (c: CommandContext) => void {
  return (c) => {
    const { argv } = c;
    if (argv.argc > 2 || (argv.argc === 2 && !argv.is(1, 'ASYNC') && !argv.is(1, 'SYNC'))) throw SYNTAX_ERROR;
    // what is empty already needs no record
    const databases = all ? c.keys.databases : [c.db];
    const alone = c.server.coverage.isAlone;
    const done = c.server.coverage.flush(alone ? databases.filter((db) => !isPristine(db)) : databases);
    if (done === null) c.out.ok();
    else c.defer(done.then(() => (out) => out.ok()));
  };
}

function isPristine(db: Database): boolean {
  return db.keys === 0 && db.shards.every((shard) => shard.complete && shard.size === 0);
}

// ---------------------------------------------------------------------- OBJECT

/** The encoding that Redis would have for this string. */
export function encodingOf(o: StoredKey): string {
  if (o.type !== STRING) return 'listpack';
  if (o.bytes !== null || o.flags & RAW) return 'raw';
  if (!(o.flags & TEXT) && o.size() <= 20 && parseInt64(o.text()) !== null) return 'int';
  return o.size() <= 44 ? 'embstr' : 'raw';
}

function objectCommand(reply: (c: CommandContext, o: StoredKey) => void): (c: CommandContext) => void {
  return (c) => {
    const { keys, db } = c;
    const { buf, offsets } = c.argv;
    const a = keys.peekRecord(db, buf, offsets[4], offsets[5]);
    if (a !== 0) {
      keys.stats.hits++;
      reply(c, keys.packed.copy(a));
      return;
    }
    const key = c.argv.str(2);
    const slot = c.slot(2);
    // looking must not count as an access
    const used = keys.shard(db, slot).peek(key)?.used;
    const o = keys.find(db, key, slot);
    if (o === null) {
      c.out.nil();
      return;
    }
    if (used !== undefined) o.used = used;
    reply(c, o);
  };
}

const OBJECT_HELP = [
  'OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:',
  'ENCODING <key>',
  '    Return the kind of internal representation used in order to store the value',
  '    associated with a <key>.',
  'FREQ <key>',
  '    Return the access frequency index of the <key>. The returned integer is',
  '    proportional to the logarithm of the recent access frequency of the key.',
  'IDLETIME <key>',
  '    Return the idle time of the <key>, that is the approximated number of',
  '    seconds elapsed since the last access to the key.',
  'REFCOUNT <key>',
  '    Return the number of references of the value associated with the specified',
  '    <key>.',
  'HELP',
  '    Prints this help.',
];

export function help(lines: readonly string[]): (c: CommandContext) => void {
  return (c) => {
    c.out.array(lines.length);
    for (const line of lines) c.out.simple(line);
  };
}

const SHARED_INTEGERS = 10_000;

const objectSubcommands: CommandSpec[] = [
  {
    name: 'encoding',
    arity: 3,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: OBJECT_KEY,
    tips: ['nondeterministic_output'],
    summary: "Gives the encoding that Redis would keep a key's value in.",
    since: '2.2.3',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: objectCommand((c, o) => c.out.bulk(encodingOf(o))),
  },
  {
    name: 'freq',
    arity: 3,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: OBJECT_KEY,
    tips: ['nondeterministic_output'],
    summary: 'Would give how often a key is used, under an LFU policy.',
    since: '4.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: objectCommand(() => {
      throw new ReplyError(
        'ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.',
      );
    }),
  },
  {
    name: 'help',
    arity: 2,
    flags: ['loading', 'stale'],
    categories: ['keyspace'],
    summary: 'Lists the subcommands.',
    since: '6.2.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: '',
    handler: help(OBJECT_HELP),
  },
  {
    name: 'idletime',
    arity: 3,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: OBJECT_KEY,
    tips: ['nondeterministic_output'],
    summary: 'Gives the seconds since a key was last used.',
    since: '2.2.3',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: objectCommand((c, o) => c.out.int(Math.max(0, c.keys.seconds - o.used))),
  },
  {
    name: 'refcount',
    arity: 3,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: OBJECT_KEY,
    tips: ['nondeterministic_output'],
    summary: 'Gives the number of references to a value, as Redis would count them.',
    since: '2.2.3',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: objectCommand((c, o) => {
      const n = encodingOf(o) === 'int' ? Number(o.text()) : -1;
      c.out.int(n >= 0 && n < SHARED_INTEGERS ? 2147483647 : 1);
    }),
  },
];

function container(c: CommandContext): void {
  void c;
  throw SYNTAX_ERROR;
}

// ---------------------------------------------------------------------- the table's part

export const keyCommands: CommandSpec[] = [
  {
    name: 'copy',
    arity: -3,
    flags: ['write', 'denyoom'],
    categories: ['keyspace'],
    keys: [
      { flags: ['RO', 'access'], begin: 1, range: { last: 0, step: 1 } },
      { flags: ['OW', 'update'], begin: 2, range: { last: 0, step: 1 } },
    ],
    summary: 'Copies a key, with its siblings and its deadline.',
    since: '6.2.0',
    group: 'generic',
    complexity: 'O(N) worst case for collections, where N is the number of nested items. O(1) for string values.',
    syntax: 'source destination [DB destination-db] [REPLACE]',
    handler: copy,
  },
  {
    name: 'dbsize',
    arity: 1,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    tips: ['request_policy:all_shards', 'response_policy:agg_sum'],
    summary: 'Gives the number of keys in the database.',
    since: '1.0.0',
    group: 'server',
    complexity: 'O(1)',
    syntax: '',
    handler: dbsize,
  },
  {
    name: 'del',
    arity: -2,
    flags: ['write'],
    categories: ['keyspace'],
    keys: [{ flags: ['RM', 'delete'], begin: 1, range: { last: -1, step: 1 } }],
    tips: SUM_TIPS,
    summary: 'Deletes keys, with everything of them that has been seen.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(N) where N is the number of keys that will be removed.',
    syntax: 'key [key ...]',
    handler: del,
  },
  {
    name: 'exists',
    arity: -2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: KEYS_RO,
    tips: SUM_TIPS,
    summary: 'Counts how many of the named keys exist.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(N) where N is the number of keys to check.',
    syntax: 'key [key ...]',
    history: [['3.0.3', 'Accepts multiple `key` arguments.']],
    handler: exists,
  },
  {
    name: 'flushall',
    arity: -1,
    flags: ['write'],
    categories: ['keyspace', 'dangerous'],
    tips: ['request_policy:all_shards', 'response_policy:all_succeeded'],
    summary: 'Voids everything in all databases.',
    since: '1.0.0',
    group: 'server',
    complexity: 'O(N) where N is the total number of keys in all databases',
    syntax: '[ASYNC | SYNC]',
    history: [
      ['4.0.0', 'Added the `ASYNC` flushing mode modifier.'],
      ['6.2.0', 'Added the `SYNC` flushing mode modifier.'],
    ],
    handler: flush(true),
  },
  {
    name: 'flushdb',
    arity: -1,
    flags: ['write'],
    categories: ['keyspace', 'dangerous'],
    tips: ['request_policy:all_shards', 'response_policy:all_succeeded'],
    summary: 'Voids everything in the current database.',
    since: '1.0.0',
    group: 'server',
    complexity: 'O(N) where N is the number of keys in the selected database',
    syntax: '[ASYNC | SYNC]',
    history: [
      ['4.0.0', 'Added the `ASYNC` flushing mode modifier.'],
      ['6.2.0', 'Added the `SYNC` flushing mode modifier.'],
    ],
    handler: flush(false),
  },
  {
    name: 'move',
    arity: 3,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: [{ flags: ['RW', 'access', 'update'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Moves a key to another database.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key db',
    handler: move,
  },
  {
    name: 'object',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'A container for commands that look at how keys are kept.',
    since: '2.2.3',
    group: 'generic',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: container,
    subcommands: objectSubcommands,
  },
  {
    name: 'rename',
    arity: 3,
    flags: ['write'],
    categories: ['keyspace'],
    keys: [
      { flags: ['RW', 'access', 'delete'], begin: 1, range: { last: 0, step: 1 } },
      { flags: ['OW', 'update'], begin: 2, range: { last: 0, step: 1 } },
    ],
    summary: 'Renames a key, overwriting the one that had the name.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key newkey',
    history: [['3.2.0', 'The command no longer returns an error when source and destination names are the same.']],
    handler: rename(false),
  },
  {
    name: 'renamenx',
    arity: 3,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: [
      { flags: ['RW', 'access', 'delete'], begin: 1, range: { last: 0, step: 1 } },
      { flags: ['OW', 'insert'], begin: 2, range: { last: 0, step: 1 } },
    ],
    summary: 'Renames a key, if no key has the new name.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key newkey',
    history: [['3.2.0', 'The command no longer returns an error when source and destination names are the same.']],
    handler: rename(true),
  },
  {
    name: 'swapdb',
    arity: 3,
    flags: ['write', 'fast'],
    categories: ['keyspace', 'dangerous'],
    summary: 'Exchanges two databases.',
    since: '4.0.0',
    group: 'server',
    complexity: 'O(1)',
    syntax: 'index1 index2',
    handler: swapdb,
  },
  {
    name: 'touch',
    arity: -2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: KEYS_RO,
    tips: SUM_TIPS,
    summary: 'Marks keys as used, and counts those that exist.',
    since: '3.2.1',
    group: 'generic',
    complexity: 'O(N) where N is the number of keys that will be touched.',
    syntax: 'key [key ...]',
    handler: exists,
  },
  {
    name: 'type',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: [{ flags: ['RO'], begin: 1, range: { last: 0, step: 1 } }],
    summary: "Gives the type of a key's value.",
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: type,
  },
  {
    name: 'unlink',
    arity: -2,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: [{ flags: ['RM', 'delete'], begin: 1, range: { last: -1, step: 1 } }],
    tips: SUM_TIPS,
    summary: 'Deletes keys; the same as DEL here.',
    since: '4.0.0',
    group: 'generic',
    complexity: 'O(1) for each key removed regardless of its size.',
    syntax: 'key [key ...]',
    handler: del,
  },
];
