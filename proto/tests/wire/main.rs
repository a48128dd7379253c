//! What goes over the wire: round trips, golden bytes, refusals, hostile bytes, tickets.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod golden;
mod hostile;
mod refusals;
mod sample;
mod size;
mod tickets;
mod values;
mod wire_values;
