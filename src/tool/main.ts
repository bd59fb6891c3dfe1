/**
 * The operator's tool: what `bin/gramme` runs. Exit codes: 0 done, 1 failed, 2 misused.
 */
import { Command, CommanderError } from 'commander';
import { VERSION } from '../server/version.ts';
import { type Reply, ToolConnection } from './connection.ts';
import { restore } from './restore.ts';

interface Target {
  host: string;
  port: string;
  password?: string;
  json?: boolean;
}

const TARGET_OPTIONS: [string, string, string?][] = [
  ['-h, --host <host>', "the node's address", '127.0.0.1'],
  ['-p, --port <port>', "the node's client port", '6379'],
  ['-a, --password <password>', 'password of the default user (or GRAMME_PASSWORD)'],
  ['--json', 'print JSON for scripts'],
];

async function withNode<T>(target: Target, work: (node: ToolConnection) => Promise<T>): Promise<T> {
  const node = await ToolConnection.open(
    target.host,
    Number(target.port),
    target.password ?? process.env.GRAMME_PASSWORD,
  );
  try {
    return await work(node);
  } finally {
    node.close();
  }
}

/** Flat name, value, name, value ... to an object. */
function pairs(reply: Reply): Record<string, Reply> {
  const list = reply as Reply[];
  const out: Record<string, Reply> = {};
  for (let i = 0; i + 1 < list.length; i += 2) out[String(list[i])] = list[i + 1];
  return out;
}

function infoFields(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) fields[line.slice(0, colon)] = line.slice(colon + 1);
  }
  return fields;
}

function print(target: Target, fields: Record<string, unknown>): void {
  if (target.json) {
    process.stdout.write(`${JSON.stringify(fields, null, 2)}\n`);
    return;
  }
  const width = Math.max(...Object.keys(fields).map((name) => name.length));
  for (const [name, value] of Object.entries(fields)) process.stdout.write(`${name.padEnd(width)}  ${String(value)}\n`);
}

async function status(target: Target): Promise<void> {
  await withNode(target, async (node) => {
    const info = infoFields(String(await node.call('INFO', 'everything')));
    const ring = pairs(await node.call('DYNAMO', 'RING'));
    const nodes = (ring.nodes as Reply[]).map(pairs);
    const seconds = Number(info.uptime_in_seconds);
    print(target, {
      node: `${target.host}:${target.port}`,
      id: nodes[0]?.id,
      version: info.gramme_version,
      'up for': `${seconds} s`,
      nodes: nodes.length,
      partitions: ring.partitions,
      keys: await node.call('DBSIZE'),
      clients: info.connected_clients,
      memory: info.used_memory_human,
      'commands per second': info.instantaneous_ops_per_sec,
      'journal backlog': `${info.journal_backlog_bytes ?? 0} bytes`,
      'hints waiting': ((await node.call('DYNAMO', 'HINTS')) as Reply[]).length,
    });
  });
}

async function explain(key: string, target: Target): Promise<void> {
  await withNode(target, async (node) => print(target, pairs(await node.call('DYNAMO', 'EXPLAIN', key))));
}

async function backup(directory: string, target: Target): Promise<void> {
  await withNode(target, async (node) => {
    const started = Date.now();
    await node.call('DYNAMO', 'BACKUP', directory);
    print(target, { backup: directory, seconds: (Date.now() - started) / 1000 });
  });
}

export async function main(argv: string[]): Promise<number> {
  const program = new Command('gramme')
    .description('Looks after Gramme servers.')
    .version(VERSION, '-v, --version')
    .exitOverride()
    .showHelpAfterError()
    .helpOption('--help', 'show this help');
  const onNode = (name: string, description: string) => {
    const command = program.command(name).description(description).helpOption('--help', 'show this help');
    for (const [flags, text, initial] of TARGET_OPTIONS) command.option(flags, text, initial);
    return command;
  };
  onNode('status', 'tell how a node is').action((target: Target) => status(target));
  onNode('explain', 'tell where a key lives and what is known of it')
    .argument('<key>')
    .action((key: string, target: Target) => explain(key, target));
  onNode('backup', "write a consistent copy of a running node's data into an empty directory on its machine")
    .argument('<directory>')
    .action((directory: string, target: Target) => backup(directory, target));
  program
    .command('restore')
    .description('put a backup into the data directory of a server that is not running')
    .argument('<backup>')
    .requiredOption('--dir <directory>', "the server's data directory; it must not hold data")
    .action((from: string, options: { dir: string }) => restore(from, options.dir));
  if (argv.length === 0) {
    program.outputHelp();
    return 0;
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    process.stderr.write(`gramme: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}
