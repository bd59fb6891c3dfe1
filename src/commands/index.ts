/** All families of commands. */
import type { CommandSpec } from './command.ts';
import { dumpCommands } from './dump.ts';
import { dynamoCommands } from './dynamo.ts';
import { expireCommands } from './expire.ts';
import { keyCommands } from './keys.ts';
import { scanCommands } from './scan.ts';
import { stringCommands } from './strings.ts';

export const COMMANDS: CommandSpec[] = [
  ...dumpCommands,
  ...dynamoCommands,
  ...expireCommands,
  ...keyCommands,
  ...scanCommands,
  ...stringCommands,
];
