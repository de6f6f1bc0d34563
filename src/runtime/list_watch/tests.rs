use std::sync::Mutex;

use futures::future::pending;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{ListMeta, TypeMeta};
use serde_json::json;

use super::*;
use crate::server::freshness::Freshness;

/// The time of tokio, which a test lets pass as it likes.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What the API server answers.
#[derive(Clone)]
enum Answer {
    /// These objects, where the list goes on, and its version.
    Page(&'static [&'static str], &'static str, &'static str),
    /// A watch on which these come, and how it ends.
    Watch(Vec<WatchEvent<ConfigMap>>, End),
    Refuse(u16),
    /// The connection breaks.
    Break,
    Never,
}

#[derive(Clone)]
enum End {
    /// After so many seconds.
    Close(u64),
    Break,
    Never,
}
use Answer::{Break, Never, Page, Refuse, Watch};

fn object(name: &str, version: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "resourceVersion": version}})).unwrap()
}

fn bookmark(version: &str) -> WatchEvent<ConfigMap> {
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": version}});
    serde_json::from_value(json!({"type": "BOOKMARK", "object": object})).unwrap()
}

fn status(code: u16) -> Box<Status> {
    Box::new(Status { code, ..Status::default() })
}

fn broken() -> kube::Error {
    kube::Error::ReadEvents(std::io::Error::other("the connection broke"))
}

/// Answers in turn, and then never.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn answer(&self, asked: String) -> Answer {
        self.asked.lock().unwrap().push(asked);
        self.answers.lock().unwrap().pop_front().unwrap_or(Never)
    }
}

async fn other<T>(answer: Answer) -> kube::Result<T> {
    match answer {
        Refuse(code) => Err(kube::Error::Api(status(code))),
        Break => Err(broken()),
        Never => pending().await,
        Page(..) | Watch(..) => panic!("it was asked for something else"),
    }
}

impl Source<ConfigMap> for Script {
    async fn page(&self, params: &ListParams) -> kube::Result<ObjectList<ConfigMap>> {
        match self.answer(format!("list {}", params.continue_token.as_deref().unwrap_or_default())) {
            Page(names, next, version) => Ok(ObjectList {
                types: TypeMeta::default(),
                metadata: ListMeta {
                    continue_: Some(next.to_owned()),
                    resource_version: Some(version.to_owned()),
                    ..ListMeta::default()
                },
                items: names.iter().map(|name| object(name, "1")).collect(),
            }),
            answer => other(answer).await,
        }
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>> {
        assert_eq!((params.timeout, params.bookmarks), (Some(290), true));
        match self.answer(format!("watch {version}")) {
            Watch(events, end) => {
                let shown = stream::iter(events.into_iter().map(Ok));
                Ok(match end {
                    End::Close(seconds) => {
                        let wait = async move { sleep(Duration::from_secs(seconds)).await };
                        shown.chain(stream::once(wait).filter_map(async |()| None)).boxed()
                    }
                    End::Break => shown.chain(stream::iter([Err(broken())])).boxed(),
                    End::Never => shown.chain(stream::pending()).boxed(),
                })
            }
            answer => other(answer).await,
        }
    }
}

/// A watch that runs, and what can be seen of it.
struct Running {
    clock: Arc<Paused>,
    freshness: Freshness,
    asked: Arc<Mutex<Vec<String>>>,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let clock = Arc::new(Paused(Instant::now()));
        let running = Self { clock, freshness: Freshness::default(), asked: Arc::default(), shown: Arc::default() };
        let script = Script { answers: Mutex::new(answers.into_iter().collect()), asked: running.asked.clone() };
        let watch = running.freshness.watch(running.clock.clone());
        let mut watch = ListWatch::new("things", script, ListParams::default(), watch, running.clock.clone());
        let shown = running.shown.clone();
        tokio::spawn(async move {
            loop {
                let event = watch.next().await;
                shown.lock().unwrap().push(event.to_string());
            }
        });
        running
    }

    /// What was asked and shown until so many seconds from the start, since one looked last, and for how long it is behind
    /// then.
    async fn until(&self, second: f64) -> (String, String, f64) {
        sleep(Duration::from_secs_f64(second).saturating_sub(self.clock.uptime())).await;
        let said = |said: &Mutex<Vec<String>>| std::mem::take(&mut *said.lock().unwrap()).join(", ");
        (said(&self.asked), said(&self.shown), self.freshness.age(self.clock.uptime()).as_secs_f64())
    }
}

fn seen(asked: &str, shown: &str, age: f64) -> (String, String, f64) {
    (asked.to_owned(), shown.to_owned(), age)
}

const LISTED: Answer = Page(&["a"], "", "5");
const SHOWN: &str = "Init, InitApply(a), InitDone";

fn stays() -> Answer {
    Watch(vec![], End::Never)
}

#[tokio::test(start_paused = true)]
async fn it_lists_all_pages_and_then_shows_what_happens() {
    let events = vec![
        WatchEvent::Added(object("c", "6")),
        WatchEvent::Modified(object("a", "7")),
        bookmark("9"),
        WatchEvent::Deleted(object("b", "10")),
    ];
    let running = Running::start([
        Page(&["a"], "more", "5"),
        Page(&["b"], "", "5"),
        Watch(events, End::Close(60)),
        Watch(vec![bookmark("90")], End::Close(290)),
        stays(),
    ]);
    let shown = "Init, InitApply(a), InitApply(b), InitDone, Apply(c), Apply(a), Delete(b)";
    assert_eq!(running.until(1.0).await, seen("list , list more, watch 5", shown, 0.0));
    // The API server ends every watch some time.
    assert_eq!(running.until(61.0).await, seen("watch 10", "", 0.0));
    assert_eq!(running.until(340.0).await, seen("", "", 0.0));
    assert_eq!(running.until(351.0).await, seen("watch 90", "", 0.0));
}

