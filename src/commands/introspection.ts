/**
 * COMMAND: the command table, told to clients. Everything here is derived from the specs.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { globMatch } from '../base/glob.ts';
import { Argv } from '../resp/argv.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import type { CommandContext, CommandSpec, KeySpec } from './command.ts';
import { helpCommand } from './help.ts';
import { type Argument, parseSyntax } from './syntax.ts';

const INVALID_COMMAND = new ReplyError('ERR Invalid command specified');
const NO_KEYS = new ReplyError('ERR The command has no key arguments');
const WRONG_NUMBER = new ReplyError('ERR Invalid number of arguments specified for command');
const WRONG_ARGUMENTS = new ReplyError('ERR Invalid arguments specified for command');

/** ACL categories in Redis's order. */
export const ACL_CATEGORIES = [
  'keyspace',
  'read',
  'write',
  'set',
  'sortedset',
  'list',
  'hash',
  'string',
  'bitmap',
  'hyperloglog',
  'geo',
  'stream',
  'pubsub',
  'admin',
  'fast',
  'slow',
  'blocking',
  'dangerous',
  'connection',
  'transaction',
  'scripting',
];

/** A command by its name, or a subcommand by `container|name`. */
function find(c: CommandContext, name: string): CommandSpec | undefined {
  const { table } = c.server;
  const bar = name.indexOf('|');
  if (bar < 0) return table.lookup(name);
  const container = table.lookup(name.slice(0, bar));
  return container === undefined ? undefined : table.sub(container, name.slice(bar + 1));
}

/** All commands, each followed by its subcommands. */
export function allCommands(c: CommandContext): CommandSpec[] {
  return c.server.table.commands.flatMap((spec) => [spec, ...(spec.subcommands ?? [])]);
}

// ------------------------------------------------------------------ COMMAND INFO

function words(out: ReplyWriter, list: readonly string[]): void {
  out.set(list.length);
  for (const word of list) out.simple(word);
}

function replyKeySpec(out: ReplyWriter, k: KeySpec): void {
  out.map(k.notes === undefined ? 3 : 4);
  if (k.notes !== undefined) {
    out.bulk('notes');
    out.bulk(k.notes);
  }
  out.bulk('flags');
  words(out, k.flags);
  out.bulk('begin_search');
  out.map(2);
  out.bulk('type');
  if (typeof k.begin === 'number') {
    out.bulk('index');
    out.bulk('spec');
    out.map(1);
    out.bulk('index');
    out.int(k.begin);
  } else {
    out.bulk('keyword');
    out.bulk('spec');
    out.map(2);
    out.bulk('keyword');
    out.bulk(k.begin.keyword);
    out.bulk('startfrom');
    out.int(k.begin.from);
  }
  out.bulk('find_keys');
  out.map(2);
  out.bulk('type');
  const numbers: [string, number][] =
    k.range !== undefined
      ? [
          ['lastkey', k.range.last],
          ['keystep', k.range.step],
          ['limit', k.range.limit ?? 0],
        ]
      : k.keynum !== undefined
        ? [
            ['keynumidx', k.keynum.at],
            ['firstkey', k.keynum.first],
            ['keystep', k.keynum.step],
          ]
        : [];
  out.bulk(k.range !== undefined ? 'range' : k.keynum !== undefined ? 'keynum' : 'unknown');
  out.bulk('spec');
  out.map(numbers.length);
  for (const [name, n] of numbers) {
    out.bulk(name);
    out.int(n);
  }
}

function replyInfo(c: CommandContext, spec: CommandSpec): void {
  const { out } = c;
  const { table } = c.server;
  const categories = table.categoriesOf(spec);
  out.array(10);
  out.bulk(table.fullName(spec));
  out.int(spec.arity);
  words(out, table.flagsOf(spec));
  for (const n of table.legacyKeys(spec)) out.int(n);
  words(
    out,
    ACL_CATEGORIES.filter((name) => categories.includes(name)).map((name) => `@${name}`),
  );
  const tips = spec.tips ?? [];
  out.set(tips.length);
  for (const tip of tips) out.bulk(tip);
  const keys = spec.keys ?? [];
  out.set(keys.length);
  for (const k of keys) replyKeySpec(out, k);
  const subcommands = spec.subcommands ?? [];
  // an empty set, but an array when there is something in it: Redis's own way
  if (subcommands.length === 0) out.set(0);
  else out.array(subcommands.length);
  for (const each of subcommands) replyInfo(c, each);
}

function command(c: CommandContext): void {
  const { commands } = c.server.table;
  c.out.array(commands.length);
  for (const spec of commands) replyInfo(c, spec);
}

function info(c: CommandContext): void {
  const { argv, out } = c;
  if (argv.argc === 2) {
    command(c);
    return;
  }
  out.array(argv.argc - 2);
  for (let i = 2; i < argv.argc; i++) {
    const spec = find(c, argv.str(i));
    if (spec === undefined) out.nil();
    else replyInfo(c, spec);
  }
}

