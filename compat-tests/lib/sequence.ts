// The vocabulary the families are written in. A sequence is a list of steps on one connection, or on
// several named ones, played after FLUSHALL; a step yields the text that is compared between servers.

import { type Normaliser, normalised } from './normalise.ts';
import { printable } from './pretty.ts';
import { type Argument, CLOSED, encodeCommand, type RawConnection } from './raw-connection.ts';
import { array, parseReply, textOf, writeReply } from './reply.ts';
import { words } from './words.ts';

/** Replies earlier steps kept for later ones, by name; latin1 text. */
export type Saved = Map<string, string>;

export interface Step {
  label: string;
  connection: string;
  run(connection: RawConnection, saved: Saved): Promise<string>;
}

/** A command line, an argument array, or a step made by one of the functions below. */
export type StepLike = string | readonly Argument[] | Step;

export interface Sequence {
  name: string;
  steps: Step[];
  /** Left out in the other protocol: for what only exists in one of them. */
  only?: 2 | 3;
}

export interface Family {
  name: string;
  sequences: Sequence[];
}

export const MAIN = 'main';

function argumentsOf(command: string | readonly Argument[]): readonly Argument[] {
  return typeof command === 'string' ? words(command) : command;
}

/** One command and its one reply, rewritten by `normalise` if given. */
export function step(command: string | readonly Argument[], normalise?: Normaliser): Step {
  const args = argumentsOf(command);
  return {
    label: printable(args),
    connection: MAIN,
    run: async (connection) => normalised(await connection.send(args), normalise),
  };
}

function isStep(like: StepLike): like is Step {
  return typeof like !== 'string' && 'run' in like;
}

export function asStep(like: StepLike): Step {
  return isStep(like) ? like : step(like);
}

export function sequence(name: string, steps: StepLike[], options: { only?: 2 | 3 } = {}): Sequence {
  return { name, steps: steps.map(asStep), ...options };
}

/** The same step on another connection, which is opened at its first use. */
export function on(connection: string, like: StepLike): Step {
  const inner = asStep(like);
  return { ...inner, connection, label: `[${connection}] ${inner.label}` };
}

/** Keeps the reply's text, or what `extract` finds in it, under a name for later steps. */
export function keep(
  name: string,
  command: string | readonly Argument[],
  normalise?: Normaliser,
  extract: (text: string) => string = (text) => text,
): Step {
  const args = argumentsOf(command);
  return {
    label: printable(args),
    connection: MAIN,
    run: async (connection, saved) => {
      const reply = await connection.send(args);
      saved.set(name, reply.startsWith('<') ? '' : extract(textOf(parseReply(reply))));
      return normalised(reply, normalise);
    },
  };
}

/** A command line in which `{name}` stands for a kept reply. */
export function using(line: string, normalise?: Normaliser): Step {
  return {
    label: line,
    connection: MAIN,
    run: async (connection, saved) => {
      const args = words(line).map((word) => {
        const filled = word.toString('latin1').replace(/\{(\w+)\}/g, (_, name: string) => saved.get(name) ?? '');
        return Buffer.from(filled, 'latin1');
      });
      return normalised(await connection.send(args), normalise);
    },
  };
}

/** A command whose arguments are computed when it is sent, e.g. from the clock. */
export function computed(label: string, make: (saved: Saved) => readonly Argument[], normalise?: Normaliser): Step {
  return {
    label,
    connection: MAIN,
    run: async (connection, saved) => normalised(await connection.send(make(saved)), normalise),
  };
}

/** Sends a command that answers nothing. That it answered nothing shows in the steps after it. */
export function silent(command: string | readonly Argument[]): Step {
  const args = argumentsOf(command);
  return {
    label: `${printable(args)} (no reply awaited)`,
    connection: MAIN,
    run: async (connection) => {
      connection.write(encodeCommand(args));
      return '';
    },
  };
}

