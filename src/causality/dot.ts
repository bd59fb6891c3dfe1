/**
 * A dot names one write: (actor, hlc). The latest of two writes is the one with the higher (hlc, actor name),
 * the same on every node.
 */
import { compareActors } from './actors.ts';

export function laterDot(actorA: number, hlcA: number, actorB: number, hlcB: number): boolean {
  return hlcA > hlcB || (hlcA === hlcB && compareActors(actorA, actorB) > 0);
}
