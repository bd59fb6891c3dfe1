/**
 * Hashes over latin1 strings: FNV-1a (package `fnv-plus`) finished with a mixer.
 *
 * Raw FNV of short, similar keys differs mostly in its low bits and spreads badly over a ring or a range; the
 * mixer (two rounds of multiply and xor-shift on each half) makes every output bit depend on every input bit.
 */
import fnv from 'fnv-plus';

function mix32(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** 52 well-mixed bits. */
export function hash52(s: string): number {
  const raw = fnv.fast1a52(s) as number;
  const lo = raw >>> 0;
  const hi = (raw / 4294967296) >>> 0;
  const a = mix32(lo ^ Math.imul(hi, 0x9e3779b1));
  const b = mix32(hi ^ Math.imul(a, 0x85ebca77) ^ lo);
  return (b & 0xfffff) * 4294967296 + a;
}

/** 52 well-mixed bits of the 32 that a checksum of bytes has: for sums of many, where each must move every bit. */
export function spread52(crc: number): number {
  const a = mix32(crc);
  return (mix32(crc ^ 0x9e3779b1) & 0xfffff) * 4294967296 + a;
}

/** 32 well-mixed bits. */
export function hash32(s: string): number {
  return mix32(fnv.fast1a32(s) as number);
}

/**
 * Combines 52-bit hashes so that order doesn't matter and a term can be taken out again: addition modulo 2^52.
 * This is the running sum that a key keeps over its live entries.
 */
export function addHash(sum: number, term: number): number {
  const s = sum + term;
  return s >= 4503599627370496 ? s - 4503599627370496 : s;
}

export function subtractHash(sum: number, term: number): number {
  const s = sum - term;
  return s < 0 ? s + 4503599627370496 : s;
}
