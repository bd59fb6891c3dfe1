/**
 * The notation of a command's arguments, read into the maps that `COMMAND DOCS` prints.
 *
 * The notation is the one of Redis's pages: `key [NX | XX] [EX seconds] <LEFT | RIGHT> [member [member ...]]`. Words
 * in upper case are tokens, others are names; `[...]` may be left out, `<a | b>` is a choice, and a bracket that
 * repeats what stands before it and ends in `...` (or is just `[...]`) says that it may come again. A name's type follows from a list of
 * the usual names; `name:type` says another one.
 */

export type ArgumentType =
  | 'string'
  | 'integer'
  | 'double'
  | 'key'
  | 'pattern'
  | 'unix-time'
  | 'pure-token'
  | 'oneof'
  | 'block';

export interface Argument {
  name: string;
  type: ArgumentType;
  token?: string;
  /** Position of its key specification, for keys. */
  keySpec?: number;
  optional?: boolean;
  multiple?: boolean;
  multipleToken?: boolean;
  arguments?: Argument[];
}

const TYPES: Record<string, ArgumentType> = {};
const USUAL: [ArgumentType, string][] = [
  ['key', 'key key1 key2 destkey destination source newkey sourcekey'],
  [
    'integer',
    'seconds milliseconds count offset start stop end index increment decrement numkeys cursor numreplicas port ' +
      'client-id len length rank num-matches maxlen slot start-slot end-slot destination-db db bit position size ' +
      'min-idle-time ms timeout protover version bits ttl frequency index1 index2',
  ],
  ['double', 'longitude latitude radius width height score'],
  ['pattern', 'pattern'],
  ['unix-time', 'unix-time-seconds unix-time-milliseconds'],
];
for (const [type, names] of USUAL) for (const name of names.split(' ')) TYPES[name] = type;

const KNOWN: ReadonlySet<string> = new Set(['string', 'integer', 'double', 'key', 'pattern', 'unix-time']);

/** Names that Redis gives to common choices, by their alternatives. */
const CHOICES: Record<string, string> = {
  'nx|xx': 'condition',
  'gt|lt': 'comparison',
  'asc|desc': 'order',
  'byte|bit': 'unit',
  'before|after': 'where',
  'left|right': 'where',
  'min|max': 'where',
  'on|off': 'status',
  'yes|no': 'mode',
  'write|all': 'mode',
  'async|sync': 'flush_type',
  'nosave|save': 'save_selector',
  'on|off|skip': 'action',
  'and|or|xor|not': 'operation',
  'wrap|sat|fail': 'overflow',
  'm|km|ft|mi': 'unit',
  'sum|min|max': 'aggregate',
  'timeout|error': 'unblock_type',
};

/** The notation without the types that only the parser wants. */
export function plainSyntax(syntax: string): string {
  return syntax.replace(/([\w/-]+):([a-z-]+)/g, (all, name, type) => (KNOWN.has(type) ? name : all));
}

/** Parses a command's notation. `keySpecs` is the number of its key specifications. */
export function parseSyntax(syntax: string, keySpecs = 1): Argument[] {
  const words = syntax.match(/\[|\]|<|>|\||\.\.\.|[^\s[\]<>|]+/g) ?? [];
  const parser = new Parser(words, keySpecs);
  const list = parser.sequence();
  parser.end();
  return list;
}

class Parser {
  private at = 0;
  private keys = 0;
  private readonly words: string[];
  private readonly keySpecs: number;

  constructor(words: string[], keySpecs: number) {
    this.words = words;
    this.keySpecs = keySpecs;
  }

  end(): void {
    if (this.at < this.words.length) throw new Error(`unexpected ${this.words[this.at]}`);
  }

  private peek(): string | undefined {
    return this.words[this.at];
  }

  private take(wanted: string): void {
    if (this.words[this.at] !== wanted) throw new Error(`expected ${wanted}, found ${this.words[this.at]}`);
    this.at++;
  }

  /** Arguments up to a closing bracket, a bar or the end. */
  sequence(): Argument[] {
    const list: Argument[] = [];
    for (;;) {
      const word = this.peek();
      if (word === undefined || word === ']' || word === '>' || word === '|' || word === '...') return list;
      if (word === '[') this.bracket(list);
      else if (word === '<') list.push(this.choice());
      else if (isToken(word)) list.push(this.token());
      else list.push(this.name());
    }
  }

