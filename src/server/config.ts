/**
 * The configuration: directives from a file and the command line, and `CONFIG GET|SET|REWRITE` at run time.
 *
 * Reading is pure: whoever has the text of a file (and of the files that it includes) passes it in. Values are kept
 * as canonical text, as `CONFIG GET` prints them, and as numbers, so that a hot path can read one without parsing.
 */
import { GrammeError } from '../base/errors.ts';
import { globMatch, isPattern } from '../base/glob.ts';
import { splitInline } from '../resp/parser.ts';
import { DIRECTIVES, type Directive, RETIRED, UNSUPPORTED } from './directives.ts';

/** One directive as it was written somewhere. */
export interface Setting {
  name: string;
  values: string[];
  /** Where it was written: `gramme.conf:12`, or the argument. */
  where: string;
}

interface Slot {
  directive: Directive;
  text: string;
  number: number;
}

/** Returns a text to refuse the change; anything else lets it be. */
type Listener = (config: Config) => unknown;

const BY_NAME = new Map<string, Directive>();
for (const d of DIRECTIVES) for (const name of [d.name, ...d.aliases]) BY_NAME.set(name, d);

/** Names in the order in which `CONFIG GET *` prints them. */
const NAMES = DIRECTIVES.flatMap((d) => [d.name, ...d.aliases]);

function numberOf(text: string): number {
  return text === 'yes' ? 1 : text === '' ? 0 : Number(text);
}

function problem(where: string, what: string): GrammeError {
  return new GrammeError('CONFIG', `${where}: ${what}`);
}

export class Config {
  /** What the settings asked for that is not done, for the log. */
  readonly warnings: string[] = [];
  /** The configuration file, for `CONFIG REWRITE` and INFO; empty for none. */
  file = '';
  /** Replaces the file's text by what the function makes of it; set by whoever may touch files. */
  rewriteFile: ((change: (oldText: string) => string) => Promise<void>) | null = null;

  private readonly slots = new Map<string, Slot>();
  private readonly listeners = new Map<string, Listener[]>();

  constructor(settings: readonly Setting[] = []) {
    for (const directive of DIRECTIVES) {
      const slot: Slot = { directive, text: directive.initial, number: numberOf(directive.initial) };
      for (const name of [directive.name, ...directive.aliases]) this.slots.set(name, slot);
    }
    const seen = new Set<Directive>();
    for (const setting of settings) this.load(setting, seen);
  }

  private load(setting: Setting, seen: Set<Directive>): void {
    const name = setting.name.toLowerCase();
    const directive = BY_NAME.get(name);
    if (directive === undefined) {
      if (RETIRED.includes(name) && setting.values.length === 1) return;
      throw problem(setting.where, UNSUPPORTED[name] ?? 'Bad directive or wrong number of arguments');
    }
    let words = setting.values;
    if (!directive.words && words.length !== 1) throw problem(setting.where, 'wrong number of arguments');
    if (directive.words && words.length === 1 && words[0] !== '') words = splitInline(words[0]) ?? words;
    if (directive.words && words.length === 0) words = [''];
    const given = words.join(' ');
    const tolerated = directive.tolerated;
    if (tolerated?.values.includes(given.toLowerCase())) {
      this.warnings.push(`${setting.where}: ${name} ${given}: ${tolerated.why}`);
      return;
    }
    const slot = this.slots.get(name)!;
    const read = directive.schema.safeParse(given);
    if (!read.success) throw problem(setting.where, read.error.issues[0].message);
    put(slot, directive.merge?.(slot.text, read.data, seen.has(directive)) ?? read.data);
    seen.add(directive);
  }

  private slot(name: string): Slot {
    const slot = this.slots.get(name);
    if (slot === undefined) throw new Error(`no directive ${name}`);
    return slot;
  }

  /** Canonical text, as `CONFIG GET` prints it. */
  get(name: string): string {
    return this.slot(name).text;
  }

  num(name: string): number {
    return this.slot(name).number;
  }

  bool(name: string): boolean {
    return this.slot(name).text === 'yes';
  }

  list(name: string): string[] {
    const { text } = this.slot(name);
    return text === '' ? [] : text.split(' ');
  }

  /** Calls `fn` after each change of the directive. What it returns, if anything, refuses the change. */
  onChange(name: string, fn: Listener): void {
    const key = this.slot(name).directive.name;
    const list = this.listeners.get(key);
    if (list === undefined) this.listeners.set(key, [fn]);
    else list.push(fn);
  }

