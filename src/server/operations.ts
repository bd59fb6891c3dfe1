/**
 * The operations of a ticket: what is known of each command of a tick while replicas may still say something of it.
 *
 * The replicator counts operations and knows nothing of commands. What it takes to patch a command's reply, to undo what
 * it wrote and to run it again is kept here, in a table by the operation's number, until nobody will ask any more. There
 * is one entry for each command of a node in a cluster, so entries and tables are pooled, and a command's arguments are
 * copied only when it may run again.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Group, Ticket } from '../cluster/replicator.ts';
import type { CommandTable } from '../commands/table.ts';
import { Argv } from '../resp/argv.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import type { KeyState } from '../types/state.ts';
import type { Client } from './client.ts';
import { VirtualClient } from './virtual.ts';

const SPARE_OPERATIONS = 65_536;
const SPARE_TABLES = 4096;
/** Tables whose arguments took more bytes are not used again. */
const MAX_SPARE_BYTES = 32 * 1024;

/** One operation of a ticket: what it takes to run its command again. */
export interface Operation {
  client: Client;
  /** Its reply is bytes [start, end) of the tick's output. */
  start: number;
  end: number;
  /** Where its arguments are in the table's bytes; negative when nobody will ask for them. */
  at: number;
  /** Its reply rests on the state: it runs again when there was news. */
  again: boolean;
  group: Group;
  /** Its other keys' groups, when it has several. */
  groups: readonly Group[] | null;
  db: number;
  resp: 2 | 3;
  /** What the keys were, for a write that may have to be undone. */
  before: Map<string, KeyState | null> | null;
  /** The same of a blind write that another node may have run too: it runs once, and may be undone all the same. */
  kept: Map<string, KeyState | null> | null;
  /** Stamps that it wrote with: from, and to. */
  since: number;
  until: number;
  /** Partition of its only key, negative when it has several. */
  partition: number;
  /** How much of others' the keyspace had seen when it ran (`Keyspace.news`). */
  seen: number;
  wrote: boolean;
  /** It only reads, and somebody else coordinates. */
  foreign: boolean;
  /** Something else goes out in place of its reply. */
  replaced: boolean;
  /** How often its command had been run before, for news. */
  reruns: number;
  /** The command's name in the cluster, of one that was forwarded; `tag` 0 for others. */
  tag: number;
  number: number;
  undone: boolean;
}

/** What was found out of the command at hand before it ran. One for all commands, since they run one at a time. */
export class AtHand {
  /** It reads as a replica and not as the coordinator. */
  foreign = false;
  /** Partition of its only key; negative when it has several. */
  partition = -1;
  /** What its keys were, by `db:key`, when its reply rests on them and it writes. */
  before: Map<string, KeyState | null> | null = null;
  /** The same where the reply rests on nothing, of a command that another node may have run too. */
  kept: Map<string, KeyState | null> | null = null;
  /** The first stamp that it can write with. */
  since = 0;

  /** Another command is at hand. */
  begin(): void {
    this.foreign = false;
    this.partition = -1;
    this.before = null;
    this.kept = null;
  }
}

/** A ticket's operations by number, and the arguments of those that may run again. */
interface Table {
  ops: Operation[];
  args: ByteWriter;
}

const NO_OPERATIONS: Operation[] = [];

/** A ticket's operations, by number: some may be missing. */
export function operationsOf(ticket: Ticket): Operation[] {
  return ticket.table === null ? NO_OPERATIONS : (ticket.table as Table).ops;
}

/** An operation's arguments, in bytes of their own. Only of one that has kept them (`Operation.at`). */
export function argumentsOf(ticket: Ticket, op: Operation): Argv {
  const { args } = ticket.table as Table;
  const argv = new Argv();
  argv.read(new ByteReader(args.buf, op.at, args.pos));
  return argv.copy();
}

export class Operations {
  private readonly store: Store;
  private readonly commands: CommandTable;
  private readonly atHand: AtHand;
  private readonly spareOps: Operation[] = [];
  private readonly spareTables: Table[] = [];

  constructor(store: Store, commands: CommandTable, atHand: AtHand) {
    this.store = store;
    this.commands = commands;
    this.atHand = atHand;
  }

  /**
   * Enters the command at hand into the ticket's table, as operation `n`.
   * @param start where its reply is in the tick's output: bytes [start, end)
   * @param groups its other keys' groups, when it has several
   */
  enter(
    ticket: Ticket,
    n: number,
    client: Client,
    argv: Argv,
    start: number,
    end: number,
    wrote: boolean,
    group: Group,
    groups: readonly Group[] | null,
  ): void {
    const { atHand, store } = this;
    let table = ticket.table as Table | null;
    if (table === null) {
      table = this.spareTables.pop() ?? { ops: [], args: new ByteWriter(1024) };
      ticket.table = table;
    }
    const op = this.spareOps.pop() ?? blankOperation();
    const virtual = client instanceof VirtualClient;
    op.client = client;
    op.start = start;
    op.end = end;
    op.at = -1;
    op.again = !wrote || atHand.before !== null;
    op.tag = virtual ? client.tag : 0;
    op.number = virtual ? client.number : 0;
    if (op.again || op.tag !== 0) {
      op.at = table.args.pos;
      argv.write(table.args);
    }
    op.group = group;
    op.groups = groups;
    op.db = client.db;
    op.resp = client.resp;
    op.before = atHand.before;
    op.kept = atHand.kept;
    op.since = atHand.since;
    op.until = store.hlc.current();
    op.partition = atHand.partition;
    op.seen = store.keys.news;
    op.wrote = wrote;
    op.foreign = atHand.foreign;
    op.replaced = false;
    op.reruns = client instanceof VirtualClient ? client.reruns : 0;
    op.undone = false;
    table.ops[n] = op;
  }

  /** Nobody asks for the ticket's operations any more. */
  recycle(ticket: Ticket): void {
    const table = ticket.table as Table | null;
    if (table === null) return;
    ticket.table = null;
    for (const op of table.ops) {
      if (op === undefined || op.replaced || this.spareOps.length >= SPARE_OPERATIONS) continue;
      op.before = null;
      op.kept = null;
      this.spareOps.push(op);
    }
    table.ops.length = 0;
    table.args.reset();
    if (this.spareTables.length < SPARE_TABLES && table.args.buf.length <= MAX_SPARE_BYTES)
      this.spareTables.push(table);
  }

  /** The keys that an operation is about. */
  placesOf(op: Operation, argv: Argv): KeyPlace[] {
    const { commands, store } = this;
    const command = commands.find(argv);
    if (command === null) return [];
    const positions = command.onlyKey > 0 ? [command.onlyKey] : (commands.keyPositions(command.spec, argv) ?? []);
    return positions.map((i) => store.placeOf(store.keys.names[op.db], argv.str(i)));
  }
}

function blankOperation(): Operation {
  return {
    client: null as unknown as Client,
    start: 0,
    end: 0,
    at: -1,
    again: false,
    group: null as unknown as Group,
    groups: null,
    db: 0,
    resp: 2,
    before: null,
    kept: null,
    since: 0,
    until: 0,
    partition: -1,
    seen: 0,
    wrote: false,
    foreign: false,
    replaced: false,
    reruns: 0,
    tag: 0,
    number: 0,
    undone: false,
  };
}
