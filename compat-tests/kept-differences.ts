// The differences from Redis that are deliberate, each with its reason. A difference listed here does not
// fail the suite; an entry that no longer matches any difference is reported, so that the list stays true.
// docs/COMMANDS.md has the same list for readers.

import type { Protocol } from './lib/play.ts';

export interface KeptDifference {
  /** The family's name; `random` for the random sequences. */
  family: string;
  /** The sequence's name; left out, every sequence of the family. */
  sequence?: string | RegExp;
  /** The step's label as the report prints it; left out, every step of the sequence. */
  step?: string | RegExp;
  /** Left out, both protocols. */
  protocol?: Protocol;
  /** Why Gramme answers something else on purpose. */
  reason: string;
}

const ENCODING =
  'Gramme has no encodings of its own; OBJECT ENCODING answers what Redis would most likely have, and does not follow every rewrite';
const NEWER = 'Gramme has this from Redis 7.2, since client libraries send it when they connect';
const SATURATE =
  'Redis saturates a far too small number to the largest one (its check overflows); Gramme to the smallest';

export const KEPT_DIFFERENCES: readonly KeptDifference[] = [
  { family: 'strings', step: /^OBJECT ENCODING/, reason: ENCODING },
  { family: 'bits', step: /^OBJECT ENCODING/, reason: ENCODING },
  {
    family: 'strings',
    step: /^PEXPIRETIME/,
    reason: 'deadlines are kept up to 2^53 ms, 285,000 years from 1970; later ones are that',
  },
  { family: 'bits', step: /OVERFLOW SAT SET i\d+ .* -9223372036854775808/, reason: SATURATE },
  {
    family: 'keys',
    sequence: 'DUMP of a compressible string',
    reason: 'Gramme writes strings plain; RESTORE reads compressed ones too',
  },
  { family: 'connection', step: /^CLIENT (SETINFO|NO-TOUCH)/, reason: NEWER },
  { family: 'connection', step: /^CLIENT KILL MAXAGE/, reason: NEWER },
  { family: 'connection', step: /^CLIENT (INFO|LIST)/, reason: NEWER },
  { family: 'server', step: 'COMMAND INFO client', reason: NEWER },
  {
    family: 'server',
    step: 'CONFIG GET appendonly',
    reason: 'Gramme always has its journal; appendonly is yes and stays so',
  },
  {
    family: 'server',
    step: /maxmemory-policy/,
    reason: 'memory is a cache and nothing is evicted from disk, so every policy but noeviction is refused',
  },
  { family: 'server', step: 'CONFIG SET port x', reason: 'listening addresses are fixed while the server runs' },
  {
    family: 'protocol',
    sequence: 'inline: unknown and wrong',
    step: /silence/,
    reason: 'a zero byte in an inline command keeps Redis from seeing the end of the line; Gramme sees it',
  },
];
