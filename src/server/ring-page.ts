/**
 * The ring for people (paper 4.8.1): a page in the browser, and its facts as JSON.
 *
 * Both only show. Who joins and who leaves is said on the command line, because this port asks nobody who he is.
 *
 * The page is whole without its script, which asks for it anew every other second and puts the new one in place of the
 * old: so there is one place that makes HTML, and it escapes all that comes from elsewhere. Nothing is loaded from
 * anywhere, and its Content-Security-Policy forbids whatever is not in it.
 */
import { createHash } from 'node:crypto';
import { clusterOf, type RingFacts, type RingNode, ringFacts } from '../commands/ring-facts.ts';
import type { Page } from '../ports/pages.ts';
import type { Plan } from '../ring/plan.ts';
import { RING_SCRIPT } from './ring-script.ts';
import type { Server } from './server.ts';

/** Digits of an id that are shown. */
const SHORT_ID = 8;

/** What a page shows. */
export interface RingView {
  readonly ring: RingFacts;
  /** For each partition the index in `ring.nodes` of its first owner. */
  readonly owners: readonly number[];
  /** Keys that this node keeps hints of, by the owner that they are for. */
  readonly hints: ReadonlyMap<string, number>;
  readonly plan: Plan | null;
}

/** The pages about the ring, for the metrics port. */
export function ringPages(server: Server): Page[] {
  const page: Page = {
    path: '/',
    type: 'text/html; charset=utf-8',
    headers: { 'content-security-policy': POLICY, 'referrer-policy': 'no-referrer' },
    body: () => ringHtml(viewOf(server)),
  };
  const json: Page = {
    path: '/ring.json',
    type: 'application/json; charset=utf-8',
    body: () => `${JSON.stringify(ringJson(viewOf(server)))}\n`,
  };
  return [page, json];
}

function viewOf(server: Server): RingView {
  const ring = ringFacts(server);
  const cluster = clusterOf(server);
  if (cluster === null) {
    // alone it owns them all; while it waits for its cluster, none
    const owners = ring.layout === 0 ? [] : new Array<number>(ring.partitions).fill(0);
    return { ring, owners, hints: new Map(), plan: null };
  }
  const { members, owners } = cluster.ring.layout!;
  const places = new Map(ring.nodes.map((x, i) => [x.id, i]));
  const indices = members.map((m) => places.get(m.id)!);
  return {
    ring,
    owners: owners.map((o) => indices[o]),
    hints: cluster.hints.byOwner(),
    plan: cluster.membership.pendingPlan,
  };
}

const short = (id: string) => id.slice(0, SHORT_ID);
/** In percent, with two digits behind the point. */
const percent = (share: number) => Math.round(share * 10_000) / 100;

/** The facts for programs. Shares are percentages. */
export function ringJson({ ring, owners, hints, plan }: RingView): object {
  return {
    node: short(ring.nodes.find((x) => x.state === 'self')?.id ?? ''),
    layout: ring.layout,
    partitions: ring.partitions,
    n: ring.n,
    moving: ring.moving,
    imbalance: percent(ring.imbalance),
    members: ring.nodes.filter((x) => x.member).length,
    nodes: ring.nodes.map((x) => ({
      id: short(x.id),
      address: x.address,
      host: x.host,
      zone: x.zone,
      weight: x.weight,
      member: x.member,
      leaving: x.leaving,
      state: x.state,
      share: percent(x.share),
      off: percent(x.off),
      partitions: x.partitions,
      replicas: x.replicas,
      hints: hints.get(x.id) ?? 0,
      fetching: x.moving,
    })),
    owners,
    plan:
      plan === null
        ? null
        : {
            from: plan.fromVersion,
            to: plan.toVersion,
            partitionsMoved: plan.moves.length,
            tokensMoved: plan.tokensMoved,
            replicasMoved: plan.replicasMoved,
            imbalanceBefore: percent(plan.imbalanceBefore),
            imbalanceAfter: percent(plan.imbalanceAfter),
            nodes: plan.nodes.map((x) => ({
              id: short(x.id),
              change: x.change,
              replicasBefore: x.replicasBefore,
              replicasAfter: x.replicasAfter,
              fetches: x.gains,
              handsOff: x.loses,
            })),
          },
  };
}

// ---------------------------------------------------------------------- HTML

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Zones, hosts and addresses are what other nodes say of themselves. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c]);
}

/** Hues far from each other, however many nodes there are: each a golden angle further. */
const colour = (i: number) => `hsl(${Math.round((i * 137.508) % 360)} 65% ${i % 2 === 0 ? 45 : 60}%)`;

/** The ring's middle line and width, in the drawing's units. */
const RADIUS = 84;
const WIDTH = 26;

/**
 * The ring as one dashed circle a node. The circle counts as long as there are partitions, and its dashes are the runs
 * of partitions that the node owns: so a ring of many thousand partitions is still a short text.
 */
function drawing({ ring, owners }: RingView): string {
  const circles = ring.nodes.map((_, i) => {
    const dashes = runs(owners, i);
    if (dashes === '') return '';
    return `<circle r="${RADIUS}" pathLength="${owners.length}" stroke="${colour(i)}" stroke-dasharray="${dashes}"/>`;
  });
  const members = ring.nodes.filter((x) => x.member).length;
  return `<svg class="ring" viewBox="-100 -100 200 200" role="img" aria-label="the ring: partitions by first owner">
<g fill="none" stroke-width="${WIDTH}" transform="rotate(-90)"><circle r="${RADIUS}" class="empty"/>
${circles.filter((c) => c !== '').join('\n')}</g>
<text y="-6">${members} ${members === 1 ? 'member' : 'members'}</text><text y="14" class="small">${ring.partitions} partitions</text>
</svg>`;
}

