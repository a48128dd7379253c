//! `volley-bench latency`: how long small statements take over an open connection.

use std::time::Instant;

use futures::TryStreamExt;
use volley_client::FlightClient;

use crate::error::Result;
use crate::machine::Machine;
use crate::report::say;
use crate::results::{median, percentile};

/// Statements that do not count.
const WARM_UP: usize = 20;

/// Runs a statement many times, one after the other, and prints the spread of its times.
pub async fn latency(url: &str, sql: &str, count: usize) -> Result<()> {
    let client = FlightClient::connect(url).await?;
    let mut milliseconds = Vec::with_capacity(count);
    for index in 0..count + WARM_UP {
        let started = Instant::now();
        let execution = client.execute(sql).await?;
        client.fetch(&execution).await?.try_for_each(|_| async { Ok(()) }).await?;
        if index >= WARM_UP {
            milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    client.close().await.or_else(|error| if error.is_connection() { Err(error) } else { Ok(()) })?;
    let machine = Machine::here();
    say(&machine.summary());
    say(&machine.command);
    let at = |share| percentile(&milliseconds, share).unwrap_or_default();
    let middle = median(&milliseconds).unwrap_or_default();
    say(&format!("{count} times: least {:.3} ms, median {middle:.3} ms, 99 % below {:.3} ms, most {:.3} ms", at(0.0), at(0.99), at(1.0)));
    Ok(())
}
