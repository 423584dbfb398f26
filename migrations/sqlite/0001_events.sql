-- Times are microseconds since 1970 (UTC).
-- Answers and acknowledgements have tables of their own, because appending a row costs SQLite less than rewriting a
-- wide one: of most events no row is ever rewritten. The view handoff_ledger joins the three.

-- One row per escalation or dead letter; changed when the event is claimed again or parked.
-- record, headers and history are JSON; bytes in record and headers are text, or {"base64": ".."} where they are not UTF-8.
CREATE TABLE handoff_events (
  event            INTEGER NOT NULL PRIMARY KEY,
  key              TEXT    NOT NULL UNIQUE,       -- id:EVENT, or record:POSITION@TIMESTAMP, or dead-letter:POSITION@TIMESTAMP
  session_id       TEXT,                          -- NULL: a dead letter
  topic            TEXT    NOT NULL,              -- the position of the record
  partition        INTEGER NOT NULL,
  "offset"         INTEGER NOT NULL,
  recorded_us      INTEGER,                       -- the timestamp of the record
  owner            TEXT    NOT NULL,              -- the instance that claimed the event last
  version          INTEGER NOT NULL,              -- counts the changes of this row
  first_seen_us    INTEGER NOT NULL,
  deadline_us      INTEGER,
  claimed_at_us    INTEGER NOT NULL,              -- not parked: a call may be in flight since then
  from_ledger      INTEGER NOT NULL,              -- not parked: 1 if the record was read here, 0 if Kafka delivered it
  parked_until_us  INTEGER,                       -- NULL: not parked
  waits_for        TEXT,                          -- parked: 'time', 'session', 'agent:' and the waiting room, or 'redelivery'
  record           TEXT,                          -- the original: stored when parked, dropped when the answer is published
  snapshot         TEXT,                          -- the course's snapshot when it was last parked
  history          TEXT                           -- before the answer, bounded; NULL: claimed once
);

-- The final answer of an event, as it goes to Kafka; key and value are a BLOB where they are not UTF-8.
CREATE TABLE handoff_answers (
  event            INTEGER NOT NULL PRIMARY KEY,
  settled_at_us    INTEGER NOT NULL,
  settled_by       TEXT    NOT NULL,
  label            TEXT    NOT NULL,              -- its status, in short
  channel          TEXT    NOT NULL CHECK (channel IN ('outcomes', 'dead_letters')),
  key,
  value,
  headers          TEXT    NOT NULL
);

-- The broker's acknowledgement of an answer.
CREATE TABLE handoff_published (
  event            INTEGER NOT NULL PRIMARY KEY,
  published_at_us  INTEGER NOT NULL,
  published_by     TEXT    NOT NULL,
  published_to     TEXT                           -- topic/partition/offset of the answer, where known
);

-- One row, once entries were pruned. A record that is not newer than this, and has no entry, may have been answered.
CREATE TABLE handoff_pruned (
  id                 INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  published_until_us INTEGER NOT NULL             -- the latest publication among the pruned entries
);

-- Which events were claimed with the records that Kafka delivers again.
CREATE INDEX handoff_events_position ON handoff_events (topic, partition, "offset");
-- The other indexes are partial: an event that was never parked is in none of them, so it pays for none. A ledger may hold a
-- million parked events, so each query reads an index in its order and stops at its limit.

-- Recovery reads the events in work of a partition in the order of their records. Parked events stay in the ledger.
CREATE INDEX handoff_events_recovery ON handoff_events (topic, partition, "offset")
  WHERE record IS NOT NULL AND waits_for IS NULL;
-- Events whose time has come. The deadline is in the index, because events past it are read by the one after the next.
CREATE INDEX handoff_events_due ON handoff_events (topic, partition, parked_until_us, deadline_us)
  WHERE waits_for = 'time';
-- Events whose session was woken: until then they are parked until their deadline. In the order of their records, because
-- Kafka may have to deliver others before.
CREATE INDEX handoff_events_woken ON handoff_events (topic, partition, "offset")
  WHERE waits_for = 'session' AND parked_until_us < deadline_us;
-- Events past their deadline, whatever they wait for.
CREATE INDEX handoff_events_deadline ON handoff_events (topic, partition, deadline_us) WHERE waits_for <> 'redelivery';
-- The events of a waiting room, the first seen first; and the counts at an assignment, which read this index alone.
CREATE INDEX handoff_events_waiting ON handoff_events (topic, partition, waits_for, first_seen_us, parked_until_us)
  WHERE waits_for <> 'redelivery';
-- The unfinished events of a session in their order: which one is next, and is one ahead of a new record.
CREATE INDEX handoff_events_session ON handoff_events (session_id, topic, partition, "offset") WHERE record IS NOT NULL;
-- Pruning deletes the oldest published events first.
CREATE INDEX handoff_published_at ON handoff_published (published_at_us);

CREATE VIEW handoff_ledger AS
SELECT e.event, e.key, e.session_id, e.topic, e.partition, e."offset", e.recorded_us,
  CASE WHEN p.event IS NOT NULL THEN 'published' WHEN a.event IS NOT NULL THEN 'settled'
    WHEN e.parked_until_us IS NOT NULL THEN 'parked' ELSE 'open' END AS state,
  e.owner, e.version + (a.event IS NOT NULL) + (p.event IS NOT NULL) AS version,
  e.first_seen_us, e.deadline_us, e.claimed_at_us, e.from_ledger, e.parked_until_us, e.waits_for, a.settled_at_us,
  p.published_at_us, p.published_to, e.record, e.snapshot, a.channel, a.key AS answer_key,
  a.value AS answer_value, a.headers AS answer_headers, e.history, a.settled_by, a.label,
  p.published_by
FROM handoff_events AS e
LEFT JOIN handoff_answers AS a ON a.event = e.event
LEFT JOIN handoff_published AS p ON p.event = e.event;
