/**
 * `gramme plan|commit|leave|repair|explain`: what changes the ring, and what looks into it.
 */
import { SingleBar } from 'cli-progress';
import type { ToolConnection } from './connection.ts';
import { type Fields, infoFields, listOf, pairs, print, say, sayJson, sleep, type Target, withNode } from './target.ts';

/** Pause between looks at a transfer, in ms. */
const POLL_MS = 250;

/** An object without the text for people, lists of pairs as objects. */
function planObject(p: Fields): Record<string, unknown> {
  const { text, nodes, ...rest } = p;
  void text;
  return { ...rest, nodes: listOf(nodes) };
}

export async function plan(target: Target & { remove?: string[] }): Promise<void> {
  await withNode(target, async (node) => {
    const remove = target.remove ?? [];
    const reply = await node.call('DYNAMO', 'PLAN', ...(remove.length > 0 ? ['REMOVE', ...remove] : []));
    if (reply === null) {
      if (target.json) sayJson({ change: false });
      else say('nothing to change: everybody who is known has its share');
      return;
    }
    const p = pairs(reply);
    if (target.json) sayJson({ change: true, ...planObject(p) });
    else say(`${p['text']}\n\n'gramme commit' on this node does it`);
  });
}

export interface WaitOptions {
  wait?: boolean;
  timeout?: string;
}

/** Waits until no partition is in transfer, and this node, if it is no member, holds nothing that others do not. */
async function settle(node: ToolConnection, target: Target, options: WaitOptions): Promise<Record<string, unknown>> {
  const started = Date.now();
  const limit = Number(options.timeout ?? 0) * 1000;
  let bar: SingleBar | null = null;
  let most = 0;
  for (;;) {
    const ring = pairs(await node.call('DYNAMO', 'RING'));
    const info = infoFields(String(await node.call('INFO', 'dynamo')));
    const moving = Number(ring['moving']);
    const strays = info['member'] === '0' ? Number(info['partitions_stray'] ?? 0) : 0;
    const open = moving + strays;
    const seconds = (Date.now() - started) / 1000;
    if (open > most) {
      most = open;
      if (bar === null && process.stdout.isTTY && !target.json) {
        bar = new SingleBar({
          format: '{bar} {value} of {total} partitions in place, {seconds} s',
          hideCursor: true,
        });
        bar.start(most, 0, { seconds: 0 });
      } else bar?.setTotal(most);
    }
    bar?.update(most - open, { seconds: Math.round(seconds) });
    if (open === 0 || options.wait === false || (limit > 0 && seconds * 1000 > limit)) {
      bar?.stop();
      if (open > 0 && options.wait !== false)
        throw new Error(`${open} partitions are still in transfer after ${Math.round(seconds)} s; it goes on`);
      return { layout: ring['layout'], moving, strays, seconds };
    }
    await sleep(POLL_MS);
  }
}

/** Commits what is planned; makes a plan first, and shows it, when none was made on this node. */
async function commitOn(node: ToolConnection, target: Target): Promise<number | null> {
  try {
    return Number(await node.call('DYNAMO', 'COMMIT'));
  } catch (error) {
    if (!String(error).includes('nothing is planned')) throw error;
  }
  const reply = await node.call('DYNAMO', 'PLAN');
  if (reply === null) return null;
  if (!target.json) say(`${pairs(reply)['text']}\n`);
  return Number(await node.call('DYNAMO', 'COMMIT'));
}

export async function commit(target: Target & WaitOptions): Promise<void> {
  await withNode(target, async (node) => {
    const version = await commitOn(node, target);
    if (version === null) {
      if (target.json) sayJson({ change: false });
      else say('nothing to change: everybody who is known has its share');
      return;
    }
    if (!target.json) say(`layout ${version} is committed`);
    const end = await settle(node, target, target);
    if (target.json) sayJson({ change: true, ...end });
    else if (target.wait !== false) say('every partition is where it belongs');
  });
}

export async function leave(target: Target & WaitOptions): Promise<void> {
  await withNode(target, async (node) => {
    await node.call('DYNAMO', 'LEAVE');
    const reply = await node.call('DYNAMO', 'PLAN');
    if (reply !== null) await node.call('DYNAMO', 'COMMIT');
    const end = await settle(node, target, target);
    if (target.json) sayJson({ left: true, ...end });
    else if (target.wait === false) say('the node is leaving; stop it when `gramme status` shows nothing in transfer');
    else say('the node holds nothing any more that others do not have: it can be stopped');
  });
}

export async function repair(partition: string | undefined, target: Target): Promise<void> {
  await withNode(target, async (node) => {
    const started = Date.now();
    const differences = await node.call('DYNAMO', 'REPAIR', ...(partition === undefined ? [] : [partition]));
    print(target, { differences, seconds: (Date.now() - started) / 1000 });
  });
}

export async function explain(key: string, target: Target): Promise<void> {
  await withNode(target, async (node) => {
    const { context, hinted, ...rest } = pairs(await node.call('DYNAMO', 'EXPLAIN', key));
    const [holders, hints] = [listOf(context), listOf(hinted)];
    if (target.json) {
      sayJson({ key, ...rest, context: holders, hinted: hints });
      return;
    }
    print(target, { key, ...rest });
    for (const h of holders) {
      const what = h['context'] === null ? 'no answer' : h['context'] === '' ? 'nothing' : h['context'];
      say(`  ${String(h['node']).slice(0, 8)}  ${h['role']}, ${h['state']}: ${what}`);
    }
    for (const h of hints)
      say(`  a hint for ${String(h['owner']).slice(0, 8)} is held by ${String(h['held-by']).slice(0, 8)}`);
  });
}
