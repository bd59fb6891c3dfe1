/**
 * Running the server: TIME, SHUTDOWN, DEBUG, and what Redis has for persistence, replication, modules and users, as far
 * as it means something here. Everything is on disk already, nobody is a replica of anybody, and there is one user.
 */
import { createHash } from 'node:crypto';
import { NO_SUCH_KEY, ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { REDIS_VERSION, VERSION } from '../server/version.ts';
import { digestOf } from '../store/digest.ts';
import type { StoredKey } from '../store/object.ts';
import { integer, parseSafeInteger, partitionArgument } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { isLocal } from './config.ts';
import { containerAlone, helpCommand, replyHelp } from './help.ts';
import { ACL_CATEGORIES, allCommands } from './introspection.ts';

const TIMEOUT_NOT_INTEGER = new ReplyError('ERR timeout is not an integer or out of range');
const TIMEOUT_NEGATIVE = new ReplyError('ERR timeout is negative');
const NO_SHUTDOWN = new ReplyError('ERR No shutdown in progress.');
const NO_MASTER = new ReplyError(
  'ERR there are no replicas here: nodes join one another with cluster-seeds, and each of them takes writes',
);
const GENPASS_BITS = new ReplyError(
  'ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096',
);

function notAllowed(command: string): ReplyError {
  const option = `enable-${command.toLowerCase()}-command`;
  return new ReplyError(
    `ERR ${command} command not allowed. If the ${option} option is set to "local", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.`,
  );
}

function wrongArguments(c: CommandContext): ReplyError {
  const { argv } = c;
  return new ReplyError(
    `ERR unknown subcommand or wrong number of arguments for '${argv.str(1)}'. Try ${argv.str(0).toUpperCase()} HELP.`,
  );
}

// ------------------------------------------------------------------ TIME, LOLWUT, SHUTDOWN

function time(c: CommandContext): void {
  const { out } = c;
  const now = c.server.clock.now();
  out.array(2);
  out.bulk(String(Math.floor(now / 1000)));
  out.bulk(String(Math.floor((now % 1000) * 1000)));
}

/** The Gramme ring: coils wound around an iron ring, between two poles. */
const RING = [
  '              .-=#=#=#=-.              ',
  '          .=#=`         `=#=.          ',
  '  +---+ .#=                 =#. +---+  ',
  '  |   | #=        ___        =# |   |  ',
  '  | N | #|       /   \\       |# | S |  ',
  '  |   | #|       \\___/       |# |   |  ',
  '  |   | #=                   =# |   |  ',
  '  +---+ `#=                 =#` +---+  ',
  '          `=#=.         .=#=`          ',
  '              `-=#=#=#=-`              ',
];

function lolwut(c: CommandContext): void {
  const { argv } = c;
  if (argv.argc > 2 && argv.is(1, 'VERSION')) integer(argv, 2);
  const text = `${RING.map((line) => line.trimEnd()).join('\n')}\n\nGramme ver. ${VERSION}, as Redis ver. ${REDIS_VERSION}\n`;
  c.out.verbatim(text);
}

function shutdown(c: CommandContext): void {
  const { argv, server } = c;
  const options = new Set<string>();
  for (let i = 1; i < argv.argc; i++) {
    const option = argv.lower(i);
    if (!['nosave', 'save', 'now', 'force', 'abort'].includes(option)) throw SYNTAX_ERROR;
    options.add(option);
  }
  if ((options.has('save') && options.has('nosave')) || (options.has('abort') && options.size > 1)) throw SYNTAX_ERROR;
  if (options.has('abort')) throw NO_SHUTDOWN;
  // there is no reply: the connection ends when the server does
  server.shutdown().catch((error: unknown) => server.log.error({ error: String(error) }, 'SHUTDOWN failed'));
}

// ------------------------------------------------------------------ DEBUG

/** Is a command that `enable-…-command` guards allowed to this client? */
export function isAllowed(c: CommandContext, directive: string): boolean {
  const who = c.server.config.get(directive);
  return who === 'yes' || (who === 'local' && isLocal(c));
}

const DEBUG_HELP: [string, string][] = [
  ['DIGEST [<partition>]', 'Hashes all live data that this node is a home of, or that of one partition.'],
  ['ERROR <string>', 'Answers with the string as an error.'],
  ['LOG <message>', "Writes the message into the server's log."],
  ['OBJECT <key>', 'Tells how a key is kept.'],
  ['PROTOCOL <type>', 'Answers with a value of this type of the protocol.'],
  ['SET-ACTIVE-EXPIRE <0|1>', 'Turns the removal of expired keys in the background off or on.'],
  ['SLEEP <seconds>', 'Answers after so many seconds; other clients are served meanwhile.'],
];

function debug(c: CommandContext): void {
  const { argv, out, server } = c;
  if (!isAllowed(c, 'enable-debug-command')) throw notAllowed('DEBUG');
  const name = argv.lower(1);
  if (name === 'help' && argv.argc === 2) replyHelp(c, DEBUG_HELP);
  else if (name === 'sleep' && argv.argc === 3) {
    const seconds = Number.parseFloat(argv.str(2));
    const ms = seconds > 0 ? seconds * 1000 : 0;
    c.defer(new Promise((resolve) => server.timers.after(ms, () => resolve((w) => w.ok()))));
  } else if (name === 'digest' && argv.argc <= 3) debugDigest(c);
  else if (name === 'object' && argv.argc >= 3) debugObject(c);
  else if (name === 'set-active-expire' && argv.argc === 3) {
    server.store.expiry.active = argv.str(2) !== '0';
    out.ok();
  } else if (name === 'error' && argv.argc === 3) throw new ReplyError(argv.str(2));
  else if (name === 'log' && argv.argc === 3) {
    server.log.warn({ message: argv.str(2) }, 'DEBUG LOG');
    out.ok();
  } else if (name === 'protocol' && argv.argc === 3) debugProtocol(c, argv.lower(2));
  else throw wrongArguments(c);
}

/** Equal on the replicas of a partition once they agree; 40 zeros when there is nothing. */
function debugDigest(c: CommandContext): void {
  const { argv, server } = c;
  const cluster = server.router?.cluster ?? null;
  const isHome = (p: number) =>
    cluster === null || cluster.ring.layout === null || cluster.ring.homes(p).includes(server.nodeId);
  const all = argv.argc === 2;
  const list = all ? Array.from({ length: c.keys.partitions }, (_, p) => p) : [partitionArgument(c, 2)];
  c.defer(digestOf(server.store, server.timers, list.filter(isHome)).then((hex) => (w) => w.simple(hex)));
}

function encodingOf(o: StoredKey): string {
  if (o.bytes !== null) return 'raw';
  const text = o.text();
  if (!Number.isNaN(parseSafeInteger(text))) return 'int';
  return text.length <= 44 ? 'embstr' : 'raw';
}

function debugObject(c: CommandContext): void {
  const o = c.keys.peek(c.db, c.argv.str(2));
  if (o === null) throw NO_SUCH_KEY;
  const idle = Math.max(0, c.keys.seconds - o.used);
  const lru = o.used & 0xffffff;
  c.out.simple(
    `Value at:0x0 refcount:1 encoding:${encodingOf(o)} serializedlength:${o.size() + 1} lru:${lru} lru_seconds_idle:${idle}`,
  );
}

/** One value of each type of the protocol, for those who write clients. */
function debugProtocol(c: CommandContext, type: string): void {
  const { out } = c;
  const three = (write: (i: number) => void) => {
    for (let i = 0; i < 3; i++) write(i);
  };
  switch (type) {
    case 'string':
      out.bulk('Hello World');
      break;
    case 'integer':
      out.int(12345);
      break;
    case 'double':
      out.double('3.141');
      break;
    case 'null':
      out.nil();
      break;
    case 'array':
      out.array(3);
      three((i) => out.int(i));
      break;
    case 'set':
      out.set(3);
      three((i) => out.int(i));
      break;
    case 'map':
      out.map(3);
      three((i) => {
        out.int(i);
        out.bool(i === 1);
      });
      break;
    case 'attrib':
      if (out.resp3) out.raw('|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n');
      out.bulk('Some real reply following the attribute');
      break;
    case 'push':
      if (!out.resp3) throw new ReplyError('ERR RESP2 is not supported by this command');
      out.push(2);
      out.bulk('server-cpu-usage');
      out.int(42);
      out.bulk('Some real reply following the push reply');
      break;
    case 'verbatim':
      out.verbatim('This is a verbatim\nstring');
      break;
    case 'true':
      out.bool(true);
      break;
    case 'false':
      out.bool(false);
      break;
    case 'bignum':
      if (out.resp3) out.raw('(1234567999999999999999999999999999999\r\n');
      else out.bulk('1234567999999999999999999999999999999');
      break;
    default:
      throw new ReplyError(
        'ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false',
      );
  }
}

// ------------------------------------------------------------------ persistence

/** Makes everything acknowledged so far survive a power cut. */
async function makeDurable(c: CommandContext): Promise<void> {
  const { journal } = c.server.store;
  await journal.flush();
  await journal.sync(true);
}

function save(c: CommandContext): void {
  c.defer(makeDurable(c).then(() => (out) => out.ok()));
}

function bgsave(c: CommandContext): void {
  const { argv, server } = c;
  if (argv.argc > 2 || (argv.argc === 2 && !argv.is(1, 'SCHEDULE'))) throw SYNTAX_ERROR;
  makeDurable(c).catch((error: unknown) => server.log.error({ error: String(error) }, 'BGSAVE failed'));
  c.out.simple('Background saving started');
}

/** Every write is saved, so the last time is now. */
function lastsave(c: CommandContext): void {
  c.out.int(Math.floor(c.now / 1000));
}

function bgrewriteaof(c: CommandContext): void {
  c.out.simple('Background append only file rewriting started');
}

// ------------------------------------------------------------------ replication

function role(c: CommandContext): void {
  const { out } = c;
  out.array(3);
  out.bulk('master');
  out.int(0);
  out.array(0);
}

function replicaof(c: CommandContext): void {
  const { argv } = c;
  if (!argv.is(1, 'NO') || !argv.is(2, 'ONE')) throw NO_MASTER;
  c.out.ok();
}

/** How many other nodes have acknowledged this client's writes: none, as long as there is one node. */
function wait(c: CommandContext): void {
  const { argv } = c;
  const timeout = argv.int(2);
  if (Number.isNaN(timeout)) {
    integer(argv, 1);
    throw TIMEOUT_NOT_INTEGER;
  }
  if (timeout < 0) throw TIMEOUT_NEGATIVE;
  integer(argv, 1);
  c.out.int(0);
}

// ------------------------------------------------------------------ modules

function moduleList(c: CommandContext): void {
  c.out.array(0);
}

function moduleRefused(): void {
  throw notAllowed('MODULE');
}

// ------------------------------------------------------------------ ACL

function sha256(text: string): string {
  return createHash('sha256').update(text, 'latin1').digest('hex');
}

function aclWhoami(c: CommandContext): void {
  c.out.bulk(c.client.user);
}

function aclUsers(c: CommandContext): void {
  c.out.array(1);
  c.out.bulk('default');
}

function aclList(c: CommandContext): void {
  const password = c.server.config.get('requirepass');
  c.out.array(1);
  c.out.bulk(`user default on ${password === '' ? 'nopass' : `#${sha256(password)}`} ~* &* +@all`);
}

function aclGetuser(c: CommandContext): void {
  const { out } = c;
  if (c.argv.str(2) !== 'default') {
    out.nil();
    return;
  }
  const password = c.server.config.get('requirepass');
  const flags = password === '' ? ['on', 'nopass'] : ['on'];
  const passwords = password === '' ? [] : [sha256(password)];
  out.map(6);
  out.bulk('flags');
  out.set(flags.length);
  for (const flag of flags) out.bulk(flag);
  out.bulk('passwords');
  out.array(passwords.length);
  for (const each of passwords) out.bulk(each);
  for (const [name, value] of [
    ['commands', '+@all'],
    ['keys', '~*'],
    ['channels', '&*'],
  ]) {
    out.bulk(name);
    out.bulk(value);
  }
  out.bulk('selectors');
  out.array(0);
}

function aclCat(c: CommandContext): void {
  const { argv, out } = c;
  const { table } = c.server;
  if (argv.argc > 3) throw wrongArguments(c);
  if (argv.argc === 2) {
    out.array(ACL_CATEGORIES.length);
    for (const name of ACL_CATEGORIES) out.bulk(name);
    return;
  }
  const wanted = argv.lower(2);
  if (!ACL_CATEGORIES.includes(wanted)) throw new ReplyError(`ERR Unknown category '${argv.str(2)}'`);
  const names = allCommands(c)
    .filter((spec) => table.categoriesOf(spec).includes(wanted))
    .map((spec) => table.fullName(spec));
  out.array(names.length);
  for (const name of names) out.bulk(name);
}

const GENPASS_DEFAULT_BITS = 256;
const GENPASS_MAX_BITS = 4096;

function aclGenpass(c: CommandContext): void {
  const { argv } = c;
  if (argv.argc > 3) throw wrongArguments(c);
  const bits = argv.argc === 3 ? integer(argv, 2) : GENPASS_DEFAULT_BITS;
  if (bits <= 0 || bits > GENPASS_MAX_BITS) throw GENPASS_BITS;
  const digits = Math.ceil(bits / 4);
  c.out.bulk(
    c.server.random
      .bytes(Math.ceil(digits / 2))
      .toString('hex')
      .slice(0, digits),
  );
}

/** With one user who may do everything, nothing is ever denied. */
function aclLog(c: CommandContext): void {
  const { argv } = c;
  if (argv.argc > 3) throw wrongArguments(c);
  if (argv.argc === 3 && argv.is(2, 'RESET')) {
    c.out.ok();
    return;
  }
  if (argv.argc === 3) integer(argv, 2);
  c.out.array(0);
}

function aclDryrun(c: CommandContext): void {
  const { argv } = c;
  const { table } = c.server;
  if (argv.str(2) !== 'default') throw new ReplyError(`ERR User '${argv.str(2)}' not found`);
  let spec = table.lookup(argv.str(3));
  if (spec?.subcommands !== undefined && argv.argc > 4) spec = table.sub(spec, argv.str(4)) ?? spec;
  if (spec === undefined) throw new ReplyError(`ERR Command '${argv.str(3)}' not found`);
  const argc = argv.argc - 3;
  if (spec.arity > 0 ? argc !== spec.arity : argc < -spec.arity) {
    throw new ReplyError(`ERR wrong number of arguments for '${table.fullName(spec)}' command`);
  }
  c.out.ok();
}

// ------------------------------------------------------------------ the table's part

/** A command's entry; what is left out is the usual. */
type Entry = Omit<CommandSpec, 'group' | 'categories' | 'complexity' | 'syntax'> & Partial<CommandSpec>;

function specs(list: Entry[], group: CommandSpec['group'] = 'server'): CommandSpec[] {
  return list.map((entry) => ({ categories: [], complexity: 'O(1)', syntax: '', group, ...entry }));
}

function container(
  name: string,
  group: CommandSpec['group'],
  since: string,
  summary: string,
  subcommands: CommandSpec[],
): CommandSpec {
  return {
    name,
    arity: -2,
    flags: [],
    categories: [],
    summary,
    since,
    group,
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands,
  };
}

const ADMIN = ['admin', 'noscript', 'loading', 'stale'] as const;
const OWN = ['noscript', 'loading', 'stale'] as const;
const SAVING = ['admin', 'noscript', 'no_async_loading'] as const;
const REPLICATION = ['admin', 'noscript', 'stale', 'no_async_loading'] as const;
const POWERS = ['admin', 'dangerous'];
const PER_USER = 'O(N). Where N is the number of configured users.';
const UNTOLD = { tips: ['nondeterministic_output'] };

export const adminCommands: CommandSpec[] = [
  ...specs([
    {
      name: 'time',
      arity: 1,
      flags: ['loading', 'stale', 'fast'],
      since: '2.6.0',
      summary: "Gives the server's time: seconds, and microseconds within the second.",
      handler: time,
      ...UNTOLD,
    },
    {
      name: 'lolwut',
      arity: -1,
      flags: ['readonly', 'fast'],
      since: '5.0.0',
      complexity: 'undefined',
      syntax: '[VERSION version]',
      summary: 'Draws the Gramme ring, and tells the version.',
      handler: lolwut,
    },
    {
      name: 'shutdown',
      arity: -1,
      flags: ['admin', 'noscript', 'loading', 'stale', 'no_multi', 'allow_busy'],
      since: '1.0.0',
      complexity:
        'O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)',
      syntax: '[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]',
      summary: 'Stops the server, with everything on disk.',
      handler: shutdown,
      history: [['7.0.0', 'Has `NOW`, `FORCE` and `ABORT`.']],
    },
    {
      name: 'debug',
      arity: -2,
      flags: ADMIN,
      since: '1.0.0',
      complexity: 'Depends on subcommand.',
      summary: 'Looks inside the server and makes it misbehave, for tests.',
      handler: debug,
    },
    {
      name: 'save',
      arity: 1,
      flags: ['admin', 'noscript', 'no_async_loading', 'no_multi'],
      since: '1.0.0',
      complexity: 'O(N) where N is the total number of keys in all databases',
      summary: 'Answers once everything written so far is safe on disk.',
      handler: save,
    },
    {
      name: 'bgsave',
      arity: -1,
      flags: SAVING,
      since: '1.0.0',
      syntax: '[SCHEDULE]',
      summary: 'Makes everything written so far safe on disk, in the background.',
      handler: bgsave,
      history: [['3.2.2', 'Has `SCHEDULE`.']],
    },
    {
      name: 'lastsave',
      arity: 1,
      flags: ['loading', 'stale', 'fast'],
      categories: POWERS,
      since: '1.0.0',
      summary: 'Gives the time of the last save: now, for every write is saved.',
      handler: lastsave,
      ...UNTOLD,
    },
    {
      name: 'bgrewriteaof',
      arity: 1,
      flags: SAVING,
      since: '1.0.0',
      summary: 'Does nothing: the journal is folded into rows all the time.',
      handler: bgrewriteaof,
    },
    {
      name: 'role',
      arity: 1,
      flags: ['noscript', 'loading', 'stale', 'fast'],
      categories: POWERS,
      since: '2.8.12',
      summary: 'Tells the role in replication: always a master without replicas.',
      handler: role,
    },
    {
      name: 'replicaof',
      arity: 3,
      flags: REPLICATION,
      since: '5.0.0',
      syntax: '<host port | NO ONE>',
      summary: 'Refuses to make this server a replica; nodes join with cluster-seeds.',
      handler: replicaof,
    },
    {
      name: 'slaveof',
      arity: 3,
      flags: REPLICATION,
      since: '1.0.0',
      syntax: '<host port | NO ONE>',
      summary: 'An old name of REPLICAOF.',
      handler: replicaof,
      deprecated: { since: '5.0.0', replacedBy: '`REPLICAOF`' },
    },
  ]),
  ...specs(
    [
      {
        name: 'wait',
        arity: 3,
        flags: ['noscript'],
        categories: ['connection'],
        since: '3.0.0',
        syntax: 'numreplicas timeout',
        summary: 'Tells how many other nodes hold the writes of this connection.',
        handler: wait,
        tips: ['request_policy:all_shards', 'response_policy:agg_min'],
      },
    ],
    'generic',
  ),
  container('module', 'server', '4.0.0', 'Modules, of which there are none.', [
    helpCommand('server', '5.0.0'),
    ...specs([
      {
        name: 'list',
        arity: 2,
        flags: ['admin', 'noscript'],
        since: '4.0.0',
        complexity: 'O(N) where N is the number of loaded modules.',
        summary: 'Lists the modules: none.',
        handler: moduleList,
        tips: ['nondeterministic_output_order'],
      },
      {
        name: 'load',
        arity: -3,
        flags: SAVING,
        since: '4.0.0',
        syntax: 'path [arg [arg ...]]',
        summary: 'Is refused: modules can not be loaded.',
        handler: moduleRefused,
      },
      {
        name: 'loadex',
        arity: -3,
        flags: SAVING,
        since: '7.0.0',
        syntax: 'path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]',
        summary: 'Is refused: modules can not be loaded.',
        handler: moduleRefused,
      },
      {
        name: 'unload',
        arity: 3,
        flags: SAVING,
        since: '4.0.0',
        syntax: 'name',
        summary: 'Is refused: there are no modules.',
        handler: moduleRefused,
      },
    ]),
  ]),
  container('acl', 'server', '6.0.0', 'Users and what they may do.', [
    ...specs([
      {
        name: 'cat',
        arity: -2,
        flags: OWN,
        since: '6.0.0',
        complexity: 'O(1) since the categories and commands are a fixed set.',
        syntax: '[categoryname]',
        summary: 'Lists the categories of commands, or the commands of one.',
        handler: aclCat,
      },
      {
        name: 'dryrun',
        arity: -4,
        flags: ADMIN,
        since: '7.0.0',
        complexity: 'O(1).',
        syntax: 'username command [arg [arg ...]]',
        summary: 'Tells whether a user may run a command.',
        handler: aclDryrun,
      },
      {
        name: 'genpass',
        arity: -2,
        flags: OWN,
        since: '6.0.0',
        syntax: '[bits]',
        summary: 'Makes up a password.',
        handler: aclGenpass,
      },
      {
        name: 'getuser',
        arity: 3,
        flags: ADMIN,
        since: '6.0.0',
        complexity: 'O(N). Where N is the number of password, command and pattern rules that the user has.',
        syntax: 'username',
        summary: 'Gives the rules of a user.',
        handler: aclGetuser,
        history: [
          ['6.2.0', 'Has channels.'],
          ['7.0.0', 'Has selectors; keys and channels are given as rules.'],
        ],
      },
      {
        name: 'list',
        arity: 2,
        flags: ADMIN,
        since: '6.0.0',
        complexity: PER_USER,
        summary: 'Gives all users with their rules.',
        handler: aclList,
      },
      {
        name: 'log',
        arity: -2,
        flags: ADMIN,
        since: '6.0.0',
        complexity: 'O(N) with N being the number of entries shown.',
        syntax: '[count | RESET]',
        summary: 'Lists what was denied: nothing ever is.',
        handler: aclLog,
      },
      {
        name: 'users',
        arity: 2,
        flags: ADMIN,
        since: '6.0.0',
        complexity: PER_USER,
        summary: 'Names all users.',
        handler: aclUsers,
      },
      {
        name: 'whoami',
        arity: 2,
        flags: OWN,
        since: '6.0.0',
        summary: 'Names the user of this connection.',
        handler: aclWhoami,
      },
    ]),
    helpCommand('server', '6.0.0'),
  ]),
];
