//! Reports on jobs that ended, in the state store: a scheduler after this one still tells of them.
//!
//! ```text
//! job-reports/ID-TERM   the reports of some jobs (volley.client.v1.JobList); ID is the first one's, TERM the scheduler's that wrote them
//! ```
//!
//! They are written after the fact, those of a second together, so that no job waits for it. A scheduler that is killed loses those of its
//! last second. At least as many reports stay as a scheduler keeps, and at most a value more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio_util::sync::CancellationToken;
use volley_proto::JobId;
use volley_proto::wire::client::v1::{JobList, JobReport};

use super::JobBook;
use crate::store::{StateStore, StoreError};

const PREFIX: &str = "job-reports/";
/// How long reports are gathered.
const EVERY: Duration = Duration::from_secs(1);
/// The longest value; etcd takes requests of 1.5 MiB, unless it is told otherwise.
const MOST_BYTES: usize = 1 << 20;
/// The longest text within a report, in characters.
const MOST_TEXT: usize = 4 << 10;

/// The reports in a state store.
#[derive(Debug)]
pub(crate) struct Archive {
    store: Arc<dyn StateStore>,
    /// How many reports are to stay.
    wanted: usize,
    /// What earlier schedulers wrote.
    earlier: BTreeMap<JobId, JobReport>,
    /// Keys and how many reports each has, the oldest first.
    keys: Mutex<VecDeque<(String, usize)>>,
}

impl Archive {
    /// Reads what earlier schedulers wrote. What can't be read is left out, and goes when its turn comes: nothing depends on it.
    pub(crate) fn open(store: Arc<dyn StateStore>, wanted: usize) -> Result<Self, StoreError> {
        let (mut earlier, mut keys) = (BTreeMap::new(), VecDeque::new());
        for (key, found) in store.list(PREFIX)? {
            let jobs = JobList::decode(found.value).map(|list| list.jobs).unwrap_or_else(|error| {
                tracing::warn!(%key, %error, "reports on ended jobs can't be read");
                Vec::new()
            });
            keys.push_back((key, jobs.len()));
            earlier.extend(jobs.into_iter().map(|report| (JobId(report.job), report)));
        }
        while earlier.len() > wanted {
            earlier.pop_first();
        }
        Ok(Self { store, wanted, earlier, keys: Mutex::new(keys) })
    }

    /// A job that ended before this scheduler started.
    pub(crate) fn earlier(&self, job: JobId) -> Option<&JobReport> {
        self.earlier.get(&job)
    }

    /// All of these.
    pub(crate) fn all_earlier(&self) -> impl Iterator<Item = &JobReport> {
        self.earlier.values()
    }

    /// Writes reports on the jobs of `book` as they end, until told to stop, and then the last ones.
    pub(crate) async fn keep(self: Arc<Self>, book: Arc<JobBook>, report: fn(&super::Job) -> JobReport, stop: CancellationToken) {
        loop {
            let is_over = stop.run_until_cancelled(book.wait_forgotten()).await.is_none();
            let reports: Vec<_> = book.take_forgotten().iter().map(|job| report(job)).collect();
            let archive = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || archive.write(reports)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "reports on ended jobs were not written"),
                Err(error) => tracing::warn!(%error, "reports on ended jobs were not written"),
            }
            if is_over {
                return;
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
    }

    /// Writes reports, and lets go of the oldest ones that are too many.
    fn write(&self, reports: Vec<JobReport>) -> Result<(), StoreError> {
        if self.wanted == 0 {
            return Ok(());
        }
        let mut keys = self.keys.lock();
        for list in lists(reports) {
            let first = list.jobs.first().map_or(0, |report| report.job);
            // No other scheduler writes in this term, and none writes of a job twice.
            let key = format!("{PREFIX}{first:020}-{:010}", self.store.term().0);
            self.store.compare_and_swap(&key, None, Some(&list.encode_to_vec()))?;
            keys.push_back((key, list.jobs.len()));
        }
        let mut kept: usize = keys.iter().map(|(_, reports)| reports).sum();
        while let Some((key, reports)) = keys.front()
            && kept - reports >= self.wanted
        {
            if let Some(found) = self.store.get(key)? {
                self.store.compare_and_swap(key, Some(found.version), None)?;
            }
            kept -= reports;
            keys.pop_front();
        }
        Ok(())
    }
}

/// Reports in lists that are not too long for a value.
fn lists(reports: Vec<JobReport>) -> Vec<JobList> {
    let mut lists: Vec<JobList> = Vec::new();
    let mut bytes = 0;
    for report in reports.into_iter().map(bounded) {
        // With its tag and its length.
        let more = report.encoded_len() + 8;
        match lists.last_mut().filter(|_| bytes + more <= MOST_BYTES) {
            Some(list) => {
                bytes += more;
                list.jobs.push(report);
            }
            None => {
                bytes = more;
                lists.push(JobList { jobs: vec![report] });
            }
        }
    }
    lists
}

