// A fixed-window rate limiter: INCR a counter, give it a TTL when it is new.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLIENTS, type Client } from './clients.ts';
import { onEveryServer, sleep } from './targets.ts';

async function allowed(client: Client, who: string, limit: number, windowMs: number): Promise<boolean> {
  const key = `rate:${who}`;
  const count = await client.incr(key);
  if (count === 1) await client.pexpire(key, windowMs);
  return count <= limit;
}

onEveryServer('rate limiter', (target) => {
  for (const [name, connect] of CLIENTS) {
    test(`over ${name}`, async () => {
      const clients = await Promise.all([connect(target), connect(target)]);
      try {
        const ask = (who: string, windowMs: number) =>
          Promise.all(Array.from({ length: 40 }, (_, i) => allowed(clients[i % 2], who, 10, windowMs)));
        const answers = await ask('ada', 400);
        assert.equal(answers.filter(Boolean).length, 10);
        assert.equal((await ask('grace', 60_000)).filter(Boolean).length, 10, 'counted apart');
        const left = await clients[0].pttl('rate:ada');
        assert.ok(left > 0 && left <= 400, `TTL is ${left}`);
        await sleep(left + 50);
        assert.equal(await allowed(clients[1], 'ada', 10, 400), true, 'a new window');
        assert.equal(await clients[0].get('rate:grace'), '40');
        assert.equal(await allowed(clients[0], 'grace', 10, 400), false);
      } finally {
        await Promise.all(clients.map((client) => client.close()));
      }
    });
  }
});
