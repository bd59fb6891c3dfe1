/** All families of commands. */
import { adminCommands } from './admin.ts';
import { bitCommands } from './bits.ts';
import { clientCommands } from './client.ts';
import { clusterCommands } from './cluster.ts';
import type { CommandSpec } from './command.ts';
import { configCommands } from './config.ts';
import { connectionCommands } from './connection.ts';
import { dumpCommands } from './dump.ts';
import { dynamoCommands } from './dynamo.ts';
import { expireCommands } from './expire.ts';
import { infoCommands } from './info.ts';
import { introspectionCommands } from './introspection.ts';
import { keyCommands } from './keys.ts';
import { lcsCommands } from './lcs.ts';
import { monitoringCommands } from './monitoring.ts';
import { scanCommands } from './scan.ts';
import { stringCommands } from './strings.ts';

export const COMMANDS: CommandSpec[] = [
  ...adminCommands,
  ...bitCommands,
  ...clientCommands,
  ...clusterCommands,
  ...configCommands,
  ...connectionCommands,
  ...dumpCommands,
  ...dynamoCommands,
  ...expireCommands,
  ...infoCommands,
  ...introspectionCommands,
  ...keyCommands,
  ...lcsCommands,
  ...monitoringCommands,
  ...scanCommands,
  ...stringCommands,
];
