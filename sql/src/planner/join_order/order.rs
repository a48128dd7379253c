//! In which order relations are joined.

/// In which order relations are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// One of them, by its place.
    Relation(usize),
    /// Two parts.
    Join(Box<Order>, Box<Order>),
}

impl Order {
    /// The relations in it, as bits.
    pub(super) fn set(&self) -> u32 {
        match self {
            Self::Relation(place) => 1 << place,
            Self::Join(left, right) => left.set() | right.set(),
        }
    }
}
