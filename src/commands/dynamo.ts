/**
 * Dynamo's own commands (paper section 4.1): `DGET` gives every sibling and a context, `DSET` and `DDEL` replace what
 * a context covers and nothing else; `DYNAMO` looks inside.
 */
import { breaks } from '../base/breaks.ts';
import { NOT_AN_INTEGER, ReplyError, SYNTAX_ERROR, WRONG_TYPE } from '../base/errors.ts';
import { Context } from '../causality/context.ts';
import type { TokenContents } from '../causality/token.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import type { Seen } from '../store/keyspace.ts';
import type { StoredKey } from '../store/object.ts';
import { sumText } from '../types/increment.ts';
import { DEADLINE, INCREMENT, NONE, RECORD, STRING } from '../types/kinds.ts';
import { liveSiblings } from '../types/register.ts';
import { deadlineArgument, integer } from './args.ts';
import type { CommandContext, CommandSpec, KeySpec } from './command.ts';
import { containerAlone, helpCommand } from './help.ts';
import { ringSubcommands } from './ring.ts';

const KEY_RO: KeySpec[] = [{ flags: ['RO', 'access'], begin: 1, range: { last: 0, step: 1 } }];
const KEY_RW: KeySpec[] = [{ flags: ['RW', 'update'], begin: 1, range: { last: 0, step: 1 } }];
const SUB_KEY_RO: KeySpec[] = [{ flags: ['RO', 'access'], begin: 2, range: { last: 0, step: 1 } }];

// ---------------------------------------------------------------------- what a reader sees

/** Everything that there is to see of a key now. */
function contentsOf(o: StoredKey | null): TokenContents {
  const sums = new Map<string, { hlc: number; sum: string }>();
  const state = o?.toState();
  for (const e of state?.entries() ?? []) {
    const kind = e.field.charAt(0);
    if (kind !== INCREMENT && kind !== RECORD) continue;
    const run = e.field.slice(1);
    const hlc = kind === INCREMENT ? e.hlc : e.num;
    const known = sums.get(run);
    if (known === undefined || known.hlc < hlc) sums.set(run, { hlc, sum: kind === INCREMENT ? sumText(e) : e.data });
  }
  return {
    context: o?.context() ?? new Context(),
    gone: breaks.tokensWithoutRemovals ? [] : (state?.goneList() ?? []),
    sums,
  };
}

function token(c: CommandContext, o: StoredKey | null, key: string): string {
  return c.server.store.tokens.issue(c.db.index, key, contentsOf(o));
}

/** Names of the fields that are there, of a type that has fields. */
function liveFields(o: StoredKey): string[] {
  const names = new Set<string>();
  for (const e of o.toState().entries()) {
    const kind = e.field.charAt(0);
    if (kind !== RECORD && kind !== DEADLINE) names.add(e.field.slice(1));
  }
  return [...names].sort();
}

/** Values of all live siblings, latest first; a counter's or a chunked string's shown value stands for its base. */
function siblingValues(o: StoredKey, now: number): string[] {
  if (o.type !== STRING) return liveFields(o);
  if (o.state === null) return [o.text()];
  const values = liveSiblings(o.state, now).map((e) => e.data);
  const composed = o.bytes !== null || [...o.state.fields.keys()].some((f) => f.charAt(0) === INCREMENT);
  if (composed) values[0] = o.text();
  return values;
}

interface DynamoOptions {
  context: string | null;
  deadline: number;
}

/** Reads `CONTEXT ctx`, `R n`, `W n`, `TIMEOUT ms`, `EX s`, `PX ms`, as far as the command takes them. */
function readOptions(c: CommandContext, from: number, allowed: string): DynamoOptions {
  const { argv } = c;
  const name = argv.lower(0);
  const found: DynamoOptions = { context: null, deadline: 0 };
  for (let i = from; i < argv.argc; i += 2) {
    if (i + 1 >= argv.argc) throw SYNTAX_ERROR;
    const option = argv.str(i).toUpperCase();
    if (!allowed.split(' ').includes(option)) throw SYNTAX_ERROR;
    if (option === 'CONTEXT') found.context = argv.str(i + 1);
    else if (option === 'EX' || option === 'PX') {
      if (found.deadline !== 0) throw SYNTAX_ERROR;
      found.deadline = deadlineArgument(c, i + 1, option === 'EX', true, name);
    } else {
      const n = integer(argv, i + 1);
      if (n < 1) throw NOT_AN_INTEGER;
      const copies = c.server.router?.replicas ?? 1;
      if (option !== 'TIMEOUT' && n > copies) {
        const are = copies === 1 ? '1 that there is' : `${copies} that there are`;
        throw new ReplyError(`NOREPLICAS ${option} ${n} asks for more replicas than the ${are}`);
      }
    }
  }
  return found;
}

function dget(c: CommandContext): void {
  const { argv, keys, db, out } = c;
  readOptions(c, 2, 'R TIMEOUT');
  const key = argv.str(1);
  const live = keys.findString(db, key, c.slot(1));
  replyVersions(c, out, keys.object(db, key, c.slot(1)), live, key);
}

function replyVersions(
  c: CommandContext,
  out: ReplyWriter,
  o: StoredKey | null,
  live: StoredKey | null,
  key: string,
): void {
  const values = live === null ? [] : siblingValues(live, c.now);
  out.array(2);
  out.bulk(token(c, o, key));
  out.array(values.length);
  for (const v of values) out.bulk(v);
}

