// What node-redis does beyond single commands: concurrent commands in one tick, options as objects, both
// protocols, coming back after CLIENT KILL.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { createClient } from 'redis';
import { onEveryServer } from './targets.ts';

onEveryServer('node-redis', (target) => {
  const left: (() => void)[] = [];
  // A client a failed test left behind would keep the process alive.
  afterEach(() => {
    for (const destroy of left.splice(0)) destroy();
  });

  for (const protocol of [2, 3] as const) {
    const connect = async () => {
      const client = createClient({ RESP: protocol, socket: { ...target, reconnectStrategy: 20 } });
      client.on('error', () => {});
      left.push(() => client.isOpen && client.destroy());
      await client.connect();
      return client;
    };

    test(`RESP${protocol}: strings, counters, expiry`, async () => {
      const client = await connect();
      assert.equal(await client.set('k', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK');
      assert.equal(await client.set('k', 'w', { condition: 'NX' }), null);
      assert.equal(await client.set('k', 'w', { condition: 'XX', GET: true, expiration: 'KEEPTTL' }), 'v');
      assert.ok((await client.ttl('k')) > 90);
      assert.equal(await client.getEx('k', { type: 'PERSIST' }), 'w');
      assert.equal(await client.ttl('k'), -1);
      assert.equal(await client.incrBy('n', 41), 41);
      assert.equal(await client.incrByFloat('n', 0.5), '41.5');
      assert.equal(await client.setBit('bits', 7, 1), 0);
      assert.equal(await client.bitCount('bits'), 1);
      assert.equal(await client.exists(['k', 'n', 'missing']), 2);
      assert.equal(await client.type('k'), 'string');
      await assert.rejects(client.incr('k'), /value is not an integer or out of range/);
      await client.close();
    });

    test(`RESP${protocol}: a thousand commands at once`, async () => {
      const client = await connect();
      await Promise.all(Array.from({ length: 1000 }, (_, i) => client.set(`key:${i}`, String(i))));
      const values = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.get(`key:${i}`)));
      values.forEach((value, i) => {
        assert.equal(value, String(i));
      });
      const all = await client.mGet(Array.from({ length: 1000 }, (_, i) => `key:${i}`));
      assert.equal(all.length, 1000);
      assert.equal(await client.dbSize(), 1000);
      await client.close();
    });

    test(`RESP${protocol}: what it asks of a server`, async () => {
      const client = await connect();
      const config = await client.configGet('maxmemory-policy');
      assert.equal(config['maxmemory-policy'], 'noeviction');
      assert.match(await client.info('server'), /redis_version:/);
      assert.ok((await client.time()) !== undefined);
      const own = await client.clientInfo();
      assert.equal(own.db, 0);
      assert.ok((await client.clientList()).some(({ id }) => id === own.id));
      await client.clientSetName('someone');
      assert.equal(await client.clientGetName(), 'someone');
      await client.close();
    });

    test(`RESP${protocol}: comes back after CLIENT KILL`, async () => {
      const client = await connect();
      const killer = await connect();
      await client.set('k', 'v');
      const id = await client.clientId();
      // Not events.once: that would fail on the error event the lost connection brings.
      const ready = new Promise((resolve) => client.once('ready', resolve));
      assert.equal(await killer.clientKill({ filter: 'ID', id }), 1);
      await ready;
      assert.equal(await client.get('k'), 'v');
      assert.notEqual(await client.clientId(), id);
      await Promise.all([client.close(), killer.close()]);
    });
  }
});
