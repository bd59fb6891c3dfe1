/**
 * What a command is: one entry of the table says all there is to know of it, and `COMMAND` prints that.
 *
 * Handlers are synchronous. A handler looks its keys up first (a lookup may throw MISS, and the command then runs
 * again from the start once the key is resident), then checks, then writes, then replies. It throws a `ReplyError`
 * for an error reply, having changed nothing.
 */
import type { Argv } from '../resp/argv.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import type { Client } from '../server/client.ts';
import type { Server } from '../server/server.ts';
import type { Database, Keyspace } from '../store/keyspace.ts';

/** Command flags, as `COMMAND INFO` names them. */
export type CommandFlag =
  | 'write'
  | 'readonly'
  | 'denyoom'
  | 'admin'
  | 'pubsub'
  | 'noscript'
  | 'blocking'
  | 'loading'
  | 'stale'
  | 'skip_monitor'
  | 'skip_slowlog'
  | 'asking'
  | 'fast'
  | 'no_auth'
  | 'may_replicate'
  | 'no_mandatory_keys'
  | 'allow_busy'
  | 'no_async_loading'
  | 'no_multi'
  | 'movablekeys';

/** Flags of a key specification (Redis docs, "Command key specifications"). */
export type KeyFlag =
  | 'RO'
  | 'RW'
  | 'OW'
  | 'RM'
  | 'access'
  | 'update'
  | 'insert'
  | 'delete'
  | 'not_key'
  | 'incomplete'
  | 'variable_flags';

/**
 * Where keys are. `first`, `last` (negative: counted from the end, relative to the last argument) and `step` as in
 * `COMMAND INFO`; `keynum` is the position of an argument that says how many keys follow it.
 */
export interface KeySpec {
  flags: readonly KeyFlag[];
  /** Position of the first key, or a keyword after which keys begin. */
  begin: number | { keyword: string; from: number };
  /** Range relative to `begin`: last key, step, and a limit as in Redis (0 for none). */
  range?: { last: number; step: number; limit?: number };
  /** Relative to `begin`: where the count is, where the first key is, and the step. */
  keynum?: { at: number; first: number; step: number };
  notes?: string;
}

export interface CommandSpec {
  /** Lower case. A subcommand has its own name alone (`setname`), in its container's `subcommands`. */
  name: string;
  /** Number of arguments with the name; negative for "at least". */
  arity: number;
  flags: readonly CommandFlag[];
  /** ACL categories without '@', beside those that follow from flags (`acl` in `table.ts` adds write/read/fast/slow ...). */
  categories: readonly string[];
  keys?: readonly KeySpec[];
  /** Positions of keys where `keys` can't say it (options that move them). */
  getKeys?: (argv: Argv) => number[];
  /** `COMMAND DOCS`: our own sentence, and facts. */
  summary: string;
  since: string;
  group:
    | 'generic'
    | 'string'
    | 'bitmap'
    | 'connection'
    | 'server'
    | 'cluster'
    | 'transactions'
    | 'pubsub'
    | 'scripting'
    | 'hash'
    | 'list'
    | 'set'
    | 'sorted-set'
    | 'stream'
    | 'geo'
    | 'hyperloglog'
    | 'dynamo';
  complexity: string;
  /** Arguments in Redis's usual notation, e.g. `key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]`. */
  syntax: string;
  /** `COMMAND INFO`'s tips, e.g. `nondeterministic_output`. */
  tips?: readonly string[];
  history?: readonly (readonly [version: string, change: string])[];
  deprecated?: { since: string; replacedBy: string };
  handler: Handler;
  subcommands?: readonly CommandSpec[];
}

export type Handler = (c: CommandContext) => void;

/**
 * What a handler gets. One instance serves all commands (nothing is allocated per command), so a handler must take
 * what it needs out of it before anything asynchronous.
 */
export interface CommandContext {
  argv: Argv;
  out: ReplyWriter;
  client: Client;
  readonly server: Server;
  /** The client's database. */
  db: Database;
  readonly keys: Keyspace;
  /** Wall-clock ms, frozen while the command runs. */
  readonly now: number;
  /** Slot of the key in argument i. */
  slot(i: number): number;
  /**
   * Goes on asynchronously: the client is served nothing else until the promise settles; then the function that it
   * resolved to writes the reply. A rejection with a ReplyError is an error reply.
   */
  defer(work: Promise<(out: ReplyWriter) => void>): void;
}
