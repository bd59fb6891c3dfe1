/** All families of commands, in the order in which `COMMAND` lists them. */
import type { CommandSpec } from './command.ts';
import { stringCommands } from './strings.ts';

export const COMMANDS: CommandSpec[] = [...stringCommands];
