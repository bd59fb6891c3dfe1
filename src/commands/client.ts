/**
 * CLIENT: the server's connections, as their owners and operators see and steer them.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { type Client, REPLY_OFF, REPLY_ON, REPLY_SKIP } from '../server/client.ts';
import { integer } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { BAD_CLIENT_NAME, isClientName } from './connection.ts';
import { containerAlone, helpCommand } from './help.ts';

const NO_SUCH_CLIENT = new ReplyError('ERR No such client');
const BAD_ID = new ReplyError('ERR Invalid client ID');
const ID_ABOVE_ZERO = new ReplyError('ERR client-id should be greater than 0');
const TIMEOUT_NOT_INTEGER = new ReplyError('ERR timeout is not an integer or out of range');
const TIMEOUT_NEGATIVE = new ReplyError('ERR timeout is negative');
const PAUSE_MODE = new ReplyError('ERR CLIENT PAUSE mode must be WRITE or ALL');
const UNBLOCK_REASON = new ReplyError('ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR');
const NOT_TRACKING = new ReplyError(
  'ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled',
);
const NO_TRACKING = new ReplyError(
  'ERR CLIENT TRACKING ON is not supported: this server sends no invalidation messages',
);
const OPTIN_AND_OPTOUT = new ReplyError("ERR You can't specify both OPTIN mode and OPTOUT mode");

/** What a handler whose arity leaves room for nonsense says about it. */
function wrongArguments(c: CommandContext): ReplyError {
  const { argv } = c;
  return new ReplyError(
    `ERR unknown subcommand or wrong number of arguments for '${argv.str(1)}'. Try ${argv.str(0).toUpperCase()} HELP.`,
  );
}

// ------------------------------------------------------------------ describing clients

/** A client's class, for TYPE filters. */
function classOf(_client: Client): string {
  return 'normal';
}

const CLASSES = new Set(['normal', 'master', 'replica', 'pubsub']);

function classArgument(c: CommandContext, i: number): string {
  const given = c.argv.lower(i);
  const name = given === 'slave' ? 'replica' : given;
  if (!CLASSES.has(name)) throw new ReplyError(`ERR Unknown client type '${c.argv.str(i)}'`);
  return name;
}

function flagsOf(client: Client): string {
  let flags = '';
  if (client.monitor) flags += 'O';
  if (client.waiting) flags += 'b';
  if (client.closing) flags += 'c';
  if (client.connection.remote.startsWith('/')) flags += 'U';
  if (client.noEvict) flags += 'e';
  if (client.noTouch) flags += 'T';
  return flags === '' ? 'N' : flags;
}

/** A connection's own memory: the object, its input, and its unsent output. */
const CLIENT_BYTES = 2048;

/** The line of CLIENT LIST, without its end. */
function describe(c: CommandContext, client: Client): string {
  const { connection } = client;
  const unsent = connection.pending();
  const input = client.pendingEnd - client.pendingStart;
  const room = client.pending === null ? 0 : client.pending.length - input;
  const argument = client === c.client ? c.argv.strings().reduce((n, s) => n + s.length, 0) : 0;
  const seconds = (ms: number) => Math.max(0, Math.floor((c.now - ms) / 1000));
  return (
    `id=${client.id} addr=${connection.remote} laddr=${connection.local} fd=${connection.fd} name=${client.name}` +
    ` age=${seconds(client.createdMs)} idle=${seconds(client.lastMs)} flags=${flagsOf(client)} db=${client.db}` +
    ` sub=0 psub=0 ssub=0 multi=-1 qbuf=${input} qbuf-free=${room} argv-mem=${argument} multi-mem=0 rbs=0 rbp=0` +
    ` obl=0 oll=${unsent > 0 ? 1 : 0} omem=${unsent} tot-mem=${CLIENT_BYTES + input + room + unsent}` +
    ` events=${client.paused ? '' : 'r'}${unsent > 0 ? 'w' : ''} cmd=${client.lastCommand || 'NULL'}` +
    ` user=${client.user} redir=-1 resp=${client.resp} lib-name=${client.libName} lib-ver=${client.libVersion}`
  );
}

