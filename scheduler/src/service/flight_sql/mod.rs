//! Flight SQL: how clients ask, ours as well as everybody else's.
//!
//! ```text
//! endpoint    gRPC in: who calls, cookies, and the calls that arrow-flight does not dispatch; everything else goes to
//! service     arrow-flight's dispatch by command, one line for each, into
//!   statements   SQL, plans, updates: accepted, planned, run as jobs
//!   substrait    plans in Substrait's form
//!   prepared     prepared statements and their parameters (`inserts` with many rows of them)
//!   ingest       rows that a client sends (`incoming`) into a table (`ingest_target`)
//!   metadata     catalogs, schemas, tables, types, SqlInfo (`sql_info`, `type_info`)
//!   results      DoGet; `poll` for clients that would rather ask again
//!   actions      cancel, session options, reports on jobs and executors (`reports`)
//!   explain      EXPLAIN and EXPLAIN ANALYZE
//! ```
//!
//! Rules that real clients taught: side effects are done when GetFlightInfo returns; a query has one endpoint with no location;
//! the schema in a FlightInfo is that of the stream; rows are cancelled by dropping the stream.

mod actions;
mod authenticate;
mod boundary;
mod endpoint;
mod explain;
mod incoming;
mod info;
mod ingest;
mod ingest_target;
mod inserts;
mod metadata;
mod poll;
mod prepared;
mod reports;
mod results;
mod service;
mod sql_info;
mod statements;
mod substrait;
mod type_info;
mod writes;

pub(crate) use endpoint::FlightSqlEndpoint;
pub(crate) use reports::final_report;
pub(crate) use service::FlightSql;
