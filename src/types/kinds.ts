/**
 * What kinds of entries there are, and which type a key has that holds them.
 *
 * A field's first character is its kind; the rest is the kind's own. Types that come later add kinds here and
 * files of their own, and nothing else: `types/state` carries entries of every kind alike.
 */

/** Type numbers of keys; 0 is "no value" (absent, or a tombstone). */
export const NONE = 0;
export const STRING = 1;
export const LIST = 2;
export const SET = 3;
export const ZSET = 4;
export const HASH = 5;
export const STREAM = 6;

/** `TYPE`'s words, by type number. */
export const TYPE_NAMES = ['none', 'string', 'list', 'set', 'zset', 'hash', 'stream'] as const;

/** A string's whole value, with its own deadline (payload: data = bytes, num = deadline ms or 0). Siblings share the field. */
export const REGISTER = 's';
/** Part of a string that was written piecemeal (field: 'c' + chunk number, payload: data = bytes). */
export const CHUNK = 'c';
/** One actor's run of increments (field: 'i' + run, payload: see `types/increment`). */
export const INCREMENT = 'i';
/** What an overwrite saw of a run (field: 'r' + run, payload: data = sum, num = hlc at which it was seen). */
export const RECORD = 'r';
/** Deadline of a key that has no single register (payload: num = deadline ms or 0 for never, aux = register's dot). */
export const DEADLINE = 'd';

/** The type that a live entry of this kind gives its key; NONE for entries that give none. */
export function typeOfField(field: string): number {
  switch (field.charAt(0)) {
    case REGISTER:
    case CHUNK:
    case INCREMENT:
      return STRING;
    default:
      return NONE;
  }
}
