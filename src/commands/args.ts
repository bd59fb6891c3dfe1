/**
 * Reading arguments: integers, floats and options, with Redis's own error texts.
 */
import { NOT_AN_INTEGER, ReplyError } from '../base/errors.ts';
import type { Argv } from '../resp/argv.ts';
import { INT64_MAX, INT64_MIN } from '../types/increment.ts';
import type { CommandContext } from './command.ts';

const INTEGER = /^(0|-?[1-9]\d{0,18})$/;

/** Strict 64-bit integer, as Redis's string2ll; null when it isn't one. */
export function parseInt64(text: string): bigint | null {
  if (!INTEGER.test(text)) return null;
  const n = BigInt(text);
  return n > INT64_MAX || n < INT64_MIN ? null : n;
}

/** Strict integer that a double holds exactly; NaN when it isn't one. */
export function parseSafeInteger(text: string): number {
  if (text.length > 16 || !INTEGER.test(text)) return Number.NaN;
  const n = Number(text);
  return Number.isSafeInteger(n) ? n : Number.NaN;
}

/**
 * Argument i as an integer. Beyond 2^53 the nearest double is given, which is as good for offsets and counts.
 * Throws "value is not an integer or out of range".
 */
export function integer(argv: Argv, i: number): number {
  const n = argv.int(i);
  if (!Number.isNaN(n)) return n;
  const big = parseInt64(argv.str(i));
  if (big === null) throw NOT_AN_INTEGER;
  return Number(big);
}

/** Argument i as a 32-bit integer: database numbers. */
export function integer32(argv: Argv, i: number): number {
  const n = integer(argv, i);
  if (n > 2147483647 || n < -2147483648) {
    throw new ReplyError('ERR value is out of range, value must between -2147483648 and 2147483647');
  }
  return n;
}

export function integer64(argv: Argv, i: number): bigint {
  const big = parseInt64(argv.str(i));
  if (big === null) throw NOT_AN_INTEGER;
  return big;
}

/**
 * A deadline in wall-clock ms, from argument i in this unit.
 * @param relative counted from now
 * @param command its name, for the error text; null allows times that are not in the future
 */
export function deadlineArgument(
  c: CommandContext,
  i: number,
  seconds: boolean,
  relative: boolean,
  command: string,
): number {
  let ms = integer64(c.argv, i);
  if (ms <= 0n) throw invalidExpire(command);
  if (seconds) {
    if (ms > INT64_MAX / 1000n) throw invalidExpire(command);
    ms *= 1000n;
  }
  if (relative) {
    ms += BigInt(c.now);
    if (ms > INT64_MAX) throw invalidExpire(command);
  }
  return clampDeadline(ms);
}

/** Deadlines are kept as doubles; anything beyond 2^53 ms (285,000 years) is as good as that. */
export function clampDeadline(ms: bigint): number {
  return ms > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(ms);
}

export function invalidExpire(command: string): ReplyError {
  return new ReplyError(`ERR invalid expire time in '${command}' command`);
}

/** Fails when a string would grow beyond `proto-max-bulk-len`. */
export function checkLength(c: CommandContext, length: number): void {
  if (length > c.server.config.num('proto-max-bulk-len')) {
    throw new ReplyError('ERR string exceeds maximum allowed size (proto-max-bulk-len)');
  }
}

/** Argument i as a partition's number. */
export function partitionArgument(c: CommandContext, i: number): number {
  const p = integer(c.argv, i);
  const { partitions } = c.keys;
  if (p < 0 || p >= partitions) throw new ReplyError(`ERR partitions are numbered from 0 to ${partitions - 1}`);
  return p;
}
