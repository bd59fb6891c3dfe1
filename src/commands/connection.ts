/**
 * A connection's own business: who it is, which protocol and database it uses, and how it ends.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { type Client, REPLY_ON } from '../server/client.ts';
import { REDIS_VERSION } from '../server/version.ts';
import { integer32 } from './args.ts';
import { clusterEnabled } from './cluster.ts';
import type { CommandContext, CommandSpec } from './command.ts';

const WRONG_PASS = new ReplyError('WRONGPASS invalid username-password pair or user is disabled.');
const NO_PASSWORD_SET = new ReplyError(
  'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?',
);
const HELLO_NO_AUTH = new ReplyError(
  'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time',
);
const PROTOVER = new ReplyError('ERR Protocol version is not an integer or out of range');
const NO_PROTO = new ReplyError('NOPROTO unsupported protocol version');
const DB_RANGE = new ReplyError('ERR DB index is out of range');
export const BAD_CLIENT_NAME = new ReplyError(
  'ERR Client names cannot contain spaces, newlines or special characters.',
);

/** Names may hold printable ASCII without blanks, so that CLIENT LIST's lines stay lines. */
export function isClientName(name: string): boolean {
  return /^[!-~]*$/.test(name);
}

// ------------------------------------------------------------------ authentication

/** Compares in a time that doesn't tell how much of it was right. */
function samePassword(given: string, wanted: string): boolean {
  let difference = given.length ^ wanted.length;
  for (let i = 0; i < given.length; i++) {
    difference |= given.charCodeAt(i) ^ (wanted.length === 0 ? 1 : wanted.charCodeAt(i % wanted.length));
  }
  return difference === 0;
}

/** Throws WRONGPASS unless this is the default user with its password (or without one, when none is set). */
function authenticate(c: CommandContext, user: string, password: string): void {
  const wanted = c.server.config.get('requirepass');
  if (user !== 'default' || (wanted !== '' && !samePassword(password, wanted))) throw WRONG_PASS;
  setAuthenticated(c.client, true);
}

function setAuthenticated(client: Client, yes: boolean): void {
  client.authenticated = yes;
  client.parser.authenticated = yes;
  client.user = 'default';
}

function auth(c: CommandContext): void {
  const { argv } = c;
  if (argv.argc > 3) throw SYNTAX_ERROR;
  if (argv.argc === 2) {
    if (c.server.config.get('requirepass') === '') throw NO_PASSWORD_SET;
    authenticate(c, 'default', argv.str(1));
  } else authenticate(c, argv.str(1), argv.str(2));
  c.out.ok();
}

function hello(c: CommandContext): void {
  const { argv, client, out, server } = c;
  let version: number = client.resp;
  if (argv.argc > 1) {
    version = argv.int(1);
    if (Number.isNaN(version)) throw PROTOVER;
    if (version !== 2 && version !== 3) throw NO_PROTO;
  }
  let name: string | null = null;
  for (let i = 2; i < argv.argc; i++) {
    const more = argv.argc - 1 - i;
    if (argv.is(i, 'AUTH') && more >= 2) {
      authenticate(c, argv.str(i + 1), argv.str(i + 2));
      i += 2;
    } else if (argv.is(i, 'SETNAME') && more >= 1) {
      name = argv.str(++i);
      if (!isClientName(name)) throw BAD_CLIENT_NAME;
    } else throw new ReplyError(`ERR Syntax error in HELLO option '${argv.str(i)}'`);
  }
  if (!client.authenticated) throw HELLO_NO_AUTH;
  if (name !== null) client.name = name;
  setProtocol(c, version === 3 ? 3 : 2);
  out.map(7);
  out.bulk('server');
  out.bulk('redis');
  out.bulk('version');
  out.bulk(REDIS_VERSION);
  out.bulk('proto');
  out.int(client.resp);
  out.bulk('id');
  out.int(client.id);
  out.bulk('mode');
  out.bulk(clusterEnabled(server) ? 'cluster' : 'standalone');
  out.bulk('role');
  out.bulk('master');
  out.bulk('modules');
  out.array(0);
}

