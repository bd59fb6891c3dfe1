/**
 * The two servers that are compared, each started on a fresh directory and ended after its turn: only one runs at a
 * time, since even an idle neighbour's timers cost the other a part of its rate on a small machine.
 */
import { spawnSync } from 'node:child_process';
import { freshDirectory, launch, removeDirectory, Server } from '../../compat-tests/durability/server.ts';
import { freePort } from '../../compat-tests/lib/servers.ts';

export type Who = 'gramme' | 'redis';
export type Policy = 'always' | 'everysec' | 'no';

export interface Started {
  server: Server;
  directory: string;
}

/** Starts one of the two on a directory, a fresh one unless it is given. */
export async function startServer(
  who: Who,
  policy: Policy,
  directory = freshDirectory('bench-'),
  ...directives: string[]
): Promise<Started> {
  if (who === 'gramme') {
    const server = await launch(directory, '--appendfsync', policy, ...directives);
    return { server: await server.ready(), directory };
  }
  const port = await freePort();
  const args = [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'yes',
    '--appendfsync',
    policy,
  ];
  const server = new Server('redis-server', [...args, '--dir', directory, ...directives], port);
  return { server: await server.ready(), directory };
}

export async function endServer({ server, directory }: Started): Promise<void> {
  await server.stop();
  removeDirectory(directory);
}

export function isInstalled(tool: string): boolean {
  return spawnSync(tool, ['--version']).error === undefined;
}
