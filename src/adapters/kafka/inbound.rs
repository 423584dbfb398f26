//! The consumer thread's side of the channel to `consume`.
//!
//! Records are buffered so that `consume` is woken once per batch. A rebalance message must not
//! overtake records that were read before it, so the buffer is always flushed first.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::consume::Inbound;
use crate::domain::record::Record;

/// Sends to `consume`; blocks where the channel is full, which bounds what is read ahead.
pub(super) struct InboundSender {
    /// `None` after [`Self::close`].
    channel: Mutex<Option<mpsc::Sender<Inbound>>>,
    buffer: Mutex<Vec<Record>>,
}

/// The receiver is gone, or the sender was closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl InboundSender {
    pub(super) fn new(channel: mpsc::Sender<Inbound>) -> Self {
        Self { channel: Mutex::new(Some(channel)), buffer: Mutex::default() }
    }

    /// Buffer a record.
    pub(super) fn buffer(&self, record: Record) {
        self.buffer.lock().push(record);
    }

    /// Send the buffered records.
    pub(super) fn flush(&self) -> Result<(), Closed> {
        let records = std::mem::take(&mut *self.buffer.lock());
        if records.is_empty() { Ok(()) } else { self.send_now(Inbound::Records(records)) }
    }

    /// Send the buffered records, then this message.
    pub(super) fn send(&self, message: Inbound) -> Result<(), Closed> {
        self.flush()?;
        self.send_now(message)
    }

    /// Send nothing from now on; `consume` sees the end of the channel.
    pub(super) fn close(&self) {
        self.channel.lock().take();
    }

    fn send_now(&self, message: Inbound) -> Result<(), Closed> {
        // Cloned, so that the lock is not held while the channel is full.
        let channel = self.channel.lock().clone().ok_or(Closed)?;
        channel.blocking_send(message).map_err(|_| Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Position;

    #[test]
    fn records_read_before_a_rebalance_are_sent_before_it() {
        let (send, mut receive) = mpsc::channel(4);
        let inbound = InboundSender::new(send);
        let position = Position { topic: "t".into(), partition: 0, offset: 7 };
        let record =
            Record { position, timestamp: None, key: None, value: None, headers: Vec::new() };
        inbound.buffer(record);
        assert_eq!(inbound.send(Inbound::Assigned(vec![1])), Ok(()));
        assert!(matches!(receive.try_recv(), Ok(Inbound::Records(records)) if records.len() == 1));
        assert!(matches!(receive.try_recv(), Ok(Inbound::Assigned(_))));
        inbound.close();
        assert_eq!(inbound.send(Inbound::Assigned(vec![1])), Err(Closed));
    }
}
