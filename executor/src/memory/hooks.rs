//! The budget as the exchange sees it, and the exchange as the budget sees it.

use crate::exchange::{Exchange, StoreMemory};

use super::budget::{MemoryBudget, Reclaim};

impl StoreMemory for MemoryBudget {
    fn try_take(&self, bytes: usize) -> bool {
        self.try_take(bytes)
    }

    fn take(&self, bytes: usize) {
        self.take(bytes);
    }

    fn give_back(&self, bytes: usize) {
        self.give_back(bytes);
    }
}

impl Reclaim for Exchange {
    fn reclaim(&self, bytes: usize) -> usize {
        self.reclaim(bytes)
    }
}
