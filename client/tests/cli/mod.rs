//! The `volley` program.

mod help;
mod input;
mod program;
mod sql;
