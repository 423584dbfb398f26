-- One row per escalation or dead letter. Times are microseconds since 1970 (UTC).
-- record, answer and steps are JSON; bytes in them are text, or {"base64": ".."} where they are not UTF-8.
CREATE TABLE handoff_events (
  key              TEXT COLLATE "C" NOT NULL PRIMARY KEY,  -- the event's id, or topic/partition/offset of its record
  session_id       TEXT,                                   -- a dead letter has none
  topic            TEXT    NOT NULL,                       -- where its record stands
  partition        INTEGER NOT NULL,
  "offset"         BIGINT  NOT NULL,
  stage            TEXT    NOT NULL CHECK (stage IN ('open', 'parked', 'settled', 'published')),
  owner            TEXT    NOT NULL,                       -- who claimed it last
  version          BIGINT  NOT NULL,                       -- counts the changes
  first_seen_us    BIGINT  NOT NULL,
  deadline_us      BIGINT,
  claimed_at_us    BIGINT  NOT NULL,                       -- open: since then a call may be out
  parked_until_us  BIGINT,
  settled_at_us    BIGINT,
  published_at_us  BIGINT,
  published_to     TEXT,                                   -- topic/partition/offset of its answer, where known
  record           TEXT,                                   -- the original, once put away; dropped when the answer is published
  memory           TEXT,                                   -- what its course wanted remembered
  answer           TEXT,                                   -- the final answer as it goes to Kafka
  steps            TEXT    NOT NULL                        -- its story, bounded
);

CREATE INDEX handoff_events_unfinished ON handoff_events (topic, partition, "offset") WHERE stage <> 'published';
CREATE INDEX handoff_events_published ON handoff_events (published_at_us) WHERE stage = 'published';
