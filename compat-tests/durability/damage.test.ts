/**
 * Damaged files: a server never starts on them as if nothing were missing, names what it set aside and leaves it on
 * disk; a damaged row is an error for its key and for no other.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { info, Pipeline, sendAll, text } from './pipeline.ts';
import { freshDirectory, killLeftovers, refused, type Server, sleep, start } from './server.ts';

after(killLeftovers);

const KEYS = 2000;
const contentOf = (i: number) => `<value of key:${i}>${String.fromCharCode(97 + (i % 26)).repeat(60)}`;

async function write(server: Server): Promise<void> {
  await sendAll(
    server.port,
    Array(KEYS).keys(),
    (i) => ['SET', `key:${i}`, contentOf(i)],
    (_, reply) => assert.equal(reply, 'OK'),
  );
}

/** A directory whose journal file holds everything: a backup that was made before the first fold. */
async function journalOnly(): Promise<string> {
  // on a busy machine the first fold may be faster than the backup: then it is made again
  for (let attempt = 1; ; attempt++) {
    const server = await start(freshDirectory(), '--appendfsync', 'always');
    const copy = join(freshDirectory(), 'copy');
    await write(server);
    const client = await Pipeline.connect(server.port);
    assert.equal(await client.call('DYNAMO', 'BACKUP', copy), '+OK\r\n');
    client.close();
    await server.kill();
    if (readFileSync(join(copy, 'journal.db')).includes(contentOf(7))) return copy;
    assert.ok(attempt < 5, 'the journal holds what was written');
  }
}

/** A directory whose rows hold everything: a clean stop. */
async function rowsOnly(): Promise<string> {
  const directory = freshDirectory();
  const server = await start(directory);
  await write(server);
  assert.equal(await server.stop(), 0, server.output.slice(-2000));
  return directory;
}

function flip(file: string, at: number, bytes = 1): Buffer {
  const content = readFileSync(file);
  for (let i = 0; i < bytes; i++) content[at + i] ^= 0xff;
  writeFileSync(file, content);
  return content;
}

/** The damaged file, whose first page may say since that it has a write-ahead log. */
function isSame(aside: Buffer, damaged: Buffer): void {
  assert.equal(aside.length, damaged.length);
  assert.ok(aside.subarray(4096).equals(damaged.subarray(4096)), 'the file that was set aside is the damaged one');
}

/** Refused, and what was damaged is on disk under the name that the message gives. */
async function isSetAside(directory: string, name: string, damaged: Buffer): Promise<string> {
  const { code, output } = await refused(directory);
  assert.equal(code, 1, output);
  return wasSetAside(output, directory, name, damaged);
}

function wasSetAside(output: string, directory: string, name: string, damaged: Buffer): string {
  const told = new RegExp(`gramme-server: ${name} is damaged .*set aside as (${name}\\.damaged-[\\w.-]+)`).exec(output);
  assert.ok(told, output);
  assert.ok(!existsSync(join(directory, name)));
  isSame(readFileSync(join(directory, told[1])), damaged);
  return told[1];
}

for (const [what, at] of [
  ['in the header', () => 3],
  ['in the root page', () => 4096],
  ['in the middle of a batch', (file: Buffer) => file.indexOf(contentOf(1000)) + 5],
  ['at the end of the last batch', (file: Buffer) => file.indexOf(contentOf(KEYS - 1)) + 40],
] as [string, (file: Buffer) => number][]) {
  test(`journal.db with bytes flipped ${what}`, async () => {
    const directory = await journalOnly();
    const file = join(directory, 'journal.db');
    const place = at(readFileSync(file));
    assert.ok(place > 0);
    const damaged = flip(file, place, 2);
    const aside = await isSetAside(directory, 'journal.db', damaged);
    // an operator who starts it again was told what that means
    const server = await start(directory);
    assert.equal(await server.stop(), 0, server.output.slice(-2000));
    isSame(readFileSync(join(directory, aside)), damaged);
  });
}

test('data.db with a damaged header', async () => {
  const directory = await rowsOnly();
  const damaged = flip(join(directory, 'data.db'), 0, 16);
  await isSetAside(directory, 'data.db', damaged);
});

