//! When two answers to a query are the same.
//!
//! *Equal* means: the same columns (names and types), the same multiset of rows with floats within 1e-9 relative,
//! and the columns of the query's `ORDER BY` in the same order, row by row. A query that ends in a `LIMIT` may choose
//! among rows that tie at the limit: then every row must be one of the unlimited query's rows, see [`compare`].
//!
//! Nothing here runs a query: the functions take answers, so that tests of every crate can use them.

mod compare;
mod order;
mod published;
mod rows;

pub use compare::{Answer, Difference, Verdict, compare, contained};
pub use order::{Order, without_limit};
pub use published::{Columns, PublishedAnswer, matches_published};
