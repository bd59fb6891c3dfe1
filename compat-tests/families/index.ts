// The families there are. A new one is a file beside this one and a line in this list.

import type { Family } from '../lib/sequence.ts';
import { bits } from './bits.ts';
import { connection } from './connection.ts';
import { counters } from './counters.ts';
import { keys } from './keys.ts';
import { protocol } from './protocol.ts';
import { server } from './server.ts';
import { strings } from './strings.ts';

export const FAMILIES: readonly Family[] = [strings, counters, bits, keys, connection, server, protocol];
