//! The stores of this process, so that a reader in the same process takes chunks by `Arc`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use volley_proto::{ExecutorId, Incarnation};

use super::outputs::PartitionStore;

type Stores = HashMap<(ExecutorId, Incarnation), Weak<PartitionStore>>;

/// An executor's id and incarnation together name one store, wherever in the process it was made.
static STORES: LazyLock<Mutex<Stores>> = LazyLock::new(Mutex::default);

/// Lets readers of this process find `store` while it lives.
pub(super) fn register(store: &Arc<PartitionStore>) {
    let mut stores = STORES.lock();
    stores.retain(|_, store| store.strong_count() > 0);
    stores.insert((store.executor().clone(), store.incarnation()), Arc::downgrade(store));
}

/// The store of this life of this executor, if it is in this process.
pub(in crate::exchange) fn find(executor: &ExecutorId, incarnation: Incarnation) -> Option<Arc<PartitionStore>> {
    STORES.lock().get(&(executor.clone(), incarnation)).and_then(Weak::upgrade)
}
