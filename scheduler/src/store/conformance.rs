//! What every [`StateStore`] has to do, as one function for each rule. Each takes a fresh, empty store and panics where the
//! rule is broken; implementations in this crate and elsewhere run [`all`] in their tests.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test suite: a broken rule is a panic that names it")]

use super::{StateStore, StoreError, Sync, Version};

/// Runs every rule, each on a store of its own.
pub fn all<S: StateStore>(mut fresh: impl FnMut() -> S) {
    a_key_is_read_back_as_written(&fresh());
    a_stale_version_is_a_conflict(&fresh());
    a_version_is_never_used_twice(&fresh());
    keys_are_listed_by_prefix_in_order(&fresh());
    strange_keys_are_kept_apart(&fresh());
    what_is_no_key_is_refused(&fresh());
    the_journal_keeps_order_and_places(&fresh());
    a_trimmed_journal_goes_on_counting(&fresh());
    of_many_writers_one_wins(&fresh());
}

fn is_conflict(result: Result<Version, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

/// A value is read back with the version that the write returned, and a deleted key is gone.
pub fn a_key_is_read_back_as_written(store: &dyn StateStore) {
    assert_eq!(store.get("a").unwrap(), None);
    let first = store.compare_and_swap("a", None, Some(b"one")).unwrap();
    let found = store.get("a").unwrap().unwrap();
    assert_eq!((found.version, found.value.as_ref()), (first, b"one".as_slice()));
    let second = store.compare_and_swap("a", Some(first), Some(b"")).unwrap();
    let found = store.get("a").unwrap().unwrap();
    assert_eq!((found.version, found.value.as_ref()), (second, b"".as_slice()));
    store.compare_and_swap("a", Some(second), None).unwrap();
    assert_eq!(store.get("a").unwrap(), None);
}

/// A write with another version than the key's writes nothing.
pub fn a_stale_version_is_a_conflict(store: &dyn StateStore) {
    let first = store.compare_and_swap("a", None, Some(b"one")).unwrap();
    assert!(is_conflict(store.compare_and_swap("a", None, Some(b"x"))));
    let second = store.compare_and_swap("a", Some(first), Some(b"two")).unwrap();
    assert!(is_conflict(store.compare_and_swap("a", Some(first), Some(b"x"))));
    assert!(is_conflict(store.compare_and_swap("a", Some(first), None)));
    assert!(is_conflict(store.compare_and_swap("b", Some(second), Some(b"x"))));
    assert_eq!(store.get("a").unwrap().unwrap().value.as_ref(), b"two");
    assert_eq!(store.get("b").unwrap(), None);
}

/// A key that was deleted and made again has another version than before.
pub fn a_version_is_never_used_twice(store: &dyn StateStore) {
    let first = store.compare_and_swap("a", None, Some(b"one")).unwrap();
    let gone = store.compare_and_swap("a", Some(first), None).unwrap();
    let again = store.compare_and_swap("a", None, Some(b"one")).unwrap();
    assert!(first < gone && gone < again);
    assert!(is_conflict(store.compare_and_swap("a", Some(first), Some(b"x"))));
}

/// A listing has the keys of a prefix, sorted, and no others.
pub fn keys_are_listed_by_prefix_in_order(store: &dyn StateStore) {
    for key in ["t/b", "t/a", "u/a", "t", "t/c/d"] {
        store.compare_and_swap(key, None, Some(key.as_bytes())).unwrap();
    }
    let listed = store.list("t/").unwrap();
    assert_eq!(listed.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["t/a", "t/b", "t/c/d"]);
    assert!(listed.iter().all(|(key, found)| found.value.as_ref() == key.as_bytes()));
    assert_eq!(store.list("").unwrap().len(), 5);
    assert_eq!(store.list("v").unwrap(), []);
}

/// Keys are compared byte by byte, whatever a file system would make of them.
pub fn strange_keys_are_kept_apart(store: &dyn StateStore) {
    let keys = ["a", "A", "a.", "../a", "a/b", "a%2fb", "a b", "ä", "a\\b", "a\nb"];
    for key in keys {
        assert!(store.compare_and_swap(key, None, Some(key.as_bytes())).is_ok(), "{key:?} can't be written");
    }
    for key in keys {
        assert_eq!(store.get(key).unwrap().unwrap().value.as_ref(), key.as_bytes(), "{key:?}");
    }
    assert_eq!(store.list("").unwrap().len(), keys.len());
}

/// An empty or very long key is an error that says so.
pub fn what_is_no_key_is_refused(store: &dyn StateStore) {
    for key in [String::new(), "k".repeat(1000)] {
        assert!(matches!(store.get(&key), Err(StoreError::Key { .. })));
        assert!(matches!(store.compare_and_swap(&key, None, Some(b"x")), Err(StoreError::Key { .. })));
    }
}

/// Records come back in order, from any place on.
pub fn the_journal_keeps_order_and_places(store: &dyn StateStore) {
    assert_eq!(store.load(0).unwrap(), []);
    for number in 0..100_u8 {
        let sync = if number % 10 == 0 { Sync::Now } else { Sync::Later };
        assert_eq!(store.append(&vec![number; usize::from(number)], sync).unwrap(), u64::from(number));
    }
    store.flush().unwrap();
    for from in [0_u8, 1, 50, 99, 100, 200] {
        let loaded = store.load(u64::from(from)).unwrap();
        let expected: Vec<_> = (from..100).map(|number| (u64::from(number), vec![number; usize::from(number)].into())).collect();
        assert_eq!(loaded, expected, "from {from}");
    }
}

/// Trimming takes away none of the records that were to stay, and places go on counting.
pub fn a_trimmed_journal_goes_on_counting(store: &dyn StateStore) {
    for number in 0..10_u8 {
        store.append(&[number], Sync::Later).unwrap();
    }
    store.trim(7).unwrap();
    assert_eq!(store.load(7).unwrap().len(), 3);
    store.trim(10).unwrap();
    assert_eq!(store.append(&[10], Sync::Now).unwrap(), 10);
    assert_eq!(store.load(10).unwrap(), [(10, vec![10].into())]);
}

/// Of writers that saw the same version, one succeeds.
pub fn of_many_writers_one_wins(store: &dyn StateStore) {
    for _ in 0..20 {
        let seen = store.get("a").unwrap().map(|found| found.version);
        let won = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4_u8).map(|writer| scope.spawn(move || store.compare_and_swap("a", seen, Some(&[writer])))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap_or_else(|_| panic!("a writer panicked"))).filter(Result::is_ok).count()
        });
        assert_eq!(won, 1);
    }
}
