//! The exchange from outside: what it promises to tasks, to other executors and to whoever reads a spill file.

mod flight;
mod spill_format;
mod store;
mod support;
mod types;
