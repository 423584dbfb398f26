"""Publishes an escalation: publish.py SESSION_ID [REASON]

Environment: KAFKA (default localhost:9092), TOPIC (default handoff.escalations).
"""

import json
import os
import sys
import uuid
from datetime import datetime, timezone

from confluent_kafka import Producer


def on_delivery(error, message):
    if error:
        sys.exit(f"not published: {error}")
    print(event["id"])


session = sys.argv[1]
event = {
    "type": "escalation",
    # Made once and kept when the record is sent again: one id is answered once.
    "id": str(uuid.uuid4()),
    "session_id": session,
    "requested_at": datetime.now(timezone.utc).isoformat(),
    "reason": sys.argv[2] if len(sys.argv) > 2 else "user_requested",
}
# Idempotent: a retry of the client itself writes no second record.
producer = Producer({
    "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"),
    "enable.idempotence": True,
})
topic = os.environ.get("TOPIC", "handoff.escalations")
# The key is the session: events of one session keep their order.
producer.produce(topic, json.dumps(event), key=session, on_delivery=on_delivery)
if producer.flush(30):
    sys.exit("not published: no broker answered within 30 s")
