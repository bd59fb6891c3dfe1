// What ioredis does beyond one command at a time: pipelines, batching, streams, prefixes, coming back
// after its connection was killed.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, test } from 'node:test';
import { IOREDIS } from './clients.ts';
import { onEveryServer, sleep } from './targets.ts';

onEveryServer('ioredis', (target) => {
  for (const [name, Redis] of IOREDIS) {
    const open: InstanceType<typeof Redis>[] = [];
    const connect = (options: object = {}) => {
      const redis = new Redis({ host: target.host, port: target.port, ...options });
      open.push(redis);
      return redis;
    };
    // A client a failed test left behind would keep the process alive.
    afterEach(() => {
      for (const redis of open.splice(0)) redis.disconnect();
    });

    test(`${name}: a pipeline answers in order, errors included`, async () => {
      const redis = connect();
      const pipeline = redis.pipeline();
      for (let i = 0; i < 500; i++) pipeline.set(`key:${i}`, i).incr(`key:${i}`);
      pipeline.set('text', 'abc').incr('text').get('text').get('missing');
      const results = (await pipeline.exec()) ?? [];
      assert.equal(results.length, 1004);
      for (let i = 0; i < 500; i++) {
        assert.deepEqual(results[2 * i], [null, 'OK']);
        assert.deepEqual(results[2 * i + 1], [null, i + 1]);
      }
      assert.match(String(results[1001][0]), /value is not an integer or out of range/);
      assert.deepEqual(results.slice(1002), [
        [null, 'abc'],
        [null, null],
      ]);
      await redis.quit();
    });

    test(`${name}: automatic pipelining`, async () => {
      const redis = connect({ enableAutoPipelining: true });
      await Promise.all(Array.from({ length: 300 }, (_, i) => redis.set(`auto:${i}`, `v${i}`)));
      const values = await Promise.all(Array.from({ length: 300 }, (_, i) => redis.get(`auto:${i}`)));
      values.forEach((value, i) => {
        assert.equal(value, `v${i}`);
      });
      await redis.quit();
    });

    test(`${name}: scanStream sees every key`, async () => {
      const redis = connect();
      await redis.mset(Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`item:${i}`, i])));
      await redis.mset({ 'else:1': 1, 'else:2': 2 });
      const seen = new Set<string>();
      const stream = redis.scanStream({ match: 'item:*', count: 100 });
      for await (const page of stream) for (const key of page as string[]) seen.add(key);
      assert.equal(seen.size, 1000);
      await redis.quit();
    });

    test(`${name}: keyPrefix`, async () => {
      const redis = connect({ keyPrefix: 'app:' });
      const plain = connect();
      await redis.mset('a', 1, 'b', 2);
      assert.deepEqual(await redis.mget('a', 'b', 'c'), ['1', '2', null]);
      assert.deepEqual((await plain.keys('*')).sort(), ['app:a', 'app:b']);
      await redis.rename('a', 'z');
      assert.equal(await plain.get('app:z'), '1');
      assert.equal(await redis.del('b', 'z'), 2);
      await Promise.all([redis.quit(), plain.quit()]);
    });

    test(`${name}: buffers`, async () => {
      const redis = connect();
      const key = Buffer.from([0, 1, 255]);
      const value = Buffer.from([255, 0, 13, 10, 1]);
      await redis.set(key, value);
      assert.deepEqual(await redis.getBuffer(key), value);
      assert.deepEqual(await redis.getrangeBuffer(key, 0, 1), value.subarray(0, 2));
      assert.deepEqual(await redis.mgetBuffer(key, 'missing'), [value, null]);
      assert.deepEqual(await redis.keysBuffer('*'), [key]);
      const dumped = await redis.dumpBuffer(key);
      await redis.restore('copy', 0, dumped);
      assert.deepEqual(await redis.getBuffer('copy'), value);
      await redis.quit();
    });

    test(`${name}: database, name and multiple arguments`, async () => {
      const redis = connect({ db: 5, connectionName: 'worker-1' });
      await redis.set('k', 'v', 'EX', 100, 'NX');
      assert.equal(await redis.client('GETNAME'), 'worker-1');
      const other = connect();
      assert.equal(await other.get('k'), null);
      await other.select(5);
      assert.equal(await other.get('k'), 'v');
      assert.equal(await redis.set('k', 'w', 'GET'), 'v');
      await assert.rejects(redis.call('GET'), /wrong number of arguments for 'get' command/);
      await Promise.all([redis.quit(), other.quit()]);
    });

    test(`${name}: comes back after CLIENT KILL`, async () => {
      const redis = connect({ retryStrategy: () => 20, maxRetriesPerRequest: 5 });
      const killer = connect();
      await redis.set('k', 'v');
      const id = await redis.client('ID');
      const gone = once(redis, 'close');
      assert.equal(await killer.client('KILL', 'ID', String(id)), 1);
      await gone;
      assert.equal(await redis.get('k'), 'v');
      assert.notEqual(await redis.client('ID'), id);
      await Promise.all([redis.quit(), killer.quit()]);
    });

    test(`${name}: commands given while the connection is down are sent later`, async () => {
      const redis = connect({ retryStrategy: () => 20 });
      await redis.ping();
      redis.stream.destroy();
      await sleep(0);
      const values = await Promise.all([redis.set('q', '1'), redis.incr('q'), redis.get('q')]);
      assert.deepEqual(values, ['OK', 2, '2']);
      await redis.quit();
    });
  }
});
