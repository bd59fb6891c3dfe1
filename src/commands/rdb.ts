/**
 * Values in Redis's dump format: what `DUMP` gives, `RESTORE` takes, and dump files are made of.
 *
 * A value is a type byte and its encoding; a payload adds the format's version (two bytes) and a CRC-64 (Jones).
 * Strings are written plain or as integers; compressed ones (LZF) are read too.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { parseInt64 } from './args.ts';

/** Redis 7.0 writes 10; later formats add encodings that are refused when met. */
export const RDB_VERSION = 10;
export const RDB_STRING = 0;

// reversed Jones polynomial 0xad93d23594c935a9, as two 32-bit halves
const CRC_HIGH = new Uint32Array(256);
const CRC_LOW = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  let crc = BigInt(i);
  for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x95ac9329ac4bc9b5n : crc >> 1n;
  CRC_HIGH[i] = Number(crc >> 32n);
  CRC_LOW[i] = Number(crc & 0xffffffffn);
}

/** CRC-64 (Jones) as [high, low]. */
export function crc64(bytes: Uint8Array): [high: number, low: number] {
  let high = 0;
  let low = 0;
  for (let i = 0; i < bytes.length; i++) {
    const k = (low ^ bytes[i]) & 255;
    low = ((low >>> 8) | (high << 24)) ^ CRC_LOW[k];
    high = (high >>> 8) ^ CRC_HIGH[k];
  }
  return [high >>> 0, low >>> 0];
}

function writeLength(w: ByteWriter, n: number): void {
  if (n < 64) w.u8(n);
  else if (n < 16384) {
    w.u8(0x40 | (n >> 8));
    w.u8(n & 255);
  } else {
    w.u8(0x80);
    w.ensure(4);
    w.pos = w.buf.writeUInt32BE(n, w.pos);
  }
}

function writeString(w: ByteWriter, s: string): void {
  const n = s.length <= 11 ? parseInt64(s) : null;
  if (n !== null && n >= -2147483648n && n <= 2147483647n) {
    const v = Number(n);
    w.ensure(5);
    if (v >= -128 && v <= 127) {
      w.u8(0xc0);
      w.u8(v & 255);
    } else if (v >= -32768 && v <= 32767) {
      w.u8(0xc1);
      w.pos = w.buf.writeInt16LE(v, w.pos);
    } else {
      w.u8(0xc2);
      w.pos = w.buf.writeInt32LE(v, w.pos);
    }
    return;
  }
  writeLength(w, s.length);
  w.rawStr(s);
}

/** `DUMP`'s payload of a string. */
export function dumpString(s: string): Buffer {
  const w = new ByteWriter(s.length + 32);
  w.u8(RDB_STRING);
  writeString(w, s);
  w.u8(RDB_VERSION);
  w.u8(0);
  const [high, low] = crc64(w.buf.subarray(0, w.pos));
  w.u32(low);
  w.u32(high);
  return w.take();
}

/** True when a payload's version and checksum are good. */
export function verifyDump(payload: Buffer): boolean {
  if (payload.length < 10) return false;
  const foot = payload.length - 10;
  if (payload.readUInt16LE(foot) > RDB_VERSION) return false;
  const [high, low] = crc64(payload.subarray(0, foot + 2));
  return payload.readUInt32LE(foot + 2) === low && payload.readUInt32LE(foot + 6) === high;
}

/** The value of a verified payload, or null when it is of a type or encoding that isn't known here. */
export function readDump(payload: Buffer): { type: 'string'; value: string } | null {
  const r = new ByteReader(payload, 0, payload.length - 10);
  try {
    if (r.u8() !== RDB_STRING) return null;
    const value = readString(r);
    return value === null || !r.done ? null : { type: 'string', value };
  } catch {
    return null;
  }
}

function readLength(r: ByteReader): { n: number; encoded: boolean } {
  const b = r.u8();
  switch (b >> 6) {
    case 0:
      return { n: b & 63, encoded: false };
    case 1:
      return { n: ((b & 63) << 8) | r.u8(), encoded: false };
    case 2: {
      const size = b === 0x80 ? 4 : 8;
      let n = 0;
      for (let i = 0; i < size; i++) n = n * 256 + r.u8();
      return { n, encoded: false };
    }
    default:
      return { n: b & 63, encoded: true };
  }
}

export function readString(r: ByteReader): string | null {
  const { n, encoded } = readLength(r);
  if (!encoded) return r.rawStr(n);
  if (n === 0) return String((r.u8() << 24) >> 24);
  if (n === 1) return String(((r.u8() | (r.u8() << 8)) << 16) >> 16);
  if (n === 2) return String(r.u32() | 0);
  if (n === 3) {
    const packed = readLength(r).n;
    const length = readLength(r).n;
    return expandLzf(r, packed, length);
  }
  return null;
}

/** LZF: runs of literals, and references back into what has been written. */
function expandLzf(r: ByteReader, packed: number, length: number): string | null {
  if (length > 1024 * 1024 * 1024 || packed > r.end - r.pos) return null;
  const out = Buffer.alloc(length);
  const end = r.pos + packed;
  let at = 0;
  while (r.pos < end) {
    const control = r.u8();
    if (control < 32) {
      const n = control + 1;
      if (at + n > length) return null;
      for (let i = 0; i < n; i++) out[at++] = r.u8();
      continue;
    }
    let n = control >> 5;
    if (n === 7) n += r.u8();
    let from = at - ((control & 31) << 8) - r.u8() - 1;
    n += 2;
    if (from < 0 || at + n > length) return null;
    for (let i = 0; i < n; i++) out[at++] = out[from++];
  }
  return at === length ? out.latin1Slice() : null;
}