/** Lengths of dashes and gaps in turn, dashes where `node` is the owner; '' when it owns nothing. */
export function runs(owners: readonly number[], node: number): string {
  if (!owners.includes(node)) return '';
  const lengths: number[] = [];
  let owned = true;
  let length = 0;
  for (const owner of owners) {
    if ((owner === node) !== owned) {
      lengths.push(length);
      owned = !owned;
      length = 0;
    }
    length++;
  }
  lengths.push(length);
  // an odd list would be read twice, dashes and gaps exchanged
  if (lengths.length % 2 === 1) lengths.push(0);
  return lengths.join(' ');
}

function stateWords(x: RingNode): string {
  const words = [x.state === 'self' ? 'this node' : x.state];
  if (!x.member) words.push('no member');
  if (x.leaving) words.push('leaving');
  return words.join(', ');
}

const cell = (text: string | number, tag = 'td') => `<${tag}>${escapeHtml(String(text))}</${tag}>`;
const number = (value: string | number) => `<td class="n">${escapeHtml(String(value))}</td>`;
const signed = (value: number) => `${value >= 0 ? '+' : ''}${value.toFixed(1)} %`;

function row(x: RingNode, i: number, hints: number): string {
  const swatch = `<svg class="swatch" viewBox="0 0 1 1"><rect width="1" height="1" fill="${colour(i)}"/></svg>`;
  // a name of our own, and not what another node says
  const kind = x.state === 'self' || x.state === 'alive' ? 'well' : 'ill';
  return [
    `<tr class="${kind}"><td>${x.partitions > 0 ? swatch : ''}${escapeHtml(short(x.id))}</td>`,
    cell(x.address),
    cell(stateWords(x)),
    cell(x.zone === '' ? '-' : x.zone),
    number(x.weight),
    number(`${percent(x.share).toFixed(1)} %`),
    number(signed(percent(x.off))),
    number(x.partitions),
    number(x.replicas),
    number(hints),
    number(x.moving),
    '</tr>',
  ].join('');
}

const COLUMNS = ['node', 'address', 'seen as', 'zone', 'weight', 'share', 'off', 'first owner of', 'replicas'];
const COUNTS = ['hints kept here for it', 'fetching'];

function planned(p: Plan): string {
  const rows = p.nodes
    .filter((x) => x.change !== 'stays' || x.gains > 0 || x.loses > 0)
    .map(
      (x) =>
        `<tr>${cell(short(x.id))}${cell(x.change)}${number(`${x.replicasBefore} → ${x.replicasAfter}`)}${number(x.gains)}${number(x.loses)}</tr>`,
    );
  return `<h2>Planned: layout ${p.fromVersion} → ${p.toVersion}</h2>
<p>${p.moves.length} partitions change hands, ${p.replicasMoved} copies are fetched, imbalance ${percent(p.imbalanceBefore).toFixed(1)} % → ${percent(p.imbalanceAfter).toFixed(1)} %. <code>gramme commit</code> goes over to it.</p>
<table><thead><tr>${['node', 'change', 'replicas', 'fetches', 'hands off'].map((t) => cell(t, 'th')).join('')}</tr></thead>
<tbody>${rows.join('\n')}</tbody></table>`;
}

/** The page. */
export function ringHtml(view: RingView): string {
  const { ring, hints, plan } = view;
  const facts = [
    ring.layout === 0 ? 'waiting to join a cluster' : `layout ${ring.layout}`,
    `${ring.partitions} partitions`,
    `N = ${ring.n}`,
    `imbalance ${percent(ring.imbalance).toFixed(1)} %`,
    ring.moving === 0 ? 'nothing moving' : `${ring.moving} partitions moving`,
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Gramme: the ring</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>The ring</h1>
<p>${facts.map(escapeHtml).join(' · ')}</p>
${drawing(view)}
<table><thead><tr>${[...COLUMNS, ...COUNTS].map((t) => cell(t, 'th')).join('')}</tr></thead>
<tbody>
${ring.nodes.map((x, i) => row(x, i, hints.get(x.id) ?? 0)).join('\n')}
</tbody></table>
${plan === null ? '' : planned(plan)}
<p class="small">As this node sees it. To add or remove nodes: <code>gramme plan</code>, <code>commit</code>, <code>leave</code>. Also here: <a href="/ring.json">ring.json</a>, <a href="/metrics">metrics</a>.</p>
</main>
<p id="stale" hidden>No answer: what is shown is old.</p>
<script>${RING_SCRIPT}</script>
</body>
</html>
`;
}

const STYLE = `
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884}
.n{text-align:right;font-variant-numeric:tabular-nums}
.ill td{color:#d22}
.ring{display:block;width:min(24rem,100%);margin:1rem auto}
.ring .empty{stroke:#8883}
.ring text{text-anchor:middle;font-size:14px;fill:currentColor}
.ring .small{font-size:10px}
.swatch{width:.8em;height:.8em;margin-right:.5em}
.small{opacity:.75}
#stale{position:fixed;top:0;left:0;right:0;margin:0;padding:.3rem;text-align:center;background:#d22;color:#fff}
`;

const hashOf = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** Nothing but the page's own style and script, and its own address to ask again. */
const POLICY = [
  "default-src 'none'",
  `style-src ${hashOf(STYLE)}`,
  `script-src ${hashOf(RING_SCRIPT)}`,
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');
