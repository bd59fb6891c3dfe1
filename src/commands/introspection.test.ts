import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommandSpec } from './command.ts';
import { COMMANDS } from './index.ts';
import { ACL_CATEGORIES } from './introspection.ts';
import { parseSyntax } from './syntax.ts';
import { CommandTable } from './table.ts';

const table = new CommandTable(COMMANDS);

/** Every command and subcommand. */
function* all(): IterableIterator<CommandSpec> {
  for (const spec of COMMANDS) {
    yield spec;
    yield* spec.subcommands ?? [];
  }
}

test('every notation can be read, and names the keys that there are', () => {
  for (const spec of all()) {
    const name = table.fullName(spec);
    assert.doesNotThrow(() => parseSyntax(spec.syntax, spec.keys?.length ?? 0), name);
    const named = /\bkey/.test(spec.syntax) || /dest|source/.test(spec.syntax);
    if ((spec.keys ?? []).length > 0) assert.ok(named, `${name} has keys, and ${spec.syntax} does not say where`);
  }
});

test('every command says what COMMAND needs', () => {
  const names = new Set<string>();
  for (const spec of all()) {
    const name = table.fullName(spec);
    assert.ok(!names.has(name), `${name} is there twice`);
    names.add(name);
    assert.match(spec.name, /^[a-z0-9_-]+$/);
    assert.ok(spec.summary.endsWith('.') && spec.complexity !== '' && spec.arity !== 0, name);
    assert.match(spec.since, /^\d+\.\d+\.\d+$/, name);
    for (const category of table.categoriesOf(spec)) {
      // what Redis doesn't have may have a category of its own
      if (spec.group !== 'dynamo') assert.ok(ACL_CATEGORIES.includes(category), `${name} is in @${category}`);
    }
    const speed = table.categoriesOf(spec).filter((c) => c === 'fast' || c === 'slow');
    assert.equal(speed.length, 1, name);
  }
});
