// What cannot be equal on two servers (clocks, ids, the order of a set) is rewritten into something that
// can. Every normaliser looks at one reply alone, never at the pair, so its result can also be recorded.

import { array, blob, isAggregate, parseReply, type Reply, textOf, writeReply } from './reply.ts';

export type Normaliser = (reply: Reply) => Reply;

export function normalised(bytes: string, normalise: Normaliser | undefined): string {
  if (normalise === undefined || bytes.startsWith('<') || bytes === '') return bytes;
  return writeReply(normalise(parseReply(bytes)));
}

/** An error says something deterministic even where the value would not: it is never rewritten. */
function unlessError(change: (reply: Reply) => Reply): Normaliser {
  return (reply) => (reply.type === '-' || reply.type === '!' ? reply : change(reply));
}

function constant(reply: Reply, text: string): Reply {
  if (isAggregate(reply)) return reply;
  // A verbatim string keeps the three letters that say what kind of text it is.
  const kind = reply.type === '=' ? (reply.text ?? '').slice(0, 4) : '';
  return { ...reply, text: kind + text } as Reply;
}

/** An integer that must lie within `tolerance` of `expected`. */
export function about(expected: number, tolerance: number): Normaliser {
  return unlessError((reply) => {
    const value = Number(textOf(reply));
    return Math.abs(value - expected) <= tolerance ? constant(reply, `about ${expected}`) : reply;
  });
}

/** A moment in time that must lie within `tolerance` of now + `offset`, both in units of `unitMs`. */
export function aboutNow(offset: number, tolerance: number, unitMs: 1 | 1000): Normaliser {
  return unlessError((reply) => {
    const value = Number(textOf(reply)) - Date.now() / unitMs;
    return Math.abs(value - offset) <= tolerance ? constant(reply, `about now + ${offset}`) : reply;
  });
}

/** Rounds to multiples of `unit`; for values drawn as such multiples that have aged a little since. */
export function roundedTo(unit: number): Normaliser {
  return unlessError((reply) => {
    const value = Number(textOf(reply));
    if (!Number.isFinite(value) || value < unit / 2) return reply;
    return constant(reply, `about ${Math.round(value / unit) * unit}`);
  });
}

export const anyInteger: Normaliser = unlessError((reply) =>
  /^-?\d+$/.test(textOf(reply)) ? constant(reply, 'some integer') : reply,
);

export const anyPositive: Normaliser = unlessError((reply) =>
  Number(textOf(reply)) > 0 ? constant(reply, 'some positive number') : reply,
);

/** Any text that is not empty; the type still counts. */
export const anyText: Normaliser = unlessError((reply) =>
  isAggregate(reply) || textOf(reply) === '' ? reply : constant(reply, 'some text'),
);

/** Keeps the types of everything and forgets the values, down to every leaf. */
export const shape: Normaliser = unlessError((reply) => {
  if (!isAggregate(reply)) return constant(reply, reply.text === null ? 'null' : 'value');
  return { ...reply, items: reply.items?.map(shape) ?? null };
});

/** Only the outermost type counts. */
export const typeOnly: Normaliser = unlessError((reply) =>
  isAggregate(reply) ? array([blob(`${reply.type} not compared further`)]) : constant(reply, 'some value'),
);

function byText(a: Reply, b: Reply): number {
  const left = writeReply(a);
  const right = writeReply(b);
  return left < right ? -1 : left > right ? 1 : 0;
}

/** An array or set whose order carries no meaning. */
export const sorted: Normaliser = unlessError((reply) =>
  isAggregate(reply) && reply.items ? { ...reply, items: [...reply.items].sort(byText) } : reply,
);

/** A map, or its flat RESP2 form, ordered by its keys. */
export const sortedPairs: Normaliser = unlessError((reply) => {
  if (!isAggregate(reply) || !reply.items) return reply;
  const pairs: [Reply, Reply][] = [];
  for (let i = 0; i + 1 < reply.items.length; i += 2) pairs.push([reply.items[i], reply.items[i + 1]]);
  pairs.sort((a, b) => byText(a[0], b[0]));
  return { ...reply, items: pairs.flat() };
});

/** Rewrites the value behind some keys of a map or its flat RESP2 form. */
export function valuesOf(changes: Record<string, Normaliser>): Normaliser {
  return unlessError((reply) => {
    if (!isAggregate(reply) || !reply.items) return reply;
    const items = reply.items.map((item, i, all) => {
      if (i % 2 === 0) return item;
      const change = changes[textOf(all[i - 1])];
      return change ? change(item) : item;
    });
    return { ...reply, items };
  });
}

/** Rewrites every leaf's text. */
export function replaced(pattern: RegExp, by: string): Normaliser {
  const change: Normaliser = (reply) => {
    if (isAggregate(reply)) return { ...reply, items: reply.items?.map(change) ?? null };
    return reply.text === null ? reply : ({ ...reply, text: reply.text.replace(pattern, by) } as Reply);
  };
  return change;
}

/** One element of an array after the other, each with a rule of its own; `undefined` leaves it alone. */
export function elements(...changes: (Normaliser | undefined)[]): Normaliser {
  return unlessError((reply) => {
    if (!isAggregate(reply) || !reply.items) return reply;
    return { ...reply, items: reply.items.map((item, i) => changes[i]?.(item) ?? item) };
  });
}

/** The same rule for all elements of an array. */
export function each(change: Normaliser): Normaliser {
  return unlessError((reply) =>
    isAggregate(reply) && reply.items ? { ...reply, items: reply.items.map((item) => change(item)) } : reply,
  );
}

/** The named lines of an `a:b\r\n` text such as INFO's: which of them are there, not what they say. */
export function fieldsPresent(names: readonly string[]): Normaliser {
  return unlessError((reply) => {
    const present = new Set(
      textOf(reply)
        .split('\r\n')
        .map((line) => (line.startsWith('#') ? line : line.split(':', 1)[0])),
    );
    return constant(reply, names.map((name) => `${name}: ${present.has(name) ? 'present' : 'absent'}`).join('\n'));
  });
}

/** The named lines of an `a:b\r\n` text with what they say; all others are left out. */
export function fieldsKept(names: readonly string[]): Normaliser {
  return unlessError((reply) => {
    const lines = textOf(reply).split('\r\n');
    const named = (name: string) => lines.find((line) => line.split(':', 1)[0] === name) ?? `${name}: absent`;
    return constant(reply, names.map(named).join('\n'));
  });
}

/** Only whether an array has some named members. */
export function hasMembers(names: readonly string[]): Normaliser {
  return unlessError((reply) => {
    if (!isAggregate(reply) || !reply.items) return reply;
    const members = new Set(reply.items.map(textOf));
    const found = names.map((name) => blob(`${name}: ${members.has(name) ? 'present' : 'absent'}`));
    return array([blob(`of ${reply.type}`), ...found]);
  });
}

/**
 * A HELP text: its first line, its last two (which speak of HELP itself) and that the lines between are
 * simple strings. The prose in between is a server's own.
 */
export const helpText: Normaliser = unlessError((reply) => {
  if (!isAggregate(reply) || !reply.items) return reply;
  const uniform = reply.items.every((item) => item.type === '+');
  const middle: Reply = { type: '+', text: uniform ? '(lines)' : '(not all simple strings)' };
  return { ...reply, items: [reply.items[0], middle, ...reply.items.slice(-2)] };
});

export function inOrder(...changes: Normaliser[]): Normaliser {
  return (reply) => changes.reduce((value, change) => change(value), reply);
}
