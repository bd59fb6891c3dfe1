/**
 * The command table: every command once, found by name from the bytes of a request, and questioned by `COMMAND`.
 */
import type { Argv } from '../resp/argv.ts';
import { CommandStat } from '../server/stats.ts';
import type { CommandSpec, Handler, KeySpec } from './command.ts';

/** A command as the dispatcher wants it: its spec, and what it asks of it at every call. */
export class Command {
  readonly spec: CommandSpec;
  /** `get`, or `client|list` for a subcommand. */
  readonly fullName: string;
  readonly arity: number;
  readonly handler: Handler;
  readonly write: boolean;
  readonly fast: boolean;
  readonly noAuth: boolean;
  readonly denyOom: boolean;
  readonly skipMonitor: boolean;
  readonly skipSlowlog: boolean;
  /** Position of the only key, for the many commands that have just one in a fixed place; else 0. */
  readonly onlyKey: number;
  /** It has keys. */
  readonly keyed: boolean;
  /** It looks at this node and not at the cluster. */
  readonly local: boolean;
  readonly subcommands: Map<string, Command> | null;
  readonly stat: CommandStat;

  constructor(spec: CommandSpec, parent: string | null) {
    this.spec = spec;
    this.fullName = parent === null ? spec.name : `${parent}|${spec.name}`;
    this.arity = spec.arity;
    this.handler = spec.handler;
    const has = (flag: (typeof spec.flags)[number]) => spec.flags.includes(flag);
    this.write = has('write');
    this.fast = has('fast');
    this.noAuth = has('no_auth');
    this.denyOom = has('denyoom');
    this.skipMonitor = has('skip_monitor') || has('admin');
    this.skipSlowlog = has('skip_slowlog');
    const [first] = spec.keys ?? [];
    const fixed = spec.keys?.length === 1 && spec.getKeys === undefined && typeof first.begin === 'number';
    this.onlyKey = fixed && first.range !== undefined && first.range.last === 0 ? (first.begin as number) : 0;
    this.keyed = spec.getKeys !== undefined || (spec.keys?.some((k) => !k.flags.includes('not_key')) ?? false);
    this.local = /^(dynamo|debug|command|cluster)\|/.test(this.fullName);
    this.stat = new CommandStat(this.fullName);
    this.subcommands = spec.subcommands
      ? new Map(spec.subcommands.map((s) => [s.name, new Command(s, spec.name)]))
      : null;
  }
}

const BUCKETS = 2048;

function hashName(buf: Uint8Array, start: number, end: number): number {
  let h = end - start;
  // letters in either case differ in one bit only
  for (let i = start; i < end; i++) h = (Math.imul(h, 31) + (buf[i] | 32)) | 0;
  return (h ^ (h >>> 11)) & (BUCKETS - 1);
}

export class CommandTable {
  /** Top-level commands, in table order. */
  readonly commands: CommandSpec[];
  /** Every command and subcommand that can run. */
  readonly all: Command[] = [];
  private readonly byName = new Map<string, Command>();
  private readonly bySpec = new Map<CommandSpec, Command>();
  private readonly buckets: (Command[] | undefined)[] = new Array(BUCKETS).fill(undefined);

  constructor(commands: CommandSpec[]) {
    this.commands = commands;
    for (const spec of commands) {
      const command = new Command(spec, null);
      this.byName.set(spec.name, command);
      this.register(command);
      const bytes = Buffer.from(spec.name, 'latin1');
      const bucket = hashName(bytes, 0, bytes.length);
      (this.buckets[bucket] ??= []).push(command);
    }
  }

  private register(command: Command): void {
    this.all.push(command);
    this.bySpec.set(command.spec, command);
    for (const sub of command.subcommands?.values() ?? []) this.register(sub);
  }

  /** The command named by argument 0, without making a string of it; null when there is none. */
  find(argv: Argv): Command | null {
    const { buf, offsets } = argv;
    const start = offsets[0];
    const end = offsets[1];
    const bucket = this.buckets[hashName(buf, start, end)];
    if (bucket === undefined) return null;
    for (let k = 0; k < bucket.length; k++) {
      const { name } = bucket[k].spec;
      if (name.length !== end - start) continue;
      let i = 0;
      while (i < name.length) {
        let c = buf[start + i];
        if (c >= 65 && c <= 90) c += 32;
        if (c !== name.charCodeAt(i)) break;
        i++;
      }
      if (i === name.length) return bucket[k];
    }
    return null;
  }

