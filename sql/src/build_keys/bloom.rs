//! A Bloom filter whose keys set four bits of one 64-bit word each, so that a look costs one access to memory.
//!
//! "Register-blocked" in F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007. With 16 bits a key
//! about 1 in 100 others is taken for one of them, with 8 bits about 1 in 20.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a key's hash that say which word is its own; the others say which bits.
const WORD_SHIFT: u32 = 32;
/// Words below which a filter is not made smaller.
const LEAST_WORDS: u64 = 64;

/// Keys by their hashes. Many threads may add to it.
#[derive(Debug)]
pub(super) struct Bloom {
    /// A power of two of them.
    words: Vec<AtomicU64>,
}

impl Bloom {
    /// An empty one of about so many bytes: a power of two, eight at least and 32 GiB at most.
    pub(super) fn new(bytes: usize) -> Self {
        let words = (bytes / 8).clamp(1, 1 << 32).next_power_of_two();
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The one that [`Self::to_bytes`] gave; `None` where that is none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<_> = words.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect();
        (rest.is_empty() && words.len().is_power_of_two()).then_some(Self { words })
    }

    /// Its words, the least byte first.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
    }

    /// Adds a key.
    pub(super) fn insert(&self, hash: u64) {
        let (word, bits) = self.place(hash);
        // Most keys of a column that is no key are there already, and a write would take the line from other threads.
        if word.load(Ordering::Relaxed) & bits != bits {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Whether a key may be there.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        word.load(Ordering::Relaxed) & bits == bits
    }

    /// One with the keys of both, as large as the larger.
    pub(super) fn merged(self, other: Self) -> Self {
        let (large, small) = if self.words.len() >= other.words.len() { (self, other) } else { (other, self) };
        // A key's word in a smaller one is told by fewer bits of its hash.
        for (place, word) in large.words.iter().enumerate() {
            word.fetch_or(small.words[place & (small.words.len() - 1)].load(Ordering::Relaxed), Ordering::Relaxed);
        }
        large
    }

    /// The same keys in the smallest one that has so many bits for each of `keys`: one that was made for many more than came fits no cache.
    pub(super) fn fitted(&self, keys: u64, bits_per_key: u64) -> Self {
        let wanted = keys.saturating_mul(bits_per_key).div_ceil(64).clamp(LEAST_WORDS, 1 << 32).next_power_of_two();
        let words = self.words.len().min(wanted as usize);
        let fitted = Self::new(words * 8);
        for (place, word) in self.words.iter().enumerate() {
            fitted.words[place & (words - 1)].fetch_or(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        fitted
    }

    /// Whether it says too little: more than five of eight bits are set, as with fewer than four bits for each key, where one in six others or more is
    /// taken for a key.
    pub(super) fn is_full(&self) -> bool {
        let set: u64 = self.words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum();
        set > self.words.len() as u64 * u64::from(u64::BITS) * 5 / 8
    }

    fn place(&self, hash: u64) -> (&AtomicU64, u64) {
        let bit = |shift: u32| 1u64 << ((hash >> shift) & 63);
        let word = (hash >> WORD_SHIFT) as usize & (self.words.len() - 1);
        (&self.words[word], bit(0) | bit(6) | bit(12) | bit(18))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of numbers.
    fn hash(number: u64) -> u64 {
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn of(keys: impl Iterator<Item = u64>, bytes: usize) -> Bloom {
        let bloom = Bloom::new(bytes);
        keys.for_each(|key| bloom.insert(hash(key)));
        bloom
    }

    #[test]
    fn keys_are_found_and_few_others_are() {
        let bloom = of(0..10_000, 20_000);
        assert!((0..10_000).all(|key| bloom.may_contain(hash(key))));
        let others = (10_000..110_000).filter(|&key| bloom.may_contain(hash(key))).count();
        // 26 bits a key.
        assert!(others < 1_000, "{others} of 100000");
    }

    #[test]
    fn what_is_merged_or_sent_has_all_keys() {
        let (one, other) = (of(0..500, 4096), of(500..1000, 4096));
        let sent = Bloom::from_bytes(&one.merged(other).to_bytes()).unwrap();
        assert!((0..1000).all(|key| sent.may_contain(hash(key))));
        for (one, other) in [(4096, 1 << 14), (1 << 14, 4096)] {
            let both = of(0..500, one).merged(of(500..1000, other));
            assert_eq!(both.to_bytes().len(), 1 << 14);
            assert!((0..1000).all(|key| both.may_contain(hash(key))));
        }
    }

    #[test]
    fn one_that_is_too_large_is_made_smaller() {
        let fitted = of(0..1000, 1 << 20).fitted(1000, 16);
        assert_eq!(fitted.to_bytes().len(), 2048, "16 bits a key");
        assert!((0..1000).all(|key| fitted.may_contain(hash(key))));
        let others = (10_000..110_000).filter(|&key| fitted.may_contain(hash(key))).count();
        assert!(others < 3_000, "{others} of 100000");
        assert_eq!(of(0..10, 1 << 20).fitted(10, 16).to_bytes().len(), 512);
        assert_eq!(of(0..1000, 1024).fitted(1000, 16).to_bytes().len(), 1024, "there is no more to know");
    }

    #[test]
    fn one_with_too_many_keys_is_full() {
        for (bits_per_key, is_full) in [(16, false), (4, false), (3, true), (1, true)] {
            let keys = (1 << 15) / bits_per_key;
            let bloom = of(0..keys, 1 << 12);
            assert_eq!(bloom.is_full(), is_full, "{bits_per_key} bits a key");
        }
        let bloom = of(0..1000, 1 << 12);
        (0..1000).for_each(|key| bloom.insert(hash(key)));
        assert!(!bloom.is_full(), "a key that comes again needs no room");
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        for bytes in [&[0; 7][..], &[0; 24], &[]] {
            assert!(Bloom::from_bytes(bytes).is_none(), "{} bytes", bytes.len());
        }
    }
}
