/**
 * Runs every test: unit and property tests beside the code, then the black-box ones.
 *   npm test                   all
 *   npm test -- src/store      those whose path contains a word
 * Ends with node:test's own summary; exit code 1 when anything failed.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

function testsBelow(directory: string): string[] {
  return fs.readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(directory, entry.name);
    if (entry.isDirectory()) return testsBelow(file);
    return entry.name.endsWith('.test.ts') ? [file] : [];
  });
}

const words = process.argv.slice(2);
const files = ['src', 'compat-tests']
  .flatMap(testsBelow)
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)));

if (files.length === 0) {
  console.error('no test file matches');
  process.exit(1);
}
// servers under test run what was built
const build = spawnSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' });
if (build.status !== 0) process.exit(1);
const run = spawnSync(process.execPath, ['--import', 'tsx', '--test', '--test-concurrency=1', ...files], {
  stdio: 'inherit',
});
process.exit(run.status ?? 1);
