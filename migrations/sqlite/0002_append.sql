-- What is done once is written once: an answer and an acknowledgement are rows of their own, and
-- the row of an event is written when it is claimed or put away. `handoff_ledger` shows all of it.
ALTER TABLE handoff_events RENAME TO handoff_events_1;

-- One row per escalation or dead letter. Times are microseconds since 1970 (UTC).
-- record, headers and steps are JSON; bytes in record and headers are text, or {"base64": ".."}
-- where they are not UTF-8.
CREATE TABLE handoff_events (
  event            INTEGER NOT NULL PRIMARY KEY,
  key              TEXT    NOT NULL UNIQUE,       -- the event's id, or topic/partition/offset of its record
  session_id       TEXT,                          -- a dead letter has none
  topic            TEXT    NOT NULL,              -- where its record stands
  partition        INTEGER NOT NULL,
  "offset"         INTEGER NOT NULL,
  owner            TEXT    NOT NULL,              -- who claimed it last
  version          INTEGER NOT NULL,              -- counts the claims and the times it was put away
  first_seen_us    INTEGER NOT NULL,
  deadline_us      INTEGER,
  claimed_at_us    INTEGER NOT NULL,              -- not parked: since then a call may be out
  parked_until_us  INTEGER,                       -- NULL: not put away
  record           TEXT,                          -- the original, once put away; dropped when the answer is published
  memory           TEXT,                          -- what its course wanted remembered
  steps            TEXT                           -- its story until the answer, bounded; NULL: it was claimed, once
);

-- The final answer of an event, as it goes to Kafka; its bytes are a BLOB where they are not UTF-8.
CREATE TABLE handoff_answers (
  event            INTEGER NOT NULL PRIMARY KEY,
  settled_at_us    INTEGER NOT NULL,
  settled_by       TEXT    NOT NULL,
  title            TEXT    NOT NULL,              -- its status, in short
  channel          TEXT    NOT NULL CHECK (channel IN ('outcomes', 'dead_letters')),
  key,
  value,
  headers          TEXT    NOT NULL
);

-- Whose answer the broker has acknowledged.
CREATE TABLE handoff_published (
  event            INTEGER NOT NULL PRIMARY KEY,
  published_at_us  INTEGER NOT NULL,
  published_by     TEXT    NOT NULL,
  published_to     TEXT                           -- topic/partition/offset of the answer, where known
);

INSERT INTO handoff_events
SELECT rowid, key, session_id, topic, partition, "offset", owner,
  version - (settled_at_us IS NOT NULL) - (published_at_us IS NOT NULL), first_seen_us, deadline_us,
  claimed_at_us, CASE stage WHEN 'parked' THEN parked_until_us END, record, memory,
  (SELECT json_group_array(json(value)) FROM json_each(steps)
    WHERE value ->> 'what' IN ('claimed', 'parked'))
FROM handoff_events_1;

-- handoff_bytes: TEXT or BLOB from the old JSON; the program brings it along.
INSERT INTO handoff_answers
SELECT rowid, settled_at_us,
  coalesce((SELECT value ->> 'by' FROM json_each(steps) WHERE value ->> 'what' = 'settled'), owner),
  coalesce((SELECT value ->> 'note' FROM json_each(steps) WHERE value ->> 'what' = 'settled'), ''),
  answer ->> 'channel', handoff_bytes(answer -> 'key'), handoff_bytes(answer -> 'value'),
  answer -> 'headers'
FROM handoff_events_1 WHERE settled_at_us IS NOT NULL;

INSERT INTO handoff_published
SELECT rowid, published_at_us,
  coalesce((SELECT value ->> 'by' FROM json_each(steps) WHERE value ->> 'what' = 'published'), owner),
  published_to
FROM handoff_events_1 WHERE published_at_us IS NOT NULL;

DROP TABLE handoff_events_1;

CREATE INDEX handoff_events_put_away ON handoff_events (topic, partition, "offset") WHERE record IS NOT NULL;
CREATE INDEX handoff_published_at ON handoff_published (published_at_us);

CREATE VIEW handoff_ledger AS
SELECT e.event, e.key, e.session_id, e.topic, e.partition, e."offset",
  CASE WHEN p.event IS NOT NULL THEN 'published' WHEN a.event IS NOT NULL THEN 'settled'
    WHEN e.parked_until_us IS NOT NULL THEN 'parked' ELSE 'open' END AS stage,
  e.owner, e.version + (a.event IS NOT NULL) + (p.event IS NOT NULL) AS version,
  e.first_seen_us, e.deadline_us, e.claimed_at_us, e.parked_until_us, a.settled_at_us,
  p.published_at_us, p.published_to, e.record, e.memory, a.channel, a.key AS answer_key,
  a.value AS answer_value, a.headers AS answer_headers, e.steps, a.settled_by, a.title,
  p.published_by
FROM handoff_events AS e
LEFT JOIN handoff_answers AS a ON a.event = e.event
LEFT JOIN handoff_published AS p ON p.event = e.event;
