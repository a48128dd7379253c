//! The `volley` program.

mod help;
mod program;
mod sql;