/** Waits for `count` more replies without sending anything. */
export function receive(count: number, normalise?: Normaliser): Step {
  return {
    label: `(read ${count})`,
    connection: MAIN,
    run: async (connection) => {
      let all = '';
      for (let i = 0; i < count; i++) all += normalised(await connection.next(), normalise);
      return all;
    },
  };
}

/** What arrives unasked within a short while: nothing at all, unless the servers differ. */
export function quiet(ms = 50): Step {
  return { label: `(silence for ${ms} ms)`, connection: MAIN, run: (connection) => connection.nextWithin(ms) };
}

function bytesOf(text: string | Buffer): Buffer {
  return typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
}

/** Raw bytes, then `replies` replies. */
export function raw(text: string | Buffer, replies: number): Step {
  const bytes = bytesOf(text);
  return {
    label: `raw ${printable([bytes])}`,
    connection: MAIN,
    run: async (connection) => {
      connection.write(bytes);
      let all = '';
      for (let i = 0; i < replies; i++) all += await connection.next();
      return all;
    },
  };
}

/** Raw bytes, then everything up to the server hanging up. */
export function rawUntilClosed(text: string | Buffer): Step {
  const bytes = bytesOf(text);
  return {
    label: `raw ${printable([bytes])} until closed`,
    connection: MAIN,
    run: async (connection) => {
      connection.write(bytes);
      let all = '';
      for (let i = 0; i < 100; i++) {
        const reply = await connection.next(1000);
        all += reply;
        if (reply === CLOSED || reply.startsWith('<')) break;
      }
      return all;
    },
  };
}

/** Raw bytes one at a time, each in a segment of its own, then `replies` replies. */
export function dripped(text: string | Buffer, replies: number): Step {
  const bytes = bytesOf(text);
  return {
    label: `byte by byte ${printable([bytes])}`,
    connection: MAIN,
    run: async (connection) => {
      for (const byte of bytes) await connection.flush(Buffer.from([byte]));
      let all = '';
      for (let i = 0; i < replies; i++) all += await connection.next();
      return all;
    },
  };
}

/** Many commands written at once; all replies, in order, as one text. */
export function pipelined(label: string, commands: readonly (string | readonly Argument[])[]): Step {
  const bytes = Buffer.concat(commands.map((command) => encodeCommand(argumentsOf(command))));
  return {
    label,
    connection: MAIN,
    run: async (connection) => {
      connection.write(bytes);
      let all = '';
      for (let i = 0; i < commands.length; i++) all += await connection.next();
      return all;
    },
  };
}

/** Follows a SCAN's cursor to the end; the elements seen, each once, sorted. `{cursor}` is the cursor. */
export function scanned(command: string | readonly Argument[]): Step {
  const template = argumentsOf(command);
  return {
    label: `${printable(template)} (to the end)`,
    connection: MAIN,
    run: async (connection) => {
      const seen = new Set<string>();
      let cursor = '0';
      for (let rounds = 0; rounds < 10_000; rounds++) {
        const args = template.map((word) => (word.toString() === '{cursor}' ? cursor : word));
        const bytes = await connection.send(args);
        if (bytes[0] !== '*') return bytes;
        const reply = parseReply(bytes);
        if (!('items' in reply) || !reply.items || reply.items.length !== 2) return bytes;
        const [next, page] = reply.items;
        if ('items' in page) for (const item of page.items ?? []) seen.add(writeReply(item));
        cursor = textOf(next);
        if (cursor === '0') return writeReply(array([...seen].sort().map((item) => parseReply(item))));
      }
      return '<scan never ended>';
    },
  };
}

/** Lets time pass, for expiry. */
export function pause(ms: number): Step {
  return {
    label: `(pause ${ms} ms)`,
    connection: MAIN,
    run: async () => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      return '';
    },
  };
}

/** The RESP3 messages that came out of band since the connection opened. */
export function pushed(normalise?: Normaliser): Step {
  return {
    label: '(pushes so far)',
    connection: MAIN,
    run: async (connection) => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return connection.pushes.map((push) => normalised(push, normalise)).join('');
    },
  };
}
