-- One row per escalation or dead letter. Times are microseconds since 1970 (UTC).
-- record, answer and history are JSON; bytes in them are text, or {"base64": ".."} where they are not UTF-8.
CREATE TABLE handoff_events (
  key              TEXT COLLATE "C" NOT NULL PRIMARY KEY,  -- id:EVENT, or record:TOPIC/PARTITION/OFFSET, or dead-letter:TOPIC/PARTITION/OFFSET
  session_id       TEXT,                                   -- NULL: a dead letter
  topic            TEXT    NOT NULL,                       -- the position of the record
  partition        INTEGER NOT NULL,
  "offset"         BIGINT  NOT NULL,
  state            TEXT    NOT NULL CHECK (state IN ('open', 'parked', 'settled', 'published')),
  owner            TEXT    NOT NULL,                       -- the instance that claimed the event last
  version          BIGINT  NOT NULL,                       -- counts the changes
  first_seen_us    BIGINT  NOT NULL,
  deadline_us      BIGINT,
  claimed_at_us    BIGINT  NOT NULL,                       -- state 'open': a call may be in flight since then
  parked_until_us  BIGINT,
  settled_at_us    BIGINT,
  published_at_us  BIGINT,
  published_to     TEXT,                                   -- topic/partition/offset of the answer, where known
  record           TEXT,                                   -- the original: stored when parked, dropped when the answer is published
  snapshot         TEXT,                                   -- the course's snapshot when it was last parked
  answer           TEXT,                                   -- the final answer as it goes to Kafka
  history          TEXT    NOT NULL                        -- bounded
);

-- Recovery reads the unfinished events of a partition in the order of their records.
CREATE INDEX handoff_events_unfinished ON handoff_events (topic, partition, "offset") WHERE state <> 'published';
-- Pruning deletes the oldest published events first.
CREATE INDEX handoff_events_published ON handoff_events (published_at_us) WHERE state = 'published';