  private bracket(list: Argument[]): void {
    this.take('[');
    const keysBefore = this.keys;
    const alternatives = [this.sequence()];
    while (this.peek() === '|') {
      this.take('|');
      alternatives.push(this.sequence());
    }
    const repeats = this.peek() === '...';
    if (repeats) this.take('...');
    this.take(']');
    if (repeats && alternatives.length === 1 && alternatives[0].length === 0 && list.length > 0) {
      list[list.length - 1].multiple = true;
      return;
    }
    if (repeats && alternatives.length === 1 && this.repeat(list, alternatives[0])) {
      // the keys in the repetition are those that it repeats
      this.keys = keysBefore;
      return;
    }
    const one = this.together(alternatives);
    list.push({ ...one, optional: true, ...(repeats ? { multiple: true } : {}) });
  }

  /** `a b [a b ...]`: what came before may come again. False when the bracket says something else. */
  private repeat(list: Argument[], content: Argument[]): boolean {
    const before = list.slice(-content.length);
    if (content.length === 0 || before.length < content.length) return false;
    if (before.some((a, i) => a.name !== content[i].name || a.token !== content[i].token)) return false;
    if (content.length === 1) {
      before[0].multiple = true;
      if (before[0].token !== undefined && before[0].type !== 'pure-token') before[0].multipleToken = true;
    } else {
      list.length -= content.length;
      list.push({ ...block(before), multiple: true });
    }
    return true;
  }

  private choice(): Argument {
    this.take('<');
    const alternatives = [this.sequence()];
    while (this.peek() === '|') {
      this.take('|');
      alternatives.push(this.sequence());
    }
    this.take('>');
    return this.together(alternatives);
  }

  private together(alternatives: Argument[][]): Argument {
    const each = alternatives.map((list) => (list.length === 1 ? list[0] : block(list)));
    if (each.length === 1) return each[0];
    const signature = each.map((a) => a.name).join('|');
    const expiration = each.some((a) => a.token === 'EX' || a.token === 'EXAT');
    return {
      name: CHOICES[signature] ?? (expiration ? 'expiration' : each.map((a) => a.name).join('_or_')),
      type: 'oneof',
      arguments: each,
    };
  }

  /** A token with what belongs to it: nothing, one argument, or several (a block). */
  private token(): Argument {
    const token = this.words[this.at++];
    if (this.peek() === '<') return { ...this.choice(), token };
    const list: Argument[] = [];
    for (;;) {
      const word = this.peek();
      if (word === '[' && list.length > 0 && this.repeatsNext(list)) this.bracket(list);
      else if (word === undefined || /^[[\]<>|]$|^\.\.\.$/.test(word) || isToken(word)) break;
      else list.push(this.name());
    }
    if (list.length === 0) return { name: token === '""' ? 'empty' : token.toLowerCase(), type: 'pure-token', token };
    if (list.length === 1) return { ...list[0], token };
    return { ...block(list), token };
  }

  /** Does the bracket ahead begin with what the token's last argument is called, and end in `...`? */
  private repeatsNext(list: Argument[]): boolean {
    const close = this.words.indexOf(']', this.at);
    const [name] = typed(this.words[this.at + 1]);
    return close > 0 && this.words[close - 1] === '...' && list.some((a) => a.name === name);
  }

  private name(): Argument {
    const [name, type] = typed(this.words[this.at++]);
    const argument: Argument = { name, type };
    if (type === 'key' && this.keySpecs > 0) argument.keySpec = Math.min(this.keys++, this.keySpecs - 1);
    return argument;
  }
}

function typed(word: string): [name: string, type: ArgumentType] {
  const colon = word.lastIndexOf(':');
  if (colon > 0 && KNOWN.has(word.slice(colon + 1)))
    return [word.slice(0, colon), word.slice(colon + 1) as ArgumentType];
  return [word, TYPES[word] ?? 'string'];
}

function isToken(word: string): boolean {
  return !/[a-z]/.test(word);
}

function block(list: Argument[]): Argument {
  return { name: list.map((a) => a.name).join('_'), type: 'block', arguments: list };
}
