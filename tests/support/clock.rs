//! The time of a test.

use std::{future::Future, pin::Pin, sync::Mutex, time::Duration};

use cmk_operator::clock::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

/// A clock that a test moves. The API server's clock moves along, unless the test skews it.
#[derive(Default)]
pub struct TestClock {
    state: Mutex<(SignedDuration, SignedDuration)>,
    jumped: Notify,
}

impl TestClock {
    /// Lets time pass, for everybody.
    pub fn advance(&self, by: SignedDuration) {
        self.state.lock().unwrap().0 += by;
        self.tell();
    }

    /// Lets days pass, for everybody.
    pub fn advance_days(&self, days: i64) {
        self.advance(SignedDuration::from_hours(24 * days));
    }

    /// Puts the API server's clock ahead of ours by so much.
    pub fn skew(&self, by: SignedDuration) {
        self.state.lock().unwrap().1 = by;
        self.tell();
    }

    /// Everybody who waits, and the next one who will: he may be busy with the time before.
    fn tell(&self) {
        self.jumped.notify_waiters();
        self.jumped.notify_one();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + self.state.lock().unwrap().0
    }

    fn uptime(&self) -> Duration {
        let moved = self.state.lock().unwrap().0;
        SystemClock.uptime() + Duration::try_from(moved).expect("a test moves time forward only")
    }

    fn server_time(&self, answered: Timestamp) -> Timestamp {
        let (offset, skew) = *self.state.lock().unwrap();
        answered + offset + skew
    }

    fn jumped(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.jumped.notified())
    }
}
