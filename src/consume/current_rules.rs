//! The rules of decoding that are in use, which a reload of the configuration replaces.

use std::sync::Arc;

use crate::deliver::SharedRules;
use crate::domain::wire::escalation::DecodeRules;

/// One version of the rules, until the next one is taken.
pub(super) struct CurrentRules {
    shared: SharedRules,
    /// For records that nobody has accepted yet.
    pub(super) of_new: Arc<DecodeRules>,
    /// An event that was accepted once must not be rejected by a rule that has changed since.
    pub(super) of_accepted: DecodeRules,
}

impl CurrentRules {
    pub(super) fn new(shared: SharedRules) -> Self {
        let of_new = shared.current();
        Self { of_accepted: of_new.of_accepted(), of_new, shared }
    }

    /// Take the present version. Returns whether it is a new one.
    pub(super) fn renew(&mut self) -> bool {
        let current = self.shared.current();
        let is_new = !Arc::ptr_eq(&current, &self.of_new);
        if is_new {
            self.of_accepted = current.of_accepted();
            self.of_new = current;
        }
        is_new
    }
}