test('data.db that was cut short', async (t) => {
  const directory = await rowsOnly();
  const file = join(directory, 'data.db');
  const content = readFileSync(file);
  const damaged = content.subarray(0, Math.floor(content.length / 2 / 4096) * 4096);
  writeFileSync(file, damaged);
  const server = await start(directory).catch((error) => String(error));
  if (typeof server === 'string') {
    t.diagnostic('the server refuses to start');
    wasSetAside(server, directory, 'data.db', damaged);
    return;
  }
  // the lost half is met later: every key then has its value or an error
  t.diagnostic('the server starts');
  let errors = 0;
  await sendAll(
    server.port,
    Array(KEYS).keys(),
    (i) => ['GET', `key:${i}`],
    (i, value) => {
      if (value?.startsWith('-')) errors++;
      else assert.equal(value, contentOf(i), `key:${i}`);
    },
  );
  assert.ok(errors > 0, 'half of the file is gone and no key says so');
  assert.match(server.output, /damaged|malformed|SQLITE_CORRUPT/);
  await server.kill();
});

test('data.db with damaged rows: errors for their keys, the truth for the others', async () => {
  const directory = await rowsOnly();
  const file = join(directory, 'data.db');
  const content = readFileSync(file);
  const damaged = [3, 77, 500, 1999];
  for (const i of damaged) {
    const place = content.indexOf(contentOf(i));
    assert.ok(place > 0);
    // one bit, somewhere in the value
    content[place + 12 + (i % 40)] ^= 1 << (i % 8);
  }
  writeFileSync(file, content);

  const server = await start(directory);
  for (const round of ['while warming up', 'later']) {
    await sendAll(
      server.port,
      Array(KEYS).keys(),
      (i) => ['GET', `key:${i}`],
      (i, value) => {
        if (damaged.includes(i)) assert.match(String(value), /^-\w+ /, `damaged key:${i} ${round}: ${value}`);
        else assert.equal(value, contentOf(i), `key:${i} ${round}`);
      },
    );
    await sleep(300);
  }
  const client = await Pipeline.connect(server.port);
  // what depends on the lost value is refused; what doesn't may heal the key
  assert.match(await client.call('APPEND', 'key:3', 'x'), /^-\w+ /);
  assert.match(await client.call('DBSIZE'), /^:\d+/);
  assert.ok(Number((await info(client, 'dynamo')).get('keys_damaged')) > 0);
  client.close();
  for (const i of damaged) assert.ok(server.output.includes(`"key:${i}"`), `the log names key:${i}`);
  assert.equal(await server.stop(), 0, server.output.slice(-2000));

  // a restart neither heals nor forgets
  const again = await start(directory);
  const reader = await Pipeline.connect(again.port);
  for (const i of damaged) assert.match(await reader.call('GET', `key:${i}`), /^-\w+ /);
  assert.equal(text(await reader.call('GET', 'key:4')), contentOf(4));
  reader.close();
  assert.equal(await again.stop(), 0, again.output.slice(-2000));
});

test('a write-ahead log with damage in its middle is not taken for a shorter one', async () => {
  const directory = freshDirectory();
  const server = await start(directory, '--appendfsync', 'always');
  await write(server);
  await server.kill();
  const file = join(directory, 'journal.db-wal');
  const content = readFileSync(file);
  const place = content.indexOf(contentOf(500));
  assert.ok(place > 0);
  flip(file, place + 5);
  const lost = await lostKeys(directory);
  assert.ok(lost === 'refused' || lost === 'told', `${lost} acknowledged keys are gone, and nobody said so`);
});

/** How a start on damaged files went: refused in words, serving with a word in the log, or silently without keys. */
async function lostKeys(directory: string): Promise<number | 'refused' | 'told'> {
  const server = await start(directory).catch(() => null);
  if (server === null) {
    assert.ok(readdirSync(directory).some((name) => name.includes('.damaged-')));
    return 'refused';
  }
  let lost = 0;
  await sendAll(
    server.port,
    Array(KEYS).keys(),
    (i) => ['GET', `key:${i}`],
    (i, value) => {
      if (value !== contentOf(i)) lost++;
    },
  );
  await server.kill();
  return /damaged|checksum/.test(server.output) || lost === 0 ? 'told' : lost;
}

test('a missing lock, log or shared memory file is no damage', async () => {
  const directory = await rowsOnly();
  for (const name of readdirSync(directory)) {
    if (/-(wal|shm)$|lock$/.test(name)) rmSync(join(directory, name));
  }
  const server = await start(directory);
  const client = await Pipeline.connect(server.port);
  assert.equal(await client.call('DBSIZE'), `:${KEYS}\r\n`);
  client.close();
  assert.equal(await server.stop(), 0, server.output.slice(-2000));
});
