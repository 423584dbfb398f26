//! The commits of the consumer's thread: what is finished is committed every second, and before
//! partitions are released.
//!
//! librdkafka's own commits only go forward, and know neither which topic an offset belongs to nor
//! whether it may still be committed.

use std::fmt::Display;
use std::sync::Weak;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use tracing::warn;

use super::callbacks::ConsumerCallbacks;
use super::rebalance::commit_now;
use crate::telemetry::log_throttle::warn_throttled;

impl ConsumerCallbacks {
    /// Commit what is finished. Does not wait for the broker: see [`Readings::is_commit_lost`].
    ///
    /// [`Readings::is_commit_lost`]: super::readings::Readings::is_commit_lost
    pub(super) fn commit_soon(&self, client: &BaseConsumer<Self>) {
        let list = match self.readings.take_uncommitted(&self.topic, &self.starting_offsets) {
            Ok(list) if list.count() == 0 => return,
            Ok(list) => list,
            Err(error) => return self.on_commit_error(error),
        };
        if let Err(error) = client.commit(&list, CommitMode::Async) {
            self.readings.set_uncommitted(&list);
            self.on_commit_error(error);
        }
    }

    pub(super) fn on_commit_error(&self, error: impl Display) {
        self.metrics.commit_failures.inc();
        warn_throttled!(self.throttle, %error, "failed to commit offsets");
    }

    /// Commit what is finished, and wait for that.
    pub(super) fn commit(&self) {
        let Some(client) = self.client.get().and_then(Weak::upgrade) else { return };
        self.readings.repeat_unconfirmed();
        let list = self.readings.take_uncommitted(&self.topic, &self.starting_offsets);
        let committed = match list {
            Ok(list) if list.count() == 0 => Ok(()),
            Ok(list) => commit_now(client, list.clone(), &self.lease).inspect_err(|_| {
                // Some of the partitions may stay.
                self.readings.set_uncommitted(&list);
            }),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = committed {
            self.metrics.commit_failures.inc();
            warn!(error, "failed to commit before releasing partitions");
        }
    }

    /// Commit the client's position where it is past offsets without a record. The statistics show
    /// it too, but they may be of a time before a seek.
    pub(super) fn pass_positions(&self) {
        let Some(client) = self.client.get().and_then(Weak::upgrade) else { return };
        let Ok(positions) = client.position() else { return };
        for element in positions.elements() {
            if let Offset::Offset(position) = element.offset() {
                self.readings.pass(element.partition(), position);
            }
        }
    }
}
