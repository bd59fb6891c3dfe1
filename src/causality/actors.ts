/**
 * Actors: who wrote. An actor is drawn anew for each incarnation of a node's data (DESIGN section 3) and named
 * by eight random bytes. In memory a small number stands for it; the table only ever grows, by one line for
 * each incarnation that this process has heard of. It is a symbol table and carries no state of a node.
 */
export const ACTOR_BYTES = 8;

const names: string[] = [''];
const numbers = new Map<string, number>([['', 0]]);

/** The number of the actor with this eight-byte latin1 name. Number 0 means nobody. */
export function actorNumber(name: string): number {
  let n = numbers.get(name);
  if (n === undefined) {
    n = names.length;
    names.push(name);
    numbers.set(name, n);
  }
  return n;
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
