// Finds where a reply ends in a stream of RESP2 or RESP3 bytes. It never decodes: the suite compares
// the very bytes a server sent, so the only thing needed while reading is the boundary.

const CR = 13;
const LF = 10;

export class ProtocolError extends Error {}

function lineEnd(bytes: Buffer, from: number): number {
  for (let at = bytes.indexOf(CR, from); at !== -1; at = bytes.indexOf(CR, at + 1)) {
    if (at + 1 >= bytes.length) return -1;
    if (bytes[at + 1] === LF) return at;
  }
  return -1;
}

function countAt(bytes: Buffer, from: number, to: number): number {
  const text = bytes.toString('latin1', from, to);
  if (!/^-?\d+$/.test(text)) throw new ProtocolError(`bad length '${text}'`);
  return Number(text);
}

/** The offset just past the reply that starts at `from`, or -1 while bytes of it are still missing. */
export function replyEnd(bytes: Buffer, from = 0): number {
  if (from >= bytes.length) return -1;
  const stop = lineEnd(bytes, from + 1);
  const type = String.fromCharCode(bytes[from]);
  if (!'+-:$*_#,(!=%~>|'.includes(type)) throw new ProtocolError(`unknown reply type '${type}'`);
  if (stop === -1) return -1;
  const next = stop + 2;
  if ('+-:_#,('.includes(type)) return next;

  const count = countAt(bytes, from + 1, stop);
  if ('$!='.includes(type)) {
    if (count < 0) return next;
    return next + count + 2 <= bytes.length ? next + count + 2 : -1;
  }

  // An attribute is a map that comes before the reply it talks about: both count as one.
  let children = Math.max(count, 0);
  if (type === '%') children *= 2;
  if (type === '|') children = children * 2 + 1;
  let end = next;
  for (let i = 0; i < children; i++) {
    end = replyEnd(bytes, end);
    if (end === -1) return -1;
  }
  return end;
}
