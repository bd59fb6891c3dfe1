/**
 * Which node the tool talks to, and how its answers are read and printed: the same options for all commands, tables for
 * people, JSON for scripts.
 */
import { type Reply, ToolConnection } from './connection.ts';

export interface Target {
  host: string;
  port: string;
  password?: string;
  json?: boolean;
}

export const TARGET_OPTIONS: [string, string, string?][] = [
  ['-h, --host <host>', "the node's address", '127.0.0.1'],
  ['-p, --port <port>', "the node's client port", '6379'],
  ['-a, --password <password>', 'password of the default user (or GRAMME_PASSWORD)'],
  ['--json', 'print JSON for scripts'],
];

/** How long a node has to take a connection, in ms. */
export const CONNECT_MS = 3000;

export function passwordOf(target: Target): string | undefined {
  return target.password ?? process.env['GRAMME_PASSWORD'];
}

export async function withNode<T>(target: Target, work: (node: ToolConnection) => Promise<T>): Promise<T> {
  const node = await ToolConnection.open(target.host, Number(target.port), passwordOf(target), CONNECT_MS);
  try {
    return await work(node);
  } finally {
    node.close();
  }
}

/** `host:port`, the host of an IPv6 address in brackets. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

export type Fields = Record<string, Reply>;

/** Flat name, value, name, value ... to an object. */
export function pairs(reply: Reply): Fields {
  const list = (reply ?? []) as Reply[];
  const out: Fields = {};
  for (let i = 0; i + 1 < list.length; i += 2) out[String(list[i])] = list[i + 1];
  return out;
}

export function listOf(reply: Reply): Fields[] {
  return ((reply ?? []) as Reply[]).map(pairs);
}

export function infoFields(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) fields[line.slice(0, colon)] = line.slice(colon + 1);
  }
  return fields;
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function sayJson(value: unknown): void {
  say(JSON.stringify(value, null, 2));
}

/** One name and value a line, or an object. */
export function print(target: Target, fields: Record<string, unknown>): void {
  if (target.json) {
    sayJson(fields);
    return;
  }
  const width = Math.max(...Object.keys(fields).map((name) => name.length));
  for (const [name, value] of Object.entries(fields)) {
    const text = Array.isArray(value) ? value.join(' ') : String(value);
    say(`${name.padEnd(width)}  ${text}`.trimEnd());
  }
}

/** A table of which all columns but the first are as wide as they must be; numbers stand at the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => String(r[i]).length)));
  const line = (cells: readonly (string | number)[]) =>
    cells
      .map((cell, i) => (typeof cell === 'number' ? String(cell).padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd();
  return [line(head), ...rows.map(line)].join('\n');
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
