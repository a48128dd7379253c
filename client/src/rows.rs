//! The rows of a result, also where its scheduler is started again while they are read.
//!
//! A scheduler marks rows with the attempt that they are of, and an attempt always gives the same rows in the same order. So a reader
//! whose connection broke asks with the same ticket again, and leaves out what it has had. Where it has had rows of an attempt that is
//! gone, it can't go on: those of another need not be the same ones.

use std::collections::VecDeque;
use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::decode::{DecodedFlightData, DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use crate::error::{ClientError, Result};
use crate::flight::{FlightClient, RowStream, flight_error};

/// How long a scheduler that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the first tries to reach it again, and the last ones.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Rows of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Names the attempt; empty where the scheduler does not.
    attempt: Bytes,
    rows: usize,
}

/// What came so far, and what of it comes again.
#[derive(Debug, Default)]
struct Progress {
    had: Vec<Part>,
    again: VecDeque<Part>,
}

/// The reader goes on with other rows than it began with.
#[derive(Debug, PartialEq, Eq)]
struct OtherRows;

impl Progress {
    /// How many of `rows` next ones of an attempt were had before.
    fn take(&mut self, attempt: &Bytes, rows: usize) -> Result<usize, OtherRows> {
        let known = match self.again.front_mut() {
            None => 0,
            Some(part) if part.attempt != *attempt => return Err(OtherRows),
            Some(part) => {
                let known = part.rows.min(rows);
                part.rows -= known;
                if part.rows == 0 {
                    self.again.pop_front();
                }
                known
            }
        };
        if rows > known {
            match self.had.last_mut() {
                Some(last) if last.attempt == *attempt => last.rows += rows - known,
                _ => self.had.push(Part { attempt: attempt.clone(), rows: rows - known }),
            }
        }
        Ok(known)
    }

    /// All comes again. `false` where it could not be told apart from what is new.
    fn restart(&mut self) -> bool {
        self.again = self.had.clone().into();
        self.had.iter().all(|part| !part.attempt.is_empty())
    }
}

struct Reader {
    client: FlightClient,
    ticket: Ticket,
    frames: FlightDataDecoder,
    progress: Progress,
}

/// The rows behind a ticket.
pub(crate) async fn read(client: FlightClient, ticket: Ticket) -> Result<RowStream> {
    let frames = ask(&client, &ticket).await?;
    let reader = Reader { client, ticket, frames, progress: Progress::default() };
    Ok(stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|batch| (batch, reader))) }).boxed())
}

async fn ask(client: &FlightClient, ticket: &Ticket) -> Result<FlightDataDecoder> {
    let frames = client.do_get(ticket.clone()).await?;
    Ok(FlightDataDecoder::new(frames.map_err(|status| FlightError::Tonic(Box::new(status)))))
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match self.frames.next().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(batch) = self.take(frame)? {
                        return Ok(Some(batch));
                    }
                }
                Some(Err(error)) => {
                    let error = flight_error(self.client.url(), error);
                    if !error.is_connection() || !self.progress.restart() {
                        return Err(error);
                    }
                    self.frames = ask_again(&self.client, &self.ticket, error).await?;
                }
            }
        }
    }

    /// The rows of a frame that are new.
    fn take(&mut self, frame: DecodedFlightData) -> Result<Option<RecordBatch>> {
        let DecodedPayload::RecordBatch(batch) = frame.payload else { return Ok(None) };
        let known = self.progress.take(&frame.inner.app_metadata, batch.num_rows()).map_err(|OtherRows| {
            let message = "rows were shown that were lost with an executor and the scheduler, so that the result can't be continued: \
                           run the statement again";
            ClientError::Query { code: tonic::Code::Aborted, message: message.into() }
        })?;
        let new = batch.num_rows() - known;
        // A batch without rows may be all that a result has.
        Ok(if known > 0 && new == 0 { None } else { Some(batch.slice(known, new)) })
    }
}

/// Waits until the scheduler answers again; `broken` is what it did before.
async fn ask_again(client: &FlightClient, ticket: &Ticket, broken: ClientError) -> Result<FlightDataDecoder> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = AGAIN_AFTER.0;
    loop {
        match ask(client, ticket).await {
            Ok(frames) => return Ok(frames),
            Err(error) if error.is_connection() && Instant::now() < deadline => {
                sleep(pause).await;
                pause = (pause * 2).min(AGAIN_AFTER.1);
            }
            Err(error) if error.is_connection() => return Err(broken),
            Err(error) => {
                let reason = format!("{broken}; after it was started again: {error}");
                return Err(ClientError::Connection { url: client.url().to_owned(), reason });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_come_again_are_left_out() {
        let (a, b) = (Bytes::from_static(b"t0/a0"), Bytes::from_static(b"t1/a0"));
        let mut progress = Progress::default();
        assert_eq!([progress.take(&a, 10), progress.take(&a, 5), progress.take(&b, 3)], [Ok(0), Ok(0), Ok(0)]);
        assert!(progress.restart());
        // In other batches than before.
        assert_eq!(
            [progress.take(&a, 12), progress.take(&a, 3), progress.take(&b, 2), progress.take(&b, 4)],
            [Ok(12), Ok(3), Ok(2), Ok(1)]
        );
        assert_eq!(progress.had, [Part { attempt: a.clone(), rows: 15 }, Part { attempt: b.clone(), rows: 6 }]);
        // And broken again, in the middle of what comes again.
        assert!(progress.restart());
        assert_eq!(progress.take(&a, 15), Ok(15));
        assert!(progress.restart());
        assert_eq!([progress.take(&a, 15), progress.take(&b, 6), progress.take(&b, 1)], [Ok(15), Ok(6), Ok(0)]);
    }

    #[test]
    fn rows_of_another_attempt_are_not_taken_for_the_same() {
        let (first, second) = (Bytes::from_static(b"t0/a0"), Bytes::from_static(b"t0/a1"));
        let mut progress = Progress::default();
        assert_eq!(progress.take(&first, 10), Ok(0));
        assert!(progress.restart());
        assert_eq!(progress.take(&second, 10), Err(OtherRows));
    }

    #[test]
    fn rows_without_a_mark_are_not_told_apart() {
        let mut progress = Progress::default();
        assert!(progress.restart(), "nothing came");
        assert_eq!(progress.take(&Bytes::new(), 1), Ok(0));
        assert!(!progress.restart());
    }
}