  command(name: string): Command | undefined {
    return this.byName.get(name.toLowerCase());
  }

  commandOf(spec: CommandSpec): Command {
    return this.bySpec.get(spec)!;
  }

  lookup(name: string): CommandSpec | undefined {
    return this.command(name)?.spec;
  }

  sub(container: CommandSpec, name: string): CommandSpec | undefined {
    return this.commandOf(container).subcommands?.get(name.toLowerCase())?.spec;
  }

  fullName(spec: CommandSpec): string {
    return this.commandOf(spec).fullName;
  }

  flagsOf(spec: CommandSpec): string[] {
    const flags: string[] = [...spec.flags];
    if (this.isMovable(spec) && !flags.includes('movablekeys')) flags.push('movablekeys');
    return flags;
  }

  private isMovable(spec: CommandSpec): boolean {
    return spec.keys?.some((k) => k.keynum !== undefined || typeof k.begin !== 'number') ?? false;
  }

  /** ACL categories without '@': those that follow from flags, as Redis derives them, and the command's own. */
  categoriesOf(spec: CommandSpec): string[] {
    const set = new Set<string>(spec.categories);
    const has = (flag: (typeof spec.flags)[number]) => spec.flags.includes(flag);
    if (has('write')) set.add('write');
    if (has('readonly') && !set.has('scripting')) set.add('read');
    if (has('admin')) set.add('admin').add('dangerous');
    if (has('pubsub')) set.add('pubsub');
    if (has('blocking')) set.add('blocking');
    set.add(has('fast') ? 'fast' : 'slow');
    return [...set];
  }

  /** First key, last key and step, as `COMMAND INFO` shows them; zeros where there are none or they move. */
  legacyKeys(spec: CommandSpec): [number, number, number] {
    const ranged = spec.keys?.filter((k) => typeof k.begin === 'number' && k.range !== undefined) ?? [];
    if (ranged.length === 0) return [0, 0, 0];
    const first = ranged[0];
    const start = first.begin as number;
    if (ranged.length === 1) {
      const { last, step } = first.range!;
      return [start, last < 0 ? last : start + last, step];
    }
    // several specifications in a row are one range when they lie side by side with a common step
    const last = ranged[ranged.length - 1];
    const end = last.range!.last < 0 ? last.range!.last : (last.begin as number) + last.range!.last;
    return [start, end, first.range!.step];
  }

  /** Positions of a request's keys, or null when the arguments make no sense. */
  keyPositions(spec: CommandSpec, argv: Argv): number[] | null {
    if (spec.getKeys !== undefined) return spec.getKeys(argv);
    const positions: number[] = [];
    for (const k of spec.keys ?? []) {
      if (k.flags.includes('not_key')) continue;
      const begin = beginOf(k, argv);
      if (begin < 0) continue;
      if (k.keynum !== undefined) {
        const count = argv.int(begin + k.keynum.at);
        if (!(count >= 0) || begin + k.keynum.first + (count - 1) * k.keynum.step >= argv.argc) return null;
        for (let i = 0; i < count; i++) positions.push(begin + k.keynum.first + i * k.keynum.step);
        continue;
      }
      const { last, step, limit = 0 } = k.range!;
      let end = last >= 0 ? begin + last : argv.argc + last;
      if (limit > 1) end = begin + Math.floor((argv.argc - begin) / limit) + last;
      for (let i = begin; i <= end; i += step) {
        if (i >= argv.argc) return null;
        positions.push(i);
      }
    }
    return positions;
  }
}

function beginOf(k: KeySpec, argv: Argv): number {
  if (typeof k.begin === 'number') return k.begin;
  const { keyword, from } = k.begin;
  const step = from < 0 ? -1 : 1;
  for (let i = from < 0 ? argv.argc + from : from; i > 0 && i < argv.argc; i += step)
    if (argv.is(i, keyword)) return i + 1;
  return -1;
}
