/**
 * Why a node does not answer: its process is gone, or its whole machine is out of reach.
 *
 * A refused connection says that the machine is there. When nothing comes back at all, an ICMP echo tells the two apart;
 * it takes `net-ping`, which is optional, and the right to open raw sockets. Without either, nobody knows.
 */
import * as dns from 'node:dns/promises';

const PING_MS = 1000;

/** `replaced`: another node answers at its address. */
export type Reason = 'process down' | 'host down' | 'no answer' | 'replaced';

/** Does the machine answer an ICMP echo? Null when that can't be found out from here. */
async function pings(host: string): Promise<boolean | null> {
  try {
    const { createSession } = await import('net-ping');
    const { address } = await dns.lookup(host, { family: 4 });
    const session = createSession({ retries: 1, timeout: PING_MS });
    return await new Promise<boolean | null>((resolve) => {
      const done = (answer: boolean | null) => {
        resolve(answer);
        session.close();
      };
      session.on('error', () => done(null));
      session.pingHost(address, (error) => done(error === null));
    });
  } catch {
    return null;
  }
}

/** @param error what connecting, or asking, ended with */
export async function whyNot(host: string, error: unknown): Promise<Reason> {
  const text = error instanceof Error ? error.message : String(error);
  if (text.includes('ECONNREFUSED') || text.includes('closed the connection')) return 'process down';
  if (text.includes('EHOSTUNREACH') || text.includes('ENETUNREACH')) return 'host down';
  const alive = await pings(host);
  return alive === null ? 'no answer' : alive ? 'process down' : 'host down';
}
