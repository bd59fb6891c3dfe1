/** The page in the browser, from facts made by hand: what it says, and that what other nodes say stays text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import type { RingNode } from '../commands/ring-facts.ts';
import { escapeHtml, type RingView, ringHtml, ringJson, runs } from './ring-page.ts';
import { RING_SCRIPT } from './ring-script.ts';

function node(i: number, about: Partial<RingNode> = {}): RingNode {
  return {
    id: String(i).repeat(40),
    address: `10.0.0.${i}:6379`,
    bus: `10.0.0.${i}:16379`,
    host: `h${i}`,
    zone: '',
    weight: 1,
    partitions: 2,
    replicas: 4,
    share: 0.5,
    off: 0,
    state: i === 1 ? 'self' : 'alive',
    member: true,
    leaving: false,
    moving: 0,
    layout: 3,
    ...about,
  };
}

function view(nodes: RingNode[], more: Partial<RingView> = {}): RingView {
  const ring = { partitions: 4, layout: 3, n: 2, moving: 0, imbalance: 0.0312, size: 2, nodes };
  return { ring, owners: [0, 1, 0, 1], hints: new Map(), plan: null, ...more };
}

/** Lays the dashes out again: which partitions are drawn. */
function drawn(dashes: string): boolean[] {
  return dashes.split(' ').flatMap((n, i) => new Array<boolean>(Number(n)).fill(i % 2 === 0));
}

test('the dashes of a node are its partitions', () => {
  for (const owners of [[0], [0, 1], [1, 0], [0, 0, 1, 1, 0], [1, 1, 0, 1, 0, 0, 0, 1], [0, 1, 2, 0, 1, 2]])
    for (const who of new Set(owners)) {
      const dashes = runs(owners, who);
      assert.equal(dashes.split(' ').length % 2, 0, 'an odd list would be read twice');
      assert.deepEqual(
        drawn(dashes),
        owners.map((o) => o === who),
      );
    }
  assert.equal(runs([0, 0], 1), '', 'who owns nothing is not drawn');
});

test('what another node says of itself is text and nothing else', () => {
  const evil = `</td><script src=//x>'"&`;
  const html = ringHtml(
    view([
      node(1),
      node(2, { id: evil, address: evil, zone: evil, host: evil, state: evil }),
      node(3, { member: false, partitions: 0, state: 'down' }),
    ]),
  );
  assert.equal(html.match(/<script/g)?.length, 1, 'its own');
  assert.ok(!html.includes(evil));
  assert.ok(html.includes(escapeHtml(evil)));
  assert.equal(escapeHtml(evil), '&lt;/td&gt;&lt;script src=//x&gt;&#39;&quot;&amp;');
  assert.equal(html.match(/pathLength="4"/g)?.length, 2, 'two who own partitions');
  assert.ok(!/(src|href)="(https?:)?\/\//.test(html), 'nothing comes from elsewhere');
});

test('a page tells how this node sees the others, and what they wait for', () => {
  const nodes = [node(1), node(2, { state: 'suspect', leaving: true, moving: 7, zone: 'b' })];
  const html = ringHtml(view(nodes, { hints: new Map([[nodes[1].id, 5]]) }));
  assert.match(html, /imbalance 3\.1 %/);
  assert.match(html, /nothing moving/);
  assert.match(html, /<tr class="ill">.*22222222.*suspect, leaving.*>b<.*>5<.*>7</);
  assert.ok(!html.includes('Planned'));
});

test('a plan that waits for its commit is shown', () => {
  const change = { tokensBefore: 4, tokensAfter: 2, replicasBefore: 4, replicasAfter: 3, gains: 0, loses: 1 };
  const plan = {
    fromVersion: 3,
    toVersion: 4,
    partitions: 4,
    n: 2,
    moves: [
      { partition: 1, gains: ['2'.repeat(40)], loses: ['1'.repeat(40)], from: '1'.repeat(40), to: '2'.repeat(40) },
    ],
    nodes: [
      { id: '1'.repeat(40), change: 'stays' as const, ...change },
      { id: '2'.repeat(40), change: 'joins' as const, ...change, gains: 1, loses: 0 },
    ],
    tokensMoved: 1,
    replicasMoved: 1,
    imbalanceBefore: 0.5,
    imbalanceAfter: 0,
  };
  const v = view([node(1), node(2, { member: false })], { plan });
  assert.match(ringHtml(v), /Planned: layout 3 → 4[\s\S]*22222222.*joins/);
  const json = JSON.parse(JSON.stringify(ringJson(v)));
  assert.equal(json.plan.to, 4);
  assert.equal(json.plan.imbalanceBefore, 50);
  assert.deepEqual(json.plan.nodes[1], {
    id: '22222222',
    change: 'joins',
    replicasBefore: 4,
    replicasAfter: 3,
    fetches: 1,
    handsOff: 0,
  });
});

test('a node that waits for its cluster has an empty ring', () => {
  const v = view([node(1, { member: false, partitions: 0, replicas: 0, share: 0 })], { owners: [] });
  const html = ringHtml({ ...v, ring: { ...v.ring, layout: 0 } });
  assert.match(html, /waiting to join a cluster/);
  assert.ok(!html.includes('pathLength'));
});

test('the script puts the page as it is now in place of the old, and says so when it can not', async () => {
  const stale = { hidden: true };
  const shown: string[] = [];
  let refresh: () => Promise<void> = async () => {};
  const document = {
    hidden: false,
    getElementById: (id: string) => (id === 'stale' ? stale : null),
    querySelector: () => ({ replaceWith: (main: string) => shown.push(main) }),
  };
  let answer: () => { ok: boolean; status: number; text: () => Promise<string> };
  runInNewContext(RING_SCRIPT, {
    document,
    setInterval: (run: () => Promise<void>) => {
      refresh = run;
    },
    AbortSignal: { timeout: () => undefined },
    fetch: async (path: string) => {
      assert.equal(path, '/');
      return answer();
    },
    DOMParser: class {
      parseFromString(text: string) {
        return { querySelector: (what: string) => `${what} of ${text}` };
      }
    },
  });
  answer = () => ({ ok: true, status: 200, text: async () => 'page 1' });
  await refresh();
  assert.deepEqual([shown, stale.hidden], [['main of page 1'], true]);
  answer = () => {
    throw new Error('no connection');
  };
  await refresh();
  assert.equal(stale.hidden, false);
  answer = () => ({ ok: false, status: 500, text: async () => 'error' });
  await refresh();
  assert.deepEqual([shown.length, stale.hidden], [1, false]);
  answer = () => ({ ok: true, status: 200, text: async () => 'page 2' });
  document.hidden = true;
  await refresh();
  assert.equal(shown.length, 1, 'nobody looks');
  document.hidden = false;
  await refresh();
  assert.deepEqual([shown[1], stale.hidden], ['main of page 2', true]);
});
