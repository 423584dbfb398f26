// A stand-in for the admin port behind a proxy with the prefix /ops/handoff/: the page's own files, and documents that
// tests/it/page.rs has made and checked against the schema.

import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const PREFIX = '/ops/handoff';
const TYPES = { html: 'text/html', css: 'text/css', js: 'text/javascript' };
// As in src/adapters/admin/security.rs; tests/it/page.rs looks at the real ones, too.
const HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cache-control': 'no-store',
};

/** Moves all times, so that the document is of this moment. */
function current(document) {
  const by = Date.now() - Date.parse(document.as_of);
  const moved = (value) => (/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value) ? new Date(Date.parse(value) + by).toISOString() : value);
  return JSON.parse(JSON.stringify(document), (_, value) => (typeof value === 'string' ? moved(value) : value));
}

export class Server {
  /** What is served, and how. */
  state = 'calm';
  isAway = false;
  hasStream = true;
  token = '';
  refusal = '';
  /** What was asked: addresses outside the prefix, and the bodies of POST requests. */
  strays = [];
  posted = [];
  streams = new Set();
  documents = {};

  constructor(folder, page) {
    this.page = page;
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.json'))) this.documents[file.replace('.json', '')] = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    this.http = createServer((request, response) => this.answer(request, response));
    this.ticks = setInterval(() => this.push(), 1000);
  }

  async listen() {
    await new Promise((resolve) => this.http.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.http.address().port}${PREFIX}/`;
  }

  close() {
    clearInterval(this.ticks);
    this.http.closeAllConnections();
    this.http.close();
  }

  get status() {
    return current(this.documents[this.state]);
  }

  /** Serves another document, at once. */
  show(state) {
    this.state = state;
    this.push();
  }

  /** Breaks every connection, and from now on each new one, or only the streams. */
  breakDown({ isAway = false, hasStream = !isAway }) {
    Object.assign(this, { isAway, hasStream });
    for (const stream of this.streams) stream.destroy();
  }

  push() {
    const text = `event: status\ndata: ${JSON.stringify(this.status)}\n\n`;
    for (const stream of this.streams) stream.write(text);
  }

  async answer(request, response) {
    const url = new URL(request.url, 'http://localhost');
    if (!url.pathname.startsWith(`${PREFIX}/`)) {
      this.strays.push(request.url);
      return response.writeHead(404).end();
    }
    const path = url.pathname.slice(PREFIX.length + 1);
    const send = (code, type, body) => response.writeHead(code, { ...HEADERS, 'content-type': `${type}; charset=utf-8` }).end(body);
    // A number that JavaScript cannot hold is sent as the service would send it.
    const json = (body, code = 200) => send(code, 'application/json', JSON.stringify(body).replace('"ticket":"9007199254740993"', '"ticket":9007199254740993'));
    if (path === '' || TYPES[path.split('.')[1]]) {
      const text = readFileSync(join(this.page, path || 'index.html'), 'utf8');
      const table = '<table><caption>Status of this instance</caption><tr><th>what</th><td>all well</td></tr></table>';
      return send(200, TYPES[path.split('.')[1] ?? 'html'], path ? text : text.replace('<!-- status -->', table));
    }
    if (this.isAway) return request.socket.destroy();
    if (this.refusal) return send(403, 'text/plain', this.refusal);
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) return send(401, 'text/plain', 'this needs the token of `admin.token_file`');
    if (request.method === 'POST') return this.act(request, path, json);
    if (path === 'status') return json(this.status);
    if (path === 'live') return this.hasStream ? this.stream(response) : send(503, 'text/plain', 'too many listeners');
    if (path === 'events') return json(this.list(url.searchParams));
    const event = path.startsWith('events/') && this.event(decodeURIComponent(path.slice(7)));
    return event ? json(event) : send(404, 'text/plain', 'no such event');
  }

  stream(response) {
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' });
    this.streams.add(response);
    response.on('close', () => this.streams.delete(response));
    // A heartbeat and a document in one piece.
    response.write(`: heartbeat\n\nevent: status\ndata: ${JSON.stringify(this.status)}\n\n: heartbeat\n\n`);
  }

  get events() {
    return current({ as_of: this.documents[this.state].as_of, events: this.documents[`events-${this.state}`] ?? this.documents[this.state].unfinished_events }).events;
  }

  list(query) {
    const [problem, route, search] = ['problem', 'route', 'search'].map((name) => query.get(name));
    const events = this.events.filter((event) => (!problem || event.problem === problem) && (!route || event.route === route)
      && (!search || event.event.includes(search) || event.session.includes(search)));
    const from = Number(query.get('after') ?? 0);
    const to = from + Number(query.get('limit'));
    return { format: 1, events: events.slice(from, to), next: to < events.length ? String(to) : null, is_complete: to >= events.length };
  }

  event(name) {
    const isIt = ({ record: { topic, partition, offset } }) => `${topic}/${partition}/${offset}` === name;
    const unfinished = this.events.find(isIt) ?? null;
    const outcome = this.status.last_outcomes.find(isIt) ?? null;
    const known = unfinished ?? outcome;
    return known && {
      ...current(this.documents['event-detail']), event: known.event, record: known.record, session: known.session, unfinished, outcome,
      commands: [`handoff events show ${known.event}`], actions: unfinished ? ['retry', 'give-up'] : [],
    };
  }

  async act(request, path, json) {
    const parts = [];
    for await (const part of request) parts.push(part);
    this.posted.push({ path, body: Buffer.concat(parts).toString() });
    if (path === 'explain') return json(this.documents.explanation);
    return path.endsWith('retry') ? json({ result: 'refused', text: 'it is in work' }, 409) : json({ result: 'done', text: 'it is given up' });
  }
}
