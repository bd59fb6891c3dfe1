/**
 * *Bounded*: what only grows in trouble (hints, queues, journal backlog, tombstones) is back at its floor when the
 * trouble is over.
 */
import { type Verdict, verdict } from './verdict.ts';

/** What one node measures, by name. */
export type Gauges = Readonly<Record<string, number>>;

export function checkBounded(nodes: ReadonlyMap<number, Gauges>, floors: Gauges): Verdict {
  const v = verdict('bounded');
  for (const [node, gauges] of nodes) {
    for (const [name, floor] of Object.entries(floors)) {
      if (gauges[name] === undefined) continue;
      v.judged++;
      if (gauges[name] > floor) v.problems.push(`n${node}: ${name} is ${gauges[name]}, and should be ${floor} at most`);
    }
  }
  return v;
}
