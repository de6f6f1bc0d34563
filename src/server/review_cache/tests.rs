use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{decision::*, *};

const FRESH: Duration = Duration::from_secs(5);
const MAX: Duration = Duration::from_secs(300);

/// A clock that a test sets.
#[derive(Default)]
struct Settable(Mutex<Duration>);

impl Settable {
    fn set(&self, seconds: f64) {
        *self.0.lock().unwrap() = Duration::from_secs_f64(seconds);
    }
}

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// Somebody who is asked, and what they say now.
struct Asked {
    clock: Arc<Settable>,
    cache: ReviewCache<u32>,
    says: Mutex<Result<Answer<u32>, ApiError>>,
    times: AtomicUsize,
}

fn good(value: u32) -> Answer<u32> {
    Answer { value, fresh_for: FRESH, usable_for: Duration::MAX, is_good: true }
}

fn bad(value: u32) -> Answer<u32> {
    Answer { fresh_for: Duration::from_secs(1), is_good: false, ..good(value) }
}

fn down() -> ApiError {
    ApiError::Unavailable("down".into())
}

fn id(number: u32) -> QuestionId {
    let mut id = [0; 32];
    id[1..5].copy_from_slice(&number.to_le_bytes());
    id
}

impl Asked {
    fn new(says: Result<Answer<u32>, ApiError>) -> Self {
        let clock = Arc::new(Settable::default());
        let cache = ReviewCache::new(clock.clone(), CacheLimits { entries: 64, questions: 4, max_staleness: MAX });
        Self { clock, cache, says: Mutex::new(says), times: AtomicUsize::new(0) }
    }

    fn say(&self, answer: Result<Answer<u32>, ApiError>) {
        *self.says.lock().unwrap() = answer;
    }

    async fn at(&self, seconds: f64, question: u32) -> Result<u32, ApiError> {
        self.clock.set(seconds);
        let ask = || {
            self.times.fetch_add(1, Ordering::Relaxed);
            std::future::ready(self.says.lock().unwrap().clone())
        };
        let answer = self.cache.answer(id(question), ask).await;
        // What is asked in the background comes to its end.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        answer
    }

    fn times(&self) -> usize {
        self.times.swap(0, Ordering::Relaxed)
    }
}

#[test]
fn what_to_do_follows_from_age_and_reach() {
    use Decision::{Ask, Refuse, Use, UseAndAsk};
    let (answers, try_it, leave_it) =
        (Reach::Answers, Reach::Silent { may_try: true }, Reach::Silent { may_try: false });
    let asked = Duration::from_secs(100);
    let allowed = Remembered::new(good(1), asked);
    let refused = Remembered::new(bad(0), asked);
    let dying = Remembered::new(Answer { usable_for: Duration::from_secs(20), ..good(1) }, asked);
    for (remembered, age, reach, decision) in [
        (None, 0.0, answers, Ask),
        (None, 0.0, try_it, Ask),
        (None, 0.0, leave_it, Refuse),
        (Some(&allowed), 0.0, leave_it, Use),
        (Some(&allowed), 3.9, answers, Use),
        (Some(&allowed), 4.0, answers, UseAndAsk),
        (Some(&allowed), 4.9, try_it, UseAndAsk),
        (Some(&allowed), 4.9, leave_it, Use),
        (Some(&allowed), 5.0, answers, Ask),
        (Some(&allowed), 5.0, try_it, UseAndAsk),
        (Some(&allowed), 299.0, leave_it, Use),
        (Some(&allowed), 300.0, answers, Ask),
        (Some(&allowed), 300.0, try_it, Ask),
        (Some(&allowed), 300.0, leave_it, Refuse),
        (Some(&refused), 0.9, answers, Use),
        (Some(&refused), 1.0, answers, Ask),
        (Some(&refused), 299.0, leave_it, Use),
        (Some(&refused), 300.0, leave_it, Refuse),
        (Some(&dying), 19.0, leave_it, Use),
        (Some(&dying), 20.0, leave_it, Refuse),
    ] {
        let now = asked + Duration::from_secs_f64(age);
        assert_eq!(decide(remembered, now, MAX, || reach), decision, "{remembered:?} after {age} s, {reach:?}");
    }
}

