/**
 * One command in parts: a plain command over many keys whose coordinators are several nodes. Each of them runs one part,
 * this node perhaps among them, and the replies are put together.
 *
 * A part is a command like any and may fail alone: then the client gets that part's error though the others have been
 * done. The keys are not looked at in one moment; a command that needs that runs in one place (`Router`).
 */
import type { Peer } from '../cluster/peers.ts';
import type { Route } from '../cluster/routes.ts';
import type { Command } from '../commands/table.ts';
import { Argv } from '../resp/argv.ts';
import type { Client } from './client.ts';
import type { Joined } from './command-facts.ts';
import type { Forwarding } from './forwarding.ts';
import type { Output } from './output.ts';

/**
 * Runs a command in parts, one for each coordinator; its reply is a hole until the last of them has answered.
 * @param positions which arguments are keys
 * @param routes of these keys, in their order
 */
export function scatter(
  forwarding: Forwarding,
  output: Output,
  client: Client,
  command: Command,
  argv: Argv,
  positions: number[],
  routes: Route[],
  how: Joined,
): void {
  const hole = output.hole(client);
  const step = command.spec.name === 'mset' ? 2 : 1;
  const name = argv.str(0);
  // what nobody serves at the moment waits by itself
  const byNode = new Map<Peer | 'here' | 'nobody', number[]>();
  routes.forEach((r, k) => {
    const node = r.nobody ? 'nobody' : (r.coordinator ?? 'here');
    const list = byNode.get(node);
    if (list === undefined) byNode.set(node, [k]);
    else list.push(k);
  });
  const answers = new Array<Buffer>(positions.length);
  let open = byNode.size;
  let error: Buffer | null = null;
  let sum = 0;
  const finish = () => {
    if (--open > 0) return;
    if (error !== null) output.fill(hole, error);
    else if (how === 'ok') output.fill(hole, Buffer.from('+OK\r\n'));
    else if (how === 'sum') output.fill(hole, Buffer.from(`:${sum}\r\n`));
    else output.fill(hole, Buffer.concat([Buffer.from(`*${answers.length}\r\n`), ...answers]));
  };
  const parts = [...byNode.values()].map((list) => ({
    list,
    argv: Argv.from([name, ...list.flatMap((k) => Array.from({ length: step }, (_, j) => argv.str(positions[k] + j)))]),
  }));
  for (const part of parts) {
    const { list } = part;
    forwarding.dispatch(
      part.argv,
      client,
      null,
      (buf, start, end) => {
        if (buf[start] === 45) error ??= Buffer.from(buf.subarray(start, end));
        else if (how === 'sum') sum += Number(buf.latin1Slice(start + 1, end - 2));
        else if (how === 'list') splitList(buf, start, list, answers);
        finish();
      },
      routes[list[0]],
    );
  }
}

/** The elements of an array reply, copied to their places. */
function splitList(buf: Buffer, start: number, places: number[], answers: Buffer[]): void {
  const line = (at: number) => buf.indexOf(13, at);
  let at = line(start) + 2;
  for (const k of places) {
    const end = line(at) + 2;
    let stop = end;
    if (buf[at] === 36) {
      const n = Number(buf.latin1Slice(at + 1, end - 2));
      if (n >= 0) stop = end + n + 2;
    }
    answers[k] = Buffer.from(buf.subarray(at, stop));
    at = stop;
  }
}
