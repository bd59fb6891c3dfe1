/**
 * Loaded into each server of `gramme local`: a server whose parent is gone stops, so that none is left behind when the
 * tool is killed and can stop nobody itself.
 */
const LOOK_MS = 300;

const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, 'SIGTERM');
}, LOOK_MS).unref();