/// The report, without what makes it too long: rather the numbers than the texts, and rather its stages than their operators.
fn bounded(mut report: JobReport) -> JobReport {
    cut(&mut report.statement);
    cut(&mut report.error);
    if report.encoded_len() > MOST_BYTES / 2 {
        report.stages.iter_mut().flat_map(|stage| &mut stage.operators).for_each(|operator| operator.detail.clear());
    }
    if report.encoded_len() > MOST_BYTES / 2 {
        report.stages.iter_mut().for_each(|stage| stage.operators.clear());
    }
    if report.encoded_len() > MOST_BYTES / 2 {
        report.stages.clear();
    }
    report
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(MOST_TEXT) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use volley_proto::wire::client::v1::{OperatorReport, StageReport};

    use super::*;
    use crate::store::MemoryStore;

    fn report(job: u64) -> JobReport {
        JobReport { job, statement: format!("SELECT {job}"), ..Default::default() }
    }

    fn jobs(archive: &Archive) -> Vec<u64> {
        archive.all_earlier().map(|report| report.job).collect()
    }

    #[test]
    fn the_newest_reports_are_there_again() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let archive = Archive::open(Arc::clone(&store), 3).unwrap();
        archive.write(vec![report(1), report(2)]).unwrap();
        archive.write(vec![report(4)]).unwrap();
        archive.write(vec![]).unwrap();
        assert_eq!(jobs(&Archive::open(Arc::clone(&store), 3).unwrap()), [1, 2, 4]);
        archive.write(vec![report(3), report(5)]).unwrap();
        let again = Archive::open(Arc::clone(&store), 3).unwrap();
        assert_eq!((jobs(&again), store.list(PREFIX).unwrap().len()), (vec![3, 4, 5], 2), "1 and 2 went together");
        assert_eq!(again.earlier(JobId(5)), Some(&report(5)));
        assert_eq!(again.earlier(JobId(1)), None);
        assert_eq!(jobs(&Archive::open(Arc::clone(&store), 2).unwrap()), [4, 5], "a scheduler that keeps fewer");
        let none = Archive::open(Arc::clone(&store), 0).unwrap();
        none.write(vec![report(6)]).unwrap();
        assert_eq!((jobs(&none).len(), store.list(PREFIX).unwrap().len()), (0, 2));
    }

    #[test]
    fn what_can_not_be_read_is_left_out_and_goes_in_its_turn() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        store.compare_and_swap("job-reports/00000000000000000001-0000000001", None, Some(b"\xff\xff")).unwrap();
        let archive = Archive::open(Arc::clone(&store), 1).unwrap();
        assert!(jobs(&archive).is_empty());
        archive.write(vec![report(2)]).unwrap();
        assert_eq!(store.list(PREFIX).unwrap().len(), 1);
    }

    #[test]
    fn values_are_bounded() {
        let operator = |bytes| OperatorReport { name: "ProjectionExec".into(), detail: "x".repeat(bytes), ..Default::default() };
        let wide = |job, bytes, operators: usize| JobReport {
            stages: vec![StageReport { rows: 7, operators: vec![operator(bytes); operators], ..Default::default() }],
            statement: "é".repeat(5000),
            ..report(job)
        };
        let lists = lists(vec![wide(1, 100_000, 4), wide(2, 100_000, 4), wide(3, 100_000, 4), wide(4, 200_000, 4), wide(5, 0, 100_000)]);
        assert!(lists.iter().all(|list| list.encoded_len() <= MOST_BYTES));
        let reports: Vec<_> = lists.iter().flat_map(|list| &list.jobs).collect();
        assert_eq!(reports.iter().map(|report| report.job).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let operators = |at: usize| reports[at].stages[0].operators.iter().map(|operator| operator.detail.len()).collect::<Vec<_>>();
        assert_eq!((operators(0), operators(3), operators(4)), (vec![100_000; 4], vec![0; 4], vec![]));
        assert!(reports.iter().all(|report| report.stages[0].rows == 7 && report.statement.chars().count() == MOST_TEXT + 1));
    }

    #[tokio::test]
    async fn jobs_are_reported_as_they_end_and_at_the_stop() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let archive = Arc::new(Archive::open(Arc::clone(&store), 10).unwrap());
        let (book, stop) = (Arc::new(JobBook::new(10)), CancellationToken::new());
        let kept = tokio::spawn(archive.keep(Arc::clone(&book), |job| report(job.id.0), stop.clone()));
        book.add(Arc::new(super::super::job::tests::job(JobId(1))));
        book.forget(JobId(1));
        tokio::time::timeout(Duration::from_secs(10), async {
            while store.list(PREFIX).unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        book.add(Arc::new(super::super::job::tests::job(JobId(2))));
        book.forget(JobId(2));
        stop.cancel();
        kept.await.unwrap();
        assert_eq!(jobs(&Archive::open(store, 10).unwrap()), [1, 2]);
    }
}
