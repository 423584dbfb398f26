//! Stand-ins for the systems around the worker, shipped with it.
//!
//! They serve the commands `handoff desk` and `handoff demo` and every test, so what is tried out
//! on a laptop is what the tests prove. They speak the real protocols over real sockets. Nothing
//! in here is linked into the path of a real escalation, and the worker never knows that it talks
//! to one of them.

pub mod broker;
pub mod desk;
pub mod ledger;
