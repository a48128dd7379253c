//! Job ids that are never used twice, also not after a crash: they are reserved in blocks.

use std::sync::Arc;

use parking_lot::Mutex;
use volley_proto::JobId;

use super::{StateStore, StoreError, Version};

const KEY: &str = "volley-jobs-reserved";
/// Ids of a block: what a crash may waste, and how seldom a submission waits for the disk.
const BLOCK: u64 = 1000;

/// Hands out job ids.
#[derive(Debug)]
pub struct JobIds {
    store: Arc<dyn StateStore>,
    reserved: Mutex<Reserved>,
}

#[derive(Debug, Default)]
struct Reserved {
    next: u64,
    end: u64,
}

impl JobIds {
    /// Reserves the first block, so that the first jobs do not wait for it.
    pub fn open(store: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let reserved = reserve(store.as_ref())?;
        Ok(Self { store, reserved: Mutex::new(reserved) })
    }

    /// The next id. Blocks for the disk once in a thousand calls.
    pub fn next(&self) -> Result<JobId, StoreError> {
        let mut reserved = self.reserved.lock();
        if reserved.next == reserved.end {
            *reserved = reserve(self.store.as_ref())?;
        }
        let id = JobId(reserved.next);
        reserved.next += 1;
        Ok(id)
    }

    /// An id that all ids handed out so far are below; nobody has it yet, and nobody need ever get it.
    pub fn bound(&self) -> JobId {
        JobId(self.reserved.lock().next)
    }
}

/// Takes the next block; another scheduler that reserves meanwhile makes us read again.
fn reserve(store: &dyn StateStore) -> Result<Reserved, StoreError> {
    loop {
        let (version, next) = match store.get(KEY)? {
            None => (None, 1),
            Some(found) => (Some(found.version), decode(&found.value)?),
        };
        let end = next + BLOCK;
        match store.compare_and_swap(KEY, version, Some(&end.to_le_bytes())) {
            Ok(Version(_)) => return Ok(Reserved { next, end }),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

fn decode(value: &[u8]) -> Result<u64, StoreError> {
    value.try_into().map(u64::from_le_bytes).map_err(|_| StoreError::Value { key: KEY.into(), why: "it is not 8 bytes long".into() })
}
