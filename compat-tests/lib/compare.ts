// Plays families against the server under test and holds the transcripts against the reference's.

import type { KeptDifference } from '../kept-differences.ts';
import { type Protocol, play } from './play.ts';
import type { Family, Sequence } from './sequence.ts';
import type { Address } from './servers.ts';

/** Where the expected replies come from: a live Redis or the recorded ones. */
export interface Reference {
  name: string;
  transcript(family: string, sequence: Sequence, protocol: Protocol): Promise<string[]>;
}

export interface Difference {
  family: string;
  sequence: string;
  protocol: Protocol;
  /** Counted from 1. */
  step: number;
  label: string;
  expected: string;
  actual: string;
  /** The reason, when the difference is deliberate. */
  kept?: string;
  /** More lines for the report, such as how to reproduce it. */
  note?: string;
}

export interface FamilyResult {
  family: string;
  protocol: Protocol;
  sequences: number;
  steps: number;
  same: number;
  /** Unexpected ones only. */
  different: number;
  kept: number;
  failedSequences: number;
  differences: Difference[];
}

export function liveReference(server: Address): Reference {
  return { name: 'redis-server', transcript: (_family, sequence, protocol) => play(server, sequence, protocol) };
}

/** Remembers which entries of the list were of use. */
export class KeptList {
  private readonly used = new Set<KeptDifference>();

  constructor(private readonly entries: readonly KeptDifference[]) {}

  reasonFor(difference: Difference): string | undefined {
    let reason: string | undefined;
    for (const entry of this.entries) {
      if (entry.family !== difference.family) continue;
      if (entry.protocol !== undefined && entry.protocol !== difference.protocol) continue;
      if (!matches(entry.sequence, difference.sequence) || !matches(entry.step, difference.label)) continue;
      this.used.add(entry);
      reason ??= entry.reason;
    }
    return reason;
  }

  /** The entries of the families played that matched nothing. */
  unused(families: ReadonlySet<string>): KeptDifference[] {
    return this.entries.filter((entry) => families.has(entry.family) && !this.used.has(entry));
  }
}

function matches(pattern: string | RegExp | undefined, text: string): boolean {
  if (pattern === undefined) return true;
  return typeof pattern === 'string' ? pattern === text : pattern.test(text);
}

export function differencesOf(
  where: { family: string; sequence: Sequence; protocol: Protocol },
  expected: readonly string[],
  actual: readonly string[],
): Difference[] {
  const found: Difference[] = [];
  where.sequence.steps.forEach((step, i) => {
    if (expected[i] === actual[i]) return;
    found.push({
      family: where.family,
      sequence: where.sequence.name,
      protocol: where.protocol,
      step: i + 1,
      label: step.label,
      expected: expected[i] ?? '<not recorded>',
      actual: actual[i] ?? '<not played>',
    });
  });
  return found;
}

export function emptyResult(family: string, protocol: Protocol): FamilyResult {
  return {
    family,
    protocol,
    sequences: 0,
    steps: 0,
    same: 0,
    different: 0,
    kept: 0,
    failedSequences: 0,
    differences: [],
  };
}

/** Counts one played sequence into its family's result. */
export function count(result: FamilyResult, steps: number, differences: Difference[], kept: KeptList): void {
  let unexpected = 0;
  for (const difference of differences) {
    difference.kept = kept.reasonFor(difference);
    if (difference.kept === undefined) unexpected++;
  }
  result.sequences++;
  result.steps += steps;
  result.same += steps - differences.length;
  result.different += unexpected;
  result.kept += differences.length - unexpected;
  if (unexpected > 0) result.failedSequences++;
  result.differences.push(...differences);
}

export async function compareFamily(
  family: Family,
  protocol: Protocol,
  server: Address,
  reference: Reference,
  kept: KeptList,
): Promise<FamilyResult> {
  const result = emptyResult(family.name, protocol);
  for (const sequence of family.sequences) {
    if (sequence.only !== undefined && sequence.only !== protocol) continue;
    // Side by side, so that both servers are asked at the same moment and waiting costs its time once.
    const [expected, actual] = await Promise.all([
      reference.transcript(family.name, sequence, protocol),
      play(server, sequence, protocol),
    ]);
    const found = differencesOf({ family: family.name, sequence, protocol }, expected, actual);
    count(result, sequence.steps.length, found, kept);
  }
  return result;
}
