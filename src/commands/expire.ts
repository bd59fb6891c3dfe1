/**
 * Deadlines of keys: the EXPIRE family, TTL and PERSIST.
 */
import { NOT_AN_INTEGER, ReplyError } from '../base/errors.ts';
import type { Argv } from '../resp/argv.ts';
import { INT64_MAX, INT64_MIN } from '../types/increment.ts';
import { clampDeadline, invalidExpire, parseInt64 } from './args.ts';
import type { CommandContext, CommandSpec, Handler, KeySpec } from './command.ts';

const RW_UPDATE: KeySpec[] = [{ flags: ['RW', 'update'], begin: 1, range: { last: 0, step: 1 } }];
const RO_ACCESS: KeySpec[] = [{ flags: ['RO', 'access'], begin: 1, range: { last: 0, step: 1 } }];

const NX = 1;
const XX = 2;
const GT = 4;
const LT = 8;

function readConditions(argv: Argv): number {
  let flags = 0;
  for (let i = 3; i < argv.argc; i++) {
    if (argv.is(i, 'NX')) flags |= NX;
    else if (argv.is(i, 'XX')) flags |= XX;
    else if (argv.is(i, 'GT')) flags |= GT;
    else if (argv.is(i, 'LT')) flags |= LT;
    else throw new ReplyError(`ERR Unsupported option ${argv.str(i)}`);
  }
  if (flags & NX && flags & (XX | GT | LT)) {
    throw new ReplyError('ERR NX and XX, GT or LT options at the same time are not compatible');
  }
  if (flags & GT && flags & LT) throw new ReplyError('ERR GT and LT options at the same time are not compatible');
  return flags;
}

/** @param seconds the argument's unit; @param relative it counts from now */
function expire(name: string, seconds: boolean, relative: boolean): Handler {
  return (c) => {
    const { argv, keys, db } = c;
    const flags = readConditions(argv);
    let when = parseInt64(argv.str(2));
    if (when === null) throw NOT_AN_INTEGER;
    if (seconds) {
      if (when > INT64_MAX / 1000n || when < INT64_MIN / 1000n) throw invalidExpire(name);
      when *= 1000n;
    }
    if (relative) {
      when += BigInt(c.now);
      if (when > INT64_MAX) throw invalidExpire(name);
    }
    const key = argv.str(1);
    const o = keys.peekForWrite(db, key, c.slot(1));
    if (o === null) {
      c.out.int(0);
      return;
    }
    const deadline = when <= 0n ? 0 : clampDeadline(when);
    if (flags !== 0 && !holds(flags, o.deadline, deadline)) {
      c.out.int(0);
      return;
    }
    if (deadline <= c.now) {
      keys.remove(db, o);
      keys.notify?.(db, 'del', key, 'g');
    } else {
      keys.setDeadline(db, o, deadline);
      keys.notify?.(db, 'expire', key, 'g');
    }
    c.out.int(1);
  };
}

/** No deadline counts as an infinite one. */
function holds(flags: number, current: number, wanted: number): boolean {
  if (flags & NX && current !== 0) return false;
  if (flags & XX && current === 0) return false;
  if (flags & GT && (current === 0 || wanted <= current)) return false;
  return !(flags & LT && current !== 0 && wanted >= current);
}

/** -2 without the key, -1 without a deadline. */
function remaining(seconds: boolean, absolute: boolean): Handler {
  return (c: CommandContext) => {
    const { buf, offsets } = c.argv;
    if (c.keys.touchRecord(c.db, buf, offsets[2], offsets[3]) !== 0) {
      // a packed key has no deadline
      c.out.int(-1);
      return;
    }
    const o = c.keys.find(c.db, c.argv.str(1), c.slot(1));
    if (o === null) c.out.int(-2);
    else if (o.deadline === 0) c.out.int(-1);
    else {
      const ms = absolute ? o.deadline : Math.max(0, o.deadline - c.now);
      c.out.int(seconds ? Math.floor((ms + 500) / 1000) : ms);
    }
  };
}

function persist(c: CommandContext): void {
  const { keys, db } = c;
  const key = c.argv.str(1);
  const o = keys.peekForWrite(db, key, c.slot(1));
  if (o === null || o.deadline === 0) {
    c.out.int(0);
    return;
  }
  keys.setDeadline(db, o, 0);
  keys.notify?.(db, 'persist', key, 'g');
  c.out.int(1);
}

const CONDITIONS = '[NX | XX | GT | LT]';
const CONDITIONS_HISTORY = [['7.0.0', 'Added options: `NX`, `XX`, `GT` and `LT`.']] as const;

export const expireCommands: CommandSpec[] = [
  {
    name: 'expire',
    arity: -3,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: RW_UPDATE,
    summary: 'Gives a key a time to live in seconds.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: `key seconds ${CONDITIONS}`,
    history: CONDITIONS_HISTORY,
    handler: expire('expire', true, true),
  },
  {
    name: 'expireat',
    arity: -3,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: RW_UPDATE,
    summary: 'Gives a key a deadline in Unix seconds.',
    since: '1.2.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: `key unix-time-seconds ${CONDITIONS}`,
    history: CONDITIONS_HISTORY,
    handler: expire('expireat', true, false),
  },
  {
    name: 'expiretime',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: RO_ACCESS,
    summary: "Gives a key's deadline in Unix seconds.",
    since: '7.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: remaining(true, true),
  },
  {
    name: 'persist',
    arity: 2,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: RW_UPDATE,
    summary: "Takes a key's deadline away.",
    since: '2.2.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: persist,
  },
  {
    name: 'pexpire',
    arity: -3,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: RW_UPDATE,
    summary: 'Gives a key a time to live in milliseconds.',
    since: '2.6.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: `key milliseconds ${CONDITIONS}`,
    history: CONDITIONS_HISTORY,
    handler: expire('pexpire', false, true),
  },
  {
    name: 'pexpireat',
    arity: -3,
    flags: ['write', 'fast'],
    categories: ['keyspace'],
    keys: RW_UPDATE,
    summary: 'Gives a key a deadline in Unix milliseconds.',
    since: '2.6.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: `key unix-time-milliseconds ${CONDITIONS}`,
    history: CONDITIONS_HISTORY,
    handler: expire('pexpireat', false, false),
  },
  {
    name: 'pexpiretime',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: RO_ACCESS,
    summary: "Gives a key's deadline in Unix milliseconds.",
    since: '7.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    handler: remaining(false, true),
  },
  {
    name: 'pttl',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: RO_ACCESS,
    tips: ['nondeterministic_output'],
    summary: 'Gives the milliseconds that a key has left.',
    since: '2.6.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    history: [['2.8.0', 'Added the -2 reply.']],
    handler: remaining(false, false),
  },
  {
    name: 'ttl',
    arity: 2,
    flags: ['readonly', 'fast'],
    categories: ['keyspace'],
    keys: RO_ACCESS,
    tips: ['nondeterministic_output'],
    summary: 'Gives the seconds that a key has left.',
    since: '1.0.0',
    group: 'generic',
    complexity: 'O(1)',
    syntax: 'key',
    history: [['2.8.0', 'Added the -2 reply.']],
    handler: remaining(true, false),
  },
];
