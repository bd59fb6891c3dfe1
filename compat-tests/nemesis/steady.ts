/**
 * Clients that send one command after another and take the time between two replies: what somebody notices when a node
 * that he isn't connected to goes away.
 */
import { sleep } from '../durability/server.ts';
import { connectTo, type Member, reasonOf, usable } from './cluster.ts';

const CLIENTS_PER_NODE = 4;
/** Longer than any pause: a command that is lost shows as a gap, and not as a shorter one and an error. */
const TIMEOUT_MS = 30_000;
/** Clients take turns on two cores with the servers: a little rest keeps what is measured from being the machine. */
const REST_MS = 2;

export interface Watch {
  /** Ends it. */
  stop(): Promise<void>;
  /** Longest time between two replies of each client since the last call, in ms, longest first. */
  gaps(): number[];
  /** Error replies and broken connections. */
  errors: string[];
  replies: number;
}

/** Keeps clients of some nodes busy with writes, reads and increments of keys all over the ring. */
export async function watch(members: readonly Member[]): Promise<Watch> {
  let stopping = false;
  const clients: { last: number; longest: number }[] = [];
  const errors: string[] = [];
  const result: Watch = {
    errors,
    replies: 0,
    gaps() {
      const now = performance.now();
      // a reply that is still awaited counts as well
      const list = clients.map((c) => Math.max(c.longest, now - c.last));
      for (const c of clients) c.longest = 0;
      return list.sort((a, b) => b - a);
    },
    async stop() {
      stopping = true;
      await ended;
    },
  };
  const loop = async (member: Member, n: number) => {
    const redis = connectTo(member.port, TIMEOUT_MS);
    await usable(redis);
    const client = { last: performance.now(), longest: 0 };
    clients.push(client);
    for (let i = 0; !stopping; i++) {
      const key = `steady:${member.port}:${n}:${i % 1000}`;
      try {
        if (i % 4 < 2) await redis.set(key, String(i));
        else if (i % 4 === 2) await redis.get(`steady:${member.port}:${n}:${(i * 7) % 1000}`);
        else await redis.incr(`steady-count:${i % 100}`);
      } catch (error) {
        errors.push(`${member.name}: ${reasonOf(error)}`);
        await sleep(REST_MS);
      }
      const now = performance.now();
      client.longest = Math.max(client.longest, now - client.last);
      client.last = now;
      result.replies++;
      if (i % 4 === 0) {
        await sleep(REST_MS);
        client.last = performance.now();
      }
    }
    redis.disconnect();
  };
  const ended = Promise.all(members.flatMap((m) => Array.from({ length: CLIENTS_PER_NODE }, (_, n) => loop(m, n))));
  return result;
}
