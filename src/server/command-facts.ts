/**
 * What a cluster has to know of commands and Redis's table does not say: whether a reply rests on what was there, what a
 * counting command adds, and which commands over many keys may run in parts.
 *
 * A name that is missing here costs rounds between nodes and is never wrong: by default a command rests on the state, is
 * undone by what its keys were, and runs in one place.
 */
import type { Command } from '../commands/table.ts';
import type { Argv } from '../resp/argv.ts';

/** Commands whose reply does not rest on what was there: they are not run again. */
const BLIND = new Set(['mset', 'setex', 'psetex', 'dset', 'ddel', 'restore', 'touch']);
/** Their reply rests on it, but what they do is to be done wherever they are asked for. */
const DELETES = new Set(['del', 'unlink']);

/** How the replies of a command's parts are put together: one list, their sum, or one OK. */
export type Joined = 'list' | 'sum' | 'ok';

const IN_PARTS: Record<string, Joined> = {
  mget: 'list',
  mset: 'ok',
  del: 'sum',
  unlink: 'sum',
  exists: 'sum',
  touch: 'sum',
};

/** Must the command run again when it turns out that there was more than it saw? */
export function dependsOnState(command: Command, argv: Argv): boolean {
  const { name } = command.spec;
  if (name !== 'set') return !BLIND.has(name);
  if (argv.argc === 3) return false;
  for (let i = 3; i < argv.argc; i++)
    if (argv.is(i, 'NX') || argv.is(i, 'XX') || argv.is(i, 'GET') || argv.is(i, 'KEEPTTL')) return true;
  return false;
}

/** May the command be taken by a node that has nothing of the key and reaches nobody who has? */
export function isTakenAnywhere(command: Command, argv: Argv): boolean {
  return command.write && (!dependsOnState(command, argv) || DELETES.has(command.spec.name));
}

/** What a counting command adds, in decimal; null for other commands. */
export function incrementOf(argv: Argv): string | null {
  switch (argv.lower(0)) {
    case 'incr':
      return '1';
    case 'decr':
      return '-1';
    case 'incrby':
    case 'incrbyfloat':
      return argv.str(2);
    case 'decrby': {
      const n = argv.str(2);
      return n.startsWith('-') ? n.slice(1) : `-${n}`;
    }
    default:
      return null;
  }
}

/**
 * The whole value that a command gives a key, in place of all that its coordinator has seen of it; null for commands that
 * do something else (a DSET replaces what its context names, and never another run of itself).
 */
export function valueFor(argv: Argv, key: string): string | null {
  switch (argv.lower(0)) {
    case 'set':
    case 'setnx':
    case 'getset':
      return argv.str(2);
    case 'setex':
    case 'psetex':
      return argv.str(3);
    case 'mset':
    case 'msetnx':
      for (let i = argv.argc - 2; i > 0; i -= 2) if (argv.str(i) === key) return argv.str(i + 1);
      return null;
    default:
      return null;
  }
}

/** How the command runs in parts, one for each of its keys' coordinators; undefined when it runs in one place. */
export function inParts(command: Command): Joined | undefined {
  return IN_PARTS[command.spec.name];
}