function count(c: CommandContext): void {
  c.out.int(c.server.table.commands.length);
}

// ------------------------------------------------------------------ COMMAND DOCS

const parsed = new WeakMap<CommandSpec, Argument[]>();

function argumentsOf(spec: CommandSpec): Argument[] {
  let list = parsed.get(spec);
  if (list === undefined) parsed.set(spec, (list = parseSyntax(spec.syntax, spec.keys?.length ?? 0)));
  return list;
}

function replyArgument(out: ReplyWriter, a: Argument): void {
  const flags: string[] = [];
  if (a.optional) flags.push('optional');
  if (a.multiple) flags.push('multiple');
  if (a.multipleToken) flags.push('multiple_token');
  const more = [a.keySpec !== undefined, a.token !== undefined, flags.length > 0, a.arguments !== undefined];
  out.map(2 + more.filter(Boolean).length);
  out.bulk('name');
  out.bulk(a.name);
  out.bulk('type');
  out.bulk(a.type);
  if (a.keySpec !== undefined) {
    out.bulk('key_spec_index');
    out.int(a.keySpec);
  }
  if (a.token !== undefined) {
    out.bulk('token');
    out.bulk(a.token);
  }
  if (flags.length > 0) {
    out.bulk('flags');
    words(out, flags);
  }
  if (a.arguments !== undefined) {
    out.bulk('arguments');
    out.array(a.arguments.length);
    for (const each of a.arguments) replyArgument(out, each);
  }
}

function replyDocs(c: CommandContext, spec: CommandSpec): void {
  const { out } = c;
  const args = argumentsOf(spec);
  const flags = [
    ...(spec.deprecated !== undefined ? ['deprecated'] : []),
    ...(spec.name === 'debug' ? ['syscmd'] : []),
  ];
  const history = spec.history ?? [];
  const subcommands = spec.subcommands ?? [];
  let size = 4;
  if (flags.length > 0) size++;
  if (spec.deprecated !== undefined) size += 2;
  if (history.length > 0) size++;
  if (args.length > 0) size++;
  if (subcommands.length > 0) size++;
  out.map(size);
  const facts: [string, string][] = [
    ['summary', spec.summary],
    ['since', spec.since],
    ['group', spec.group],
    ['complexity', spec.complexity],
  ];
  for (const [name, value] of facts) {
    out.bulk(name);
    out.bulk(value);
  }
  if (flags.length > 0) {
    out.bulk('doc_flags');
    words(out, flags);
  }
  if (spec.deprecated !== undefined) {
    out.bulk('deprecated_since');
    out.bulk(spec.deprecated.since);
    out.bulk('replaced_by');
    out.bulk(spec.deprecated.replacedBy);
  }
  if (history.length > 0) {
    out.bulk('history');
    out.set(history.length);
    for (const [version, change] of history) {
      out.array(2);
      out.bulk(version);
      out.bulk(change);
    }
  }
  if (args.length > 0) {
    out.bulk('arguments');
    out.array(args.length);
    for (const a of args) replyArgument(out, a);
  }
  if (subcommands.length > 0) {
    out.bulk('subcommands');
    out.map(subcommands.length);
    for (const each of subcommands) {
      out.bulk(c.server.table.fullName(each));
      replyDocs(c, each);
    }
  }
}

function docs(c: CommandContext): void {
  const { argv, out } = c;
  const { table } = c.server;
  const specs: CommandSpec[] = [];
  if (argv.argc === 2) specs.push(...table.commands);
  for (let i = 2; i < argv.argc; i++) {
    const spec = find(c, argv.str(i));
    if (spec !== undefined) specs.push(spec);
  }
  out.map(specs.length);
  for (const spec of specs) {
    out.bulk(table.fullName(spec));
    replyDocs(c, spec);
  }
}

// ------------------------------------------------------------------ COMMAND LIST and GETKEYS

function list(c: CommandContext): void {
  const { argv, out } = c;
  const { table } = c.server;
  let chosen = allCommands(c);
  if (argv.argc === 5 && argv.is(2, 'FILTERBY')) {
    const wanted = argv.str(4);
    if (argv.is(3, 'MODULE')) chosen = [];
    else if (argv.is(3, 'ACLCAT')) chosen = chosen.filter((s) => table.categoriesOf(s).includes(wanted.toLowerCase()));
    else if (argv.is(3, 'PATTERN')) chosen = chosen.filter((s) => globMatch(wanted, table.fullName(s), true));
    else throw SYNTAX_ERROR;
  } else if (argv.argc !== 2) throw SYNTAX_ERROR;
  out.array(chosen.length);
  for (const spec of chosen) out.bulk(table.fullName(spec));
}