  /**
   * `CONFIG SET` of one or more pairs: all of them or none. Returns the text of the error reply, or null.
   * @param local the client is on this machine, which `enable-protected-configs local` asks
   */
  set(pairs: readonly (readonly [name: string, value: string])[], local = false): string | null {
    const named = new Map<string, Slot>();
    for (const [name] of pairs) {
      const slot = this.slots.get(name.toLowerCase());
      if (slot === undefined) return `ERR Unknown option or number of arguments for CONFIG SET - '${name}'`;
      const { changeable } = slot.directive;
      if (changeable === 'start') return refusal(name, "can't set immutable config");
      if (changeable === 'protected') {
        const who = this.get('enable-protected-configs');
        const may = who === 'yes' || (who === 'local' && local);
        return refusal(name, may ? "can't be changed while the server runs" : "can't set protected config");
      }
      if (named.has(name.toLowerCase())) return refusal(name, 'duplicate parameter');
      named.set(name.toLowerCase(), slot);
    }
    const before = new Map<Slot, string>();
    let failed: string | null = null;
    for (const [name, value] of pairs) {
      const slot = named.get(name.toLowerCase())!;
      const { directive } = slot;
      const read = directive.schema.safeParse(value);
      if (!read.success) {
        failed = refusal(name, read.error.issues[0].message);
        break;
      }
      if (!before.has(slot)) before.set(slot, slot.text);
      put(slot, directive.merge?.(slot.text, read.data, false) ?? read.data);
    }
    if (failed === null) {
      for (const [name] of pairs) {
        const slot = named.get(name.toLowerCase())!;
        const why = slot.text === before.get(slot) ? null : this.announce(slot);
        if (why !== null) {
          failed = refusal(name, why);
          break;
        }
      }
      if (failed === null) return null;
      // those who were told of the new values must hear of the old ones again
      for (const [slot, old] of before) {
        if (slot.text === old) continue;
        put(slot, old);
        this.announce(slot);
      }
      return failed;
    }
    for (const [slot, old] of before) put(slot, old);
    return failed;
  }

  private announce(slot: Slot): string | null {
    for (const fn of this.listeners.get(slot.directive.name) ?? []) {
      const why = fn(this);
      if (typeof why === 'string') return why;
    }
    return null;
  }

  /** Pairs for `CONFIG GET`. A name that is no pattern comes back spelled as it was asked for. */
  match(patterns: readonly string[]): [name: string, value: string][] {
    const found = new Map<string, string>();
    for (const pattern of patterns) {
      if (!isPattern(pattern)) {
        const slot = this.slots.get(pattern.toLowerCase());
        if (slot !== undefined && !found.has(pattern)) found.set(pattern, slot.text);
        continue;
      }
      for (const name of NAMES) {
        if (!found.has(name) && globMatch(pattern, name, true)) found.set(name, this.slots.get(name)!.text);
      }
    }
    return [...found];
  }

  /**
   * The text of the configuration file with the values of now: lines keep their places and comments stay; what
   * differs from its default and has no line yet is added at the end.
   */
  rewrite(oldText: string): string {
    const lines = oldText.split('\n');
    if (lines.at(-1) === '') lines.pop();
    const out: string[] = [];
    const written = new Set<Directive>();
    for (const line of lines) {
      const trimmed = line.trim();
      const words = trimmed === '' || trimmed.startsWith('#') ? null : splitInline(trimmed);
      const name = words?.[0]?.toLowerCase() ?? '';
      const directive = BY_NAME.get(name);
      if (directive === undefined) out.push(line);
      else if (!written.has(directive)) {
        written.add(directive);
        out.push(...this.linesFor(directive));
      }
    }
    const added = DIRECTIVES.filter((d) => !written.has(d) && this.slots.get(d.name)!.text !== d.initial);
    if (added.length > 0) {
      if (!lines.includes(REWRITE_MARK)) out.push(REWRITE_MARK);
      for (const directive of added) out.push(...this.linesFor(directive));
    }
    return out.join('\n') + '\n';
  }

  private linesFor(directive: Directive): string[] {
    const { text } = this.slots.get(directive.name)!;
    if (directive.name === 'client-output-buffer-limit') {
      const words = text.split(' ');
      const lines: string[] = [];
      for (let i = 0; i < words.length; i += 4) {
        lines.push([directive.name, words[i], withUnit(words[i + 1]), withUnit(words[i + 2]), words[i + 3]].join(' '));
      }
      return lines;
    }
    if (directive.memory) return [`${directive.name} ${withUnit(text)}`];
    if (directive.words && text !== '') return [`${directive.name} ${text.split(' ').map(quoted).join(' ')}`];
    return [`${directive.name} ${quoted(text)}`];
  }
}

