/**
 * Looks into a SQLite write-ahead log before SQLite does.
 *
 * SQLite takes the first frame whose checksum is wrong for the log's end, and is right to after a power cut. But a frame
 * that went bad in the middle looks the same, and what follows it would be gone without a word. Frames of the present
 * generation (their salts say so) behind a bad one are that word. File format: https://www.sqlite.org/walformat.html
 */
import * as fs from 'node:fs';

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const MAGIC_LITTLE = 0x377f0682;
const MAGIC_BIG = 0x377f0683;

/** A bad frame and how many of its generation lie behind it; null when the log ends as it should. */
export function findBadFrame(file: string): { frame: number; behind: number } | null {
  if (!fs.existsSync(file)) return null;
  const log = fs.readFileSync(file);
  if (log.length < HEADER_BYTES + FRAME_HEADER_BYTES) return null;
  const magic = log.readUInt32BE(0);
  if (magic !== MAGIC_LITTLE && magic !== MAGIC_BIG) return { frame: 0, behind: 0 };
  const size = log.readUInt32BE(8) + FRAME_HEADER_BYTES;
  const salts = log.subarray(16, 24);
  const read = magic === MAGIC_BIG ? (at: number) => log.readUInt32BE(at) : (at: number) => log.readUInt32LE(at);
  let a = 0;
  let b = 0;
  const sum = (from: number, to: number) => {
    for (let at = from; at < to; at += 8) {
      a = (a + read(at) + b) >>> 0;
      b = (b + read(at + 4) + a) >>> 0;
    }
  };
  sum(0, 24);
  if (a !== log.readUInt32BE(24) || b !== log.readUInt32BE(28)) return { frame: 0, behind: 0 };
  const frames = Math.floor((log.length - HEADER_BYTES) / size);
  const ours = (frame: number) => {
    const at = HEADER_BYTES + frame * size;
    return salts.equals(log.subarray(at + 8, at + 16));
  };
  for (let frame = 0; frame < frames; frame++) {
    if (!ours(frame)) return null;
    const at = HEADER_BYTES + frame * size;
    sum(at, at + 8);
    sum(at + FRAME_HEADER_BYTES, at + size);
    if (a === log.readUInt32BE(at + 16) && b === log.readUInt32BE(at + 20)) continue;
    let behind = 0;
    for (let next = frame + 1; next < frames && ours(next); next++) behind++;
    return behind > 0 ? { frame, behind } : null;
  }
  return null;
}
