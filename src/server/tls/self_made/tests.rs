//! The Secret's whole life, with clients that trust its CA.

use super::*;
use crate::{
    server::tls::testing::{presented, self_signed},
    store::embedded::testing::{Memory, NAMESPACE, Settable},
};

fn hosts(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

struct Replica {
    made: SelfMade<Memory>,
    authority: watch::Receiver<Option<String>>,
}

struct World {
    memory: Memory,
    clock: Arc<Settable>,
}

impl World {
    fn new() -> Self {
        // Certificates are verified by the real clock.
        let clock = Settable::default();
        *clock.0.lock().unwrap() = Timestamp::now().as_second();
        Self { memory: Memory::default(), clock: Arc::new(clock) }
    }

    async fn replica(&self, names: &[&str]) -> Replica {
        let (told, authority) = watch::channel(None);
        let (secrets, clock) = (self.memory.clone(), self.clock.clone());
        let made = SelfMade::start(secrets, NAMESPACE, hosts(names), clock, told).await.unwrap();
        Replica { made, authority }
    }

    fn pass_days(&self, days: i64) {
        *self.clock.0.lock().unwrap() += days * 24 * 3600;
    }

    async fn secret(&self) -> Secret {
        self.memory.get_secret(NAMESPACE, SECRET).await.unwrap().unwrap()
    }
}

impl Replica {
    fn authority(&self) -> String {
        self.authority.borrow().clone().unwrap()
    }

    /// A client that trusts this CA takes this replica.
    async fn is_trusted_by(&self, authority: &str) -> bool {
        presented(&self.made.acceptor(), authority).await.is_ok()
    }
}

#[tokio::test]
async fn replicas_share_one_certificate_that_clients_trust_by_its_ca() {
    let world = World::new();
    let (one, two) = tokio::join!(world.replica(&["localhost"]), world.replica(&["localhost"]));
    assert_eq!(one.authority(), two.authority());
    for replica in [&one, &two] {
        assert!(replica.is_trusted_by(&one.authority()).await);
        assert!(!replica.is_trusted_by(&self_signed().0).await);
    }
    let secret = world.secret().await;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    let names: Vec<_> = secret.data.unwrap().into_keys().collect();
    assert_eq!(names, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);

    let other = World::new().replica(&["elsewhere"]).await;
    assert!(!other.is_trusted_by(&other.authority()).await, "a certificate is for its hosts only");
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_under_the_same_ca() {
    let world = World::new();
    let (mut one, mut two) = (world.replica(&["localhost"]).await, world.replica(&["localhost"]).await);
    let (first, authority) = (world.secret().await, one.authority());
    world.pass_days(240);
    assert!(!one.made.look().await.unwrap());
    world.pass_days(10);
    assert!(one.made.look().await.unwrap());
    assert_ne!(pem(&world.secret().await, CERTIFICATE), pem(&first, CERTIFICATE));
    assert_eq!(pem(&world.secret().await, CA_KEY), pem(&first, CA_KEY));
    let renewed = world.secret().await;
    assert!(two.made.look().await.unwrap(), "the other takes it over");
    assert_eq!(world.secret().await, renewed, "and makes none itself");
    assert!(!one.made.look().await.unwrap());
    assert_eq!(one.authority(), authority);

    // The CA ends one day.
    world.pass_days(2700);
    assert!(one.made.look().await.unwrap() && two.made.look().await.unwrap());
    assert_ne!(one.authority(), authority);
    assert_eq!(one.authority(), two.authority());
}

#[tokio::test]
async fn a_renewed_certificate_is_trusted_by_the_ca_that_clients_have() {
    let world = World::new();
    let authority = world.replica(&["elsewhere"]).await.authority();
    // Another host is a reason as well.
    let replica = world.replica(&["localhost"]).await;
    assert!(replica.is_trusted_by(&authority).await);
    assert_eq!(hosts_in(&world.secret().await), hosts(&["elsewhere", "localhost"]), "the others stay in it");
    let version = world.secret().await.resource_version();
    world.replica(&["elsewhere"]).await;
    assert_eq!(world.secret().await.resource_version(), version, "one that knows of fewer hosts takes none away");
}

#[tokio::test]
async fn a_secret_that_was_deleted_comes_back_as_it_was() {
    let world = World::new();
    let mut replica = world.replica(&["localhost"]).await;
    let before = world.secret().await;
    world.memory.delete_secret(&before).await.unwrap();
    assert!(!replica.made.look().await.unwrap(), "nothing changes for clients");
    let after = world.secret().await;
    assert_eq!((&after.data, &after.type_, after.annotations()), (&before.data, &before.type_, before.annotations()));
}

#[tokio::test]
async fn a_broken_secret_of_ours_is_made_anew_and_one_of_others_is_only_read() {
    let world = World::new();
    let mut replica = world.replica(&["localhost"]).await;
    world.memory.tamper(SECRET, |data| drop(data.insert(KEY.into(), ByteString(b"nonsense".to_vec()))));
    assert!(replica.made.look().await.unwrap());
    assert!(replica.is_trusted_by(&replica.authority()).await);

    let mut foreign = world.secret().await;
    foreign.metadata.labels = None;
    let (certificate, key) = self_signed();
    let pair = [(CERTIFICATE, certificate.clone()), (KEY, key)];
    foreign.data = Some(pair.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).into());
    let foreign = world.memory.replace_secret(&foreign).await.unwrap();
    assert!(replica.made.look().await.unwrap());
    assert!(replica.is_trusted_by(&certificate).await);
    assert_eq!(*replica.authority.borrow(), None, "there is no CA in it");
    world.pass_days(10_000);
    assert!(!replica.made.look().await.unwrap());
    assert_eq!(world.secret().await, foreign);

    world.memory.tamper(SECRET, |data| data.clear());
    assert!(replica.made.look().await.is_err());
    assert!(replica.is_trusted_by(&certificate).await, "the one in use stays");
}
