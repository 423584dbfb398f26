// The live page: docs/page.md says what each part means. Each part is a function from the document to
// elements; `patch` changes the page only where it differs, so that focus and selection survive. Texts get in
// as text nodes only. All addresses are relative. Filters, order and the shown event are in the page's URL.

// -- Elements

const $ = (id) => document.getElementById(id);
const $$ = (selector) => document.querySelectorAll(selector);
const on = (target, type, action) => target.addEventListener(type, action);
const root = document.documentElement;
const isShown = (child) => child !== null && child !== undefined && child !== false && child !== '';

/** Makes elements: `h('b.odd', {title: 'x'}, children)`. What is not shown is left out; `key` is for `patch`. */
const maker = (namespace) => (selector, ...rest) => {
  const [tag, ...classes] = selector.split('.').filter(Boolean);
  const element = document.createElementNS(namespace, tag);
  if (classes.length > 0) element.setAttribute('class', classes.join(' '));
  if (rest[0]?.constructor === Object) {
    for (const [name, value] of Object.entries(rest.shift())) {
      if ((value ?? false) !== false) element.setAttribute(name === 'key' ? 'data-key' : name, value);
    }
  }
  element.append(...rest.flat(Infinity).filter(isShown));
  return element;
};
const h = maker('http://www.w3.org/1999/xhtml');
const svg = maker('http://www.w3.org/2000/svg');

const soft = (...content) => h('span.soft', ...content);
const bold = (...content) => h('b', ...content);
const button = (action, text, kind = 'small') => h(`button.${kind}`, { type: 'button', 'data-do': action }, text);
const keyOf = (node) => node.dataset?.key;

