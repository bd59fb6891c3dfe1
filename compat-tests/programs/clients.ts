// The client libraries people use, behind the few calls the sample programs make, each in the library's
// own idiom. ioredis 6 and node-redis greet in RESP3, ioredis 5 in RESP2.

import { Redis as Redis6 } from 'ioredis';
import { Redis as Redis5 } from 'ioredis5';
import { createClient, RESP_TYPES } from 'redis';
import type { Target } from './targets.ts';

export interface SetOptions {
  seconds?: number;
  milliseconds?: number;
  onlyIfNew?: boolean;
}

export interface Client {
  get(key: string): Promise<string | null>;
  set(key: string, value: string, options?: SetOptions): Promise<boolean>;
  del(...keys: string[]): Promise<number>;
  incr(key: string): Promise<number>;
  pexpire(key: string, milliseconds: number): Promise<boolean>;
  pttl(key: string): Promise<number>;
  mget(keys: string[]): Promise<(string | null)[]>;
  scan(pattern: string): Promise<string[]>;
  setBytes(key: string, value: Buffer): Promise<void>;
  getBytes(key: string): Promise<Buffer | null>;
  close(): Promise<void>;
}

// A client that tried for ever would keep a failed test's process alive.
const RECONNECTS = 20;

// The two majors differ in types alone where these programs are concerned.
type AnyIoredis = typeof Redis6;
export const IOREDIS: readonly [string, AnyIoredis][] = [
  ['ioredis 6', Redis6],
  ['ioredis 5', Redis5 as unknown as AnyIoredis],
];

function overIoredis(Redis: AnyIoredis): (target: Target) => Promise<Client> {
  return async (target) => {
    const redis = new Redis({ ...target, retryStrategy: (times) => (times > RECONNECTS ? null : 50) });
    return {
      get: (key) => redis.get(key),
      async set(key, value, options = {}) {
        const words: (string | number)[] = [];
        if (options.seconds !== undefined) words.push('EX', options.seconds);
        if (options.milliseconds !== undefined) words.push('PX', options.milliseconds);
        if (options.onlyIfNew) words.push('NX');
        return (await redis.call('SET', key, value, ...words)) === 'OK';
      },
      del: (...keys) => redis.del(...keys),
      incr: (key) => redis.incr(key),
      pexpire: async (key, milliseconds) => (await redis.pexpire(key, milliseconds)) === 1,
      pttl: (key) => redis.pttl(key),
      mget: (keys) => redis.mget(...keys),
      async scan(pattern) {
        const found = new Set<string>();
        let cursor = '0';
        do {
          const [next, page] = await redis.scan(cursor, 'MATCH', pattern, 'COUNT', 50);
          for (const key of page) found.add(key);
          cursor = next;
        } while (cursor !== '0');
        return [...found].sort();
      },
      async setBytes(key, value) {
        await redis.set(key, value);
      },
      getBytes: (key) => redis.getBuffer(key),
      async close() {
        await redis.quit().catch(() => redis.disconnect());
      },
    };
  };
}

async function overNodeRedis(target: Target): Promise<Client> {
  const reconnectStrategy = (retries: number) => (retries > RECONNECTS ? new Error('gave up') : 50);
  const redis = createClient({ socket: { ...target, reconnectStrategy } });
  // Without a listener a lost connection would end the process; the calls themselves fail then.
  redis.on('error', () => {});
  await redis.connect();
  const bytes = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  return {
    get: (key) => redis.get(key),
    async set(key, value, options = {}) {
      const reply = await redis.set(key, value, {
        ...(options.seconds !== undefined && { expiration: { type: 'EX' as const, value: options.seconds } }),
        ...(options.milliseconds !== undefined && { expiration: { type: 'PX' as const, value: options.milliseconds } }),
        ...(options.onlyIfNew && { condition: 'NX' as const }),
      });
      return reply === 'OK';
    },
    del: (...keys) => redis.del(keys),
    incr: (key) => redis.incr(key),
    pexpire: async (key, milliseconds) => (await redis.pExpire(key, milliseconds)) === 1,
    pttl: (key) => redis.pTTL(key),
    mget: (keys) => redis.mGet(keys),
    async scan(pattern) {
      const found = new Set<string>();
      for await (const page of redis.scanIterator({ MATCH: pattern, COUNT: 50 }))
        for (const key of page) found.add(key);
      return [...found].sort();
    },
    async setBytes(key, value) {
      await redis.set(key, value);
    },
    getBytes: async (key) => (await bytes.get(key)) as unknown as Buffer | null,
    async close() {
      await redis.close();
    },
  };
}

export const CLIENTS: readonly [string, (target: Target) => Promise<Client>][] = [
  ...IOREDIS.map(([name, Redis]): [string, (target: Target) => Promise<Client>] => [name, overIoredis(Redis)]),
  ['node-redis', overNodeRedis],
];
