// Runs a program's tests against every server there is: ours, and a real Redis as the proof that the
// program itself is right.

import { after, before, beforeEach, describe } from 'node:test';
import { emptied } from '../lib/play.ts';
import { hasRedisServer, type RunningServer, startGramme, startRedis } from '../lib/servers.ts';

export interface Target {
  host: string;
  port: number;
}

/** `body` gets an object whose address is filled in before the first test runs. */
export function onEveryServer(program: string, body: (target: Target) => void): void {
  const servers: [string, (() => Promise<RunningServer>) | undefined][] = [
    ['gramme-server', startGramme],
    ['redis-server', hasRedisServer() ? startRedis : undefined],
  ];
  // PROGRAMS_ON=redis-server runs the programs on that server alone, to see whether they themselves are right.
  const only = process.env['PROGRAMS_ON'];
  for (const [name, start] of servers) {
    if (only !== undefined && only !== name) continue;
    const skip = start === undefined && `no ${name} installed`;
    describe(`${program} on ${name}`, { skip, timeout: 120_000 }, () => {
      const target: Target = { host: '127.0.0.1', port: 0 };
      let server: RunningServer | undefined;
      before(async () => {
        server = await start?.();
        target.port = server?.port ?? 0;
      });
      after(async () => {
        await server?.stop();
      });
      beforeEach(() => emptied(target));
      body(target);
    });
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
