// Every family and some random sequences against a freshly started server, as one subtest per family and
// protocol, so that an ordinary test run notices when a reply stops being Redis's.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FAMILIES } from './families/index.ts';
import { KEPT_DIFFERENCES } from './kept-differences.ts';
import { compareFamily, type FamilyResult, KeptList, liveReference, type Reference } from './lib/compare.ts';
import { PROTOCOLS } from './lib/play.ts';
import { compareRandom, RANDOM_FAMILY } from './lib/random.ts';
import { recordedReference } from './lib/recorded.ts';
import { describeAll } from './lib/report.ts';
import { hasRedisServer, type RunningServer, startGramme, startRedis } from './lib/servers.ts';

const RANDOM_SEQUENCES = 40;
// `npm run compat` tells everything; a test that fails tells enough to begin with.
const LONGEST_MESSAGE = 20_000;

describe('replies are those of Redis', () => {
  const kept = new KeptList(KEPT_DIFFERENCES);
  let server: RunningServer;
  let redis: RunningServer | undefined;
  let reference: Reference;

  before(async () => {
    server = await startGramme();
    redis = hasRedisServer() ? await startRedis() : undefined;
    reference = redis ? liveReference(redis) : recordedReference();
  });

  after(async () => {
    await server?.stop();
    await redis?.stop();
  });

  function check(result: FamilyResult): void {
    assert.ok(result.sequences > 0, 'nothing was played');
    const told = describeAll([result]).slice(0, LONGEST_MESSAGE);
    assert.equal(result.different, 0, `${result.different} steps differ\n\n${told}`);
  }

  for (const family of FAMILIES) {
    for (const protocol of PROTOCOLS) {
      test(`${family.name} in RESP${protocol}`, async () => {
        check(await compareFamily(family, protocol, server, reference, kept));
      });
    }
  }

  for (const protocol of PROTOCOLS) {
    test(`${RANDOM_FAMILY} sequences in RESP${protocol}`, {
      skip: !hasRedisServer() && 'no redis-server',
    }, async () => {
      const seeds = Array.from({ length: RANDOM_SEQUENCES }, (_, i) => 1000 * protocol + i);
      check(await compareRandom(seeds, { server, reference: redis!, protocol }, kept, { shrink: true }));
    });
  }
});
