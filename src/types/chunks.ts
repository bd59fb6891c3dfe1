/**
 * Strings written piecemeal: chunks of 4 KiB over the register, the latest of each chunk shown.
 *
 * `SETBIT` on a bitmap of megabytes then writes and replicates one chunk and not the bitmap. Values of one chunk
 * or less are rewritten whole as registers, so that concurrent writes to them stay siblings.
 */
import { CHUNK_BYTES } from '../base/limits.ts';
import { laterDot } from '../causality/dot.ts';
import { CHUNK } from './kinds.ts';
import type { Entry, KeyState } from './state.ts';

export function chunkField(index: number): string {
  return CHUNK + index.toString(36);
}

export function chunkIndex(field: string): number {
  return Number.parseInt(field.slice(1), 36);
}

export function hasChunks(state: KeyState): boolean {
  for (const field of state.fields.keys()) if (field.charAt(0) === CHUNK) return true;
  return false;
}

/** The latest entry of each chunk that has any. */
export function shownChunks(state: KeyState): Map<number, Entry> {
  const shown = new Map<number, Entry>();
  for (const [field, head] of state.fields) {
    if (field.charAt(0) !== CHUNK) continue;
    let best = head;
    for (let e = head.next; e !== null; e = e.next) if (laterDot(e.actor, e.hlc, best.actor, best.hlc)) best = e;
    shown.set(chunkIndex(field), best);
  }
  return shown;
}

/** The bytes that register and chunks make together. */
export function overlayChunks(base: string, chunks: Map<number, Entry>): Buffer {
  let length = base.length;
  for (const [index, e] of chunks) length = Math.max(length, index * CHUNK_BYTES + e.data.length);
  const bytes = Buffer.alloc(length);
  bytes.latin1Write(base, 0);
  for (const [index, e] of chunks) bytes.latin1Write(e.data, index * CHUNK_BYTES);
  return bytes;
}
