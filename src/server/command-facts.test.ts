/** What a cluster has to know of commands, against the table of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COMMANDS } from '../commands/index.ts';
import { CommandTable } from '../commands/table.ts';
import { Argv } from '../resp/argv.ts';
import { dependsOnState, incrementOf, inParts, isTakenAnywhere, valueFor } from './command-facts.ts';

const table = new CommandTable(COMMANDS);

function rests(...args: string[]): boolean {
  const argv = Argv.from(args);
  return dependsOnState(table.find(argv)!, argv);
}

test('a plain write rests on nothing, whatever its name is written like', () => {
  for (const plain of [
    ['SET', 'k', 'v'],
    ['set', 'k', 'v', 'EX', '10'],
    ['set', 'k', 'v', 'px', '10'],
    ['MSET', 'k', 'v'],
    ['setex', 'k', '10', 'v'],
    ['psetex', 'k', '10', 'v'],
    ['dset', 'k', 'v'],
    ['ddel', 'k'],
    ['touch', 'k'],
  ])
    assert.equal(rests(...plain), false, plain.join(' '));
});

test('all others rest on the state, and so does a SET that asks for it', () => {
  for (const option of ['nx', 'XX', 'GET', 'KeepTTL']) assert.ok(rests('set', 'k', 'v', option), option);
  for (const firm of [
    'incr',
    'append',
    'getset',
    'getdel',
    'del',
    'unlink',
    'setnx',
    'msetnx',
    'rename',
    'expire',
    'setrange',
  ])
    assert.ok(rests(firm, 'k', '1', '2'), firm);
});

test('deletes and plain writes are taken even where nothing of the key can be reached', () => {
  const taken = (...args: string[]) => isTakenAnywhere(table.find(Argv.from(args))!, Argv.from(args));
  for (const name of ['set', 'del', 'unlink', 'dset']) assert.ok(taken(name, 'k', 'v'), name);
  for (const name of ['incr', 'getdel', 'get', 'append']) assert.ok(!taken(name, 'k', 'v'), name);
});

test('the value that a command gives a key', () => {
  const value = (key: string, ...args: string[]) => valueFor(Argv.from(args), key);
  assert.equal(value('k', 'SET', 'k', 'v', 'NX'), 'v');
  assert.equal(value('k', 'psetex', 'k', '10', 'v'), 'v');
  assert.equal(value('b', 'mset', 'a', '1', 'b', '2', 'b', '3'), '3');
  assert.equal(value('k', 'append', 'k', 'v'), null);
});

test('what counting commands add', () => {
  const added = (...args: string[]) => incrementOf(Argv.from(args));
  assert.equal(added('INCR', 'k'), '1');
  assert.equal(added('decr', 'k'), '-1');
  assert.equal(added('incrby', 'k', '-7'), '-7');
  assert.equal(added('incrbyfloat', 'k', '1.5'), '1.5');
  assert.equal(added('decrby', 'k', '7'), '-7');
  assert.equal(added('decrby', 'k', '-7'), '7');
  assert.equal(added('append', 'k', '7'), null);
});

test('commands that run in parts take many keys, and there is nothing that their parts would have to agree on', () => {
  const found: Record<string, string> = {};
  for (const { name } of COMMANDS) {
    const command = table.find(Argv.from([name]));
    const how = command === null ? undefined : inParts(command);
    if (how !== undefined) found[name] = how;
  }
  assert.deepEqual(found, { del: 'sum', exists: 'sum', mget: 'list', mset: 'ok', touch: 'sum', unlink: 'sum' });
  for (const name of Object.keys(found)) {
    const argv = Argv.from([name, 'a', '1', 'b', '2']);
    const positions = table.keyPositions(table.find(argv)!.spec, argv)!;
    assert.deepEqual([...positions], name === 'mset' ? [1, 3] : [1, 2, 3, 4], name);
  }
});
