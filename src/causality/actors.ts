/**
 * Actors: who wrote. An actor is drawn anew for each incarnation of a node's data (DESIGN section 3) and named
 * by eight random bytes. In memory a small number stands for it; the table only ever grows, by one line for
 * each incarnation that this process has heard of. It is a symbol table and carries no state of a node.
 */
import { hash52 } from '../base/hash.ts';

export const ACTOR_BYTES = 8;

const names: string[] = [''];
/** Two well-mixed words of each name, the same on every node: what context hashes are made of. */
const words: number[] = [0, 0];
const numbers = new Map<string, number>([['', 0]]);

/** The number of the actor with this eight-byte latin1 name. Number 0 means nobody. */
export function actorNumber(name: string): number {
  let n = numbers.get(name);
  if (n === undefined) {
    n = names.length;
    names.push(name);
    const h = hash52(name);
    words.push(h | 0, (h / 1048576) | 0);
    numbers.set(name, n);
  }
  return n;
}

/** 52 bits of one interval of a context. A context's hash is the sum of its intervals': order doesn't matter. */
export function intervalHash(actor: number, from: number, to: number): number {
  let a = words[2 * actor] ^ Math.imul(from | 0, 0x9e3779b1) ^ Math.imul((from / 4294967296) | 0, 0x85ebca77);
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b);
  a ^= Math.imul(to | 0, 0xc2b2ae3d) ^ Math.imul((to / 4294967296) | 0, 0x27d4eb2f);
  a = Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  a ^= a >>> 16;
  let b = words[2 * actor + 1] ^ Math.imul(to | 0, 0x165667b1) ^ Math.imul((from / 4294967296) | 0, 0x9e3779b1);
  b = Math.imul(b ^ (b >>> 15), 0x2c1b3c6d);
  b ^= Math.imul(from | 0, 0x297a2d39) ^ (to / 4294967296);
  b = Math.imul(b ^ (b >>> 12), 0x7feb352d) ^ a;
  b ^= b >>> 15;
  return (b & 0xfffff) * 4294967296 + (a >>> 0);
}

export function actorName(n: number): string {
  return names[n];
}

/** For people: sixteen hex digits. */
export function actorHex(n: number): string {
  return Buffer.from(names[n], 'latin1').toString('hex');
}

/** An order that every node agrees on: by name. */
export function compareActors(a: number, b: number): number {
  if (a === b) return 0;
  return names[a] < names[b] ? -1 : 1;
}