function list(c: CommandContext): void {
  const { argv, server } = c;
  let chosen: Iterable<Client> = server.clients.values();
  if (argv.argc === 4 && argv.is(2, 'TYPE')) {
    const wanted = classArgument(c, 3);
    chosen = [...chosen].filter((client) => classOf(client) === wanted);
  } else if (argv.argc > 3 && argv.is(2, 'ID')) {
    const found: Client[] = [];
    for (let i = 3; i < argv.argc; i++) {
      const id = argv.int(i);
      if (Number.isNaN(id)) throw BAD_ID;
      const client = server.clients.get(id);
      if (client !== undefined) found.push(client);
    }
    chosen = found;
  } else if (argv.argc !== 2) throw SYNTAX_ERROR;
  let text = '';
  for (const client of chosen) text += `${describe(c, client)}\n`;
  c.out.verbatim(text);
}

function info(c: CommandContext): void {
  c.out.verbatim(`${describe(c, c.client)}\n`);
}

// ------------------------------------------------------------------ KILL

interface Filter {
  id?: number;
  class?: string;
  user?: string;
  addr?: string;
  laddr?: string;
  maxAge?: number;
  skipMe: boolean;
}

function readFilter(c: CommandContext): Filter {
  const { argv } = c;
  const filter: Filter = { skipMe: true };
  for (let i = 2; i < argv.argc; i += 2) {
    if (i + 1 >= argv.argc) throw SYNTAX_ERROR;
    if (argv.is(i, 'ID')) {
      filter.id = argv.int(i + 1);
      if (!(filter.id > 0)) throw ID_ABOVE_ZERO;
    } else if (argv.is(i, 'TYPE')) filter.class = classArgument(c, i + 1);
    else if (argv.is(i, 'ADDR')) filter.addr = argv.str(i + 1);
    else if (argv.is(i, 'LADDR')) filter.laddr = argv.str(i + 1);
    else if (argv.is(i, 'USER')) {
      filter.user = argv.str(i + 1);
      if (filter.user !== 'default') throw new ReplyError(`ERR No such user '${filter.user}'`);
    } else if (argv.is(i, 'MAXAGE')) {
      filter.maxAge = argv.int(i + 1);
      if (Number.isNaN(filter.maxAge)) throw new ReplyError('ERR maxage is not an integer or out of range');
      if (filter.maxAge <= 0) throw new ReplyError('ERR maxage should be greater than 0');
    } else if (argv.is(i, 'SKIPME')) {
      if (argv.is(i + 1, 'YES')) filter.skipMe = true;
      else if (argv.is(i + 1, 'NO')) filter.skipMe = false;
      else throw SYNTAX_ERROR;
    } else throw SYNTAX_ERROR;
  }
  return filter;
}

function matches(c: CommandContext, client: Client, f: Filter): boolean {
  if (f.id !== undefined && client.id !== f.id) return false;
  if (f.class !== undefined && classOf(client) !== f.class) return false;
  if (f.user !== undefined && client.user !== f.user) return false;
  if (f.addr !== undefined && client.connection.remote !== f.addr) return false;
  if (f.laddr !== undefined && client.connection.local !== f.laddr) return false;
  if (f.maxAge !== undefined && c.now - client.createdMs < f.maxAge * 1000) return false;
  return !(f.skipMe && client === c.client);
}

function kill(c: CommandContext): void {
  const { argv, out, server } = c;
  const old = argv.argc === 3;
  const filter = old ? { addr: argv.str(2), skipMe: false } : readFilter(c);
  let killed = 0;
  for (const client of [...server.clients.values()]) {
    if (!matches(c, client, filter)) continue;
    killed++;
    // whoever kills itself still gets to know
    server.closeClient(client, client === c.client);
    if (old) break;
  }
  if (!old) out.int(killed);
  else if (killed === 0) throw NO_SUCH_CLIENT;
  else out.ok();
}

// ------------------------------------------------------------------ the client's own settings

function id(c: CommandContext): void {
  c.out.int(c.client.id);
}

function getname(c: CommandContext): void {
  if (c.client.name === '') c.out.nil();
  else c.out.bulk(c.client.name);
}

function setname(c: CommandContext): void {
  const name = c.argv.str(2);
  if (!isClientName(name)) throw BAD_CLIENT_NAME;
  c.client.name = name;
  c.out.ok();
}

function setinfo(c: CommandContext): void {
  const { argv, client } = c;
  const attribute = argv.lower(2);
  const value = argv.str(3);
  if (attribute !== 'lib-name' && attribute !== 'lib-ver') {
    throw new ReplyError(`ERR Unrecognized option '${argv.str(2)}'`);
  }
  if (!isClientName(value)) {
    throw new ReplyError(`ERR ${attribute} cannot contain spaces, newlines or special characters.`);
  }
  if (attribute === 'lib-name') client.libName = value;
  else client.libVersion = value;
  c.out.ok();
}

