//! The `volley` program.

mod config;
mod help;
mod input;
mod jobs;
mod program;
mod scripts;
mod sql;
