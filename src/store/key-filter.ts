/**
 * Which keys may have a row though they are not in memory: a Bloom filter that grows by layers.
 *
 * Without it every write of a new key, and every read of an absent one, would have to ask the disk whether the key is
 * really not there. It never says no of a key that was added; it says yes of about one in a hundred others.
 */
import { hash52 } from '../base/hash.ts';

const FIRST_LAYER_KEYS = 64;
/** With four probes, one per cent of false positives. */
const BITS_PER_KEY = 10;
const PROBES = 4;

interface Layer {
  bits: Uint32Array;
  mask: number;
  room: number;
}

export class KeyFilter {
  private layers: Layer[] = [];

  private grow(): Layer {
    const keys = FIRST_LAYER_KEYS << Math.min(20, this.layers.length);
    let size = 1024;
    while (size < keys * BITS_PER_KEY) size *= 2;
    const layer = { bits: new Uint32Array(size / 32), mask: size - 1, room: keys };
    this.layers.push(layer);
    return layer;
  }

  add(key: string): void {
    if (this.has(key)) return;
    let layer = this.layers[this.layers.length - 1];
    if (layer === undefined || layer.room === 0) layer = this.grow();
    layer.room--;
    const h = hash52(key);
    let at = h >>> 0;
    const step = ((h / 4294967296) >>> 0) | 1;
    for (let i = 0; i < PROBES; i++) {
      const bit = at & layer.mask;
      layer.bits[bit >>> 5] |= 1 << (bit & 31);
      at = (at + step) >>> 0;
    }
  }

  has(key: string): boolean {
    if (this.layers.length === 0) return false;
    const h = hash52(key);
    const step = ((h / 4294967296) >>> 0) | 1;
    for (const { bits, mask } of this.layers) {
      let at = h >>> 0;
      let i = 0;
      for (; i < PROBES; i++) {
        const bit = at & mask;
        if ((bits[bit >>> 5] & (1 << (bit & 31))) === 0) break;
        at = (at + step) >>> 0;
      }
      if (i === PROBES) return true;
    }
    return false;
  }

  /** Bytes that it takes. */
  size(): number {
    return this.layers.reduce((n, layer) => n + layer.bits.byteLength, 0);
  }
}