const REWRITE_MARK = '# Generated by CONFIG REWRITE';

function put(slot: Slot, text: string): void {
  slot.text = text;
  slot.number = numberOf(text);
}

function refusal(name: string, why: string): string {
  return `ERR CONFIG SET failed (possibly related to argument '${name}') - ${why}`;
}

/** Bytes with the largest unit that divides them. */
function withUnit(bytes: string): string {
  const n = BigInt(bytes);
  if (n === 0n) return '0';
  for (const [unit, name] of [
    [1n << 30n, 'gb'],
    [1n << 20n, 'mb'],
    [1n << 10n, 'kb'],
  ] as const) {
    if (n % unit === 0n) return `${n / unit}${name}`;
  }
  return bytes;
}

/** A word as a configuration file has it. */
function quoted(word: string): string {
  if (word !== '' && /^[\x21-\x7e]+$/.test(word) && !/["'#\\]/.test(word)) return word;
  let s = '"';
  for (const c of word) {
    const code = c.charCodeAt(0);
    if (c === '"' || c === '\\') s += `\\${c}`;
    else if (c === '\n') s += '\\n';
    else if (c === '\r') s += '\\r';
    else if (c === '\t') s += '\\t';
    else if (code < 32 || code > 126) s += `\\x${code.toString(16).padStart(2, '0')}`;
    else s += c;
  }
  return `${s}"`;
}

const MAX_INCLUDE_DEPTH = 16;

/**
 * The settings of a configuration file, in order. `include` returns the text of another file.
 * @param file the name that errors give
 */
export function parseConfigText(
  text: string,
  include: (path: string) => string,
  file = 'configuration',
  depth = 0,
): Setting[] {
  if (depth > MAX_INCLUDE_DEPTH) throw problem(file, 'include goes too deep; does a file include itself?');
  const settings: Setting[] = [];
  const lines = text.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i].trim();
    if (line === '' || line.startsWith('#')) continue;
    const where = `${file}:${i + 1}: '${line}'`;
    const words = splitInline(line);
    if (words === null) throw problem(where, 'Unbalanced quotes in configuration line');
    if (words.length === 0) continue;
    const name = words[0].toLowerCase();
    if (name === 'include') {
      if (words.length !== 2) throw problem(where, 'Bad directive or wrong number of arguments');
      let included: string;
      try {
        included = include(words[1]);
      } catch (error) {
        throw problem(where, `can't read it: ${error instanceof Error ? error.message : String(error)}`);
      }
      settings.push(...parseConfigText(included, include, words[1], depth + 1));
      continue;
    }
    settings.push({ name, values: words.slice(1), where });
  }
  return settings;
}

export interface Arguments {
  /** The configuration file's path, `-` for standard input, or null. */
  file: string | null;
  settings: Setting[];
  help: boolean;
  version: boolean;
}

/** The command line without the program: `[conf-file] [--directive value ...]`, as redis-server takes it. */
export function parseArguments(argv: readonly string[]): Arguments {
  const parsed: Arguments = { file: null, settings: [], help: false, version: false };
  let i = 0;
  if (argv.length === 1) {
    if (argv[0] === '-h' || argv[0] === '--help') return { ...parsed, help: true };
    if (argv[0] === '-v' || argv[0] === '--version') return { ...parsed, version: true };
  }
  if (argv.length > 0 && (argv[0] === '-' || !argv[0].startsWith('-'))) parsed.file = argv[i++];
  // the word after a name is its value even when it begins with two dashes
  let current: Setting | null = null;
  for (; i < argv.length; i++) {
    const arg = argv[i];
    const wantsValue = current !== null && current.values.length === 0;
    if (arg.startsWith('--') && !wantsValue) {
      const words = splitInline(arg.slice(2));
      if (words === null || words.length === 0) throw problem(`'${arg}'`, 'Bad directive or wrong number of arguments');
      current = { name: words[0].toLowerCase(), values: words.slice(1), where: `'${arg}'` };
      parsed.settings.push(current);
      // `--save` with nothing behind it turns snapshots off
      if (current.name === 'save' && (argv[i + 1] ?? '--').startsWith('--')) current.values.push('');
    } else if (arg === '-' && i === argv.length - 1 && parsed.file === null) parsed.file = '-';
    else if (current === null) throw problem(`'${arg}'`, 'expected an option that begins with --');
    else {
      current.values.push(arg);
      current.where += ` '${arg}'`;
    }
  }
  return parsed;
}
