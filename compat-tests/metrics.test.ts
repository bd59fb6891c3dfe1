/** The page that a Prometheus scrapes. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Redis } from 'ioredis';
import { freshDirectory, killLeftovers, start } from './durability/server.ts';
import { freePort } from './lib/servers.ts';

after(killLeftovers);

/** Value of a sample without labels. */
function sample(page: string, name: string): number {
  const line = page.split('\n').find((l) => l.startsWith(`${name} `));
  assert.ok(line !== undefined, `${name} is not on the page`);
  return Number(line.slice(name.length + 1));
}

test('/metrics counts what clients do, and nothing else is served there', async () => {
  const port = await freePort();
  const server = await start(freshDirectory(), '--metrics-port', String(port));
  const redis = new Redis(server.port, '127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  try {
    const before = await (await fetch(`${url}/metrics`)).text();
    for (let i = 0; i < 10; i++) await redis.set(`k${i}`, 'v');
    const response = await fetch(`${url}/metrics`);
    const page = await response.text();
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain/);
    assert.equal(sample(page, 'gramme_keys'), 10);
    assert.equal(sample(page, 'gramme_writes_total') - sample(before, 'gramme_writes_total'), 10);
    assert.equal(sample(page, 'gramme_connected_clients'), 1);
    assert.ok(sample(page, 'process_resident_memory_bytes') > 0);
    assert.equal((await fetch(url)).status, 404);
    assert.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405);
  } finally {
    redis.disconnect();
  }
  assert.equal(await server.stop(), 0, 'it stops though the page was open');
});
