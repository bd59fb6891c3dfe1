// Renders raw replies the way a person reads them, so that a difference can be understood at a glance.

import { replyEnd } from './framer.ts';
import { isAggregate, parseReply, type Reply } from './reply.ts';

const LONGEST = 400;

function quoted(text: string): string {
  const shown = text.length > LONGEST ? text.slice(0, LONGEST) : text;
  const escaped = shown.replace(/[\\"\x00-\x1f\x7f-\xff]/g, (c) => {
    if (c === '"' || c === '\\') return `\\${c}`;
    if (c === '\r') return '\\r';
    if (c === '\n') return '\\n';
    return `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${escaped}"${shown.length < text.length ? `… (${text.length} bytes)` : ''}`;
}

function render(reply: Reply): string {
  if (isAggregate(reply)) {
    const name = { '*': 'array', '~': 'set', '>': 'push', '%': 'map', '|': 'attribute' }[reply.type];
    if (reply.items === null) return `${name} null`;
    return `${name}[${reply.items.map(render).join(', ')}]`;
  }
  switch (reply.type) {
    case '+':
      return `+${reply.text}`;
    case '-':
      return `-${reply.text}`;
    case ':':
      return `:${reply.text}`;
    case '$':
      return reply.text === null ? '$null' : quoted(reply.text);
    case '=':
      return `verbatim ${reply.text === null ? 'null' : quoted(reply.text)}`;
    case '!':
      return `bulk error ${reply.text === null ? 'null' : quoted(reply.text)}`;
    case '_':
      return '_null';
    case '#':
      return reply.text === 't' ? '#true' : '#false';
    default:
      return `${reply.type}${reply.text}`;
  }
}

/** One or several replies (or a marker such as `<closed>`) on one line. */
export function pretty(bytes: string): string {
  const parts: string[] = [];
  let rest = bytes;
  while (rest !== '') {
    if (rest.startsWith('<')) {
      const end = rest.indexOf('>') + 1;
      parts.push(rest.slice(0, end || rest.length));
      rest = end ? rest.slice(end) : '';
      continue;
    }
    let end = -1;
    try {
      end = replyEnd(Buffer.from(rest, 'latin1'));
    } catch {
      end = -1;
    }
    if (end === -1) {
      parts.push(`unframed ${quoted(rest)}`);
      break;
    }
    parts.push(render(parseReply(rest)));
    rest = rest.slice(end);
  }
  return parts.length === 0 ? '(nothing)' : parts.join(' ; ');
}

/** Cuts two long texts down to the neighbourhood of the first place where they part. */
export function aroundDifference(expected: string, actual: string, width = 500): [string, string] {
  if (expected.length <= width && actual.length <= width) return [expected, actual];
  let same = 0;
  while (same < expected.length && expected[same] === actual[same]) same++;
  const from = Math.max(0, same - 80);
  const cut = (text: string) =>
    `${from > 0 ? '…' : ''}${text.slice(from, from + width)}${text.length > from + width ? '…' : ''}`;
  return [cut(expected), cut(actual)];
}

/** A command the way one would type it in redis-cli, for labels. */
export function printable(args: readonly (string | Buffer)[]): string {
  const words = args.map((arg) => {
    const text = typeof arg === 'string' ? Buffer.from(arg).toString('latin1') : arg.toString('latin1');
    if (/^[\x21\x23-\x26\x28-\x5b\x5d-\x7e]+$/.test(text)) return text;
    return quoted(text);
  });
  const line = words.join(' ');
  return line.length > 160 ? `${line.slice(0, 157)}...` : line;
}
