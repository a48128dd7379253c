//! Writes chunks to disk before anybody has to wait for it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::oneshot;
use volley_proto::Failure;

use super::chunk::Chunk;
use super::output::Output;
use super::outputs::{PartitionStore, WeakStore};
use crate::exchange::hooks::ExchangeHooks;
use crate::exchange::spill::SpillError;

/// Bytes of chunks that are encoded and written in one go.
const ROUND_BYTES: usize = 8 << 20;
/// How long the disk is left alone after it failed. Producers that need it meanwhile get its error themselves.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts the background writer, which ends with the store.
pub(super) fn start(store: &Arc<PartitionStore>) {
    let wake = Arc::clone(store.wake_writer());
    let weak = Arc::downgrade(store);
    let task = async move {
        loop {
            wake.notified().await;
            if weak.strong_count() == 0 {
                return;
            }
            while let Some(round) = next_round(&weak) {
                if let Err(error) = round.run().await {
                    tracing::warn!(%error, "chunks could not be written behind");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    // It ends by itself when the store is gone.
    drop(store.hooks().io.spawn(task));
}

/// Some chunks of one output, on their way to its spill file.
struct Round {
    output: Arc<Output>,
    chunks: Vec<Arc<Chunk>>,
    hooks: ExchangeHooks,
    store: WeakStore,
}

/// What to write next; `None` while little enough is in memory alone.
fn next_round(store: &WeakStore) -> Option<Round> {
    let store = store.upgrade()?;
    if store.ledger().dirty() <= store.low_water_bytes() {
        return None;
    }
    let output = store.dirtiest()?;
    let chunks = output.take_dirty(ROUND_BYTES);
    if chunks.is_empty() {
        return None;
    }
    Some(Round { output, chunks, hooks: store.hooks().clone(), store: Arc::downgrade(&store) })
}

impl Round {
    async fn run(self) -> Result<(), Failure> {
        let Self { output, chunks, hooks, store } = self;
        let (sender, encoded) = oneshot::channel();
        let (encoding, encoded_chunks) = (Arc::clone(&output), chunks.clone());
        let encode = async move {
            let dirty = encoded_chunks.into_iter().filter_map(|chunk| chunk.dirty_batch().map(|batch| (chunk, batch)));
            let encoded = dirty.map(|(chunk, batch)| encoding.encode(chunk.partition(), &batch).map(|messages| (chunk, messages)));
            // Nobody receives it when the runtime shuts down.
            drop(sender.send(encoded.collect::<Result<Vec<_>, _>>()));
        };
        hooks.compute.spawn(encode.boxed());
        let encoded = encoded.await.map_err(|_| Failure::internal("the encoding of a chunk was dropped"))?;
        let encoded = encoded.map_err(|e| Failure::internal(format!("encoding a chunk: {e}")))?;

        let writing = Arc::clone(&output);
        let write = hooks.io.spawn_blocking(move || -> Result<(), SpillError> {
            for (chunk, messages) in encoded {
                let (file, place) = writing.spill(chunk.id(), chunk.rows(), &messages)?;
                chunk.set_disk(file, place);
            }
            writing.finish_file()
        });
        let written = write.await.map_err(|e| Failure::internal(format!("the background writer: {e}")))?;
        if let Err(error) = written {
            if matches!(error, SpillError::Freed { .. }) {
                return Ok(());
            }
            let unwritten: Vec<_> = chunks.into_iter().filter(|chunk| chunk.dirty_batch().is_some()).collect();
            output.put_back_dirty(&unwritten);
            return Err(error.while_writing());
        }
        if let Some(store) = store.upgrade() {
            store.ledger().reclaim_excess();
        }
        Ok(())
    }
}
