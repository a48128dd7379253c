//! Wire messages to domain types and back, one file for each conversation.
//!
//! This module alone looks into optional fields. What comes off the wire is not trusted: a field that is missing, an
//! index that points nowhere, columns of different lengths and values that this build does not know are each a
//! [`ConvertError`] naming the message and the field. The way out can't fail.

mod client;
mod control;
mod error;
mod journal;
mod shuffle;
mod task;
mod types;

pub use error::ConvertError;