/** The command that the arguments from 2 on are a request of, and the positions of its keys in it. */
function inner(c: CommandContext): { spec: CommandSpec; request: Argv; positions: number[] } {
  const { table } = c.server;
  const request = Argv.from(c.argv.strings(2));
  let spec = table.lookup(request.str(0));
  if (spec?.subcommands !== undefined && request.argc > 1) spec = table.sub(spec, request.str(1));
  if (spec === undefined) throw INVALID_COMMAND;
  if ((spec.keys ?? []).length === 0 && spec.getKeys === undefined) throw NO_KEYS;
  const { arity } = spec;
  if (arity > 0 ? request.argc !== arity : request.argc < -arity) throw WRONG_NUMBER;
  const positions = table.keyPositions(spec, request);
  if (positions === null) {
    if (spec.flags.includes('no_mandatory_keys')) return { spec, request, positions: [] };
    throw WRONG_ARGUMENTS;
  }
  return { spec, request, positions };
}

function getkeys(c: CommandContext): void {
  const { request, positions } = inner(c);
  c.out.array(positions.length);
  for (const i of positions) c.out.bulk(request.str(i));
}

/** Flags of the specification that the key at a position falls under. */
function flagsAt(c: CommandContext, spec: CommandSpec, request: Argv, position: number): readonly string[] {
  const { table } = c.server;
  for (const k of spec.keys ?? []) {
    const only: CommandSpec = { ...spec, keys: [k], getKeys: undefined };
    if (table.keyPositions(only, request)?.includes(position)) return k.flags;
  }
  return spec.keys?.[0]?.flags ?? [];
}

/** What SET and BITFIELD do to their key depends on their options; the others say it once and for all. */
function settledFlags(spec: CommandSpec, request: Argv, flags: readonly string[]): readonly string[] {
  if (!flags.includes('variable_flags')) return flags;
  const asked = (word: string) => {
    for (let i = 2; i < request.argc; i++) if (request.is(i, word)) return true;
    return false;
  };
  if (spec.name === 'set' && !asked('GET')) return ['OW', 'update'];
  if (spec.name === 'bitfield' && !asked('SET') && !asked('INCRBY')) return ['RO', 'access'];
  return flags.filter((flag) => flag !== 'variable_flags');
}

function getkeysandflags(c: CommandContext): void {
  const { out } = c;
  const { spec, request, positions } = inner(c);
  out.array(positions.length);
  for (const i of positions) {
    out.array(2);
    out.bulk(request.str(i));
    words(out, settledFlags(spec, request, flagsAt(c, spec, request, i)));
  }
}

// ------------------------------------------------------------------ the table's part

const FLAGS = ['loading', 'stale'] as const;
const ANY_ORDER = ['nondeterministic_output_order'];
const PER_COMMAND = 'O(N) where N is the number of commands to look up';
const PER_ARGUMENT = 'O(N) where N is the number of arguments to the command';

/** A subcommand's entry; what is left out is the usual. */
type Entry = Omit<CommandSpec, 'group' | 'categories' | 'complexity' | 'syntax' | 'flags'> & Partial<CommandSpec>;

function sub(entry: Entry): CommandSpec {
  return { flags: FLAGS, categories: ['connection'], group: 'server', complexity: 'O(1)', syntax: '', ...entry };
}

export const introspectionCommands: CommandSpec[] = [
  {
    name: 'command',
    arity: -1,
    flags: FLAGS,
    categories: ['connection'],
    summary: 'Describes all commands.',
    since: '2.8.13',
    group: 'server',
    complexity: 'O(N) where N is the total number of Redis commands',
    syntax: '',
    tips: ANY_ORDER,
    handler: command,
    subcommands: [
      sub({ name: 'count', arity: 2, since: '2.8.13', summary: 'Gives the number of commands.', handler: count }),
      sub({
        name: 'docs',
        arity: -2,
        since: '7.0.0',
        syntax: '[command-name [command-name ...]]',
        complexity: PER_COMMAND,
        summary: 'Documents commands, all or some.',
        handler: docs,
        tips: ANY_ORDER,
      }),
      sub({
        name: 'getkeys',
        arity: -4,
        since: '2.8.13',
        syntax: 'command [arg [arg ...]]',
        complexity: PER_ARGUMENT,
        summary: 'Finds the keys in a request.',
        handler: getkeys,
      }),
      sub({
        name: 'getkeysandflags',
        arity: -4,
        since: '7.0.0',
        syntax: 'command [arg [arg ...]]',
        complexity: PER_ARGUMENT,
        summary: 'Finds the keys in a request and what is done to them.',
        handler: getkeysandflags,
      }),
      helpCommand('server', '5.0.0', ['connection']),
      sub({
        name: 'info',
        arity: -2,
        since: '2.8.13',
        syntax: '[command-name [command-name ...]]',
        complexity: PER_COMMAND,
        summary: 'Describes commands, all or some.',
        handler: info,
        tips: ANY_ORDER,
        history: [['7.0.0', 'Without names it describes all commands.']],
      }),
      sub({
        name: 'list',
        arity: -2,
        since: '7.0.0',
        syntax: '[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]',
        complexity: 'O(N) where N is the total number of Redis commands',
        summary: 'Names all commands, or those that a filter picks.',
        handler: list,
        tips: ANY_ORDER,
      }),
    ],
  },
];
