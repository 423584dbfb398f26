//! The rules of all courses, which a reload of the configuration replaces.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::domain::course::Policy;

/// A [`Policy`] that is read for each delivery and replaced as a whole: a delivery keeps the version
/// with which it began.
#[derive(Debug, Clone)]
pub struct SharedPolicy(Arc<RwLock<Arc<Policy>>>);

impl SharedPolicy {
    /// Shares the first version.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// The current version.
    pub fn current(&self) -> Arc<Policy> {
        self.0.read().clone()
    }

    /// Replaces it for the deliveries to come.
    pub fn replace(&self, policy: Policy) {
        *self.0.write() = Arc::new(policy);
    }
}
