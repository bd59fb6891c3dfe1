// Random sequences: drawn from a seed, played against both servers, and on a difference cut down to the
// few steps that are needed to see it.

import { count, type Difference, differencesOf, emptyResult, type FamilyResult, type KeptList } from './compare.ts';
import { type Protocol, play } from './play.ts';
import { printable } from './pretty.ts';
import { Prng } from './prng.ts';
import { drawCommand, normaliserFor } from './random-commands.ts';
import { type Sequence, type Step, scanned, step } from './sequence.ts';
import type { Address } from './servers.ts';

export const RANDOM_FAMILY = 'random';
const STEPS = 80;
// Cutting down is quadratic at worst; past this many tries the rest would be read anyway.
const MOST_TRIES = 150;

export function drawSequence(seed: number): Buffer[][] {
  const random = new Prng(seed);
  return Array.from({ length: STEPS }, () => drawCommand(random));
}

// How a scan's elements fall onto its pages is a server's own affair: only all of them together count.
function asStep(command: Buffer[]): Step {
  const isScan = command[0].toString('latin1') === 'SCAN';
  return isScan ? scanned(['SCAN', '{cursor}', ...command.slice(2)]) : step(command, normaliserFor(command));
}

function asSequence(seed: number, commands: readonly Buffer[][]): Sequence {
  return { name: `seed ${seed}`, steps: commands.map(asStep) };
}

interface Pair {
  server: Address;
  reference: Address;
  protocol: Protocol;
}

async function playBoth(pair: Pair, sequence: Sequence): Promise<Difference[]> {
  const [expected, actual] = await Promise.all([
    play(pair.reference, sequence, pair.protocol),
    play(pair.server, sequence, pair.protocol),
  ]);
  return differencesOf({ family: RANDOM_FAMILY, sequence, protocol: pair.protocol }, expected, actual);
}

/** Drops steps, large runs first, for as long as some difference is left that is not kept on purpose. */
async function shrunk(pair: Pair, seed: number, commands: Buffer[][], kept: KeptList): Promise<Difference | undefined> {
  let smallest = commands;
  let found: Difference | undefined;
  let tries = 0;
  const differs = async (candidate: Buffer[][]): Promise<boolean> => {
    tries++;
    const differences = await playBoth(pair, asSequence(seed, candidate));
    const first = differences.find((difference) => kept.reasonFor(difference) === undefined);
    if (!first) return false;
    found = first;
    // Nothing after the first difference is needed to see it.
    smallest = candidate.slice(0, first.step);
    return true;
  };
  if (!(await differs(commands))) return undefined;
  for (let run = Math.max(1, smallest.length >> 1); run >= 1; run >>= 1) {
    for (let at = 0; at < smallest.length - 1 && tries < MOST_TRIES; ) {
      const candidate = [...smallest.slice(0, at), ...smallest.slice(at + run)];
      if (candidate.length === 0 || !(await differs(candidate))) at += run;
    }
  }
  if (found) found.note = `the steps that are needed:\n${smallest.map((args) => `  ${printable(args)}`).join('\n')}`;
  return found;
}

export async function compareRandom(
  seeds: readonly number[],
  pair: Pair,
  kept: KeptList,
  options: { shrink: boolean },
): Promise<FamilyResult> {
  const result = emptyResult(RANDOM_FAMILY, pair.protocol);
  for (const seed of seeds) {
    const commands = drawSequence(seed);
    const differences = await playBoth(pair, asSequence(seed, commands));
    const unexpected = differences.find((difference) => kept.reasonFor(difference) === undefined);
    count(result, commands.length, differences, kept);
    if (!unexpected) continue;
    // What follows the first difference mostly follows from it, so only the first is told.
    const first = (options.shrink ? await shrunk(pair, seed, commands, kept) : undefined) ?? unexpected;
    const again = `again: npm run compat -- --family random --seed ${seed} --random 1`;
    first.note = first.note === undefined ? again : `${again}\n${first.note}`;
    const at = result.differences.indexOf(unexpected);
    result.differences = [
      ...result.differences.slice(0, at).filter((difference) => difference.kept !== undefined || difference.note),
      first,
      ...result.differences.slice(at + 1).filter((difference) => difference.kept !== undefined),
    ];
  }
  return result;
}
