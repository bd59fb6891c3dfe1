/** MONITOR's lines: time, database, address and the quoted arguments, as Redis prints them. */
import type { Argv } from '../resp/argv.ts';
import type { Client } from './client.ts';

const NAMED: Record<string, string> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\x07': '\\a',
  '\b': '\\b',
  '"': '\\"',
  '\\': '\\\\',
};

/** Quotes as Redis does (sdscatrepr). */
export function quote(s: string): string {
  let out = '"';
  for (const c of s) {
    const code = c.charCodeAt(0);
    if (NAMED[c] !== undefined) out += NAMED[c];
    else if (code >= 32 && code < 127) out += c;
    else out += `\\x${code.toString(16).padStart(2, '0')}`;
  }
  return `${out}"`;
}

export function formatMonitorLine(nowMs: number, client: Client, argv: Argv): string {
  const seconds = Math.floor(nowMs / 1000);
  const micros = String(Math.floor((nowMs % 1000) * 1000)).padStart(6, '0');
  return `${seconds}.${micros} [${client.db} ${client.connection.remote}] ${argv.strings().map(quote).join(' ')}`;
}
