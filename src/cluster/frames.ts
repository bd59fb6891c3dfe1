/**
 * The bus's framing: u32 length (little-endian, of what follows), u8 kind, payload.
 *
 * Frames are found in place, in whatever buffer the bytes came in; only what is incomplete at its end is copied, into a
 * tail that grows as bytes really arrive. A length is a promise by the other end and never allocates anything.
 */

import { copyBytes } from '../base/bytes.ts';

/** Longest frame on a link, its kind byte included, in bytes. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;
/** Longest frame from an end that has not yet proven who it is. */
export const MAX_UNPROVEN_FRAME_BYTES = 16 * 1024;
/** What a frame has before its payload. */
export const FRAME_HEADER_BYTES = 5;
/** Kinds below this are the bus's own. */
export const FIRST_MESSAGE_KIND = 16;

/** The first tail of a reader, and the largest that it keeps once its frame is done. */
const TAIL_FIRST_BYTES = 256;
const TAIL_KEPT_BYTES = 64 * 1024;

const LENGTH_BYTES = 4;
const NONE = Buffer.alloc(0);

export interface FrameSink {
  /** One frame. The bytes are valid only until this returns. */
  frame(kind: number, buf: Buffer, start: number, end: number): void;
}

/** Writes one frame at `at`; returns where it ends. The caller has made room. */
export function writeFrame(out: Buffer, at: number, kind: number, buf: Buffer, start: number, end: number): number {
  const n = end - start;
  const length = n + 1;
  out[at] = length;
  out[at + 1] = length >>> 8;
  out[at + 2] = length >>> 16;
  out[at + 3] = length >>> 24;
  out[at + 4] = kind;
  return copyBytes(out, at + FRAME_HEADER_BYTES, buf, start, end);
}

function lengthAt(b: Buffer, p: number): number {
  return (b[p] | (b[p + 1] << 8) | (b[p + 2] << 16) | (b[p + 3] << 24)) >>> 0;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  /** May change from one frame to the next, also while `read` runs. */
  max: number;
  private readonly sink: FrameSink;
  private tail: Buffer = NONE;
  private held = 0;
  private stopped = false;

  constructor(sink: FrameSink, max: number) {
    this.sink = sink;
    this.max = max;
  }

  /** Memory held for an incomplete frame, in bytes. */
  get tailBytes(): number {
    return this.tail.length;
  }

  /** No frame comes after this, not even of the bytes at hand. */
  stop(): void {
    this.stopped = true;
    this.tail = NONE;
    this.held = 0;
  }

  /** Takes bytes; returns false when a length is impossible, after which nothing more can be read. */
  read(buf: Buffer, start: number, end: number): boolean {
    let pos = start;
    if (this.held > 0) {
      pos = this.complete(buf, start, end);
      if (pos < 0) return false;
    }
    while (!this.stopped && end - pos >= LENGTH_BYTES) {
      const length = lengthAt(buf, pos);
      if (length < 1 || length > this.max) return false;
      const next = pos + LENGTH_BYTES + length;
      if (next > end) break;
      this.sink.frame(buf[pos + LENGTH_BYTES], buf, pos + FRAME_HEADER_BYTES, next);
      pos = next;
    }
    if (pos < end && !this.stopped) this.hold(buf, pos, end);
    return true;
  }

  /** Goes on with the frame that the tail began; returns where the rest starts, or -1 for an impossible length. */
  private complete(buf: Buffer, start: number, end: number): number {
    let pos = start;
    if (this.held < LENGTH_BYTES) {
      const stop = Math.min(end, pos + LENGTH_BYTES - this.held);
      this.hold(buf, pos, stop);
      pos = stop;
      if (this.held < LENGTH_BYTES) return pos;
    }
    const length = lengthAt(this.tail, 0);
    if (length < 1 || length > this.max) return -1;
    const total = LENGTH_BYTES + length;
    const stop = Math.min(end, pos + total - this.held);
    this.hold(buf, pos, stop, total);
    if (this.held < total) return stop;
    const frame = this.tail;
    this.held = 0;
    if (frame.length > TAIL_KEPT_BYTES) this.tail = NONE;
    this.sink.frame(frame[LENGTH_BYTES], frame, FRAME_HEADER_BYTES, total);
    return stop;
  }

  /** Adds to the tail, which doubles, but not beyond the frame's own end where that is known. */
  private hold(buf: Buffer, start: number, end: number, total = Number.POSITIVE_INFINITY): void {
    const need = this.held + end - start;
    if (need > this.tail.length) {
      let size = Math.max(TAIL_FIRST_BYTES, this.tail.length * 2);
      while (size < need) size *= 2;
      const grown = Buffer.allocUnsafeSlow(Math.max(need, Math.min(size, total)));
      this.tail.copy(grown, 0, 0, this.held);
      this.tail = grown;
    }
    buf.copy(this.tail, this.held, start, end);
    this.held = need;
  }
}