#[tokio::test(start_paused = true)]
async fn it_is_behind_from_the_end_of_a_watch_until_it_is_open_again() {
    let refusals = vec![Refuse(403); 200];
    let ends = Watch(vec![], End::Close(100));
    let running = Running::start([LISTED, ends].into_iter().chain(refusals).chain([stays()]));
    assert_eq!(running.until(99.9).await, seen("list , watch 5", SHOWN, 0.0));
    for second in [101.0, 130.0, 200.0, 300.0] {
        let (asked, shown, age) = running.until(second).await;
        assert_eq!((&*shown, (age - (second - 100.0)).abs() < 0.01), ("", true), "{second}: {age}");
        assert!(asked.split(", ").all(|asked| asked == "watch 5"), "one who is refused lists no more: {asked}");
    }
    assert!(running.freshness.has_failed(Duration::from_secs(300), Duration::from_secs(199)));
    // 200 times, at 2 s at the most.
    let (_, _, age) = running.until(502.0).await;
    assert_eq!(age, 0.0);
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_again_within_two_seconds_after_any_outage() {
    let outage = vec![Break; 400];
    let running =
        Running::start([LISTED, Watch(vec![], End::Break)].into_iter().chain(outage).chain([LISTED, stays()]));
    let (_, _, age) = running.until(300.0).await;
    assert!(age > 299.0, "{age}");
    let mut second = 300.0;
    loop {
        second += 2.1;
        let (asked, shown, age) = running.until(second).await;
        if age == 0.0 {
            assert!(asked.ends_with("list , watch 5") && shown.ends_with(SHOWN), "listed anew: {asked}: {shown}");
            break;
        }
        assert!(asked.contains("list"), "{second}: {asked}");
    }
    assert!((400.0..800.0).contains(&second), "{second}");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_begun_where_it_was_is_listed_anew() {
    let gone = WatchEvent::Error(status(410));
    for (what, answers, asked) in [
        ("it broke", vec![Watch(vec![], End::Break), stays()], "list , watch 5, watch 5"),
        (
            "it ended with an error",
            vec![Watch(vec![WatchEvent::Error(status(500))], End::Never), stays()],
            "list , watch 5, watch 5",
        ),
        (
            "forgotten, in the watch",
            vec![Watch(vec![gone], End::Never), LISTED, stays()],
            "list , watch 5, list , watch 5",
        ),
        ("forgotten", vec![Refuse(410), LISTED, stays()], "list , watch 5, list , watch 5"),
        ("away", vec![Refuse(503), LISTED, stays()], "list , watch 5, list , watch 5"),
        ("gone", vec![Break, Break, LISTED, stays()], "list , watch 5, list , list , watch 5"),
        ("refused", vec![Refuse(429), Refuse(403), stays()], "list , watch 5, watch 5, watch 5"),
    ] {
        let running = Running::start([LISTED].into_iter().chain(answers));
        let (is, _, age) = running.until(8.0).await;
        assert_eq!((&*is, age), (asked, 0.0), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_never_answered_has_failed() {
    let running = Running::start([Never, LISTED, Never, LISTED, stays()]);
    assert_eq!(running.until(29.9).await, seen("list ", "Init", 29.9));
    let (asked, shown, age) = running.until(31.0).await;
    assert_eq!((&*asked, &*shown), ("list , watch 5", SHOWN));
    assert!(age > 30.9, "a list is not a watch: {age}");
    let (asked, _, age) = running.until(42.0).await;
    assert_eq!((&*asked, age), ("list , watch 5", 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_died_is_behind_since_something_came_on_it_last() {
    let dies = Watch(vec![WatchEvent::Added(object("b", "6"))], End::Never);
    let running = Running::start([LISTED, dies, Never, LISTED, stays()]);
    assert_eq!(running.until(294.0).await, seen("list , watch 5", "Init, InitApply(a), InitDone, Apply(b)", 0.0));
    let (asked, _, age) = running.until(302.0).await;
    assert_eq!((&*asked, age > 301.0), ("watch 6", true), "{age}");
    assert_eq!(running.until(315.0).await, seen("list , watch 5", SHOWN, 0.0));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_ends_every_watch_at_once_is_not_asked_without_end() {
    let ends = std::iter::repeat_n(Watch(vec![], End::Close(0)), 1000);
    let running = Running::start([LISTED].into_iter().chain(ends));
    let (asked, _, _) = running.until(60.0).await;
    let times = asked.matches("watch").count();
    assert!((30..=60).contains(&times), "{times}");
}

#[test]
fn the_pauses_grow_to_two_seconds() {
    let millis = |before, random| pause(before, random).as_millis();
    for (before, from, to) in [(0, 150, 250), (1, 300, 500), (2, 600, 1000), (3, 1200, 2000), (1000, 1200, 2000)] {
        assert_eq!(millis(before, 0), from);
        assert!((to - 10..=to).contains(&millis(before, u64::MAX)), "{before}");
    }
}
