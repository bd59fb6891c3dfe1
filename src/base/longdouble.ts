/**
 * Decimal text in, decimal text out, with the arithmetic of an x87 long double (64-bit mantissa) in between.
 *
 * `INCRBYFLOAT` adds in long doubles and prints 17 decimals; JavaScript's doubles print other digits, and every
 * replica must print the same ones. Values are exact: `mantissa * 2^exponent`, mantissa below 2^64 in magnitude.
 */
const MANTISSA_BITS = 64;
const MAX_EXPONENT = 16384;
/** Below this even a denormal is zero. */
const MIN_EXPONENT = -16445;
/** Longer texts are no numbers: Redis's own buffer for one. */
const MAX_DIGITS = 5 * 1024;

export interface LongDouble {
  mantissa: bigint;
  exponent: number;
}

const ZERO: LongDouble = { mantissa: 0n, exponent: 0 };
const HEX = /^([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?\d+))?$/;
const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;

function bitLength(n: bigint): number {
  return n.toString(16).length * 4 - 4 + (32 - Math.clz32(Number.parseInt(n.toString(16)[0], 16)));
}

/** Rounds numerator / denominator (positive) to 64 bits, ties to even. */
function round(numerator: bigint, denominator: bigint): LongDouble {
  if (numerator === 0n) return ZERO;
  let shift = MANTISSA_BITS + 2 - (bitLength(numerator) - bitLength(denominator));
  const scaled = shift >= 0 ? numerator << BigInt(shift) : numerator;
  const divisor = shift >= 0 ? denominator : denominator << BigInt(-shift);
  let q = scaled / divisor;
  const sticky = scaled % divisor !== 0n;
  const extra = bitLength(q) - MANTISSA_BITS;
  if (extra > 0) {
    const unit = 1n << BigInt(extra);
    const rest = q & (unit - 1n);
    const half = unit >> 1n;
    q >>= BigInt(extra);
    shift -= extra;
    if (rest > half || (rest === half && (sticky || (q & 1n) === 1n))) q += 1n;
  }
  return { mantissa: q, exponent: -shift };
}

/** Parses as `strtold` does, decimal or hexadecimal; null when it isn't a finite number that a long double can hold. */
export function parseLongDouble(text: string): LongDouble | null {
  const value = parse(text);
  if (value === null || value.mantissa === 0n) return value;
  const magnitude = bitLength(value.mantissa < 0n ? -value.mantissa : value.mantissa) + value.exponent;
  return magnitude > MAX_EXPONENT || magnitude < MIN_EXPONENT ? null : value;
}

function parseHex(text: string): LongDouble | null {
  const m = HEX.exec(text);
  if (m === null || (m[2] === '' && (m[3] ?? '') === '')) return null;
  const fraction = m[3] ?? '';
  const value = round(BigInt(`0x${m[2]}${fraction}`), 1n);
  if (value.mantissa === 0n) return ZERO;
  return {
    mantissa: m[1] === '-' ? -value.mantissa : value.mantissa,
    exponent: value.exponent + Number(m[4] ?? 0) - 4 * fraction.length,
  };
}

function parse(text: string): LongDouble | null {
  if (text.length > MAX_DIGITS) return null;
  if (/^[+-]?0[xX]/.test(text)) return parseHex(text);
  const m = DECIMAL.exec(text);
  if (m === null || (m[2] === '' && (m[3] ?? '') === '')) return null;
  const fraction = m[3] ?? '';
  const digits = BigInt(m[2] + fraction || '0');
  const exponent = Number(m[4] ?? 0) - fraction.length;
  if (digits === 0n) return ZERO;
  if (Math.abs(exponent) > 6000) return null;
  const value = exponent >= 0 ? round(digits * 10n ** BigInt(exponent), 1n) : round(digits, 10n ** BigInt(-exponent));
  if (m[1] === '-') value.mantissa = -value.mantissa;
  return value;
}

export function addLongDouble(a: LongDouble, b: LongDouble): LongDouble {
  const exponent = Math.min(a.exponent, b.exponent);
  const sum = (a.mantissa << BigInt(a.exponent - exponent)) + (b.mantissa << BigInt(b.exponent - exponent));
  const negative = sum < 0n;
  const rounded = round(negative ? -sum : sum, 1n);
  if (rounded.mantissa === 0n) return ZERO;
  return { mantissa: negative ? -rounded.mantissa : rounded.mantissa, exponent: rounded.exponent + exponent };
}

export function negateLongDouble(a: LongDouble): LongDouble {
  return { mantissa: -a.mantissa, exponent: a.exponent };
}

/** True when the magnitude is beyond a long double: Redis says "NaN or Infinity". */
export function isInfinite(a: LongDouble): boolean {
  return a.mantissa !== 0n && bitLength(a.mantissa < 0n ? -a.mantissa : a.mantissa) + a.exponent > MAX_EXPONENT;
}

/** As `%.17Lf`, without trailing zeros: Redis's "human" form. */
export function formatLongDouble(a: LongDouble): string {
  const negative = a.mantissa < 0n;
  const magnitude = negative ? -a.mantissa : a.mantissa;
  const scale = 10n ** 17n;
  let scaled: bigint;
  if (a.exponent >= 0) scaled = (magnitude << BigInt(a.exponent)) * scale;
  else {
    const product = magnitude * scale;
    const divisor = 1n << BigInt(-a.exponent);
    scaled = product / divisor;
    const rest = (product % divisor) * 2n;
    if (rest > divisor || (rest === divisor && (scaled & 1n) === 1n)) scaled += 1n;
  }
  const digits = scaled.toString().padStart(18, '0');
  const whole = digits.slice(0, -17);
  const fraction = digits.slice(-17).replace(/0+$/, '');
  const text = fraction === '' ? whole : `${whole}.${fraction}`;
  return negative && text !== '0' ? `-${text}` : text;
}
