// Feature flags polled by many processes: MGET of the known ones, SCAN to learn of new ones.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLIENTS, type Client } from './clients.ts';
import { onEveryServer } from './targets.ts';

class Flags {
  private known: string[] = [];
  private values = new Map<string, boolean>();

  constructor(private readonly client: Client) {}

  async discover(): Promise<void> {
    this.known = await this.client.scan('flag:*');
  }

  async poll(): Promise<void> {
    if (this.known.length === 0) return;
    const values = await this.client.mget(this.known);
    this.values = new Map(this.known.map((key, i) => [key.slice('flag:'.length), values[i] === 'on']));
  }

  isOn(name: string): boolean {
    return this.values.get(name) ?? false;
  }

  get count(): number {
    return this.known.length;
  }
}

onEveryServer('feature flags', (target) => {
  for (const [name, connect] of CLIENTS) {
    test(`over ${name}`, async () => {
      const [admin, reader] = await Promise.all([connect(target), connect(target)]);
      try {
        const flags = new Flags(reader);
        await flags.discover();
        assert.equal(flags.count, 0);

        for (let i = 0; i < 120; i++) await admin.set(`flag:feature-${i}`, i % 3 === 0 ? 'on' : 'off');
        for (let i = 0; i < 60; i++) await admin.set(`other:${i}`, 'on');
        await flags.discover();
        await flags.poll();
        assert.equal(flags.count, 120);
        assert.equal(flags.isOn('feature-3'), true);
        assert.equal(flags.isOn('feature-4'), false);

        // New flags come while a scan runs: what was there from beginning to end must be seen.
        const [found] = await Promise.all([
          reader.scan('flag:*'),
          (async () => {
            for (let i = 0; i < 100; i++) await admin.set(`flag:late-${i}`, 'on');
          })(),
        ]);
        const seen = new Set(found);
        for (let i = 0; i < 120; i++) assert.ok(seen.has(`flag:feature-${i}`), `feature-${i} was missed`);

        await admin.set('flag:feature-4', 'on');
        await admin.del('flag:feature-3');
        await flags.poll();
        assert.equal(flags.isOn('feature-4'), true);
        assert.equal(flags.isOn('feature-3'), false, 'a deleted flag is off');
        await flags.discover();
        assert.equal(flags.count, 219);
      } finally {
        await Promise.all([admin.close(), reader.close()]);
      }
    });
  }
});