function dset(c: CommandContext): void {
  const { argv, keys, db } = c;
  const { context, deadline } = readOptions(c, 3, 'CONTEXT W TIMEOUT EX PX');
  const key = argv.str(1);
  const slot = c.slot(1);
  const seen = context === null ? null : c.server.store.tokens.open(db.index, key, context);
  keys.putSibling(db, key, slot, argv.str(2), deadline, seen);
  keys.notify?.(db, 'set', key, '$');
  c.out.bulk(tokenAfter(c, seen, key));
}

/**
 * What a writer has seen: what its context covers, and its own event. Not what this node holds besides: siblings that the
 * client was never shown must outlive its next write.
 */
function tokenAfter(c: CommandContext, seen: Seen | null, key: string): string {
  const context = seen?.context.clone() ?? new Context();
  const { from, to } = c.keys.last;
  context.add(c.keys.actor, from, to);
  return c.server.store.tokens.issue(c.db.index, key, {
    context,
    gone: seen?.gone ?? [],
    sums: seen?.sums ?? new Map(),
  });
}

function ddel(c: CommandContext): void {
  const { argv, keys, db } = c;
  const { context } = readOptions(c, 2, 'CONTEXT W TIMEOUT');
  const key = argv.str(1);
  const slot = c.slot(1);
  const o = keys.object(db, key, slot);
  if (o !== null && keys.isLive(o) && o.type !== STRING) throw WRONG_TYPE;
  if (context !== null) {
    const seen = c.server.store.tokens.open(db.index, key, context);
    keys.removeSeen(db, key, slot, seen);
    keys.notify?.(db, 'del', key, 'g');
    c.out.bulk(tokenAfter(c, seen, key));
    return;
  }
  if (o !== null && o.type !== NONE) keys.remove(db, o);
  keys.notify?.(db, 'del', key, 'g');
  c.out.bulk(token(c, o, key));
}

// ---------------------------------------------------------------------- DYNAMO

function peek(c: CommandContext): void {
  const key = c.argv.str(2);
  const o = c.keys.object(c.db, key, c.slot(2));
  replyVersions(c, c.out, o, o !== null && c.keys.isLive(o) ? o : null, key);
}

function backup(c: CommandContext): void {
  const directory = c.argv.str(2);
  const started = c.server.clock.monotonic();
  c.defer(
    c.server.store.backup(directory).then(
      () => (out: ReplyWriter) => {
        c.server.log.info({ directory, ms: c.server.clock.monotonic() - started }, 'backup written');
        out.ok();
      },
      (error) => {
        throw new ReplyError(`ERR backup failed: ${error instanceof Error ? error.message : String(error)}`);
      },
    ),
  );
}

const dynamoSubcommands: CommandSpec[] = [
  {
    name: 'backup',
    arity: 3,
    flags: ['admin', 'noscript'],
    categories: [],
    summary: 'Writes a consistent copy of all data into an empty directory.',
    since: '0.1.0',
    group: 'dynamo',
    complexity: 'O(N)',
    syntax: 'directory',
    handler: backup,
  },
  {
    name: 'peek',
    arity: 3,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: SUB_KEY_RO,
    summary: "As DGET, of this node's own copy alone.",
    since: '0.1.0',
    group: 'dynamo',
    complexity: 'O(N) where N is the number of siblings.',
    syntax: 'key',
    handler: peek,
  },
  helpCommand('dynamo', '0.1.0'),
  ...ringSubcommands,
];

export const dynamoCommands: CommandSpec[] = [
  {
    name: 'ddel',
    arity: -2,
    flags: ['write', 'fast'],
    categories: ['keyspace', 'string'],
    keys: [{ flags: ['RM', 'delete'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Deletes what a context covers of a key; without one, the key.',
    since: '0.1.0',
    group: 'dynamo',
    complexity: 'O(N) where N is the number of siblings.',
    syntax: 'key [CONTEXT context] [W replicas] [TIMEOUT milliseconds]',
    handler: ddel,
  },
  {
    name: 'dget',
    arity: -2,
    flags: ['readonly', 'fast'],
    categories: ['string'],
    keys: KEY_RO,
    summary: 'Gives all siblings of a key, latest first, and the context that settles them.',
    since: '0.1.0',
    group: 'dynamo',
    complexity: 'O(N) where N is the number of siblings.',
    syntax: 'key [R replicas] [TIMEOUT milliseconds]',
    handler: dget,
  },
  {
    name: 'dset',
    arity: -3,
    flags: ['write', 'denyoom', 'fast'],
    categories: ['string'],
    keys: KEY_RW,
    summary: 'Writes a version of a key that replaces what a context covers; without one, a sibling.',
    since: '0.1.0',
    group: 'dynamo',
    complexity: 'O(N) where N is the number of siblings.',
    syntax: 'key value [CONTEXT context] [W replicas] [TIMEOUT milliseconds] [EX seconds | PX milliseconds]',
    handler: dset,
  },
  {
    name: 'dynamo',
    arity: -2,
    flags: [],
    categories: [],
    summary: 'A container for commands that look inside.',
    since: '0.1.0',
    group: 'dynamo',
    complexity: 'Depends on subcommand.',
    syntax: '',
    handler: containerAlone,
    subcommands: dynamoSubcommands,
  },
];
