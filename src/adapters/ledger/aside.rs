//! Deeds on rows that cannot be read: put aside, so that they hold up nobody else, and tried again
//! now and then. A row of a newer version may be finished by somebody else, a damaged one repaired.
//!
//! This file never gives a deed up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::health::Health;
use super::writer::Job;

const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is put aside.
pub(super) struct Aside {
    jobs: Vec<Job>,
    again_at: Option<Instant>,
    /// Of the batch that is under way: the rows that cannot be read, and why.
    pub(super) unreadable: HashMap<Arc<str>, anyhow::Error>,
    health: Arc<Health>,
}

impl Aside {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self { jobs: Vec::new(), again_at: None, unreadable: HashMap::new(), health }
    }

    /// Of what is left of a batch take what cannot be read; `all`: nothing else waits.
    pub(super) fn take(&mut self, left: Vec<Job>, all: bool) -> Vec<Job> {
        let unreadable = std::mem::take(&mut self.unreadable);
        if let Some(error) = unreadable.values().next() {
            self.health.ill(error);
            self.again_at.get_or_insert(Instant::now() + AGAIN_AFTER);
        } else if all && self.jobs.is_empty() {
            self.health.well();
        }
        let (aside, left) = left.into_iter().partition(|job| unreadable.contains_key(&job.key));
        self.jobs.extend::<Vec<_>>(aside);
        left
    }

    /// Wait until it is time to try again; for ever where nothing is put aside.
    pub(super) async fn comes_due(&self) {
        match self.again_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// What is to be tried again now.
    pub(super) fn due(&mut self) -> Vec<Job> {
        if self.again_at.is_none_or(|at| Instant::now() < at) {
            return Vec::new();
        }
        self.again_at = None;
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.retain(|job| !job.reply.is_closed());
        if jobs.is_empty() {
            // Whoever waited has gone.
            self.health.well();
        }
        jobs
    }
}
