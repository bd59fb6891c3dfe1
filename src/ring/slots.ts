/**
 * Slots: `CRC16(hash tag) mod 16384`, exactly Redis Cluster's (cluster specification, "Hash tags").
 *
 * Computed in place over the parse buffer on the hot path; the tests hold it against `cluster-key-slot`.
 */
export const SLOTS = 16384;

/**
 * Slots that lie together share what every command has to look at, so that it stays in the processor's cache: 8 KB of
 * numbers and not 128. What is rarely asked for more closely is kept beside it, by slot.
 */
const STRETCH_BITS = 4;
export const STRETCHES = SLOTS >> STRETCH_BITS;

export function stretchOf(slot: number): number {
  return slot >> STRETCH_BITS;
}

const TABLE = new Uint16Array(256);
for (let i = 0; i < 256; i++) {
  let crc = i << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  TABLE[i] = crc;
}

const OPEN = 0x7b;
const CLOSE = 0x7d;

/** Slot of the key at buf[start, end). */
export function slotOfBytes(buf: Uint8Array, start: number, end: number): number {
  let from = start;
  let to = end;
  for (let i = start; i < end; i++) {
    if (buf[i] !== OPEN) continue;
    let close = i + 1;
    while (close < end && buf[close] !== CLOSE) close++;
    if (close < end && close > i + 1) {
      from = i + 1;
      to = close;
    }
    break;
  }
  let crc = 0;
  for (let i = from; i < to; i++) crc = ((crc << 8) & 0xffff) ^ TABLE[(crc >>> 8) ^ buf[i]];
  return crc & (SLOTS - 1);
}

/** Slot of a latin1 key. */
export function slotOf(key: string): number {
  let from = 0;
  let to = key.length;
  const open = key.indexOf('{');
  if (open >= 0) {
    const close = key.indexOf('}', open + 1);
    if (close > open + 1) {
      from = open + 1;
      to = close;
    }
  }
  let crc = 0;
  for (let i = from; i < to; i++) crc = ((crc << 8) & 0xffff) ^ TABLE[(crc >>> 8) ^ (key.charCodeAt(i) & 255)];
  return crc & (SLOTS - 1);
}
