/**
 * `CONTAINER HELP`: made from the command table, so that it can't tell of a subcommand that isn't there.
 */
import type { CommandContext, CommandSpec } from './command.ts';
import { plainSyntax } from './syntax.ts';

function help(c: CommandContext): void {
  const { table } = c.server;
  const container = table.lookup(c.argv.str(0))!;
  const subcommands = [...(container.subcommands ?? [])].filter((s) => s.name !== 'help');
  subcommands.sort((a, b) => (a.name < b.name ? -1 : 1));
  const lines: [usage: string, about: string][] = subcommands.map((s) => [
    `${s.name.toUpperCase()} ${plainSyntax(s.syntax)}`.trimEnd(),
    s.summary,
  ]);
  replyHelp(c, lines);
}

/** Writes the help text in the shape that Redis gives it. */
export function replyHelp(c: CommandContext, lines: readonly (readonly [usage: string, about: string])[]): void {
  const { out } = c;
  out.array(3 + lines.length * 2);
  out.simple(`${c.argv.str(0).toUpperCase()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`);
  for (const [usage, about] of lines) {
    out.simple(usage);
    out.simple(`    ${about}`);
  }
  out.simple('HELP');
  out.simple('    Prints this help.');
}

/** The HELP subcommand of a container. */
export function helpCommand(
  group: CommandSpec['group'],
  since: string,
  categories: readonly string[] = [],
): CommandSpec {
  return {
    name: 'help',
    arity: 2,
    flags: ['loading', 'stale'],
    categories,
    summary: 'Lists the subcommands.',
    since,
    group,
    complexity: 'O(1)',
    syntax: '',
    handler: help,
  };
}

/** What a container does when it is called by itself, which the dispatcher's arity check prevents. */
export function containerAlone(): void {}