/** Makes the children of `parent` like `fresh`, and keeps those that are alike. */
function patch(parent, ...fresh) {
  const wanted = fresh.flat(Infinity).filter(isShown).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  const keys = new Set(wanted.map(keyOf));
  const known = new Map();
  for (const child of [...parent.childNodes]) {
    const key = keyOf(child);
    // Removed first: those behind it would lose the focus if they were moved.
    if (key && !keys.has(key)) child.remove();
    else if (key) known.set(key, child);
  }
  let at = parent.firstChild;
  for (const child of wanted) {
    const key = keyOf(child);
    const match = key ? known.get(key) : at && !keyOf(at) && at.nodeName === child.nodeName && at;
    if (!match) {
      parent.insertBefore(child, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else parent.insertBefore(match, at);
    if (match !== child) update(match, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function update(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // `open` is what the reader did to a <details>.
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  patch(old, ...fresh.childNodes);
}

// -- Numbers, times, names

/** Parses JSON; whole numbers that a double could not hold stay exact, as text. */
function parse(text) {
  const token = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  return JSON.parse(text.replace(token, (part) => (/^-?\d{16,}$/.test(part) ? `"${part}"` : part)));
}

function number(value) {
  return isShown(value) ? String(value).replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, '\u202f') : '–';
}

function percent(part, whole) {
  const share = whole ? (100 * part) / whole : 0;
  return `${share > 0 && share < 1 ? '<1' : Math.round(share)} %`;
}

function milliseconds(value) {
  if (!isShown(value)) return '–';
  return value < 1000 ? `${value} ms` : value < 60_000 ? `${(value / 1000).toFixed(1)} s` : duration(value / 1000);
}

/** The two largest units: "4 min 10 s". */
function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const two = (size, unit, part, name) => `${Math.floor(s / size)} ${unit} ${Math.floor((s % size) / part)} ${name}`;
  return s < 60 ? `${s} s` : s < 3600 ? two(60, 'min', 1, 's') : s < 86_400 ? two(3600, 'h', 60, 'min') : two(86_400, 'd', 3600, 'h');
}

/** Milliseconds that the server's clock is ahead of this one; while paused, the moment that is shown. */
let ahead = 0;
let pausedAt = null;
const now = () => pausedAt ?? Date.now() + ahead;
/** Seconds from `at` until now. */
const since = (at) => (now() - Date.parse(at)) / 1000;

const MODES = {
  age: duration,
  ago: (seconds) => `${duration(seconds)} ago`,
  left: (seconds) => (seconds > 0 ? `over for ${duration(seconds)}` : duration(-seconds)),
  in: (seconds) => (seconds > -1 ? 'now' : `in ${duration(-seconds)}`),
};

/** A time that counts, in one of MODES. */
function timer(at, mode) {
  if (!at) return '–';
  return ticked(h('time', { datetime: at, 'data-mode': mode, title: at }));
}

function ticked(time) {
  const seconds = since(time.dateTime);
  const text = MODES[time.dataset.mode](seconds);
  if (time.textContent !== text) time.textContent = text;
  if (time.dataset.mode === 'left') time.className = seconds > -60 ? 'bad' : seconds > -180 ? 'odd' : '';
  return time;
}

function clock(at, hasFraction) {
  const date = new Date(at);
  const fraction = hasFraction ? `.${String(date.getMilliseconds()).padStart(3, '0')}` : '';
  const day = Math.abs(since(at)) < 43_200 ? '' : `${date.toLocaleDateString()} `;
  return h('time', { datetime: at, title: at }, day + date.toLocaleTimeString([], { hour12: false }) + fraction);
}

/** Shows controls, and characters that turn the direction of text, by their numbers. */
function printable(text) {
  return String(text).replace(/[\0-\t\v-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Text of others, isolated, so that its direction turns nothing around it. */
const bdi = (text) => (isShown(text) ? h('bdi', printable(text)) : '–');
const id = (text) => h('bdi.id.mono', printable(text));
const clipped = (text) => h('bdi.id.mono.clip', { title: printable(text) }, printable(text));
const position = ({ topic, partition, offset }) => `${topic}/${partition}/${offset}`;
const words = (word) => String(word ?? '–').replaceAll('_', ' ');

/** What an unfinished event waits for, and how grave that is. */
const PROBLEMS = {
  calling: 1, rate_limited: 1, behind_in_session: 1, waiting_retry: 2, no_agent_online: 2, in_doubt: 2, unpublished: 2, gate_shut: 3, blocked: 3,
};
const STATUSES = ['assigned', 'queued', 'no_agent_online', 'rejected', 'expired', 'failed'];

const problem = (name) => h('span.problem', { 'data-rank': PROBLEMS[name] }, words(name));
const status = (name) => h('span.status', h(`span.swatch.fill-${name}`), words(name));

// -- Small charts; their labels say the same

const chart = (name, width, height, label, ...content) => svg(`svg.${name}`,
  { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, content);

function spark(values, label) {
  const top = Math.max(1, ...values);
  const line = values.map((value, at) => `${((at * 100) / Math.max(1, values.length - 1)).toFixed(1)},${(29 - (value / top) * 27).toFixed(1)}`).join('L');
  return chart('spark', 100, 30, label, values.length > 1 && [svg('path.area', { d: `M0,30L${line}L100,30Z` }), svg('path', { d: `M${line}` })]);
}

function stack(counts) {
  const all = STATUSES.reduce((sum, name) => sum + counts[name], 0) || 1;
  let x = 0;
  return chart('stack', 1000, 12, STATUSES.map((name) => `${words(name)} ${counts[name]}`).join(', '), STATUSES.map((name) => {
    const [from, width] = [x, (counts[name] * 1000) / all];
    x += width;
    return counts[name] > 0 && svg(`rect.fill-${name}`, { x: from.toFixed(1), width: Math.max(2, width - 2).toFixed(1), height: 12 });
  }));
}

// -- What the URL says

const param = (name) => new URLSearchParams(location.search).get(name) ?? '';
const isFiltered = () => ['problem', 'route', 'q'].some(param);

/** The address of this page with other parameters; '' takes one away. */
function address(changes) {
  const target = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    target.searchParams.set(name, value);
    if (!value) target.searchParams.delete(name);
  }
  return target.href;
}

/** A link that changes parameters. */
const linkTo = (selector, changes, attributes, ...content) => h(selector, { href: address(changes), 'data-go': 1, ...attributes }, content);

/** Goes to an address of this page. The Back button closes an event. */
function navigate(href) {
  const isNew = new URL(href).searchParams.has('event') && !param('event');
  history[isNew ? 'pushState' : 'replaceState'](null, '', href);
  readUrl();
}

/** What the filters were when `listed` was asked for. */
let filters = '';

function readUrl() {
  const wanted = JSON.stringify(['problem', 'route', 'q'].map(param));
  if (wanted !== filters) [filters, listed, pages] = [wanted, null, 1];
  fetchEvents();
  fetchEvent();
  show();
}

const change = (changes) => navigate(address(changes));

// -- The data

/** The last document, and when it came (this clock); what is wrong with its source. */
let doc = null;
let docAt = 0;
let feedProblem = '';
/** Pages of `events`, where the document's own list is not enough. */
let listed = null;
let pages = 1;
/** The answer to `events/NAME`, and the name. */
let detail = null;
/** Only the memory of this page has it. */
let token = '';
let needsToken = false;
let isRefused = false;

function accept(text) {
  const fresh = parse(text);
  if (fresh.format === 1) {
    const isFirst = !doc;
    doc = fresh;
    docAt = Date.now();
    ahead = Date.parse(doc.as_of) - docAt;
    feedProblem = '';
    needsToken = false;
    if (isFirst) setTimeout(() => $(location.hash.slice(1))?.scrollIntoView());
  } else {
    feedProblem = `it sends format ${fresh.format}: load the page again`;
  }
  show();
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(15_000), ...options, headers });
  if (answer.ok) return answer;
  needsToken ||= answer.status === 401;
  isRefused = answer.status === 403;
  const text = (await answer.text()).trim();
  const reason = /^\{/.test(text) ? JSON.parse(text).text : text.slice(0, 300);
  throw Object.assign(new Error(reason || answer.status), { retryAfter: Number(answer.headers.get('retry-after')) });
}

const get = async (path, options) => (await ask(path, options)).text();
const asProblem = (error) => ({ error: error.message });

const feed = { stream: null, isOpen: false, isPaused: false, isAsking: false, streamAfter: 0, heardAt: 0 };

/** Reads `live`. An EventSource would send no token and hide the heartbeats. */
async function listen() {
  if (feed.stream || Date.now() < feed.streamAfter) return;
  const stream = (feed.stream = new AbortController());
  feed.heardAt = Date.now();
  let wait = 2;
  try {
    const { body } = await ask('live', { signal: stream.signal });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      feed.isOpen = true;
      feed.heardAt = Date.now();
      const messages = (rest + value).split('\n\n');
      rest = messages.pop();
      // Of several documents only the last counts; the others are heartbeats.
      const last = messages.findLast((message) => /^data:/m.test(message));
      if (last) accept(last.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5)).join('\n'));
    }
  } catch (error) {
    // Too many listeners, or a proxy: `status` is polled meanwhile.
    wait = error.retryAfter || 20;
  }
  if (feed.stream !== stream) return;
  disconnect();
  feed.streamAfter = Date.now() + wait * 1000;
}

function disconnect() {
  feed.stream?.abort();
  feed.stream = null;
  feed.isOpen = false;
}

async function poll() {
  if (feed.isAsking) return;
  feed.isAsking = true;
  try {
    accept(await get('status'));
  } catch (error) {
    feedProblem = error.message;
    show();
  }
  feed.isAsking = false;
}

function feedState() {
  if (feed.isPaused) return 'paused';
  if (feedProblem && Date.now() - docAt > 5000) return needsToken ? 'locked' : isRefused ? 'refused' : 'away';
  return feed.isOpen ? 'live' : 'polling';
}

function pause(isPaused) {
  feed.isPaused = isPaused;
  pausedAt = isPaused ? now() : null;
  if (isPaused) disconnect();
  else tick();
  show();
}

let ticks = 0;

/** Once per second. A hidden or paused page asks for nothing. */
function tick() {
  if (document.hidden || feed.isPaused) return;
  // The heartbeat comes every 15 s.
  if (feed.stream && Date.now() - feed.heardAt > 35_000) disconnect();
  if (!needsToken || token) {
    listen();
    if (Date.now() - docAt > (feed.isOpen ? 10_000 : 2500)) poll();
    if (++ticks % 3 === 0) fetchEvent();
    // A filter may read much.
    if (ticks % (15 * pages) === 0) fetchEvents();
  }
  $$('time[data-mode]').forEach(ticked);
  showFeed();
}

const needsList = () => isFiltered() || pages > 1;

async function fetchEvents() {
  if (!needsList()) return;
  const before = filters;
  const found = { events: [], next: null };
  const asked = new URLSearchParams({ limit: 100 });
  for (const [name, value] of Object.entries({ problem: param('problem'), route: param('route'), search: param('q') })) {
    if (value) asked.set(name, value);
  }
  for (let page = 0; page < pages && (page === 0 || found.next); page += 1) {
    if (found.next) asked.set('after', found.next);
    const answer = await get(`events?${asked}`).then(parse, asProblem);
    if (filters !== before) return;
    found.events.push(...(answer.events ?? []));
    Object.assign(found, { next: answer.next, error: answer.error, covers: answer.covers });
  }
  listed = found;
  show();
}

// Some proxies refuse a slash that is encoded.
const eventPath = (name) => `events/${name.split('/').map(encodeURIComponent).join('/')}`;

async function fetchEvent() {
  const name = param('event');
  if (!name) return;
  const answer = await get(eventPath(name)).then(parse, asProblem);
  if (param('event') !== name) return;
  detail = { ...answer, name };
  show();
}

// -- The first line and the numbers

const SIGNS = {
  well: 'M12 22a10 10 0 1 0 0-20 10 10 0 0 0 0 20ZM7.5 12.5l3 3 6-6.5',
  warning: 'M12 3 1.8 21h20.4ZM12 10v5M12 18v.1',
  critical: 'M8 2h8l6 6v8l-6 6H8l-6-6V8ZM8.5 8.5l7 7M15.5 8.5l-7 7',
};
const sentence = (text) => printable(text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.'));
const fact = (name, ...value) => h('div', h('dt', name), h('dd', value));

/** The page's own trouble comes before the server's. */
function headline() {
  if (feedState() === 'locked') {
    return { level: 'warning', what: 'this page needs a token', repair: 'enter the token of admin.token_file', also: [], isLocked: true };
  }
  if (feedState() === 'refused') return { level: 'warning', what: feedProblem, also: [] };
  if (feedState() !== 'away') return doc?.headline;
  return {
    level: 'critical', what: 'this page gets no answer from handoff', since: doc && new Date(docAt + ahead).toISOString(), also: [],
    cost: doc && 'the numbers below are old', repair: `see whether the process runs and can be reached (${feedProblem})`,
  };
}

function showHeadline(head) {
  root.dataset.level = head.level;
  patch($('sign'), svg('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: SIGNS[head.level] })));
  // It is read aloud when it changes: with the state, not with the seconds.
  patch($('line'), sentence(head.what));
  if (head.level === 'well') {
    return patch($('more'), soft(head.last_answer_at ? ['Last answer ', timer(head.last_answer_at, 'ago'), '.'] : 'No answer since the start.'));
  }
  patch($('more'),
    head.cost && h('p', sentence(head.cost)),
    head.repair && h('p', bold('Do: '), sentence(head.repair)),
    head.isLocked && button('actions', 'Enter the token', 'strong'),
    h('dl.facts',
      head.since && fact('since', clock(head.since), ' (', timer(head.since, 'age'), ')'),
      head.next_probe_at && fact('next probe', timer(head.next_probe_at, 'in')),
      isShown(head.waiting) && fact('waiting', number(head.waiting)),
      head.first_deadline_at && fact('first deadline in', timer(head.first_deadline_at, 'left')),
      head.runbook && fact('runbook', id(`docs/operations.md${head.runbook}`))),
    head.also.length > 0 && h('ul', head.also.map((also) => h('li', `Also: ${printable(also)}`))));
}

/** What a section's numbers cover. */
function covers(section, what = doc.covers[section]) {
  if (what === 'group') return 'the whole group';
  const { partitions, partitions_in_all: all } = doc.service;
  return `this instance, ${partitions === all ? 'all' : `${partitions} of ${all ?? '?'}`} partitions`;
}

function tile(name, value, note, { href, tone, to } = {}) {
  const content = [h('span', name), h(`b.${tone || ''}.${value.length > 9 ? 'long' : ''}`, { bad: '\u2715 ', odd: '\u25b2 ' }[tone], value), h('small', note)];
  return to ? linkTo('a.tile', { problem: '', route: '', q: '', ...to }, {}, content) : h(href ? 'a.tile' : 'div.tile', { href }, content);
}

function showNumbers() {
  const counts = doc.now;
  const { by_problem: by, parked } = counts;
  patch($('now'),
    tile('oldest unfinished', timer(counts.oldest_received_at, 'age'), covers('now'), { to: { sort: 'oldest' } }),
    tile('first deadline in', timer(counts.first_deadline_at, 'left'), 'of all', { to: { sort: '' } }),
    tile('unfinished', number(counts.unfinished), `${number(counts.sessions)} sessions in memory`, { to: {} }),
    tile('no agent online', number(by.no_agent_online), 'tried again', { to: { problem: 'no_agent_online' } }),
    tile('in doubt', number(by.in_doubt), 'looked up first', { to: { problem: 'in_doubt' } }),
    tile('parked', number(parked.retry + parked.session + parked.nobody_online), `${number(parked.nobody_online)} for an agent`),
    tile('not acknowledged', number(counts.unacknowledged), 'by the brokers', { to: { problem: 'unpublished' } }),
    tile('dead letters', number(counts.dead_letters_last_hour), 'in the last hour', { href: '#dead-letters', tone: counts.dead_letters_last_hour && 'odd' }),
    tile('lag', number(counts.lag), 'records', { href: '#partitions' }),
    tile('intake', counts.intake, { backpressure: 'goes on by itself', paused: 'by an operator' }[counts.intake], { tone: counts.intake !== 'running' && 'odd' }));
}

function showRates() {
  const { last_hour: hour, desk, history: points } = doc;
  const all = STATUSES.reduce((sum, name) => sum + hour[name], 0);
  const isHour = Date.parse(doc.as_of) - Date.parse(hour.since) > 3_540_000;
  const minutes = Math.max(1, Math.round((points.unfinished.length * points.step_s) / 60));
  const perMinute = (values) => `${Math.round(((values.at(-1) ?? 0) * 60) / points.step_s)} /min`;
  const panel = (cls, title, section, ...content) => h(`div.panel.${cls}`, h('header', h('h2', title), h('p.covers', covers(section))), content);
  const line = (name, text) => h('div.line', h('span', name), spark(points[name], `${name} in the last ${minutes} min, now ${text}`), bold(text));
  const pair = (name, value, note) => [h('dt', name), h('dd', value, note && h('small', ` of ${note}`))];
  patch($('rates'),
    panel('', isHour ? 'Answered in the last hour' : ['Answered since ', clock(hour.since)], 'last_hour', stack(hour),
      h('ul.legend', STATUSES.map((name) => h('li', h(`span.swatch.fill-${name}`), words(name), bold(number(hour[name])), h('small', percent(hour[name], all))))),
      h('div.facts', soft('decided in'), ['p50', 'p95', 'p99'].map((key) => h('span', soft(`${key} `), bold(milliseconds(hour.decided_in_ms[key])))))),
    panel('technical', 'Calls to Desk', 'desk', h('dl.pairs',
      pair('gate', h(`span.${{ shut: 'bad', limited: 'odd' }[doc.gate.state] ?? ''}`, doc.gate.state, doc.gate.reason && `: ${words(doc.gate.reason)}`)),
      pair('calls', `${desk.calls_per_second} /s`, isShown(desk.limit_per_second) && desk.limit_per_second),
      pair('in flight', number(desk.in_flight), desk.concurrency),
      pair('took p50, p95', `${milliseconds(desk.latency_ms.p50)}, ${milliseconds(desk.latency_ms.p95)}`),
      pair('too fast', isShown(desk.throttled_percent) ? h(`span.${desk.throttled_percent > 5 ? 'odd' : ''}`, `${desk.throttled_percent} %`) : '–'))),
    panel('', `Last ${minutes} min`, 'history',
      line('answered', perMinute(points.answered)), line('calls', perMinute(points.calls)), line('unfinished', number(points.unfinished.at(-1)))));
}

// -- Tables

function buildSection(section) {
  const { id: name, title } = section;
  section.setAttribute('aria-labelledby', `${name}-title`);
  section.removeAttribute('title');
  document.querySelector('nav').lastElementChild.before(h('a', { href: `#${name}` }, title));
  section.prepend(h('header', h('h2', { id: `${name}-title` }, title), h('p.covers', { id: `${name}-covers` }),
    name === 'routes' && h('a.tail', { href: '#floor' }, 'Wall view')));
  section.append(h('div.frame', { tabindex: name === 'dead-letters' && '0' }, h('table', { role: 'table' }, h('caption', title),
    h('thead', { id: `${name}-head` }), h('tbody', { id: `${name}-body` }))), h('div.foot', { id: `${name}-foot` }));
}

const rowSources = new WeakMap();

/** Fills a table, and makes a row again only when its item has changed. A column: name, cell, 'right' or 'lead' (the title of a card). */
function table(name, columns, items, none, row) {
  const body = $(`${name}-body`);
  const known = new Map([...body.children].map((element) => [keyOf(element), element]));
  patch($(`${name}-head`), h('tr', { role: 'row' }, columns.map(([title, , kind]) => h(`th.${kind ?? ''}`, { scope: 'col', role: 'columnheader' }, title))));
  const rows = items.map((item) => {
    const attributes = row(item);
    const origin = JSON.stringify([item, attributes, filters, param('sort')]);
    const old = known.get(attributes.key);
    if (old && rowSources.get(old) === origin) return old;
    const fresh = h('tr', { role: 'row', ...attributes }, columns.map(([title, cell, kind]) => {
      const content = [cell(item)].flat();
      return h(`td.${kind ?? ''}.${content[0] === '–' ? 'blank' : ''}`, { role: 'cell', 'data-name': title }, content);
    }));
    if (old) update(old, fresh);
    rowSources.set(old ?? fresh, origin);
    return old ?? fresh;
  });
  patch(body, rows.length > 0 ? rows : h('tr', h('td.none', { colspan: columns.length }, none)));
}

const count = (name) => [words(name), (item) => number(item[name]), 'right'];
const sessionColumn = ['session', ({ session }) => clipped(session)];
const routeColumn = ['route', ({ route }) => (route ? clipped(route) : '–')];

function showRoutes() {
  const nobody = ({ assigned, queued, no_agent_online: some, other }) => {
    const all = assigned + queued + some + other;
    const isMany = some >= 5 && some / all >= 0.1;
    return some > 0 ? h(`span.nowrap.${isMany ? 'odd' : ''}`, isMany && '\u25b2 ', `${number(some)} (${percent(some, all)})`) : '0';
  };
  patch($('routes-covers'), `${covers('routes')}; waiting now, all else in the last hour`);
  table('routes', [
    ['route', ({ name }) => (name === null ? soft('no route matches') : bold(bdi(name))), 'lead'],
    count('waiting'),
    ['longest wait', (route) => timer(route.longest_wait_since, 'age'), 'right'],
    count('assigned'),
    count('queued'),
    ['no agent online', nobody, 'right'],
    count('other'),
    ['by first target', (route) => (isShown(route.first_target) ? percent(route.first_target, 1) : '–'), 'right'],
    ['trend', (route) => spark(route.trend, `answers per 5 minutes: ${route.trend.join(', ')}`)],
  ], doc.routes, 'No routes are configured.', (route) => ({ key: `r-${route.name ?? ''}` }));
  patch($('routes-foot'), doc.rooms.length > 0 && soft('Waiting for an agent'), doc.rooms.map((room) => h('span', { key: room.name },
    bdi(room.name), ': ', bold(room.waiting === null ? 'being counted' : number(room.waiting)), ', oldest ', timer(room.oldest_received_at, 'age'),
    room.next_probe_at && [', probe ', timer(room.next_probe_at, 'in')])));
}

const ORDERS = {
  oldest: (event) => Date.parse(event.received_at),
  attempts: (event) => -event.attempts,
};

function listedEvents() {
  const events = [...((needsList() && listed?.events) || (isFiltered() ? [] : doc.unfinished_events))];
  const order = ORDERS[param('sort')];
  return order ? events.sort((a, b) => order(a) - order(b)) : events;
}

const eventLink = ({ record, event }) => linkTo('a', { event: position(record) }, {}, clipped(event));
const nextStep = (event) => [bdi(event.next), event.next_at && [' ', soft(timer(event.next_at, 'in'))]];
const eventRow = ({ record }, at = position(record)) => ({ key: at, 'data-event': at, 'aria-current': at === param('event') && 'true' });

function showEvents() {
  const [chosen, events] = [param('problem'), listedEvents()];
  const tab = (name, count) => linkTo(`a.${count ? '' : 'zero'}`, { problem: name },
    { key: `p-${name}`, 'aria-current': chosen === name && 'true' }, words(name || 'all'), bold(number(count)));
  patch($('problems'), tab('', doc.now.unfinished), Object.keys(PROBLEMS).map((name) => tab(name, doc.now.by_problem[name])));
  patch($('events-covers'), covers('unfinished_events', listed?.covers));
  const routes = new Set([...doc.routes.map((route) => route.name), param('route')].filter(Boolean));
  patch($('route'), h('option', { value: '' }, 'every route'), [...routes].map((name) => h('option', { value: name }, printable(name))));
  if (document.activeElement !== $('search')) $('search').value = param('q');
  $('route').value = param('route');
  $('sort').value = param('sort');
  const none = !isFiltered() ? 'Nobody waits.' : !listed ? 'Looking …' : (listed.error ?? 'No event matches.');
  table('events', [
    ['problem', (e) => problem(e.problem), 'lead'],
    ['age', (e) => timer(e.received_at, 'age'), 'right'],
    ['deadline in', (e) => timer(e.deadline_at, 'left'), 'right'],
    sessionColumn,
    ['event', eventLink],
    routeColumn,
    count('attempts'),
    ['last', (e) => bdi(e.last)],
    ['next', (e) => nextStep(e)],
  ], events, none, eventRow);
  const isCounted = !param('route') && !param('q');
  const all = !isCounted ? null : chosen ? doc.now.by_problem[chosen] : doc.now.unfinished;
  const isMore = needsList() ? listed?.next : events.length < all;
  const bulk = (what, text) => token && isFiltered() && events.length > 0 && button(`${what}-shown`, `${text} ${number(events.length)} …`);
  patch($('events-foot'),
    soft(`${number(events.length)}${all > events.length ? ` of ${number(all)}` : ''} shown${param('sort') && isMore ? ', ordered among these' : ''}`),
    isMore && button('more', 'Show more'),
    bulk('retry', 'Retry'), bulk('give-up', 'Give up'));
}

function showOthers() {
  patch($('outcomes-covers'), `${covers('last_outcomes')}; the newest ${doc.last_outcomes.length}`);
  table('outcomes', [
    ['decided', (o) => clock(o.decided_at)],
    ['status', (o) => status(o.status), 'lead'],
    sessionColumn,
    ['event', eventLink],
    routeColumn,
    count('attempts'),
    ['code', (o) => o.code ?? '–', 'right'],
    ['took', (o) => h('span.nowrap', milliseconds(o.elapsed_ms)), 'right'],
    ['agent or reason', (o) => bdi(o.agent ?? o.reason)],
  ], doc.last_outcomes, 'None since the start.', eventRow);
  patch($('partitions-covers'), covers('partitions'));
  table('partitions', [
    ['partition', (p) => id(`${p.topic}/${p.partition}`), 'lead'],
    count('lag'),
    count('unfinished'),
    ['oldest', (p) => timer(p.oldest_received_at, 'age'), 'right'],
    ['state', (p) => (p.blocked ? h('span.bad.nowrap', '\u2715 blocked') : 'ok')],
  ], doc.partitions, 'The group has given this instance no partition.', (p) => ({ key: `${p.topic}/${p.partition}` }));
  patch($('dead-letters-covers'), `${covers('dead_letters')}; the newest ${doc.dead_letters.length}`);
  table('dead-letters', [
    ['when', (l) => clock(l.at)],
    ['class', (l) => h('b.nowrap', words(l.class)), 'lead'],
    ['record', (l) => id(position(l.record))],
    ['error', (l) => bdi(l.error)],
  ], doc.dead_letters, 'None.', (l) => ({ key: position(l.record) }));
  patch($('dead-letters-foot'), doc.dead_letters.length > 0 && soft('All of them, and replay: ', h('code', 'handoff dead-letters')));
}

// -- One event

const json = (title, value) => isShown(value) && h('details', h('summary', title), h('pre', { tabindex: 0 }, printable(JSON.stringify(value, null, 2))));

function target(value) {
  const parts = [value?.agents?.join(', '), isShown(value?.group) && `group ${value.group}`].filter(Boolean);
  return printable(parts.join(' in ') || (value?.default ? 'Desk’s default' : 'the session'));
}

const steps = (items) => h('ol.steps', items.map(({ at, tone, content }) => h(`li.${tone ?? ''}`, at && clock(at, true), content)));

const TONES = { settled: 'good', published: 'good', parked: 'wait', retried: 'wait', given_up: 'wrong' };

function timeline({ record, entry }, waiting) {
  const received = waiting?.received_at ?? entry?.first_seen;
  return steps([
    received && { at: received, content: [bold('received '), record && id(position(record))] },
    ...(entry?.history ?? []).map(({ at, what, owner, note }) => ({
      at, tone: TONES[what], content: [bold(words(what)), note && [' ', bdi(note)], owner && soft(' by ', bdi(owner))],
    })),
    waiting && { tone: 'wait', content: [bold('next: '), nextStep(waiting)] },
  ].filter(Boolean));
}

const tried = (items) => steps(items.map(({ target: to, code }) => ({
  tone: code === 0 ? 'good' : 'wait', content: [bdi(target(to)), ' \u2192 ', bold(code ?? 'no answer')],
})));

function showEvent() {
  const name = param('event');
  $('event').hidden = !name;
  if (!name) return patch($('event'));
  const known = detail?.name === name ? detail : {};
  const isIt = ({ record }) => position(record) === name;
  const waiting = known.unfinished ?? doc.unfinished_events.find(isIt);
  const outcome = known.outcome ?? doc.last_outcomes.find(isIt);
  const shown = waiting ?? outcome;
  const { entry, error, explanation: why, event, session } = { ...outcome, ...waiting, ...known };
  const result = entry?.outcome ?? outcome;
  const attempts = result?.tried ?? entry?.course?.tried ?? [];
  const act = (what, text) => token && known.actions?.includes(what) && button(`${what}-one`, text);
  patch($('event'),
    h('header', h('h2', { id: 'event-title' }, id(event ?? name)), button('close', 'Close (Esc)')),
    error && h('p.note.bad', error),
    h('dl.facts',
      waiting && fact('waits:', problem(waiting.problem)),
      result && fact('outcome', status(result.status)),
      waiting && fact('deadline in', timer(waiting.deadline_at, 'left')),
      session && fact('session', id(session)),
      shown && [fact('route', bdi(shown.route)), fact('attempts', number(shown.attempts))]),
    waiting?.last && h('p.note', 'Desk said: ', bdi(waiting.last)),
    result?.reason && h('p.note', bdi(result.reason)),
    h('p.buttons', act('retry', 'Retry now …'), act('give-up', 'Give up …')),
    h('h3', 'What happened'), timeline(known, waiting),
    attempts.length > 0 && [h('h3', 'Who was asked'), tried(attempts)],
    why && [h('h3', 'Why it goes where it goes'), explanation(why)],
    known.commands?.length > 0 && [h('h3', 'On the command line'), known.commands.map((text) => h('div.command', h('code', { tabindex: '0' }, printable(text)),
      h('button.small', { type: 'button', 'data-copy': text }, copied === text ? 'Copied' : 'Copy')))],
    json('Outcome as published', entry?.outcome), json('All of it as JSON', known));
}

/** The answer of `handoff explain --json`: how a record is read, routed and called for. */
function explanation({ result, why, reading, dead_letter: dead, escalation, routes, hours, calls, ending }) {
  // The members of a step are its words.
  const read = ({ step, result: found, why: because, found: isThere = true, ...rest }) => ({
    tone: found === 'recognised' || step !== 'tried' && isThere && !because ? 'good' : '',
    content: printable([[step, ...Object.values(rest)].join(' '), !isThere && 'not there', found && words(found), because].filter(Boolean).join(', ')),
  });
  const text = (value) => bdi(value.join?.('; ') ?? (typeof value === 'object' ? JSON.stringify(value) : value));
  const isFilled = ([, value]) => isShown(value) && (typeof value !== 'object' || Object.keys(value).length > 0);
  const end = { outcome: `the outcome is ${words(ending?.status)}. ${ending?.reason ?? ''}`, tried_again: `it is tried again after ${duration(ending?.wait_s)}.`,
    parked: `it is parked for ${duration(ending?.wait_s)}, until its route opens.` }[ending?.then];
  return [
    why && h('p.note', result && bold(`${words(result)}: `), bdi(why)),
    dead && h('p.note.bad', `${words(dead.class)}: `, bdi(dead.error)),
    reading?.length > 0 && [h('h3', 'How it is read'), steps(reading.map(read))],
    escalation && h('dl.pairs', Object.entries({ ...escalation, hours }).filter(isFilled).map(([key, value]) => [h('dt', words(key)), h('dd', text(value))])),
    routes?.length > 0 && [h('h3', 'Routes'), steps(routes.map((route) => ({
      tone: route.result === 'used' && 'good',
      content: [bold(bdi(route.name)), `: ${words(route.result)}`, route.shadow && ' (shadow)', route.why && [', ', bdi(route.why)]],
    })))],
    calls?.length > 0 && [h('h3', 'Calls, while nobody is online'),
      steps(calls.map((call) => ({ content: [bold(target(call.target)), ' ', h('code', printable(call.body))] })))],
    end && h('p.note', calls?.length > 0 && 'If nobody is online for any of them, ', bdi(end)),
  ];
}

async function explainRecord() {
  const explained = await get('explain', { method: 'POST', body: $('record').value }).then(parse, asProblem);
  patch($('explained'), explained.error ? h('p.note.bad', explained.error) : h('div.panel', explanation(explained), json('As JSON', explained)));
}

// -- Actions

/** Who acts, for the history. */
let actor = '';

/** Asks; resolves to what was filled in, or to null. */
function dialog(title, yes, ...body) {
  patch($('ask-title'), title);
  $('ask-body').replaceChildren(...body);
  patch($('ask-yes'), yes);
  $('ask-yes').hidden = !yes;
  $('ask').returnValue = '';
  if (!$('ask').open) $('ask').showModal();
  return new Promise((resolve) => {
    $('ask').onclose = () => resolve($('ask').returnValue ? new FormData($('ask-form')) : null);
  });
}

const field = (label, attributes) => h('label', label, h('input', { required: 'required', maxlength: '200', ...attributes }));

async function askToken() {
  if (doc && !doc.service.actions) {
    return dialog('Actions', '', h('p', 'admin.token_file is not set. The commands do the same: handoff events retry, give-up.'));
  }
  if (!token || needsToken) {
    const form = await dialog('Token', 'Use it', h('p', 'The content of admin.token_file. It stays in the memory of this page.'),
      field('Token', { name: 'token', type: 'password', autocomplete: 'off' }), field('Your name, for the history of events', { name: 'actor', value: actor }));
    if (!form) return;
    token = form.get('token').trim();
    actor = form.get('actor').trim();
    needsToken = false;
    feed.streamAfter = 0;
    return poll();
  }
  const what = doc.now.intake === 'paused' ? 'resume' : 'pause';
  const text = what === 'pause' ? `No new records are read; ${number(doc.now.unfinished)} unfinished events go on.` : 'Records are read again.';
  if (await dialog(`${what} intake?`, `${what} intake`, h('p', text))) await perform([`intake/${what}`]);
}

/** Sends one request after the other, and counts the answers. */
async function perform(paths, body = {}) {
  const answers = new Map();
  let isStopped = false;
  const end = dialog('Working …', 'Stop').then(() => (isStopped = true));
  const options = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ ...body, by: actor }) };
  for (const [done, path] of paths.entries()) {
    if (isStopped) break;
    const answer = await get(path, options).then((text) => JSON.parse(text).text, (error) => error.message);
    answers.set(answer, (answers.get(answer) ?? 0) + 1);
    patch($('ask-body'), h('p', `${done + 1} of ${paths.length}`), h('ul', [...answers].map(([text, times]) => h('li', `${times} × ${printable(text)}`))));
  }
  patch($('ask-title'), isStopped ? 'Stopped' : 'Done');
  $('ask-yes').hidden = true;
  poll();
  fetchEvents();
  await end;
}

async function onEvents(events, what) {
  const some = `${number(events.length)} ${events.length === 1 ? 'event' : 'events'}`;
  const list = h('ul', events.slice(0, 5).map(({ event }) => h('li', id(event))), events.length > 5 && h('li', `and ${number(events.length - 5)} more`));
  const form = what === 'retry'
    ? await dialog(`Retry ${some} now?`, `Retry ${some}`, h('p', 'A parked event becomes due at once; others are refused.'), list)
    : await dialog(`Give up ${some}?`, `Give up ${some}`, h('p', 'The outcome is failed, without another transfer. This cannot be undone.'), list,
      field('Reason, for outcome and history', { name: 'reason' }));
  if (form) await perform(events.map(({ record }) => `${eventPath(position(record))}/${what}`), form.get('reason') ? { reason: form.get('reason') } : undefined);
}

// -- The whole page

function showFeed() {
  const state = feedState();
  patch($('feed'), { live: '\u25cf Live', polling: '\u25cb Polling', paused: '\u2016 Paused', away: '\u2715 No answer', locked: '\u2715 No token' }[state] ?? '\u2715 Refused');
  $('feed').setAttribute('aria-pressed', feed.isPaused);
  root.toggleAttribute('data-stale', state === 'away');
  patch($('actions'), !token ? 'Actions' : doc?.now.intake === 'paused' ? 'Resume intake' : 'Pause intake');
  const head = headline();
  if (!head) return;
  showHeadline(head);
  const sign = { warning: '\u25b2', critical: '\u2715' }[head.level];
  document.title = `${sign ? `${sign} ${isShown(head.waiting) ? `${head.waiting} waiting` : head.what} · ` : ''}handoff ${doc?.service.group_id ?? ''}`;
}

function showService({ service }) {
  patch($('service'), bold(bdi(service.group_id)), ' · instance ', bdi(service.instance), ` · ${service.partitions} of ${service.partitions_in_all ?? '?'} partitions · up `, timer(service.started_at, 'age'),
    ` · v${service.version}`, service.revision && ` (${service.revision})`);
  patch($('foot'), `Reads ${service.topics.join(', ')}; outcomes to ${service.outcome_topic}, dead letters to ${service.dead_letter_topic}; ledger: ${service.ledger}; `,
    `times of day of ${Intl.DateTimeFormat().resolvedOptions().timeZone}; ids are ${service.show_ids ? 'shown' : 'shortened'}. `,
    h('a', { href: 'status' }, 'status as JSON'));
}

function show() {
  $('app').hidden = false;
  showFeed();
  if (!doc) return;
  showService(doc);
  showNumbers();
  showRates();
  showRoutes();
  showEvents();
  showOthers();
  showEvent();
}

// -- What the reader does

const THEMES = ['auto', 'light', 'dark'];

/** Sets and stores the theme; without a choice, sets the stored one. */
function theme(choice) {
  try {
    if (choice) localStorage.setItem('handoff-theme', choice);
    choice ??= localStorage.getItem('handoff-theme');
  } catch {
    // Nothing is stored here.
  }
  root.dataset.theme = choice ??= 'auto';
  patch($('theme'), choice);
  $('theme').value = THEMES[(THEMES.indexOf(choice) + 1) % 3];
}

/** Moves by one event, from the one in focus. */
function move(step) {
  const links = [...$$('#events-body tr[data-event] a')];
  const nameOf = (link) => link.closest('tr').dataset.event;
  const focused = links.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : links.findIndex((link) => nameOf(link) === param('event'));
  const link = links[Math.min(links.length - 1, Math.max(0, from + step))];
  if (!param('event')) return link?.focus();
  link?.scrollIntoView({ block: 'nearest' });
  if (link) navigate(link.href);
}

function close() {
  const name = param('event');
  if (!name) return location.hash === '#floor' && (location.hash = '');
  change({ event: '' });
  $$(`tr[data-event="${CSS.escape(name)}"] a`)[0]?.focus();
}

const HELP = {
  '/': 'search', 'j k': 'next, previous event', Enter: 'open it', Esc: 'close it, leave the wall view', p: 'pause, go on', '?': 'these keys',
};

const KEYS = {
  '/': () => $('search').focus(),
  j: () => move(1),
  k: () => move(-1),
  p: () => pause(!feed.isPaused),
  '?': () => dialog('Keys', '', h('dl.pairs', Object.entries(HELP).map(([key, text]) => [h('dt', h('kbd', key)), h('dd', text)]))),
};

const BUTTONS = {
  pause: KEYS.p,
  help: KEYS['?'],
  theme: () => theme($('theme').value),
  actions: askToken,
  close,
  clear: () => change({ problem: '', route: '', q: '', sort: '' }),
  more: () => {
    pages += 1;
    fetchEvents();
  },
  dismiss: () => $('ask').close(''),
  'retry-one': () => onEvents([detail], 'retry'),
  'give-up-one': () => onEvents([detail], 'give-up'),
  'retry-shown': () => onEvents(listedEvents(), 'retry'),
  'give-up-shown': () => onEvents(listedEvents(), 'give-up'),
};

let copied = '';

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    copied = button.dataset.copy;
    show();
  } catch {
    // No clipboard without https.
    getSelection().selectAllChildren(button.previousElementSibling);
  }
}

