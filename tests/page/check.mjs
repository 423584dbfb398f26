// The page in a real browser, in every state: node check.mjs DOCUMENTS PAGE, both folders. Run by tests/it/page.rs.

import assert from 'node:assert/strict';
import { accessibility, launch, open, shows as showsOn } from './browser.mjs';
import { Server } from './server.mjs';

const [documents, folder] = process.argv.slice(2);
const server = new Server(documents, folder);
const base = await server.listen();
const browser = await launch();
const { page, complaints } = await open(browser, base);

const text = (selector) => page.locator(selector).first().innerText();
const shows = (...expected) => showsOn(page, ...expected);
const rows = () => page.locator('#events-body tr[data-event]').count();
async function hasRows(expected) {
  for (const until = Date.now() + 20_000; (await rows()) !== expected; await page.waitForTimeout(50)) {
    assert.ok(Date.now() < until, `${await rows()} rows instead of ${expected}`);
  }
}
/** How far the page is wider than its window. */
const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

const checks = {
  async 'each state has its line, its level and room at every width'() {
    const lines = {
      calm: ['well', 'All well.'],
      outage: ['critical', /^The gate is shut: Desk does not answer/],
      misconfigured: ['critical', /^The gate is shut: Desk refuses every call \(60006/],
      poison: ['warning', /^48 records could not be read/],
      nobody: ['warning', /^Nobody is online/],
      ledger: ['critical', /^The ledger is unavailable/],
      many: ['critical', /^The gate is shut/],
      hostile: ['critical', /^The gate is shut/],
    };
    for (const [state, [level, line]] of Object.entries(lines)) {
      server.show(state);
      await shows('#line', line);
      assert.equal(await page.evaluate(() => document.documentElement.dataset.level), level);
      assert.equal(/^[\u2715\u25b2]/.test(await page.title()), level !== 'well', 'the tab says it, too');
      for (const width of [360, 1440, 2560]) {
        await page.setViewportSize({ width, height: 900 });
        assert.ok((await overflow()) <= 0, `${state} is too wide for ${width}`);
      }
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  },

  async 'the first line says what, since when, whom it costs, what to do, how long is left'() {
    server.show('misconfigured');
    await shows('#more', /212 escalations wait[^]*Do: Check desk\.sdkappid and desk\.region\.[^]*since[^]*12 min[^]*next probe\s+in \d+ s[^]*waiting\s+212[^]*first deadline in\s+\d min \d+ s[^]*runbook\s+docs\/operations\.md#/);
    server.show('calm');
    await shows('#more', /^Last answer \d+ s ago\.$/);
  },

  async 'only the first line is read aloud, and only when it changes'() {
    assert.equal(await page.locator('[aria-live], [role=status], [role=alert]').count(), 1);
    await page.evaluate(() => {
      globalThis.changes = 0;
      new MutationObserver(() => (globalThis.changes += 1)).observe(document.getElementById('line'), { childList: true, characterData: true, subtree: true });
    });
    const age = await text('#service time');
    await page.waitForTimeout(2500);
    assert.equal(await page.evaluate(() => globalThis.changes), 0);
    server.show('misconfigured');
    await shows('#line', /^The gate is shut/);
    assert.equal(await page.evaluate(() => globalThis.changes), 1, age);
  },

  async 'numbers beyond 2^53 are exact'() {
    await shows('#partitions-body', /9\u202f007\u202f199\u202f254\u202f740\u202f993/);
    await shows('#now', /9\u202f007\u202f199\u202f254\u202f742\u202f623/);
    assert.match(await text('#events-body'), /handoff\.escalations\/1\/9007199254740993/);
  },

  async 'every table has a caption, and every section says what it covers'() {
    assert.equal(await page.locator('table').count(), await page.locator('table > caption').count());
    for (const section of ['routes', 'events', 'outcomes', 'partitions', 'dead-letters']) {
      assert.match(await text(`#${section}-covers`), /this instance, 6 of 12 partitions/);
    }
  },

  async 'text of others does nothing'() {
    server.show('hostile');
    await shows('#routes-body', /<script>document\.title='stolen'<\/script>/);
    assert.equal(await page.evaluate(() => document.querySelectorAll('script').length), 1);
    assert.equal(await page.locator('img, iframe, object').count(), 0);
    assert.doesNotMatch(await page.title(), /stolen/);
    const sessions = await page.locator('#events-body td[data-name=session]').allInnerTexts();
    assert.ok(sessions.includes('\\u202egnp.exe'), 'what turns the direction of text is shown by its number');
    assert.ok(sessions.includes('x'.repeat(256)), 'in full for those who copy it');
    assert.equal(await page.locator('#events-body td[data-name=session] > bdi').count(), sessions.length);
    await page.locator('#events-body tr[data-event] a').first().click();
    await shows('#event .command code', "handoff events show <script>document.title='stolen'</script>");
    assert.deepEqual(await accessibility(page), []);
    await page.keyboard.press('Escape');
  },

  async 'five thousand unfinished events are shown page by page'() {
    server.show('many');
    await shows('#events-foot', /^100 of 5\u202f000 shown/);
    await hasRows(100);
    await page.locator('[data-do=more]').click();
    await hasRows(200);
    await page.locator('#problems a', { hasText: 'waiting retry' }).click();
    await shows('#events-foot', /^33 shown/);
    assert.match(page.url(), /\?problem=waiting_retry$/);
    await page.reload();
    await hasRows(33);
    await page.locator('[data-do=clear]').click();
    await page.keyboard.press('/');
    await page.keyboard.type('evt-1499');
    await hasRows(10);
    assert.match(page.url(), /\?q=evt-1499$/);
    await page.keyboard.press('Escape');
    await page.locator('[data-do=clear]').click();
    await hasRows(100);
    await page.locator('#sort').selectOption('attempts');
    assert.equal(await text('#events-body td[data-name=attempts]'), '5');
    await page.locator('[data-do=clear]').click();
  },

  async 'the keyboard is enough'() {
    const focused = () => page.evaluate(() => document.activeElement.innerText);
    await page.evaluate(() => document.activeElement.blur());
    for (const key of ['j', 'j', 'j', 'k']) await page.keyboard.press(key);
    const second = await focused();
    assert.equal(second, await page.locator('#events-body a').nth(1).innerText());
    await page.keyboard.press('Enter');
    await shows('#event-title', second);
    await page.keyboard.press('j');
    await shows('#event-title', await page.locator('#events-body a').nth(2).innerText());
    await page.keyboard.press('Escape');
    await page.locator('#event').waitFor({ state: 'hidden' });
    assert.notEqual(await focused(), second, 'the focus is back at the event that was open');
    await page.keyboard.press('Enter');
    await page.locator('#event').waitFor();
    await page.goBack();
    await page.locator('#event').waitFor({ state: 'hidden' });
    await page.keyboard.press('?');
    await shows('#ask-title', 'Keys');
    await page.keyboard.press('Escape');
  },

  async 'one event has its history, its decision and its commands'() {
    server.show('misconfigured');
    await shows('#events-foot', /of 212 shown/);
    await page.locator('#events-body tr[data-event]').first().click();
    await shows('#event', /received[^]*claimed[^]*parked[^]*next: called when the gate opens/);
    await shows('#event', /anna@example\.com in group 2473 \u2192 141001/);
    await shows('#event', /vip-german: used/);
    await page.locator('#event [data-copy]').first().click();
    await shows('#event [data-copy]', 'Copied');
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'handoff events show evt-9100');
    await page.keyboard.press('Escape');
  },

  async 'a pasted event is sent as it is, and explained'() {
    const record = ' {"session_id":"s-1","n":9007199254740993}\n';
    await page.locator('#record').fill(record);
    await page.locator('#explain-form button').click();
    await shows('#explained', /Desk is called[^]*tried native, recognised[^]*night: not used[^]*anna@example\.com in group 2473/);
    await shows('#explained', /"ticket":"?9007199254740993/);
    assert.deepEqual(server.posted.pop(), { path: 'explain', body: record });
  },

  async 'pause stops everything, and a hidden page asks for nothing'() {
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('p');
    await shows('#feed', /Paused/);
    const before = await text('main');
    await page.waitForTimeout(1500);
    assert.equal(await text('main'), before);
    assert.equal(server.streams.size, 0);
    await page.keyboard.press('p');
    await shows('#feed', /Live/);
    await page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await page.waitForTimeout(1200);
    assert.equal(server.streams.size, 0);
    await page.evaluate(() => {
      delete document.hidden;
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await shows('#feed', /Live/);
  },

  async 'without the stream it polls; without an answer it says so, and comes back'() {
    server.breakDown({ hasStream: false });
    await shows('#feed', /Polling/);
    server.show('calm');
    await shows('#line', 'All well.');
    server.breakDown({ isAway: true });
    await shows('#line', 'This page gets no answer from handoff.');
    assert.ok(await page.evaluate(() => document.documentElement.hasAttribute('data-stale')));
    server.breakDown({});
    await shows('#line', 'All well.');
  },

  async 'a refusal is shown in the words of the server'() {
    server.refusal = 'set `admin.token_file`: without it this port shows nothing here';
    await page.reload();
    await shows('#line', 'Set `admin.token_file`: without it this port shows nothing here.');
    assert.equal(await page.evaluate(() => document.documentElement.dataset.level), 'warning');
    server.refusal = '';
    await shows('#line', 'All well.');
  },

  async 'a token opens what is closed, and is kept nowhere'() {
    server.token = 'secret';
    await page.reload();
    await shows('#line', 'This page needs a token.');
    await page.locator('#more button').click();
    await page.locator('input[name=token]').fill('secret');
    await page.locator('input[name=actor]').fill('ann');
    await page.locator('#ask-yes').click();
    await shows('#line', 'All well.');
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
    assert.doesNotMatch(kept, /secret/);
  },

  async 'actions say how many, ask, and are sent one by one'() {
    server.show('misconfigured');
    await page.locator('#problems a', { hasText: 'gate shut' }).click();
    await shows('#events-foot', /Retry \d+ \u2026/);
    const count = await rows();
    server.posted.length = 0;
    await page.locator('[data-do=give-up-shown]').click();
    await shows('#ask-title', `Give up ${count} events?`);
    await page.locator('input[name=reason]').fill('a test');
    await page.locator('#ask-yes').click();
    await shows('#ask-title', 'Done');
    assert.match(await text('#ask-body'), new RegExp(`${count} × it is given up`));
    assert.equal(server.posted.length, count);
    assert.match(server.posted[0].path, /^events\/handoff\.escalations\/\d+\/\d+\/give-up$/);
    assert.deepEqual(JSON.parse(server.posted[0].body), { reason: 'a test', by: 'ann' });
    await page.keyboard.press('Escape');
    await page.locator('[data-do=clear]').click();
    await page.locator('#events-body tr[data-event]').first().click();
    await page.locator('[data-do=retry-one]').click();
    await page.locator('#ask-yes').click();
    await shows('#ask-body', /1 × it is in work/);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    await page.locator('#actions').click();
    await page.locator('#ask-yes').click();
    await shows('#ask-title', 'Done');
    assert.equal(server.posted.at(-1).path, 'intake/pause');
    await page.keyboard.press('Escape');
  },

  async 'light, dark, phone and wall are accessible'() {
    assert.deepEqual(await accessibility(page), []);
    const ground = () => page.evaluate(() => getComputedStyle(document.querySelector('.panel')).backgroundColor);
    const light = await ground();
    await page.locator('#theme').click();
    assert.equal(await ground(), light);
    await page.locator('#theme').click();
    assert.notEqual(await ground(), light);
    await page.setViewportSize({ width: 360, height: 800 });
    assert.deepEqual(await accessibility(page), []);
    await page.setViewportSize({ width: 2560, height: 1440 });
    await page.evaluate(() => (location.hash = '#floor'));
    await page.locator('#events').waitFor({ state: 'hidden' });
    assert.ok(await page.locator('#routes').isVisible());
    assert.equal(await page.locator('button:visible, input:visible').count(), 0);
    await page.keyboard.press('Escape');
    await page.locator('#events').waitFor();
  },

  async 'without JavaScript there is a table'() {
    server.token = '';
    const plain = await open(browser, base, { javaScriptEnabled: false });
    assert.match(await plain.page.locator('table').first().innerText(), /what\s+all well/);
    assert.equal(await plain.page.locator('main').isVisible(), false);
    assert.deepEqual(plain.complaints, []);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const began = Date.now();
  try {
    await check();
    assert.deepEqual(complaints.splice(0), []);
    console.log(`ok ${((Date.now() - began) / 1000).toFixed(1)} s  ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
    await page.goto(base);
  }
}
assert.deepEqual(server.strays, [], 'all addresses are relative');
await browser.close();
server.close();
process.exit(failed ? 1 : 0);
