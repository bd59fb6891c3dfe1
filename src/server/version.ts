/** Versions: ours, and the Redis whose commands and replies we keep to (libraries gate on it). */
export const VERSION = '0.1.0';
export const REDIS_VERSION = '7.0.15';
