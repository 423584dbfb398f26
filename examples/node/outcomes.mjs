// Prints outcomes as they arrive: node outcomes.mjs [EVENT_ID]; with an id it ends at that event's final one.
// Environment: KAFKA (default localhost:9092), TOPIC (default handoff.outcomes), GROUP (default my-bot).
import { Consumer, MessagesStreamFallbackModes, MessagesStreamModes, stringDeserializers } from '@platformatic/kafka'

const wanted = process.argv[2]
const consumer = new Consumer({
  groupId: process.env.GROUP ?? 'my-bot',
  clientId: 'my-bot',
  bootstrapBrokers: [process.env.KAFKA ?? 'localhost:9092'],
  deserializers: stringDeserializers,
  // Committed below, after an outcome was used.
  autocommit: false
})
const stream = await consumer.consume({
  topics: [process.env.TOPIC ?? 'handoff.outcomes'],
  mode: MessagesStreamModes.COMMITTED,
  fallbackMode: MessagesStreamFallbackModes.EARLIEST
})
for await (const message of stream) {
  const outcome = JSON.parse(message.value)
  // status: assigned, queued, no_agent_online, rejected, expired or failed; not final: still trying.
  console.log(outcome.event_id, outcome.status, outcome.final, outcome.agent_id ?? outcome.reason ?? '')
  await message.commit()
  if (outcome.event_id === wanted && outcome.final) break
}
await consumer.close(true)
