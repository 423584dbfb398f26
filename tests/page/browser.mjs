// Debian's Chromium (or the Chrome of a CI machine), without what it would ask the network for.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const PROGRAMS = ['/usr/bin/chromium', '/usr/bin/google-chrome'];

export function launch() {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'];
  return chromium.launch({ executablePath: PROGRAMS.find(existsSync), args });
}

/** Opens an address. What the page complains about, and what it asks other servers for, gets into `complaints`. */
export async function open(browser, url, { width = 1440, scheme = 'light', javaScriptEnabled = true } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: Math.max(800, Math.round(width * 0.6)) }, colorScheme: scheme, javaScriptEnabled,
    // Times of day are the same everywhere, and a test reads the clipboard.
    timezoneId: 'UTC', locale: 'en-GB', permissions: ['clipboard-read', 'clipboard-write'],
  });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  // A refused request is also an entry of the console; the page shows those itself.
  page.on('console', (entry) => entry.type() === 'error' && !/Failed to load resource/.test(entry.text()) && complaints.push(entry.text()));
  const { origin } = new URL(url);
  page.on('request', (request) => /^(data|about):/.test(request.url()) || new URL(request.url()).origin === origin || complaints.push(`asks for ${request.url()}`));
  page.setDefaultTimeout(20_000);
  await page.goto(url);
  return { page, complaints };
}

/** What axe finds, serious or worse. Evaluated from outside, because the page's own policy admits no other script. */
export async function accessibility(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`);
}

/** Waits until an element shows what is expected, a text or a pattern; says what it shows if it does not. */
export async function shows(page, selector, expected, limit = 20_000) {
  const is = (shown) => (expected instanceof RegExp ? expected.test(shown) : shown === expected);
  for (let shown, until = Date.now() + limit; ; await page.waitForTimeout(50)) {
    shown = await page.locator(selector).first().innerText({ timeout: limit }).catch(String);
    if (is(shown)) return;
    if (Date.now() > until) throw new Error(`${selector} shows ${JSON.stringify(shown)} instead of ${expected}`);
  }
}
