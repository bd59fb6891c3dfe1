/**
 * `gramme restore`: puts a backup's files where a server will look for them.
 *
 * The copy is marked as restored, so that the server goes on under a new actor: writes that were made after the
 * backup, and may still be known to others, must not be confused with those that come now.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { SqliteEngine } from '../platform/sqlite.ts';
import { systemRandom } from '../platform/system.ts';
import type { Log } from '../ports/log.ts';

const FILES = ['data.db', 'journal.db', 'node.db'];
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {} };

export async function restore(backup: string, directory: string): Promise<void> {
  for (const name of FILES) {
    if (!fs.existsSync(path.join(backup, name))) throw new Error(`${backup} is no backup: it has no ${name}`);
    if (fs.existsSync(path.join(directory, name))) {
      throw new Error(`${path.join(directory, name)} exists; restore into an empty directory`);
    }
  }
  fs.mkdirSync(directory, { recursive: true });
  for (const name of FILES) fs.copyFileSync(path.join(backup, name), path.join(directory, name));
  const engine = new SqliteEngine({ directory, log: SILENT, cacheBytes: 8 * 1024 * 1024 });
  await engine.open();
  try {
    const damage = await engine.verify();
    if (damage !== null) throw new Error(`the backup's data file is damaged: ${damage}`);
    await engine.setMeta('restored', systemRandom.bytes(8));
  } finally {
    await engine.close();
  }
}
