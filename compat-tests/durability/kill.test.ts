/**
 * kill -9 at random moments under load: what was acknowledged is there after the restart, at once under `always`, and
 * when it is older than 50 ms under `everysec`; and nothing is ever there that was not written.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Ledger } from './ledger.ts';
import { info, Pipeline } from './pipeline.ts';
import { freshDirectory, killLeftovers, removeDirectory, sleep, start } from './server.ts';

after(killLeftovers);

const ROUNDS = 4;
const CONNECTIONS = 4;
/** What `everysec` promises (docs: in the journal within 50 ms of the ack). */
const EVERYSEC_MS = 50;

for (const policy of ['always', 'everysec'] as const) {
  test(`nothing acknowledged under ${policy} is lost to kill -9`, async (t) => {
    const directory = freshDirectory();
    const ledger = new Ledger();
    const bound = policy === 'always' ? 0 : EVERYSEC_MS;
    let replays = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const server = await start(directory, '--appendfsync', policy);
      let running = true;
      const loads = Array.from({ length: CONNECTIONS }, (_, i) => ledger.load(server.port, String(i), () => running));
      // before the first fold (2 s after the first write), during it and after it
      await sleep(200 + Math.random() * (round % 2 === 0 ? 900 : 2200));
      const died = performance.now();
      await server.kill();
      running = false;
      await Promise.all(loads);

      const again = await start(directory, '--appendfsync', policy);
      const client = await Pipeline.connect(again.port);
      if (Number((await info(client, 'dynamo')).get('replayed_events')) > 0) replays++;
      client.close();
      await ledger.check(again.port, died, died - bound);
      // half of the rounds crash again right behind a replay
      if (round % 2 === 0) assert.equal(await again.stop(), 0, again.output.slice(-2000));
      else await again.kill();
    }
    assert.ok(replays > 0, 'some round had something to replay');
    assert.ok(ledger.acknowledged > 1000, `only ${ledger.acknowledged} acknowledged writes`);
    t.diagnostic(`${ledger.acknowledged} keys held; the oldest lost ack was ${ledger.oldestLostMs.toFixed(1)} ms old`);
    if (policy === 'always') assert.equal(ledger.oldestLostMs, 0);
    removeDirectory(directory);
  });
}
