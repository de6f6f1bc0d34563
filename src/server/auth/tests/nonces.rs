//! How long nonces are remembered, and how many.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::server::{
    Failure,
    auth::nonces::{Nonce, Nonces},
};

const VALID: SignedDuration = SignedDuration::from_mins(15);

struct Book {
    nonces: Nonces,
    now: Timestamp,
}

impl Book {
    fn new(max_per_access_key: usize, max_total: usize) -> Self {
        Self { nonces: Nonces::new(max_per_access_key, max_total), now: "2026-11-22T00:00:00Z".parse().unwrap() }
    }

    /// Uses a nonce of a request that is signed now.
    fn use_once(&self, access_key_id: &str, nonce: &str) -> Result<(), Failure> {
        let nonce = Nonce::new(nonce).unwrap();
        self.nonces.use_once(&Arc::from(access_key_id), nonce, self.now + VALID, self.now)
    }

    fn pass(&mut self, time: SignedDuration) {
        self.now += time;
    }
}

#[test]
fn a_nonce_is_good_once_for_each_access_key() {
    let book = Book::new(10, 10);
    assert_eq!(book.use_once("a", "1"), Ok(()));
    assert_eq!(book.use_once("a", "1"), Err(Failure::NonceUsed));
    assert_eq!(book.use_once("b", "1"), Ok(()));
    assert_eq!(book.use_once("a", "2"), Ok(()));
}

#[test]
fn it_is_remembered_as_long_as_its_timestamp_is_valid_and_at_most_a_portion_longer() {
    let mut book = Book::new(10, 10);
    for second in 0..900 {
        book.use_once("a", "1").unwrap_or_else(|failure| assert_eq!((second > 0, failure), (true, Failure::NonceUsed)));
        book.pass(SignedDuration::from_secs(1));
    }
    assert_eq!(book.use_once("a", "1"), Err(Failure::NonceUsed), "valid until now");
    book.pass(SignedDuration::from_secs(300));
    assert_eq!(book.use_once("a", "1"), Ok(()));
}

#[test]
fn where_there_is_no_room_nothing_is_forgotten() {
    let mut book = Book::new(3, 5);
    for nonce in ["1", "2", "3"] {
        assert_eq!(book.use_once("a", nonce), Ok(()));
    }
    assert!(matches!(book.use_once("a", "4"), Err(Failure::Throttled(_))));
    assert_eq!(book.use_once("a", "1"), Err(Failure::NonceUsed));
    // Another access key has its own room, until all of it is taken.
    for nonce in ["1", "2"] {
        assert_eq!(book.use_once("b", nonce), Ok(()));
    }
    assert!(matches!(book.use_once("b", "3"), Err(Failure::Throttled(_))));
    assert!(matches!(book.use_once("c", "1"), Err(Failure::Throttled(_))));
    book.pass(SignedDuration::from_mins(21));
    for access_key_id in ["c", "a", "b"] {
        assert_eq!(book.use_once(access_key_id, "1"), Ok(()), "there is room again");
    }
}

#[test]
fn of_many_threads_with_the_same_nonce_one_wins() {
    let book = Book::new(1000, 1000);
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).filter(|nonce| book.use_once("a", &nonce.to_string()).is_ok()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(won, 100);
}

#[test]
fn a_nonce_has_a_length() {
    assert!(Nonce::new("").is_err() && Nonce::new(&"x".repeat(129)).is_err());
    assert!(Nonce::new(&"x".repeat(128)).is_ok());
}
