// A cache in front of a slow source: JSON values with a TTL, a lock against stampedes, invalidation.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { CLIENTS, type Client } from './clients.ts';
import { onEveryServer, sleep } from './targets.ts';

interface Product {
  id: number;
  name: string;
  tags: string[];
  price: number;
}

/** Reads through; of many who miss at once, one loads and the others wait for what it stores. */
class Cache {
  loads = 0;

  constructor(
    private readonly client: Client,
    private readonly source: (id: number) => Promise<Product>,
  ) {}

  async product(id: number): Promise<Product> {
    const key = `product:${id}`;
    for (let tries = 0; tries < 200; tries++) {
      const cached = await this.client.get(key);
      if (cached !== null) return JSON.parse(cached) as Product;
      const token = randomUUID();
      if (await this.client.set(`lock:${key}`, token, { onlyIfNew: true, milliseconds: 2000 })) {
        try {
          // Somebody may have loaded it between the miss and the lock.
          const meanwhile = await this.client.get(key);
          if (meanwhile !== null) return JSON.parse(meanwhile) as Product;
          this.loads++;
          const loaded = await this.source(id);
          await this.client.set(key, JSON.stringify(loaded), { seconds: 60 });
          return loaded;
        } finally {
          if ((await this.client.get(`lock:${key}`)) === token) await this.client.del(`lock:${key}`);
        }
      }
      await sleep(5);
    }
    throw new Error('the lock was never given back');
  }

  invalidate(...ids: number[]): Promise<number> {
    return this.client.del(...ids.map((id) => `product:${id}`));
  }
}

onEveryServer('cache-aside', (target) => {
  for (const [name, connect] of CLIENTS) {
    test(`over ${name}`, async () => {
      const clients = await Promise.all([connect(target), connect(target), connect(target)]);
      try {
        let price = 10;
        const source = async (id: number): Promise<Product> => {
          await sleep(20);
          return { id, name: `Größe ${id} 😀`, tags: ['a', 'b "c"'], price };
        };
        const caches = clients.map((client) => new Cache(client, source));
        const loads = () => caches.reduce((sum, cache) => sum + cache.loads, 0);

        const all = await Promise.all(Array.from({ length: 30 }, (_, i) => caches[i % 3].product(7)));
        for (const product of all) assert.deepEqual(product, all[0]);
        assert.equal(all[0].name, 'Größe 7 😀');
        assert.equal(loads(), 1, 'one load, however many asked at once');
        const ttl = await clients[0].pttl('product:7');
        assert.ok(ttl > 55_000 && ttl <= 60_000, `TTL is ${ttl}`);
        assert.equal(await clients[1].get('lock:product:7'), null);

        price = 11;
        assert.equal((await caches[1].product(7)).price, 10);
        assert.equal(await caches[2].invalidate(7, 8), 1);
        assert.equal((await caches[0].product(7)).price, 11);
        assert.equal(loads(), 2);

        // A lock whose owner died is given back by its TTL.
        assert.equal(await clients[0].set('lock:product:9', 'dead', { onlyIfNew: true, milliseconds: 40 }), true);
        assert.equal(await clients[1].set('lock:product:9', 'me', { onlyIfNew: true, milliseconds: 40 }), false);
        assert.equal((await caches[2].product(9)).id, 9);
      } finally {
        await Promise.all(clients.map((client) => client.close()));
      }
    });
  }
});
