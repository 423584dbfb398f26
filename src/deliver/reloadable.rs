//! What a reload of the configuration replaces while the service runs.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::domain::course::Policy;
use crate::domain::wire::escalation::DecodeRules;

/// A value that is read again and again, and replaced as a whole: who has read a version keeps it.
#[derive(Debug)]
pub struct Reloadable<T>(Arc<RwLock<Arc<T>>>);

/// The rules of all courses: a delivery keeps the version with which it began.
pub type SharedPolicy = Reloadable<Policy>;

/// How records are decoded.
pub type SharedRules = Reloadable<DecodeRules>;

impl<T> Reloadable<T> {
    /// Shares the first version.
    pub fn new(first: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(first))))
    }

    /// The current version.
    pub fn current(&self) -> Arc<T> {
        self.0.read().clone()
    }

    /// Replaces it for those who read it from now on.
    pub fn replace(&self, next: T) {
        *self.0.write() = Arc::new(next);
    }
}

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
