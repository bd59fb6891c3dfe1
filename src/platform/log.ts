/** The log port over `pino`: JSON lines on stdout, or readable ones where a person reads. */
import pino from 'pino';
import type { Log } from '../ports/log.ts';

const LEVELS: Record<string, string> = {
  debug: 'debug',
  verbose: 'debug',
  notice: 'info',
  warning: 'warn',
  nothing: 'silent',
};

/** @param level Redis's `loglevel`; @param file '' for stdout */
export function openLog(level: string, file: string): Log & { setLevel(level: string): void } {
  const options = {
    level: LEVELS[level] ?? 'info',
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  // synchronous: the last lines before a crash are the ones that matter
  const logger = pino(options, pino.destination({ dest: file === '' ? 1 : file, sync: true, append: true }));
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    setLevel: (name) => {
      logger.level = LEVELS[name] ?? 'info';
    },
  };
}