/** This very reply is in the new protocol already. */
function setProtocol(c: CommandContext, resp: 2 | 3): void {
  c.client.resp = resp;
  c.out.resp3 = resp === 3;
}

// ------------------------------------------------------------------ the rest

function ping(c: CommandContext): void {
  const { argv, out } = c;
  if (argv.argc > 2) throw new ReplyError("ERR wrong number of arguments for 'ping' command");
  if (argv.argc === 1) out.simple('PONG');
  else out.bulk(argv.str(1));
}

function echo(c: CommandContext): void {
  c.out.bulk(c.argv.str(1));
}

function select(c: CommandContext): void {
  const index = integer32(c.argv, 1);
  if (index < 0 || index >= c.keys.names.length) throw DB_RANGE;
  c.client.db = index;
  c.out.ok();
}

function quit(c: CommandContext): void {
  c.out.ok();
  c.server.closeClient(c.client, true);
}

function reset(c: CommandContext): void {
  const { client, server } = c;
  server.monitors.delete(client);
  client.monitor = false;
  client.db = 0;
  client.name = '';
  client.noEvict = false;
  client.noTouch = false;
  client.replyMode = REPLY_ON;
  setAuthenticated(client, server.config.get('requirepass') === '');
  setProtocol(c, 2);
  c.out.simple('RESET');
}

const ALWAYS = ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'] as const;
const CONNECTION = ['connection'];

export const connectionCommands: CommandSpec[] = [
  {
    name: 'ping',
    arity: -1,
    flags: ['fast'],
    categories: CONNECTION,
    summary: 'Answers PONG, or the message, to show that the connection works.',
    since: '1.0.0',
    group: 'connection',
    complexity: 'O(1)',
    syntax: '[message]',
    tips: ['request_policy:all_shards', 'response_policy:all_succeeded'],
    handler: ping,
  },
  {
    name: 'echo',
    arity: 2,
    flags: ['loading', 'stale', 'fast'],
    categories: CONNECTION,
    summary: 'Answers the message.',
    since: '1.0.0',
    group: 'connection',
    complexity: 'O(1)',
    syntax: 'message',
    handler: echo,
  },
  {
    name: 'hello',
    arity: -1,
    flags: ALWAYS,
    categories: CONNECTION,
    summary: 'Chooses the protocol version, optionally logging in and naming the connection; tells about the server.',
    since: '6.0.0',
    group: 'connection',
    complexity: 'O(1)',
    syntax: '[protover [AUTH username password] [SETNAME clientname]]',
    history: [['6.2.0', 'The protocol version may be left out.']],
    handler: hello,
  },
  {
    name: 'auth',
    arity: -2,
    flags: ALWAYS,
    categories: CONNECTION,
    summary: 'Logs the connection in.',
    since: '1.0.0',
    group: 'connection',
    complexity: 'O(N) where N is the number of passwords of the user',
    syntax: '[username] password',
    history: [['6.0.0', 'Takes a username.']],
    handler: auth,
  },
  {
    name: 'select',
    arity: 2,
    flags: ['loading', 'stale', 'fast'],
    categories: CONNECTION,
    summary: 'Chooses the database that the connection works on.',
    since: '1.0.0',
    group: 'connection',
    complexity: 'O(1)',
    syntax: 'index',
    handler: select,
  },
  {
    name: 'quit',
    arity: -1,
    flags: ALWAYS,
    categories: CONNECTION,
    summary: 'Closes the connection.',
    since: '1.0.0',
    group: 'connection',
    complexity: 'O(1)',
    syntax: '',
    handler: quit,
  },
  {
    name: 'reset',
    arity: 1,
    flags: ALWAYS,
    categories: CONNECTION,
    summary: 'Puts the connection back into the state of a new one.',
    since: '6.2.0',
    group: 'connection',
    complexity: 'O(1)',
    syntax: '',
    handler: reset,
  },
];
