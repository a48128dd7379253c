//! The scheduler: sessions, planning, and the machine that pairs tasks with executors.
//!
//! ```text
//!  clients ── service::flight_sql ─┐                      ┌─ planning   (plans off the loop, encodes stages)
//!                                  ├─ Event ─> driver ──> perform ─ executors  (one stream each)
//!  executors ── service::control ──┘          (state)     └─ jobs       (what services wait for)
//!                                                store: tables, job ids, term, journal
//! ```
//!
//! [`state`] decides and does no I/O; everything around it does I/O and decides nothing. [`Scheduler::start`] runs it all.

mod commits;
pub mod config;
mod driver;
mod executors;
mod garbage;
mod jobs;
mod journal;
pub mod net;
mod perform;
mod planning;
mod results;
mod resume;
mod server;
mod service;
mod sessions;
pub mod state;
pub mod store;

pub use config::{Config, ConfigError, SchedulerArgs, StateLocation};
pub use server::{Components, Scheduler, SchedulerError, SchedulerHandle};
pub use sessions::UsersError;
