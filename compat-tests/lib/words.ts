// Command lines as one types them in redis-cli: words, double quotes with escapes, single quotes without.
// Sequences are written this way because hundreds of argument arrays would be unreadable.

const ESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' };

/** Splits a line into the bytes of its arguments. A character is a byte (latin1). */
export function words(line: string): Buffer[] {
  const result: Buffer[] = [];
  let at = 0;
  while (at < line.length) {
    if (line[at] === ' ') {
      at++;
      continue;
    }
    let word = '';
    const quote = line[at];
    if (quote === '"' || quote === "'") {
      at++;
      while (line[at] !== quote) {
        if (at >= line.length) throw new Error(`unbalanced quotes in: ${line}`);
        if (quote === '"' && line[at] === '\\') {
          const hex = /^x[0-9a-fA-F]{2}/.exec(line.slice(at + 1, at + 4));
          if (hex) {
            word += String.fromCharCode(Number.parseInt(hex[0].slice(1), 16));
            at += 4;
          } else {
            word += ESCAPES[line[at + 1]] ?? line[at + 1];
            at += 2;
          }
        } else {
          word += line[at++];
        }
      }
      at++;
    } else {
      while (at < line.length && line[at] !== ' ') word += line[at++];
    }
    result.push(Buffer.from(word, 'latin1'));
  }
  return result;
}
