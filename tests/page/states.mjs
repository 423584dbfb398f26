// Writes the documents of every state that an operator may see, made from the samples of /status:
// node states.mjs SAMPLES DOCUMENTS, both folders. tests/it/page.rs checks them against the schema.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [samples, to] = process.argv.slice(2);
const sample = (name) => JSON.parse(readFileSync(join(samples, name), 'utf8'));
const changed = (name, change) => {
  const status = sample(name);
  change(status);
  return status;
};

const says = (status, headline) => Object.assign(status.headline, { since: '2026-11-30T02:51:00Z', also: [] }, headline);

function openGate(status) {
  status.gate = { state: 'open', reason: null, repair: null, since: null, next_probe_at: null };
  Object.assign(status, { ready: true, not_ready: [] });
}

/** What strangers may write into ids, routes and errors. */
const HOSTILE = [
  "<script>document.title='stolen'</script>", '\u202egnp.exe', '"\'`$(reboot)`\\', 'שלום 123', '\u0000\u0007\u001b[31mred',
  "<img src=x onerror=document.title='stolen'>", 'x'.repeat(256),
];
const hostile = (index) => HOSTILE[index % HOSTILE.length];

const target = (agents, group) => ({ agents, group });
const explanation = {
  result: 'call', why: 'Desk is called, for up to 2 targets one after the other',
  reading: [
    { step: 'tried', format: 'cloudevents', result: 'unrecognised', why: 'specversion, id, type and source are neither members nor headers' },
    { step: 'tried', format: 'native', result: 'recognised', why: null },
  ],
  escalation: { event_id: 'evt-9100', session_id: 'fd8a..', deadline: '2026-11-30T03:06:10Z', attributes: { lang: 'de', ticket: '9007199254740993' }, notes: [] },
  routes: [
    { name: 'night', shadow: false, result: 'not_used', why: '`when.hours` does not hold: closed' },
    { name: 'vip-german', shadow: false, result: 'used', why: null },
  ],
  calls: [
    { target: target(['anna@example.com'], 2473), body: '{"SessionId":"fd8a..","AgentIdList":["anna@example.com"],"AgentGroupId":2473}' },
    { target: { group: 2480 }, body: '{"SessionId":"fd8a..","AgentGroupId":2480}' },
  ],
  has_interim: true, ending: { then: 'tried_again', wait_s: 30 },
};
const item = (at, what, note = '') => ({ at: `2026-11-30T${at}Z`, what, owner: 'handoff-5c9d-x2k', note });
const eventDetail = {
  format: 1, as_of: '2026-11-30T03:03:00Z', explanation,
  record: { topic: 'handoff.escalations', partition: 3, offset: 18402 },
  entry: {
    state: 'parked', first_seen: '2026-11-30T02:56:10.040Z',
    history: [item('02:56:10.112', 'claimed'), item('02:56:10.934', 'parked', '141001: no suitable agent is online'), item('03:01:10.021', 'claimed')],
    course: { attempts: 3, tried: [{ target: target(['anna@example.com'], 2473), code: 141001 }, { target: { group: 2480 }, code: 141001 }] },
  },
};

const unfinished = sample('busy.json').unfinished_events;
const thousands = Array.from({ length: 5000 }, (_, number) => ({
  ...unfinished[number % unfinished.length], event: `evt-${10_000 + number}`, record: { topic: 'handoff.escalations', partition: 0, offset: 20_000 + number },
  problem: number < 33 ? 'waiting_retry' : 'gate_shut',
}));

const documents = {
  calm: sample('calm.json'),
  misconfigured: sample('busy.json'),
  outage: changed('busy.json', (status) => {
    says(status, {
      what: 'the gate is shut: Desk does not answer (no reply within 5 s)', runbook: '#the-gate-is-shut-unreachable',
      repair: 'see whether desk.endpoint can be reached from here; the gate opens by itself',
    });
    status.gate.reason = 'unreachable';
  }),
  poison: changed('calm.json', (status) => {
    says(status, {
      level: 'warning', what: '48 records could not be read in the last hour: not_json', runbook: '#dead-letters',
      cost: 'their publishers get no answer', repair: 'read the error, correct the publisher, then replay them',
    });
    status.now.dead_letters_last_hour = 48;
    status.dead_letters = Array.from({ length: 48 }, (_, offset) => ({
      record: { topic: 'handoff.escalations', partition: 2, offset }, class: 'not_json',
      error: 'Avro of the schema with id 7: use the JSON_SR serializer', at: '2026-11-30T02:58:00Z',
    }));
  }),
  nobody: changed('busy.json', (status) => {
    openGate(status);
    says(status, {
      level: 'warning', what: 'nobody is online for the route billing', runbook: '#nobody-online',
      cost: '31 customers wait for an agent', repair: 'staff the groups of the route, or change its targets',
    });
    for (const event of status.unfinished_events) {
      Object.assign(event, { problem: 'no_agent_online', last: '141001: no suitable agent is online', next: 'its waiting room tries one of its events' });
    }
  }),
  ledger: changed('busy.json', (status) => {
    openGate(status);
    says(status, {
      what: 'the ledger is unavailable: connection refused', runbook: '#the-ledger-is-unavailable', next_probe_at: null,
      repair: 'start the database, or repair the network to it; the service goes on by itself',
    });
    status.ready = false;
    for (const event of status.unfinished_events) event.problem = 'blocked';
  }),
  hostile: changed('busy.json', (status) => {
    status.unfinished_events.forEach((event, index) => {
      Object.assign(event, { event: hostile(index), session: hostile(index + 1), route: hostile(index + 2), next: hostile(index + 3) });
    });
    status.routes[0].name = hostile(0);
    status.rooms[0].name = hostile(6);
    status.last_outcomes[0].reason = hostile(5);
    status.dead_letters[0].error = hostile(1);
    status.service.group_id = hostile(6);
  }),
  many: changed('busy.json', (status) => {
    status.now.unfinished = status.headline.waiting = 5000;
    status.unfinished_events = thousands.slice(0, 100);
  }),
};

mkdirSync(to, { recursive: true });
const others = { 'events-many': thousands, 'event-detail': eventDetail, explanation };
for (const [name, document] of Object.entries({ ...documents, ...others })) writeFileSync(join(to, `${name}.json`), JSON.stringify(document));
writeFileSync(join(to, 'states.txt'), Object.keys(documents).join('\n'));
