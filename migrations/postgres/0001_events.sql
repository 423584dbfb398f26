-- One row per escalation or dead letter. Times are microseconds since 1970 (UTC).
-- record, answer and history are JSON; bytes in them are text, or {"base64": ".."} where they are not UTF-8.
CREATE TABLE handoff_events (
  key              TEXT COLLATE "C" NOT NULL PRIMARY KEY,  -- id:EVENT, or record:POSITION@TIMESTAMP, or dead-letter:POSITION@TIMESTAMP
  session_id       TEXT,                                   -- NULL: a dead letter
  topic            TEXT    NOT NULL,                       -- the position of the record
  partition        INTEGER NOT NULL,
  "offset"         BIGINT  NOT NULL,
  recorded_us      BIGINT,                                 -- the timestamp of the record
  state            TEXT    NOT NULL CHECK (state IN ('open', 'parked', 'settled', 'published')),
  owner            TEXT    NOT NULL,                       -- the instance that claimed the event last
  version          BIGINT  NOT NULL,                       -- counts the changes
  first_seen_us    BIGINT  NOT NULL,
  deadline_us      BIGINT,
  claimed_at_us    BIGINT  NOT NULL,                       -- state 'open': a call may be in flight since then
  from_ledger      BOOLEAN NOT NULL,                       -- state 'open': whether the record was read here; otherwise Kafka delivers it again
  parked_until_us  BIGINT,
  waits_for        TEXT,                                   -- state 'parked': 'time', 'session', 'agent:' and the waiting room, or 'redelivery'
  settled_at_us    BIGINT,
  published_at_us  BIGINT,
  published_to     TEXT,                                   -- topic/partition/offset of the answer, where known
  record           TEXT,                                   -- the original: stored when parked, dropped when the answer is published
  snapshot         TEXT,                                   -- the course's snapshot when it was last parked
  answer           TEXT,                                   -- the final answer as it goes to Kafka
  history          TEXT    NOT NULL                        -- bounded
);

-- One row, once entries were pruned. A record that is not newer than this, and has no entry, may have been answered.
CREATE TABLE handoff_pruned (
  id                 INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  published_until_us BIGINT  NOT NULL                      -- the latest publication among the pruned entries
);

-- Every change of an event changes its state, which is in the predicate of an index, so no update is a HOT one: each adds an
-- entry to every index that holds the row. An event that was never parked is in the first three and the primary key only.

-- Counts of the unfinished events; and, with the next one, which events were claimed with the records that Kafka delivers again.
CREATE INDEX handoff_events_unfinished ON handoff_events (topic, partition, "offset") WHERE state <> 'published';
CREATE INDEX handoff_events_finished ON handoff_events (topic, partition, "offset") WHERE state = 'published';
-- Pruning deletes the oldest published events first.
CREATE INDEX handoff_events_published ON handoff_events (published_at_us) WHERE state = 'published';

-- A ledger may hold a million parked events, so each query reads one of these indexes in its order and stops at its limit.

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
