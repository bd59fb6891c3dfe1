/**
 * Glob patterns as `KEYS`, `CONFIG GET` and `PSUBSCRIBE` know them: `*`, `?`, `[abc]`, `[^a-z]`, `\x`.
 *
 * Only the last `*` is ever gone back to, so a hostile pattern costs at most length times length. The odd corners
 * (an unclosed class, a range the wrong way round, a lone backslash at the end) do what Redis does with them.
 */

const STAR = 42;
const QUESTION = 63;
const OPEN = 91;
const CLOSE = 93;
const CARET = 94;
const DASH = 45;
const BACKSLASH = 92;

function fold(c: number): number {
  return c >= 65 && c <= 90 ? c + 32 : c;
}

/** True for a pattern that could match more than its own text. */
export function isPattern(s: string): boolean {
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c === STAR || c === QUESTION || c === OPEN) return true;
  }
  return false;
}

/** Does the whole of `text` match? */
export function globMatch(pattern: string, text: string, noCase = false): boolean {
  // nothing is matched by nothing and by one star, not by several
  if (text === '') return pattern === '' || pattern === '*';
  const plen = pattern.length;
  const tlen = text.length;
  let p = 0;
  let t = 0;
  let starP = -1;
  let starT = 0;
  for (;;) {
    if (p < plen && pattern.charCodeAt(p) === STAR) {
      starP = ++p;
      starT = t;
      continue;
    }
    if (t >= tlen) return p >= plen;
    const next = p < plen ? matchOne(pattern, p, plen, text.charCodeAt(t), noCase) : -1;
    if (next >= 0) {
      p = next;
      t++;
    } else if (starP >= 0) {
      p = starP;
      t = ++starT;
    } else return false;
  }
}

/** Matches one character against what stands at `p`: the position after that, or -1. */
function matchOne(pattern: string, p: number, end: number, char: number, noCase: boolean): number {
  const text = noCase ? fold(char) : char;
  let c = pattern.charCodeAt(p);
  if (c === QUESTION) return p + 1;
  if (c !== OPEN) {
    if (c === BACKSLASH && p + 1 < end) c = pattern.charCodeAt(++p);
    return (noCase ? fold(c) : c) === text ? p + 1 : -1;
  }
  p++;
  const inverted = p < end && pattern.charCodeAt(p) === CARET;
  if (inverted) p++;
  let found = false;
  for (; p < end; p++) {
    c = pattern.charCodeAt(p);
    if (c === BACKSLASH && p + 1 < end) {
      if (pattern.charCodeAt(++p) === char) found = true;
    } else if (c === CLOSE) {
      p++;
      break;
    } else if (p + 2 < end && pattern.charCodeAt(p + 1) === DASH) {
      let to = pattern.charCodeAt(p + 2);
      if (c > to) [c, to] = [to, c];
      if (noCase) [c, to] = [fold(c), fold(to)];
      if (text >= c && text <= to) found = true;
      p += 2;
    } else if ((noCase ? fold(c) : c) === text) found = true;
  }
  return found !== inverted ? p : -1;
}
