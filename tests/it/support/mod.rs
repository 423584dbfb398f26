//! What the integration tests stand on. It never asserts anything about the service.

pub(crate) mod guard;
pub(crate) mod kafka;
pub(crate) mod postgres;
pub(crate) mod worker;
