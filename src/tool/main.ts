/**
 * The operator's tool: what `bin/gramme` runs. Exit codes: 0 done, 1 failed, 2 misused; `status --check` also gives 1
 * when not all is well.
 */
import { Command, CommanderError } from 'commander';
import { VERSION } from '../server/version.ts';
import { type BenchOptions, bench } from './bench.ts';
import { type LocalOptions, local } from './local.ts';
import { commit, explain, leave, plan, repair, type WaitOptions } from './plan.ts';
import { type RecoverOptions, recover } from './recover.ts';
import { restore } from './restore.ts';
import { status } from './status.ts';
import { print, TARGET_OPTIONS, type Target, withNode } from './target.ts';

async function backup(directory: string, target: Target): Promise<void> {
  await withNode(target, async (node) => {
    const started = Date.now();
    await node.call('DYNAMO', 'BACKUP', directory);
    print(target, { backup: directory, seconds: (Date.now() - started) / 1000 });
  });
}

export async function main(argv: string[]): Promise<number> {
  let code = 0;
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
  const waiting = (command: Command) =>
    command
      .option('--no-wait', "don't wait until every partition is where it belongs")
      .option('--timeout <seconds>', 'give up waiting after this long; the transfer goes on');
  onNode('status', 'tell how the cluster is, as each of its nodes sees it')
    .option('--check', 'exit with 1 unless all is well')
    .action(async (target: Target & { check?: boolean }) => {
      const ok = await status(target);
      if (target.check && !ok) code = 1;
    });
  onNode('explain', 'tell where a key lives and which node holds what of it')
    .argument('<key>')
    .action((key: string, target: Target) => explain(key, target));
  onNode('plan', 'show what would move if everybody who is known became, or stayed, a member')
    .option('--remove <id...>', 'leave out these nodes, which are lost for good')
    .action((target: Target & { remove?: string[] }) => plan(target));
  waiting(onNode('commit', 'do what was planned on this node')).action((target: Target & WaitOptions) =>
    commit(target),
  );
  waiting(onNode('leave', 'have this node hand over what it holds, and leave the cluster')).action(
    (target: Target & WaitOptions) => leave(target),
  );
  onNode('repair', 'compare with the other replicas now, and repair what differs')
    .argument('[partition]')
    .action((partition: string | undefined, target: Target) => repair(partition, target));
  onNode('bench', 'put some load on a node or a cluster')
    .option('--seconds <n>', 'how long', '5')
    .option('--clients <n>', 'requests under way at once', '50')
    .option('--keys <n>', 'different keys', '100000')
    .option('--size <bytes>', 'bytes of a value', '100')
    .option('--reads <percent>', 'share of reads', '50')
    .action((options: BenchOptions) => bench(options));
  onNode('backup', "write a consistent copy of a running node's data into an empty directory on its machine")
    .argument('<directory>')
    .action((directory: string, target: Target) => backup(directory, target));
  program
    .command('local')
    .description('run a cluster on this machine, for as long as this command runs')
    .argument('<nodes>', 'how many')
    .argument('[directives...]', "directives for every server, after '--'")
    .option('-p, --port <port>', "the first node's client port; the others follow, the bus is 10000 above", '7001')
    .requiredOption('--dir <directory>', 'where the nodes keep their data, logs and secret')
    .option('--n <n>', 'nodes that hold each key')
    .option('--r <r>', 'nodes that answer a read')
    .option('--w <w>', 'nodes that hold a write before it is acknowledged')
    .option('--partitions <q>', 'partitions of the ring')
    .option('-a, --password <password>', 'password of the default user')
    .option('--json', 'tell about the nodes as JSON')
    .helpOption('--help', 'show this help')
    .action(async (nodes: string, directives: string[], options: LocalOptions) => {
      code = await local(nodes, directives, options);
    });
  program
    .command('restore')
    .description('put a backup into the data directory of a server that is not running')
    .argument('<backup>')
    .requiredOption('--dir <directory>', "the server's data directory; it must not hold data")
    .action((from: string, options: { dir: string }) => restore(from, options.dir));
  program
    .command('recover')
    .description('tell what the directory of an expelled node holds, and bring back what the cluster lacks of it')
    .argument('<directory>', 'a data directory; no server may run on it, and nothing in it is changed')
    .option('--out <file>', 'write the lines there and not to the standard output')
    .option('--to <host:port>', 'compare with the cluster of this node')
    .option('--yes', 'write what the cluster lacks, as siblings')
    .option('--since <time>', 'what was written then or later (ISO 8601) was never in the cluster, trace or no trace')
    .option('--include-deleted', 'write what the cluster has deleted as well, and what it has no trace of')
    .option(
      '--work <directory>',
      'where the files are copied to for reading; the directory for temporary files unless set',
    )
    .option('-a, --password <password>', 'password of the default user (or GRAMME_PASSWORD)')
    .helpOption('--help', 'show this help')
    .action(async (directory: string, options: RecoverOptions) => {
      code = await recover(directory, options);
    });
  // `gramme status | head` is no failure
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(code);
    throw error;
  });
  if (argv.length === 0) {
    program.outputHelp();
    return 0;
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    process.stderr.write(`gramme: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}
