// Takes the pictures of docs/page.md and the README: node pictures.mjs DOCUMENTS PAGE TO, all folders (docs/page.md says how).

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, open } from './browser.mjs';
import { Server } from './server.mjs';

const [documents, folder, to] = process.argv.slice(2);
const position = ({ topic, partition, offset }) => `${topic}/${partition}/${offset}`;
const server = new Server(documents, folder);
const base = await server.listen();
const browser = await launch();

// Numbers that are there to be exact are no picture of an ordinary day.
for (const status of Object.values(server.documents).filter((document) => document.now)) {
  status.now.lag = 1840;
  for (const partition of status.partitions) partition.lag = partition.lag === null ? 20 : Number(partition.lag) % 1000;
}

const PICTURES = [
  { name: 'page', state: 'misconfigured', height: 1080 },
  { name: 'calm', state: 'calm', scheme: 'dark', height: 760 },
  { name: 'event', state: 'misconfigured', query: (status) => `?event=${position(status.unfinished_events[1].record)}`, height: 1080 },
  { name: 'wall', state: 'nobody', scheme: 'dark', width: 1920, height: 1080, query: () => '#floor' },
  { name: 'phone', state: 'outage', width: 360, height: 780 },
];
for (const { name, state, scheme, width = 1440, height, query = () => '' } of PICTURES) {
  server.show(state);
  const { page } = await open(browser, base + query(server.status), { width, scheme });
  await page.setViewportSize({ width, height });
  await page.locator('#events-body tr[data-event]').first().waitFor({ state: 'attached' });
  await page.waitForTimeout(1000);
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 80 });
  writeFileSync(join(to, `${name}.webp`), Buffer.from(data, 'base64'));
  await page.context().close();
}
await browser.close();
server.close();
