/**
 * A client of the simulated cluster: one host of its own, one connection, one command or one pipeline at a time.
 *
 * What matters is what it may conclude. `ok`: the server has answered. `error`: the server has said that nothing was
 * done. `unknown`: the command may have had its effect, may not, and may yet have it. Whoever doubts is `unknown`.
 */
import RedisParser from 'redis-parser';
import type { Connection } from '../ports/transport.ts';
import type { SimNetwork } from './network.ts';
import { SeededRandom } from './random.ts';
import { NodeTime, type VirtualTime } from './time.ts';
import { SimTransport } from './transport.ts';

export type Reply = string | number | null | Reply[];

export type Outcome =
  | { kind: 'ok'; reply: Reply }
  | { kind: 'error'; message: string }
  | { kind: 'unknown'; message: string };

/**
 * Error replies after which nothing was done and nothing will be. All others (`NOREPLICAS`, `TRYAGAIN` ...) leave open
 * what some replica holds.
 */
const CERTAIN =
  /^(ERR (?!internal)|WRONGTYPE|BADCONTEXT|TOOMANYSIBLINGS|MISCONF|NOAUTH|LOADING|CLUSTERDOWN|NOPERM|MERGEOVERFLOW|DENIED)/;

interface Waiting {
  settle(outcome: Outcome): void;
}

export class SimClient {
  readonly name: string;
  private readonly time: NodeTime;
  private readonly transport: SimTransport;
  private connection: Connection | null = null;
  private target = '';
  /** Whose replies are to come, in this order. */
  private waiting: Waiting[] = [];

  constructor(network: SimNetwork, time: VirtualTime, name: string, seed: number) {
    this.name = name;
    this.time = new NodeTime(time);
    this.transport = new SimTransport(network, name, this.time, new SeededRandom(seed));
  }

  /** Sends one command to `host:port`, over the connection that is there or a new one. Never rejects. */
  async call(address: string, args: readonly string[], timeoutMs: number): Promise<Outcome> {
    return (await this.pipeline(address, [args], timeoutMs))[0];
  }

  /** The same for several commands, which are sent at once. */
  async pipeline(address: string, commands: readonly (readonly string[])[], timeoutMs: number): Promise<Outcome[]> {
    const started = this.time.monotonic();
    if (this.connection === null || this.target !== address) {
      this.drop();
      const at = address.lastIndexOf(':');
      const options = { host: address.slice(0, at), port: Number(address.slice(at + 1)), timeoutMs };
      try {
        this.adopt(await this.transport.connect(options), address);
      } catch (error) {
        return commands.map(() => ({ kind: 'error', message: `not sent: ${(error as Error).message}` }));
      }
    }
    const left = timeoutMs - (this.time.monotonic() - started);
    const timer = this.time.after(Math.max(1, left), () => {
      this.settleAll({ kind: 'unknown', message: 'no reply in time' });
      // what comes now would be taken for the next command's reply
      this.drop();
    });
    const outcomes = commands.map(() => new Promise<Outcome>((settle) => this.waiting.push({ settle })));
    const text = commands.map((args) => `*${args.length}\r\n${args.map((a) => `$${a.length}\r\n${a}\r\n`).join('')}`);
    const bytes = Buffer.from(text.join(''), 'latin1');
    this.connection!.write(bytes, 0, bytes.length);
    return Promise.all(outcomes).finally(() => timer.cancel());
  }

  /** Those who wait get no replies of their own any more. */
  private settleAll(outcome: Outcome): void {
    for (const { settle } of this.waiting.splice(0)) settle(outcome);
  }

  private adopt(connection: Connection, address: string): void {
    this.connection = connection;
    this.target = address;
    const parser = new RedisParser({
      returnReply: (reply: Reply) => this.waiting.shift()?.settle({ kind: 'ok', reply }),
      returnError: ({ message }: Error) =>
        this.waiting.shift()?.settle({ kind: CERTAIN.test(message) ? 'error' : 'unknown', message }),
      returnFatalError: (error: Error) => {
        this.settleAll({ kind: 'unknown', message: `not RESP: ${error.message}` });
        this.drop();
      },
    });
    const lost = () => {
      if (this.connection === connection) this.connection = null;
      this.settleAll({ kind: 'unknown', message: 'connection lost' });
    };
    connection.handler = {
      onData: (buf, start, end) => parser.execute(Buffer.from(buf.subarray(start, end))),
      onEnd: () => {},
      onDrain: () => {},
      onClose: lost,
    };
  }

  /** Closes the connection, so that the next command opens another. */
  drop(): void {
    const { connection } = this;
    this.connection = null;
    if (connection === null) return;
    connection.handler = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };
    connection.destroy();
  }
}
