use std::sync::Mutex;

use jiff::Timestamp;

use super::*;

#[derive(Default)]
struct Settable(Mutex<u64>);

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(*self.0.lock().unwrap())
    }
}

fn contact() -> (Arc<Settable>, Contact) {
    watching(Freshness::default())
}

fn watching(watches: Freshness) -> (Arc<Settable>, Contact) {
    let clock = Arc::new(Settable::default());
    (clock.clone(), Contact::new(clock, DEFAULT, watches))
}

#[tokio::test]
async fn operations_go_on_until_the_last_contact_is_too_old() {
    let (clock, contact) = contact();
    let lost = || Err("down".to_owned());
    contact.note(Duration::from_secs(10), Ok(()));
    for (now, served) in [(10, true), (100, true), (310, true), (311, false), (900, false)] {
        *clock.0.lock().unwrap() = now;
        contact.note(Duration::from_secs(now), lost());
        assert_eq!(contact.age(), Duration::from_secs(now - 10));
        match contact.check().await {
            Ok(()) => assert!(served, "{now}"),
            Err(Failure::Unavailable(said)) => {
                assert!(!served && said.contains("300 s") && said.contains("--max-staleness"), "{now}: {said}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    contact.note(Duration::from_secs(900), Ok(()));
    assert_eq!(contact.check().await, Ok(()));
}

#[tokio::test]
async fn after_a_sleep_one_more_look_decides() {
    let (clock, contact) = contact();
    *clock.0.lock().unwrap() = 5000;
    let mut check = Box::pin(contact.check());
    assert!(futures::poll!(&mut check).is_pending());
    contact.wanted.notified().await;
    // The look that was under way began before the sleep.
    contact.note(Duration::from_secs(3), Ok(()));
    assert!(futures::poll!(&mut check).is_pending());
    contact.wanted.notified().await;
    contact.note(Duration::from_secs(5000), Ok(()));
    assert_eq!(check.await, Ok(()));

    *clock.0.lock().unwrap() = 9000;
    let mut check = Box::pin(contact.check());
    assert!(futures::poll!(&mut check).is_pending());
    contact.note(Duration::from_secs(9000), Err("down".to_owned()));
    assert!(matches!(check.await, Err(Failure::Unavailable(_))));
}

#[tokio::test]
async fn a_watch_that_is_behind_counts_as_no_contact_does() {
    let watches = Freshness::default();
    let (clock, contact) = watching(watches.clone());
    let keys = watches.watch(clock.clone());
    keys.current();
    for (now, age, served) in [(100, 0, true), (400, 300, true), (401, 301, false), (9000, 8900, false)] {
        *clock.0.lock().unwrap() = now;
        contact.note(Duration::from_secs(now), Ok(()));
        if now == 100 {
            keys.failed();
        }
        assert_eq!(contact.age(), Duration::from_secs(age), "{now}");
        assert_eq!(contact.is_fresh(), served, "{now}");
        match contact.check().await {
            Ok(()) => assert!(served, "{now}"),
            Err(Failure::Unavailable(said)) => {
                assert!(!served && said.contains("watch") && said.contains("--max-staleness"), "{now}: {said}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    keys.current();
    assert_eq!(contact.check().await, Ok(()));
}

#[tokio::test]
async fn a_watch_that_is_about_to_begin_again_is_waited_for() {
    let watches = Freshness::default();
    let (clock, contact) = watching(watches.clone());
    let keys = watches.watch(clock.clone());
    *clock.0.lock().unwrap() = 5000;
    contact.note(Duration::from_secs(5000), Ok(()));
    let mut check = Box::pin(contact.check());
    assert!(futures::poll!(&mut check).is_pending());
    keys.current();
    assert_eq!(check.await, Ok(()));

    keys.behind(Duration::from_secs(20));
    let mut check = Box::pin(contact.check());
    assert!(futures::poll!(&mut check).is_pending());
    keys.failed();
    assert!(matches!(check.await, Err(Failure::Unavailable(_))));
}
