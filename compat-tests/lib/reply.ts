// A reply as a tree. Only steps that cannot be compared byte for byte (times, ids, sets without an
// order) are parsed, changed by a normaliser and written back; everything else stays raw bytes.
// Bytes are carried as latin1 strings throughout, one character a byte, so that they fit in JSON.

export interface Line {
  type: '+' | '-' | ':' | '_' | '#' | ',' | '(';
  text: string;
}
export interface Blob {
  type: '$' | '!' | '=';
  text: string | null;
}
export interface Aggregate {
  type: '*' | '~' | '>' | '%' | '|';
  items: Reply[] | null;
}
export type Reply = Line | Blob | Aggregate;

export function isAggregate(reply: Reply): reply is Aggregate {
  return 'items' in reply;
}

function parseAt(bytes: string, from: number): { reply: Reply; end: number } {
  const type = bytes[from] as Reply['type'];
  const stop = bytes.indexOf('\r\n', from);
  const line = bytes.slice(from + 1, stop);
  const next = stop + 2;
  switch (type) {
    case '$':
    case '!':
    case '=': {
      const length = Number(line);
      if (length < 0) return { reply: { type, text: null }, end: next };
      return { reply: { type, text: bytes.slice(next, next + length) }, end: next + length + 2 };
    }
    case '*':
    case '~':
    case '>':
    case '%':
    case '|': {
      const count = Number(line);
      if (count < 0) return { reply: { type, items: null }, end: next };
      const children = type === '%' ? count * 2 : type === '|' ? count * 2 + 1 : count;
      const items: Reply[] = [];
      let end = next;
      for (let i = 0; i < children; i++) {
        const child = parseAt(bytes, end);
        items.push(child.reply);
        end = child.end;
      }
      return { reply: { type, items }, end };
    }
    default:
      return { reply: { type, text: line }, end: next };
  }
}

/** Parses one whole reply; markers such as `<closed>` come back as a line of their own. */
export function parseReply(bytes: string): Reply {
  return parseAt(bytes, 0).reply;
}

export function writeReply(reply: Reply): string {
  if (isAggregate(reply)) {
    if (reply.items === null) return `${reply.type}-1\r\n`;
    const length = reply.items.length;
    const count = reply.type === '%' ? length / 2 : reply.type === '|' ? (length - 1) / 2 : length;
    return `${reply.type}${count}\r\n${reply.items.map(writeReply).join('')}`;
  }
  if (reply.type === '$' || reply.type === '!' || reply.type === '=') {
    return reply.text === null ? `${reply.type}-1\r\n` : `${reply.type}${reply.text.length}\r\n${reply.text}\r\n`;
  }
  return `${reply.type}${reply.text}\r\n`;
}

/** The text of a scalar reply; the empty string for aggregates and nulls. */
export function textOf(reply: Reply): string {
  return isAggregate(reply) ? '' : (reply.text ?? '');
}

export function blob(text: string): Blob {
  return { type: '$', text };
}

export function array(items: Reply[]): Aggregate {
  return { type: '*', items };
}
