//! What the scheduler answers: executors over the control stream, clients over Flight SQL, probes over HTTP.
//!
//! Services translate and wait; they decide nothing.

pub(crate) mod control;
pub(crate) mod flight_sql;
pub(crate) mod http;
pub(crate) mod status;
