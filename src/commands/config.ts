/**
 * CONFIG: the directives of `server/directives`, read and changed while the server runs.
 */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { containerAlone, helpCommand } from './help.ts';

function get(c: CommandContext): void {
  const { out } = c;
  const pairs = c.server.config.match(c.argv.strings(2));
  out.map(pairs.length);
  for (const [name, value] of pairs) {
    out.bulk(name);
    out.bulk(value);
  }
}

function set(c: CommandContext): void {
  const { argv, server } = c;
  if (argv.argc % 2 === 1) throw SYNTAX_ERROR;
  const pairs: [string, string][] = [];
  for (let i = 2; i < argv.argc; i += 2) pairs.push([argv.str(i), argv.str(i + 1)]);
  const refused = server.config.set(pairs, isLocal(c));
  if (refused !== null) throw new ReplyError(refused);
  c.out.ok();
}

function resetstat(c: CommandContext): void {
  const { stats, table, keys, sla } = c.server;
  sla.reset();
  stats.reset(table.all.map((command) => command.stat));
  keys.stats.hits = keys.stats.misses = keys.stats.expired = keys.stats.events = 0;
  keys.stats.siblings.fill(0);
  c.out.ok();
}

function rewrite(c: CommandContext): void {
  const { config, log } = c.server;
  if (config.rewriteFile === null) throw new ReplyError('ERR The server is running without a config file');
  c.defer(
    config
      .rewriteFile((text) => config.rewrite(text))
      .then(
        () => (out) => out.ok(),
        (error: unknown) => {
          const why = error instanceof Error ? error.message : String(error);
          log.warn({ error: why }, 'CONFIG REWRITE failed');
          throw new ReplyError(`ERR Rewriting config file: ${why}`);
        },
      ),
  );
}

/** Does the client come from this machine? */
export function isLocal(c: CommandContext): boolean {
  const { remote } = c.client.connection;
  return remote.startsWith('127.') || remote.startsWith('[::1]') || remote.startsWith('::1') || remote.startsWith('/');
}

const ADMIN = ['admin', 'noscript', 'loading', 'stale'] as const;
const PER_PARAMETER = 'O(N) when N is the number of configuration parameters provided';

export const configCommands: CommandSpec[] = [
  {
    name: 'config',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'Reads and changes the configuration.',
    since: '2.0.0',
    group: 'server',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands: [
      {
        name: 'get',
        arity: -3,
        flags: ADMIN,
        categories: [],
        summary: 'Gives the values of directives, by glob-like patterns.',
        since: '2.0.0',
        group: 'server',
        complexity: PER_PARAMETER,
        syntax: 'parameter [parameter ...]',
        history: [['7.0.0', 'Takes several patterns.']],
        handler: get,
      },
      helpCommand('server', '5.0.0'),
      {
        name: 'resetstat',
        arity: 2,
        flags: ADMIN,
        categories: [],
        summary: 'Puts the counters of INFO back to zero.',
        since: '2.0.0',
        group: 'server',
        complexity: 'O(1)',
        syntax: '',
        handler: resetstat,
      },
      {
        name: 'rewrite',
        arity: 2,
        flags: ADMIN,
        categories: [],
        summary: 'Writes the values of now into the configuration file.',
        since: '2.8.0',
        group: 'server',
        complexity: 'O(1)',
        syntax: '',
        handler: rewrite,
      },
      {
        name: 'set',
        arity: -4,
        flags: ADMIN,
        categories: [],
        summary: 'Changes directives, all that are given or none.',
        since: '2.0.0',
        group: 'server',
        complexity: PER_PARAMETER,
        syntax: 'parameter value [parameter value ...]',
        tips: ['request_policy:all_nodes', 'response_policy:all_succeeded'],
        history: [['7.0.0', 'Takes several pairs.']],
        handler: set,
      },
    ],
  },
];
