// The replies of a real Redis, kept in files for machines that have none installed. What is kept is the
// text after the normalisers, so that a recording made today still holds tomorrow.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Reference } from './compare.ts';
import { type Protocol, play } from './play.ts';
import type { Family } from './sequence.ts';
import type { Address } from './servers.ts';

interface Recording {
  redis: string;
  sequences: Record<string, string[]>;
}

const FOLDER = fileURLToPath(new URL('../recorded/', import.meta.url));

function fileOf(family: string, protocol: Protocol): string {
  return `${FOLDER}${family}.${protocol}.json`;
}

export function recordedReference(): Reference {
  const loaded = new Map<string, Recording>();
  return {
    name: 'recorded replies',
    async transcript(family, sequence, protocol) {
      const file = fileOf(family, protocol);
      let recording = loaded.get(file);
      if (!recording) {
        recording = existsSync(file)
          ? (JSON.parse(readFileSync(file, 'utf8')) as Recording)
          : { redis: 'unknown', sequences: {} };
        loaded.set(file, recording);
      }
      const replies = recording.sequences[sequence.name];
      if (replies?.length === sequence.steps.length) return replies;
      return sequence.steps.map(() => '<not recorded: run npm run compat -- --record>');
    },
  };
}

/**
 * Writes a family's recording. It is played twice, and what differs between the two is returned: a step
 * that is not the same on one server both times lacks a normaliser.
 */
export async function record(family: Family, protocol: Protocol, server: Address, version: string): Promise<string[]> {
  const unstable: string[] = [];
  const lines: string[] = [];
  for (const sequence of family.sequences) {
    if (sequence.only !== undefined && sequence.only !== protocol) continue;
    const first = await play(server, sequence, protocol);
    const second = await play(server, sequence, protocol);
    sequence.steps.forEach((step, i) => {
      if (first[i] !== second[i]) unstable.push(`${family.name}: ${sequence.name}: ${step.label}`);
    });
    // One line a sequence: small, and a change to one reply shows as a change to one line.
    lines.push(`${JSON.stringify(sequence.name)}:${asciiJson(first)}`);
  }
  writeFileSync(fileOf(family.name, protocol), `{"redis":"${version}","sequences":{\n${lines.join(',\n')}\n}}\n`);
  return unstable;
}

// Bytes are carried as latin1 characters; escaped, the file is readable whatever encoding a tool assumes.
function asciiJson(value: string[]): string {
  return JSON.stringify(value).replace(/[\x7f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