function onOff(c: CommandContext): boolean {
  if (c.argv.is(2, 'ON')) return true;
  if (c.argv.is(2, 'OFF')) return false;
  throw SYNTAX_ERROR;
}

function noEvict(c: CommandContext): void {
  c.client.noEvict = onOff(c);
  c.out.ok();
}

function noTouch(c: CommandContext): void {
  c.client.noTouch = onOff(c);
  c.out.ok();
}

function reply(c: CommandContext): void {
  const { argv, client } = c;
  if (argv.is(2, 'ON')) {
    client.replyMode = REPLY_ON;
    c.out.ok();
  } else if (argv.is(2, 'OFF')) client.replyMode = REPLY_OFF;
  else if (argv.is(2, 'SKIP')) {
    if (client.replyMode !== REPLY_OFF) client.replyMode = REPLY_SKIP;
  } else throw SYNTAX_ERROR;
}

// ------------------------------------------------------------------ other clients

function pause(c: CommandContext): void {
  const { argv, server } = c;
  if (argv.argc > 4) throw wrongArguments(c);
  let writesOnly = false;
  if (argv.argc === 4) {
    if (argv.is(3, 'WRITE')) writesOnly = true;
    else if (!argv.is(3, 'ALL')) throw PAUSE_MODE;
  }
  const ms = argv.int(2);
  if (Number.isNaN(ms)) throw TIMEOUT_NOT_INTEGER;
  if (ms < 0) throw TIMEOUT_NEGATIVE;
  // a pause that is on is never cut short by another
  server.pause(Math.max(c.now + ms, server.pausedUntilMs), writesOnly);
  c.out.ok();
}

function unpause(c: CommandContext): void {
  c.server.pause(0, false);
  c.out.ok();
}

function unblock(c: CommandContext): void {
  const { argv } = c;
  if (argv.argc > 4) throw wrongArguments(c);
  if (argv.argc === 4 && !argv.is(3, 'TIMEOUT') && !argv.is(3, 'ERROR')) throw UNBLOCK_REASON;
  integer(argv, 2);
  c.out.int(0);
}

// ------------------------------------------------------------------ client-side caching

function tracking(c: CommandContext): void {
  const { argv, server } = c;
  const seen = new Set<string>();
  for (let i = 3; i < argv.argc; i++) {
    const option = argv.lower(i);
    if (option === 'redirect' || option === 'prefix') {
      if (++i >= argv.argc) throw SYNTAX_ERROR;
      if (option === 'redirect') {
        const target = integer(argv, i);
        if (!server.clients.has(target)) throw new ReplyError('ERR The client ID you want redirect to does not exist');
      }
    } else if (!['bcast', 'optin', 'optout', 'noloop'].includes(option)) throw SYNTAX_ERROR;
    seen.add(option);
  }
  if (onOff(c)) {
    if (seen.has('prefix') && !seen.has('bcast')) {
      throw new ReplyError('ERR PREFIX option requires BCAST mode to be enabled');
    }
    if (seen.has('optin') && seen.has('optout')) throw OPTIN_AND_OPTOUT;
    throw NO_TRACKING;
  }
  c.out.ok();
}

function trackinginfo(c: CommandContext): void {
  const { out } = c;
  out.map(3);
  out.bulk('flags');
  out.set(1);
  out.bulk('off');
  out.bulk('redirect');
  out.int(-1);
  out.bulk('prefixes');
  out.array(0);
}

function getredir(c: CommandContext): void {
  c.out.int(-1);
}

function caching(): void {
  throw NOT_TRACKING;
}

// ------------------------------------------------------------------ the table's part

const OWN = ['noscript', 'loading', 'stale'] as const;
const ADMIN = ['admin', 'noscript', 'loading', 'stale'] as const;

/** A subcommand's entry; what is left out is the usual. */
type Entry = Omit<CommandSpec, 'group' | 'categories' | 'complexity' | 'syntax'> & Partial<CommandSpec>;

function sub(entry: Entry): CommandSpec {
  return { categories: ['connection'], group: 'connection', complexity: 'O(1)', syntax: '', ...entry };
}

const PER_CLIENT = { complexity: 'O(N) where N is the number of client connections' };

