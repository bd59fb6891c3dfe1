// docs/COMMANDS.md says what the command table says.

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { page } from '../scripts/commands-doc.ts';

test('docs/COMMANDS.md is up to date (npm run docs rewrites it)', () => {
  const file = path.join(import.meta.dirname, '..', 'docs', 'COMMANDS.md');
  assert.equal(fs.readFileSync(file, 'utf8'), page());
});
