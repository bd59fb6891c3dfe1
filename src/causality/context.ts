/**
 * A context: what has been seen of one key. For each actor a set of half-open intervals (from, to].
 *
 * Intervals, and not just a highest number, because an event says which event of its actor it follows (`from`):
 * a gap stays visible, and nobody can come to believe that something was seen which was not (DESIGN section 3).
 *
 * Stored flat, ordered by actor number and then by `from`; intervals of one actor never touch or overlap.
 */
import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { TruncatedError } from '../base/bytes.ts';
import { addHash } from '../base/hash.ts';
import { ACTOR_BYTES, actorName, actorNumber, compareActors, intervalHash } from './actors.ts';

export class Context {
  actors: number[] = [];
  froms: number[] = [];
  tos: number[] = [];

  static of(actor: number, from: number, to: number): Context {
    const c = new Context();
    c.actors.push(actor);
    c.froms.push(from);
    c.tos.push(to);
    return c;
  }

  get size(): number {
    return this.actors.length;
  }

  clone(): Context {
    const c = new Context();
    c.actors = this.actors.slice();
    c.froms = this.froms.slice();
    c.tos = this.tos.slice();
    return c;
  }

  has(actor: number, hlc: number): boolean {
    const { actors, froms, tos } = this;
    for (let i = 0; i < actors.length; i++) {
      if (actors[i] === actor && froms[i] < hlc && hlc <= tos[i]) return true;
    }
    return false;
  }

  /** The highest number seen of an actor, 0 for none. */
  max(actor: number): number {
    for (let i = this.actors.length - 1; i >= 0; i--) if (this.actors[i] === actor) return this.tos[i];
    return 0;
  }

  /** The highest number seen of anybody. */
  highest(): number {
    let high = 0;
    for (const to of this.tos) if (to > high) high = to;
    return high;
  }

  /** Marks (from, to] as seen. */
  add(actor: number, from: number, to: number): void {
    const { actors, froms, tos } = this;
    let i = 0;
    while (i < actors.length && (actors[i] < actor || (actors[i] === actor && tos[i] < from))) i++;
    // i is the first interval that isn't wholly before the new one
    let j = i;
    while (j < actors.length && actors[j] === actor && froms[j] <= to) {
      if (froms[j] < from) from = froms[j];
      if (tos[j] > to) to = tos[j];
      j++;
    }
    if (j === i + 1) {
      froms[i] = from;
      tos[i] = to;
      return;
    }
    actors.splice(i, j - i, actor);
    froms.splice(i, j - i, from);
    tos.splice(i, j - i, to);
  }

  join(other: Context): void {
    for (let i = 0; i < other.actors.length; i++) this.add(other.actors[i], other.froms[i], other.tos[i]);
  }

  equals(other: Context): boolean {
    const n = this.actors.length;
    if (n !== other.actors.length) return false;
    for (let i = 0; i < n; i++) {
      if (this.actors[i] !== other.actors[i] || this.froms[i] !== other.froms[i] || this.tos[i] !== other.tos[i]) {
        return false;
      }
    }
    return true;
  }

  /** True when everything that `other` has seen has been seen here too. */
  covers(other: Context): boolean {
    for (let i = 0; i < other.actors.length; i++) {
      let covered = false;
      for (let j = 0; j < this.actors.length && !covered; j++) {
        covered = this.actors[j] === other.actors[i] && this.froms[j] <= other.froms[i] && other.tos[i] <= this.tos[j];
      }
      if (!covered) return false;
    }
    return true;
  }

  /** Indices in the order that all nodes share: by actor name, then by `from`. */
  private canonical(): number[] {
    const order = this.actors.map((_, i) => i);
    return order.sort((a, b) => compareActors(this.actors[a], this.actors[b]) || this.froms[a] - this.froms[b]);
  }

  /** Canonical form: count, then per interval the actor's eight bytes, from, and the length to `to`. */
  encode(w: ByteWriter): void {
    const n = this.actors.length;
    w.varint(n);
    for (const i of n > 1 ? this.canonical() : SINGLE.slice(0, n)) {
      w.rawStr(actorName(this.actors[i]));
      w.u53(this.froms[i]);
      w.varint(this.tos[i] - this.froms[i]);
    }
  }

  static decode(r: ByteReader): Context {
    const c = new Context();
    const n = r.varint();
    for (let i = 0; i < n; i++) {
      const actor = actorNumber(r.rawStr(ACTOR_BYTES));
      const from = r.u53();
      const length = r.varint();
      if (length === 0) throw new TruncatedError();
      c.add(actor, from, from + length);
    }
    return c;
  }

  /** Equal contexts have equal hashes (52 bits) on every node; 0 is that of an empty one. */
  hash(): number {
    let sum = 0;
    for (let i = 0; i < this.actors.length; i++)
      sum = addHash(sum, intervalHash(this.actors[i], this.froms[i], this.tos[i]));
    return sum;
  }
}

const SINGLE = [0];