export const clientCommands: CommandSpec[] = [
  {
    name: 'client',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'Looks at connections and steers them.',
    since: '2.4.0',
    group: 'connection',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands: [
      sub({
        name: 'caching',
        arity: 3,
        flags: OWN,
        since: '6.0.0',
        syntax: '<YES | NO>',
        summary: 'Says whether the keys of the next command are to be tracked.',
        handler: caching,
      }),
      sub({
        name: 'getname',
        arity: 2,
        flags: OWN,
        since: '2.6.9',
        summary: "Gives the connection's name.",
        handler: getname,
      }),
      sub({
        name: 'getredir',
        arity: 2,
        flags: OWN,
        since: '6.0.0',
        summary: 'Gives the connection that invalidation messages go to.',
        handler: getredir,
      }),
      helpCommand('connection', '5.0.0', ['connection']),
      sub({ name: 'id', arity: 2, flags: OWN, since: '5.0.0', summary: "Gives the connection's number.", handler: id }),
      sub({
        name: 'info',
        arity: 2,
        flags: OWN,
        since: '6.2.0',
        summary: 'Describes this connection.',
        handler: info,
        tips: ['nondeterministic_output'],
      }),
      sub({
        name: 'kill',
        arity: -3,
        flags: ADMIN,
        since: '2.4.0',
        syntax:
          '<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME yes/no] | [MAXAGE seconds]> [...]>',
        summary: 'Closes connections, by address or by any of several properties.',
        handler: kill,
        ...PER_CLIENT,
      }),
      sub({
        name: 'list',
        arity: -2,
        flags: ADMIN,
        since: '2.4.0',
        syntax: '[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]',
        summary: 'Describes all connections, or some.',
        handler: list,
        ...PER_CLIENT,
        tips: ['nondeterministic_output'],
      }),
      sub({
        name: 'no-evict',
        arity: 3,
        flags: ADMIN,
        since: '7.0.0',
        syntax: '<ON | OFF>',
        summary: 'Keeps this connection when memory for clients runs short.',
        handler: noEvict,
      }),
      sub({
        name: 'no-touch',
        arity: 3,
        flags: OWN,
        since: '7.2.0',
        syntax: '<ON | OFF>',
        summary: 'Lets this connection read keys without making them look used.',
        handler: noTouch,
      }),
      sub({
        name: 'pause',
        arity: -3,
        flags: ADMIN,
        since: '2.9.50',
        syntax: 'timeout [WRITE | ALL]',
        summary: 'Holds back all commands, or all writes, for some milliseconds.',
        handler: pause,
        history: [['6.2.0', 'Writes alone can be held back.']],
      }),
      sub({
        name: 'reply',
        arity: 3,
        flags: OWN,
        since: '3.2.0',
        syntax: '<ON | OFF | SKIP>',
        summary: 'Chooses whether this connection gets replies.',
        handler: reply,
      }),
      sub({
        name: 'setinfo',
        arity: 4,
        flags: OWN,
        since: '7.2.0',
        syntax: '<LIB-NAME libname | LIB-VER libver>',
        summary: "Notes the client library's name or version.",
        handler: setinfo,
      }),
      sub({
        name: 'setname',
        arity: 3,
        flags: OWN,
        since: '2.6.9',
        syntax: 'connection-name',
        summary: 'Names this connection.',
        handler: setname,
      }),
      sub({
        name: 'tracking',
        arity: -3,
        flags: OWN,
        since: '6.0.0',
        syntax: '<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]',
        summary: 'Turns client-side caching off; turning it on is refused.',
        handler: tracking,
        complexity: 'O(1). Some options may introduce additional complexity.',
      }),
      sub({
        name: 'trackinginfo',
        arity: 2,
        flags: OWN,
        since: '6.2.0',
        summary: 'Tells how client-side caching is set for this connection.',
        handler: trackinginfo,
      }),
      sub({
        name: 'unblock',
        arity: -3,
        flags: ADMIN,
        since: '5.0.0',
        syntax: 'client-id [TIMEOUT | ERROR]',
        summary: 'Ends the wait of another connection in a blocking command.',
        handler: unblock,
        complexity: 'O(log N) where N is the number of client connections',
      }),
      sub({
        name: 'unpause',
        arity: 2,
        flags: ADMIN,
        since: '6.2.0',
        summary: 'Ends a pause.',
        handler: unpause,
        complexity: 'O(N) Where N is the number of paused clients',
      }),
    ],
  },
];