#[tokio::test]
async fn an_answer_counts_for_its_time() {
    let asked = Asked::new(Ok(good(1)));
    assert_eq!(asked.at(0.0, 7).await, Ok(1));
    asked.say(Ok(bad(0)));
    assert_eq!(asked.at(3.9, 7).await, Ok(1));
    assert_eq!(asked.times(), 1);
    // Asked ahead of time, and used meanwhile.
    assert_eq!(asked.at(4.5, 7).await, Ok(1));
    assert_eq!(asked.times(), 1);
    assert_eq!(asked.at(4.6, 7).await, Ok(0));
    asked.say(Ok(good(2)));
    assert_eq!(asked.at(5.4, 7).await, Ok(0));
    assert_eq!(asked.at(5.5, 7).await, Ok(2));
    assert_eq!(asked.times(), 1);
    // Another question is another matter.
    assert_eq!(asked.at(5.5, 8).await, Ok(2));
    assert_eq!(asked.times(), 1);
}

#[tokio::test]
async fn nobody_is_answered_from_an_allowed_answer_that_is_too_old() {
    let asked = Asked::new(Ok(good(1)));
    assert_eq!(asked.at(0.0, 7).await, Ok(1));
    asked.say(Ok(bad(0)));
    assert_eq!(asked.at(5.0, 7).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn while_nobody_answers_what_was_said_counts_until_it_is_too_old() {
    let asked = Asked::new(Ok(good(1)));
    assert_eq!(asked.at(0.0, 7).await, Ok(1));
    asked.say(Ok(bad(0)));
    assert_eq!(asked.at(0.0, 8).await, Ok(0));
    asked.say(Err(down()));
    asked.times();
    assert_eq!((asked.at(6.0, 7).await, asked.times()), (Ok(1), 1), "asked, and no answer");
    assert_eq!((asked.at(6.1, 7).await, asked.times()), (Ok(1), 0), "left alone for a second");
    assert_eq!((asked.at(6.2, 8).await, asked.times()), (Ok(0), 0), "so is what was refused");
    assert_eq!((asked.at(6.3, 9).await, asked.times()), (Err(silence()), 0), "nothing is known");
    assert_eq!((asked.at(7.5, 8).await, asked.times()), (Ok(0), 1), "one tries again");
    assert_eq!((asked.at(7.6, 7).await, asked.times()), (Ok(1), 0));
    assert_eq!((asked.at(8.6, 9).await, asked.times()), (Err(down()), 1), "nothing is known, and it is time to try");
    assert_eq!(asked.at(299.9, 7).await, Ok(1));
    assert_eq!(asked.at(300.0, 7).await, Err(silence()));
    assert_eq!(asked.at(301.0, 7).await, Err(down()));
    // It answers again.
    asked.say(Ok(bad(0)));
    assert_eq!(asked.at(302.5, 8).await, Ok(0));
    assert_eq!(asked.at(302.5, 7).await, Ok(0));
}

/// As a replica does that has just started, and an API server that is busy just then.
#[tokio::test(start_paused = true)]
async fn who_has_no_answer_waits_for_a_short_silence() {
    let asked = Asked::new(Err(down()));
    let began = Instant::now();
    let recovery = async {
        sleep(Duration::from_millis(950)).await;
        asked.say(Ok(good(1)));
        // Too early to ask again, for everybody.
        asked.clock.set(0.95);
        sleep(Duration::from_millis(500)).await;
        asked.clock.set(1.45);
    };
    let (one, other, ()) = tokio::join!(asked.at(0.0, 7), asked.at(0.0, 8), recovery);
    assert_eq!((one, other), (Ok(1), Ok(1)));
    assert_eq!(asked.times(), 4, "each was asked once in vain, and then answered");
    // The one at its next look, the other with it or at the one after that.
    let waited = began.elapsed().as_millis();
    assert!((1450..1450 + 3 * LOOK_EVERY.as_millis()).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_answer_waits_no_longer_than_patience() {
    let asked = Asked::new(Err(down()));
    let began = Instant::now();
    assert_eq!((asked.at(0.0, 7).await, asked.times()), (Err(down()), 1));
    assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    assert_eq!((asked.at(0.9, 8).await, asked.times()), (Err(silence()), 0));
    assert_eq!(began.elapsed().as_secs(), 2 * PATIENCE.as_secs());
}

#[tokio::test]
async fn once_somebody_answers_again_old_answers_are_asked_for() {
    let asked = Asked::new(Ok(good(1)));
    assert_eq!(asked.at(0.0, 7).await, Ok(1));
    asked.say(Err(down()));
    assert_eq!(asked.at(10.0, 7).await, Ok(1));
    asked.say(Ok(bad(0)));
    assert_eq!(asked.at(10.5, 7).await, Ok(1));
    assert_eq!(asked.at(11.5, 7).await, Ok(1), "it tries behind the answer");
    assert_eq!(asked.at(11.6, 7).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_an_end_is_never_used_after_it() {
    let asked = Asked::new(Ok(Answer { usable_for: Duration::from_secs(20), ..good(1) }));
    assert_eq!(asked.at(0.0, 7).await, Ok(1));
    asked.say(Err(down()));
    assert_eq!(asked.at(19.0, 7).await, Ok(1));
    assert_eq!(asked.at(20.0, 7).await, Err(down()));
    assert_eq!(asked.at(20.1, 7).await, Err(silence()));
}

#[tokio::test]
async fn a_refused_question_says_nothing_about_others() {
    let asked = Asked::new(Err(ApiError::Refused("no such user".into())));
    assert_eq!(asked.at(0.0, 7).await, Err(ApiError::Refused("no such user".into())));
    asked.say(Ok(good(1)));
    assert_eq!(asked.at(0.0, 8).await, Ok(1));
}

#[tokio::test]
async fn identical_questions_share_one_call() {
    let asked = Arc::new(Asked::new(Ok(good(1))));
    let release = Arc::new(Notify::new());
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..32 {
        let (asked, release) = (asked.clone(), release.clone());
        waiting.spawn(async move {
            let ask = || {
                asked.times.fetch_add(1, Ordering::Relaxed);
                let release = release.clone();
                async move {
                    release.notified().await;
                    Ok(good(3))
                }
            };
            (number, asked.cache.answer(id(7), ask).await)
        });
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.times.load(Ordering::Relaxed), 1);
    // Whoever goes away takes the answer from nobody.
    waiting.spawn(async { (99, Ok(3)) });
    release.notify_one();
    let answers = waiting.join_all().await;
    assert_eq!(answers.len(), 33);
    assert!(answers.iter().all(|(_, answer)| *answer == Ok(3)), "{answers:?}");
    assert_eq!(asked.times(), 1);
}

#[tokio::test]
async fn a_question_goes_on_when_its_request_is_gone() {
    let asked = Asked::new(Ok(good(1)));
    let release = Arc::new(Notify::new());
    let ask = || {
        let release = release.clone();
        async move {
            release.notified().await;
            Ok(good(3))
        }
    };
    let mut first = Box::pin(asked.cache.answer(id(7), ask));
    assert!(futures::poll!(&mut first).is_pending());
    drop(first);
    release.notify_one();
    assert_eq!(asked.at(0.0, 7).await, Ok(3));
    assert_eq!(asked.times(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_panics_is_asked_again() {
    let asked = Asked::new(Ok(good(1)));
    async fn panics() -> Result<Answer<u32>, ApiError> {
        panic!("a bug")
    }
    assert!(asked.cache.answer(id(7), panics).await.is_err());
    assert_eq!(asked.at(0.0, 7).await, Ok(1));
}

#[tokio::test]
async fn only_so_much_is_remembered_and_refusals_go_first() {
    let asked = Asked::new(Ok(good(1)));
    // All in one shard, which has room for 4.
    assert_eq!(asked.at(0.5, 1).await, Ok(1));
    asked.say(Ok(bad(0)));
    for number in 100..200 {
        assert_eq!(asked.at(1.0 + f64::from(number) / 1000.0, number).await, Ok(0));
    }
    assert_eq!(asked.cache.len(), 4);
    asked.times();
    assert_eq!((asked.at(1.2, 1).await, asked.times()), (Ok(1), 0), "what is good stays");
    assert_eq!((asked.at(1.2, 199).await, asked.times()), (Ok(0), 0), "so do the last refusals");
    assert_eq!((asked.at(1.2, 100).await, asked.times()), (Ok(0), 1));
    asked.say(Ok(good(2)));
    for number in 200..210 {
        asked.at(2.0, number).await.unwrap();
    }
    assert_eq!(asked.cache.len(), 4);
    // What is past every use goes before anything else.
    asked.at(301.0, 300).await.unwrap();
    assert_eq!(asked.cache.len(), 4);
    asked.at(310.0, 301).await.unwrap();
    assert_eq!(asked.cache.len(), 2);
}