on(document, 'click', (event) => {
  const button = event.target.closest('button');
  if (button?.dataset.do) return BUTTONS[button.dataset.do]();
  if (button?.dataset.copy) return copy(button);
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  const link = event.target.closest('a');
  if (link?.dataset.go) {
    event.preventDefault();
    navigate(link.href);
    if (link.className === 'tile') $('events').scrollIntoView();
    return link.closest('tr') && $('event').focus();
  }
  const row = event.target.closest('tr[data-event]');
  if (row && !link && getSelection().isCollapsed) change({ event: row.dataset.event });
});

on(document, 'keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector('dialog[open]')) return;
  const isWriting = event.target.closest('input, textarea, select');
  if (event.key === 'Escape') {
    if (isWriting) event.target.blur();
    else close();
  } else if (!isWriting && KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

let typing = 0;

const onSubmit = (form, action) => on($(form), 'submit', (event) => {
  event.preventDefault();
  action();
});

on($('search'), 'input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ q: $('search').value }), 250);
});
onSubmit('filter', () => change({ q: $('search').value }));
onSubmit('explain-form', explainRecord);
onSubmit('ask-form', () => $('ask').close('yes'));
for (const name of ['route', 'sort']) on($(name), 'change', () => change({ [name]: $(name).value }));

const showView = () => (root.dataset.view = location.hash === '#floor' ? 'floor' : '');
on(window, 'hashchange', showView);
on(window, 'popstate', readUrl);
on(document, 'visibilitychange', () => (document.hidden ? disconnect() : tick()));

$$('.listing').forEach(buildSection);
theme();
showView();
readUrl();
tick();
setInterval(tick, 1000);
