// Publishes an escalation: node publish.mjs SESSION_ID [REASON]
// Environment: KAFKA (default localhost:9092), TOPIC (default handoff.escalations).
import { randomUUID } from 'node:crypto'
import { ProduceAcks, Producer, stringSerializers } from '@platformatic/kafka'

const [sessionId, reason = 'user_requested'] = process.argv.slice(2)
const producer = new Producer({
  clientId: 'my-bot',
  bootstrapBrokers: [process.env.KAFKA ?? 'localhost:9092'],
  serializers: stringSerializers,
  // Idempotent: a retry of the client itself writes no second record.
  idempotent: true,
  acks: ProduceAcks.ALL
})
const event = {
  type: 'escalation',
  // Made once and kept when the record is sent again: one id is answered once.
  id: randomUUID(),
  session_id: sessionId,
  requested_at: new Date().toISOString(),
  reason
}
// The key is the session: events of one session keep their order.
const message = { topic: process.env.TOPIC ?? 'handoff.escalations', key: sessionId, value: JSON.stringify(event) }
await producer.send({ messages: [message] })
console.log(event.id)
await producer.close()
