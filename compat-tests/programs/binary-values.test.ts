// Values that are no text survive every library unharmed.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { CLIENTS } from './clients.ts';
import { onEveryServer } from './targets.ts';

onEveryServer('binary values', (target) => {
  for (const [name, connect] of CLIENTS) {
    test(`over ${name}`, async () => {
      const client = await connect(target);
      try {
        const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
        const zipped = gzipSync('some text, '.repeat(1000));
        const digest = createHash('sha512').update('x').digest();
        const large = Buffer.alloc(300_000, Buffer.from([0, 13, 10, 255, 42, 36]));
        const values = {
          everyByte,
          zipped,
          digest,
          large,
          none: Buffer.alloc(0),
          lines: Buffer.from('\r\n\r\n$-1\r\n'),
        };
        for (const [key, value] of Object.entries(values)) await client.setBytes(key, value);
        for (const [key, value] of Object.entries(values)) {
          const read = await client.getBytes(key);
          assert.ok(read !== null && value.equals(read), `${key} came back changed`);
        }
        assert.equal(gunzipSync((await client.getBytes('zipped'))!).toString(), 'some text, '.repeat(1000));
        assert.equal(await client.getBytes('missing'), null);
      } finally {
        await client.close();
      }
    });
  }
});
