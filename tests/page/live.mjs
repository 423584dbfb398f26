// The page of a running service: node live.mjs URL trouble|well. Run by tests/it/page.rs, which has published three
// escalations and given Desk another key, and repairs that in between. The token is "secret".

import assert from 'node:assert/strict';
import { accessibility, launch, open, shows as showsOn } from './browser.mjs';

const [url, state] = process.argv.slice(2);
// The service may still be starting.
while (!(await fetch(url).catch(() => null))) await new Promise((resolve) => setTimeout(resolve, 200));
const browser = await launch();
const { page, complaints } = await open(browser, url);
page.setDefaultTimeout(60_000);
const shows = (selector, expected) => showsOn(page, selector, expected, 60_000);

const checks = {
  async trouble() {
    await shows('#line', /gate is shut/i);
    assert.equal(await page.evaluate(() => document.documentElement.dataset.level), 'critical');
    await shows('#more', /70009[^]*secret key/);
    await page.locator('#events-body tr[data-event]').nth(2).waitFor();
    await page.locator('#events-body a', { hasText: '<script>' }).click();
    await shows('#event', /received[^]*next:/);
    await page.keyboard.press('Escape');
  },
  async well() {
    await shows('#line', 'All well.');
    await page.locator('#outcomes-body tr[data-event]').nth(2).waitFor();
    await page.locator('#outcomes-body a', { hasText: '<script>' }).click();
    await shows('#event', /claimed[^]*settled[^]*published/);
    await shows('#event .command', /handoff events show/);
    await page.keyboard.press('Escape');
    await page.locator('#record').fill('{"session_id":"s-9","attributes":{"lang":"de"}}');
    await page.locator('#explain-form button').click();
    await shows('#explained', /Desk is called/);

    await page.locator('#actions').click();
    await page.locator('input[name=token]').fill('secret');
    await page.locator('input[name=actor]').fill('ann');
    await page.locator('#ask-yes').click();
    for (const [what, is] of [['Pause', 'paused'], ['Resume', 'running']]) {
      await page.locator('#actions', { hasText: what }).click();
      await page.locator('#ask-yes').click();
      await shows('#ask-title', 'Done');
      await page.keyboard.press('Escape');
      await shows('.tile:last-child', new RegExp(is));
    }
  },
};
await shows('#feed', /Live/);
await checks[state]();
assert.deepEqual(await accessibility(page), []);
assert.deepEqual(complaints, []);
assert.match((await page.request.get(url)).headers()['content-security-policy'], /default-src 'none'/);
await browser.close();
