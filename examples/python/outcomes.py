"""Prints outcomes as they arrive: outcomes.py [EVENT_ID]; with an id it ends at that event's final one.

Environment: KAFKA (default localhost:9092), TOPIC (default handoff.outcomes), GROUP (default my-bot).
"""

import json
import os
import sys

from confluent_kafka import Consumer

wanted = sys.argv[1] if len(sys.argv) > 1 else None
consumer = Consumer({
    "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"),
    "group.id": os.environ.get("GROUP", "my-bot"),
    "auto.offset.reset": "earliest",
    # Committed below, after an outcome was used.
    "enable.auto.commit": False,
})
consumer.subscribe([os.environ.get("TOPIC", "handoff.outcomes")])
try:
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            sys.exit(str(message.error()))
        outcome = json.loads(message.value())
        # status: assigned, queued, no_agent_online, rejected, expired or failed; not final: still trying.
        who = outcome.get("agent_id") or outcome.get("reason", "")
        print(outcome["event_id"], outcome["status"], outcome["final"], who, flush=True)
        consumer.commit(message, asynchronous=False)
        if wanted == outcome["event_id"] and outcome["final"]:
            break
finally:
    consumer.close()
