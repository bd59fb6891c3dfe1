/** DUMP and RESTORE, in Redis's own format. */
import { ReplyError, SYNTAX_ERROR } from '../base/errors.ts';
import { clampDeadline, integer, integer64 } from './args.ts';
import type { CommandContext, CommandSpec } from './command.ts';
import { dumpString, readDump, verifyDump } from './rdb.ts';

function dump(c: CommandContext): void {
  const o = c.keys.find(c.db, c.argv.str(1), c.slot(1));
  if (o === null) c.out.nil();
  else c.out.bulkBytes(dumpString(o.text()));
}

function restore(c: CommandContext): void {
  const { argv, keys, db } = c;
  let replace = false;
  let absolute = false;
  let idle = -1;
  let freq = -1;
  for (let i = 4; i < argv.argc; i++) {
    const more = i + 1 < argv.argc;
    if (argv.is(i, 'REPLACE')) replace = true;
    else if (argv.is(i, 'ABSTTL')) absolute = true;
    else if (more && freq < 0 && argv.is(i, 'IDLETIME')) {
      idle = integer(argv, ++i);
      if (idle < 0) throw new ReplyError('ERR Invalid IDLETIME value, must be >= 0');
    } else if (more && idle < 0 && argv.is(i, 'FREQ')) {
      freq = integer(argv, ++i);
      if (freq < 0 || freq > 255) throw new ReplyError('ERR Invalid FREQ value, must be >= 0 and <= 255');
    } else throw SYNTAX_ERROR;
  }
  const key = argv.str(1);
  const slot = c.slot(1);
  const old = keys.peekForWrite(db, key, slot);
  if (old !== null && !replace) throw new ReplyError('BUSYKEY Target key name already exists.');
  let ttl = integer64(argv, 2);
  if (ttl < 0n) throw new ReplyError('ERR Invalid TTL value, must be >= 0');
  const payload = Buffer.from(argv.buf.subarray(argv.offsets[6], argv.offsets[7]));
  if (!verifyDump(payload)) throw new ReplyError('ERR DUMP payload version or checksum are wrong');
  const value = readDump(payload);
  if (value === null) throw new ReplyError('ERR Bad data format');
  if (ttl > 0n && !absolute) ttl += BigInt(c.now);
  const deadline = clampDeadline(ttl);
  if (deadline !== 0 && deadline <= c.now) {
    if (old !== null) {
      keys.remove(db, old);
      keys.notify?.(db, 'del', key, 'g');
    }
    c.out.ok();
    return;
  }
  const o = keys.set(db, keys.object(db, key, slot), key, slot, value.value, deadline);
  if (idle > 0) o.used = keys.seconds - idle;
  keys.notify?.(db, 'restore', key, 'g');
  c.out.ok();
}

export const dumpCommands: CommandSpec[] = [
  {
    name: 'dump',
    arity: 2,
    flags: ['readonly'],
    categories: ['keyspace'],
    keys: [{ flags: ['RO', 'access'], begin: 1, range: { last: 0, step: 1 } }],
    tips: ['nondeterministic_output'],
    summary: "Gives a key's value in Redis's dump format.",
    since: '2.6.0',
    group: 'generic',
    complexity: 'O(1) to find the key and O(N*M) to write it, where N is the number of items and M their average size.',
    syntax: 'key',
    handler: dump,
  },
  {
    name: 'restore',
    arity: -4,
    flags: ['write', 'denyoom'],
    categories: ['keyspace', 'dangerous'],
    keys: [{ flags: ['OW', 'update'], begin: 1, range: { last: 0, step: 1 } }],
    summary: 'Makes a key from what DUMP gave.',
    since: '2.6.0',
    group: 'generic',
    complexity:
      'O(1) to make the key and O(N*M) to read the value, where N is the number of items and M their average size.',
    syntax: 'key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]',
    history: [
      ['3.0.0', 'Added the `REPLACE` modifier.'],
      ['5.0.0', 'Added the `ABSTTL` modifier.'],
      ['5.0.0', 'Added the `IDLETIME` and `FREQ` options.'],
    ],
    handler: restore,
  },
];
