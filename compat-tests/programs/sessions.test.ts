// A web application whose sessions live in the server: Express, express-session, connect-redis.

import assert from 'node:assert/strict';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import { onEveryServer, type Target } from './targets.ts';

const COOKIE_MS = 600_000;

async function startApp(target: Target) {
  const client = createClient({ socket: { host: target.host, port: target.port } });
  client.on('error', () => {});
  await client.connect();
  const store = new RedisStore({ client, prefix: 'sess:' });
  const app = express();
  app.use(express.json());
  app.use(
    session({
      store,
      secret: 'not a secret',
      resave: false,
      saveUninitialized: false,
      rolling: true,
      cookie: { maxAge: COOKIE_MS },
    }),
  );
  // biome-ignore-start lint/suspicious/noExplicitAny: Express comes without types
  app.post('/login', (request: any, response: any) => {
    request.session.user = request.body.user;
    request.session.visits = 0;
    response.json({ user: request.session.user });
  });
  app.get('/visit', (request: any, response: any) => {
    if (request.session.user === undefined) return response.status(401).json({ error: 'not logged in' });
    request.session.visits += 1;
    return response.json({ user: request.session.user, visits: request.session.visits });
  });
  app.get('/peek', (request: any, response: any) => response.json({ user: request.session.user ?? null }));
  app.post('/logout', (request: any, response: any) => {
    request.session.destroy((error: unknown) => response.status(error ? 500 : 204).end());
  });
  // biome-ignore-end lint/suspicious/noExplicitAny: Express comes without types
  const http = await new Promise<Server>((resolve) => {
    const listening: Server = app.listen(0, '127.0.0.1', () => resolve(listening));
  });
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    client,
    store,
    async stop() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
      await client.close();
    },
  };
}

/** A browser: remembers its cookie. */
class Browser {
  cookie = '';

  constructor(private readonly url: string) {}

  async send(method: 'GET' | 'POST', path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const response = await fetch(this.url + path, {
      method,
      headers: { 'content-type': 'application/json', cookie: this.cookie },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const set = response.headers.get('set-cookie');
    if (set) this.cookie = set.split(';', 1)[0];
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  }
}

onEveryServer('sessions', (target) => {
  async function withApp(use: (app: Awaited<ReturnType<typeof startApp>>) => Promise<void>): Promise<void> {
    const app = await startApp(target);
    try {
      await use(app);
    } finally {
      await app.stop();
    }
  }

  test('logging in, counting visits, logging out', () =>
    withApp(async (app) => {
      const browser = new Browser(app.url);
      assert.equal((await browser.send('GET', '/visit')).status, 401);
      assert.deepEqual(await browser.send('POST', '/login', { user: 'ada' }), { status: 200, body: { user: 'ada' } });
      for (let visits = 1; visits <= 5; visits++) {
        assert.deepEqual((await browser.send('GET', '/visit')).body, { user: 'ada', visits });
      }
      assert.equal(await app.client.dbSize(), 1);
      assert.equal((await browser.send('POST', '/logout')).status, 204);
      assert.equal(await app.client.dbSize(), 0);
      assert.equal((await browser.send('GET', '/visit')).status, 401);
    }));

  test('a look at the page touches the session', () =>
    withApp(async (app) => {
      const browser = new Browser(app.url);
      await browser.send('POST', '/login', { user: 'grace' });
      const [key] = await app.client.keys('sess:*');
      const fresh = await app.client.pTTL(key);
      assert.ok(fresh > COOKIE_MS - 5000 && fresh <= COOKIE_MS, `TTL is ${fresh}`);
      await app.client.expire(key, 30);
      assert.deepEqual((await browser.send('GET', '/peek')).body, { user: 'grace' });
      const touched = await app.client.pTTL(key);
      assert.ok(touched > COOKIE_MS - 5000, `TTL is ${touched}`);
    }));

  test('an expired session is a stranger', () =>
    withApp(async (app) => {
      const browser = new Browser(app.url);
      await browser.send('POST', '/login', { user: 'alan' });
      const [key] = await app.client.keys('sess:*');
      await app.client.pExpire(key, 1);
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual((await browser.send('GET', '/peek')).body, { user: null });
    }));

  test('many browsers at once, over two application servers', () =>
    withApp((one) =>
      withApp(async (two) => {
        const visitors = Array.from({ length: 8 }, (_, i) => ({ name: `user-${i}`, browser: new Browser(one.url) }));
        await Promise.all(
          visitors.map(async ({ name, browser }) => {
            await browser.send('POST', '/login', { user: name });
            // The same visitor lands on the other application server and is known there.
            const elsewhere = new Browser(two.url);
            for (let visits = 1; visits <= 6; visits++) {
              const here = visits % 2 === 0 ? browser : elsewhere;
              here.cookie = browser.cookie;
              assert.deepEqual((await here.send('GET', '/visit')).body, { user: name, visits });
            }
          }),
        );
        assert.equal(await one.store.length(), 8);
        const all = (await two.store.all()) as unknown as { user: string; visits: number }[];
        assert.deepEqual(
          all.map((found) => `${found.user}: ${found.visits}`).sort(),
          visitors.map(({ name }) => `${name}: 6`),
        );
        await one.store.clear();
        assert.equal(await two.store.length(), 0);
      }),
    ));
});
