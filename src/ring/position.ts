/**
 * A key's place on the ring: slot in the high 14 bits, 39 bits of hash below. Rows are stored in this order, so
 * a partition is one range of places and a `SCAN` cursor is a place.
 */
import { hash52 } from '../base/hash.ts';
import { SLOTS } from './slots.ts';

const HASH_SPAN = 2 ** 39;

/** Places run from 0 to this, exclusive: 2^53. */
export const POSITIONS = SLOTS * HASH_SPAN;

export function positionOf(slot: number, key: string): number {
  return slot * HASH_SPAN + (hash52(key) % HASH_SPAN);
}

export function firstPositionOfSlot(slot: number): number {
  return slot * HASH_SPAN;
}

export function slotOfPosition(pos: number): number {
  return Math.floor(pos / HASH_SPAN);
}
