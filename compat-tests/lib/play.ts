// Plays a sequence against one server and returns what came back, one text per step.

import { type Argument, RawConnection } from './raw-connection.ts';
import type { Saved, Sequence } from './sequence.ts';
import type { Address } from './servers.ts';

export type Protocol = 2 | 3;
export const PROTOCOLS: readonly Protocol[] = [2, 3];

export async function open(server: Address, protocol: Protocol): Promise<RawConnection> {
  const connection = await RawConnection.connect(server.host, server.port);
  if (server.password !== undefined) await connection.send(['AUTH', server.password]);
  if (protocol === 3) await connection.send(['HELLO', '3']);
  return connection;
}

/** Empties the server; refuses to go on if it does not answer, for then nothing below means anything. */
export async function emptied(server: Address): Promise<void> {
  const connection = await open(server, 2);
  const commands: Argument[][] = [['FLUSHALL']];
  for (const command of commands) {
    const reply = await connection.send(command);
    if (reply !== '+OK\r\n') {
      await connection.close();
      throw new Error(`${command.join(' ')} answered ${JSON.stringify(reply)}`);
    }
  }
  await connection.close();
}

export async function play(server: Address, sequence: Sequence, protocol: Protocol): Promise<string[]> {
  const connections = new Map<string, RawConnection>();
  const saved: Saved = new Map();
  const transcript: string[] = [];
  try {
    await emptied(server);
    for (const step of sequence.steps) {
      let connection = connections.get(step.connection);
      if (!connection) {
        connection = await open(server, protocol);
        connections.set(step.connection, connection);
      }
      transcript.push(await step.run(connection, saved));
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    while (transcript.length < sequence.steps.length) transcript.push(`<failed: ${reason}>`);
  } finally {
    await Promise.all([...connections.values()].map((connection) => connection.close()));
  }
  return transcript;
}
