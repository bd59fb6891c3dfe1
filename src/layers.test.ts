/**
 * The layout is the architecture: a folder imports only from folders above it in the list, and only `platform` and
 * the entry points touch the outside world.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

/** From the bottom up; each may import from those before it, and from itself. */
const LAYERS = [
  'base',
  'ports',
  'causality',
  'types',
  'ring',
  'merkle',
  'store',
  'cluster',
  'resp',
  'commands',
  'server',
];
/** These may import from all layers, but not from one another. */
const OUTER = ['platform', 'sim'];
/** `commands` and `server` name each other's types: a command runs within a server, whose table holds commands. */
const PAIRS = new Set(['resp:server', 'commands:server', 'server:commands']);

/** Text that a browser runs. */
const IN_BROWSERS = ['server/ring-script.ts'];

const root = import.meta.dirname;

function sources(directory: string): string[] {
  return fs.readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(directory, entry.name);
    return entry.isDirectory()
      ? sources(file)
      : /\.ts$/.test(entry.name) && !/\.(test|d)\.ts$/.test(entry.name)
        ? [file]
        : [];
  });
}

function imports(file: string): string[] {
  const text = fs.readFileSync(file, 'utf8');
  return [...text.matchAll(/(?:from|import\()\s*'([^']+)'/g)].map((m) => m[1]);
}

test('folders import only from folders above them', () => {
  const wrong: string[] = [];
  for (const file of sources(root)) {
    const folder = path.relative(root, file).split(path.sep)[0];
    for (const target of imports(file)) {
      if (!target.startsWith('.')) continue;
      const other = path.relative(root, path.resolve(path.dirname(file), target)).split(path.sep)[0];
      if (other === folder || folder.endsWith('.ts') || folder === 'tool') continue;
      const from = LAYERS.indexOf(folder);
      const to = LAYERS.indexOf(other);
      const allowed = OUTER.includes(folder)
        ? to >= 0
        : PAIRS.has(`${folder}:${other}`) || (from >= 0 && to >= 0 && to < from);
      if (!allowed) wrong.push(`${path.relative(root, file)} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('only platform touches the outside world', () => {
  const wrong: string[] = [];
  const outside = /\b(Date\.now|Math\.random|setTimeout|setInterval|setImmediate|process\.(?!hrtime))\b/;
  const modules = /^(node:(net|fs|tls|http|os|child_process|dgram|worker_threads|timers)|sqlite3|pino|net-ping)/;
  for (const file of sources(root)) {
    const folder = path.relative(root, file).split(path.sep)[0];
    if (!LAYERS.includes(folder) || IN_BROWSERS.includes(path.relative(root, file))) continue;
    for (const target of imports(file))
      if (modules.test(target)) wrong.push(`${path.relative(root, file)} imports ${target}`);
    fs.readFileSync(file, 'utf8')
      .split('\n')
      .forEach((line, i) => {
        const code = line.replace(/\/\/.*|^\s*\*.*|\/\*.*\*\//, '');
        if (outside.test(code)) wrong.push(`${path.relative(root, file)}:${i + 1}: ${line.trim()}`);
      });
  }
  assert.deepEqual(wrong, []);
});
