use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{clock::SystemClock, cluster::ApiError};

/// An authorizer that knows verbs by namespace and name.
#[derive(Clone, Default)]
struct Rbac(Arc<(Mutex<BTreeSet<String>>, AtomicUsize)>);

impl Rbac {
    fn allow(self, rule: &str) -> Self {
        self.0.0.lock().unwrap().insert(rule.to_owned());
        self
    }

    fn reviews(&self) -> usize {
        self.0.1.swap(0, Ordering::Relaxed)
    }
}

impl Reviews for Rbac {
    async fn review_access(&self, user: &UserInfo, question: AccessQuestion<'_>) -> Result<bool, ApiError> {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        assert_eq!(question.resource, "customermasterkeys");
        if user.username.ends_with(":nobody-can-tell") {
            return Err(ApiError::Unavailable("https://10.0.0.1:6443 is down".into()));
        }
        let rule = format!("{} {}/{}", question.verb, question.namespace, question.name.unwrap_or("*"));
        Ok(self.0.0.lock().unwrap().contains(&rule))
    }

    async fn review_token(&self, _: &str, _: &str) -> Result<Result<UserInfo, String>, ApiError> {
        Err(ApiError::NotFound)
    }
}

fn permissions(rbac: &Rbac) -> Permissions<Rbac> {
    Permissions::new(rbac.clone(), Arc::new(SystemClock), Duration::from_secs(300))
}

fn caller(name: &str) -> Caller {
    let user = Arc::new(UserInfo::service_account("shop", name, "u"));
    Caller { user, namespace: "shop".into(), access_key_id: None }
}

#[tokio::test]
async fn a_refusal_says_who_lacks_which_verb_on_what() {
    let permissions = permissions(&Rbac::default());
    for (verb, role) in [
        (Verb::Encrypt, "cmk-encrypter"),
        (Verb::Decrypt, "cmk-decrypter"),
        (Verb::GenerateDataKey, "cmk-encrypter"),
        (Verb::ImportKeyMaterial, "cmk-admin"),
        (Verb::Patch, "cmk-edit"),
        (Verb::List, "cmk-view"),
    ] {
        let refused = permissions.require_in_namespace(&caller("web"), verb).await.unwrap_err();
        let Failure::Denied(said) = refused else { panic!("{refused:?}") };
        let verb = verb.as_str();
        assert_eq!(
            said,
            format!(
                "user system:serviceaccount:shop:web lacks the verb {verb} on customermasterkeys.kms.cmk-operator.dev in the \
                 namespace shop: the ClusterRole {role} has it"
            )
        );
    }
}

#[tokio::test]
async fn a_hidden_key_is_judged_by_the_callers_own_namespace() {
    let not_found = || Failure::KeyNotFound("08c33a6f".into());
    let denied = permissions(&Rbac::default()).hidden(&caller("web"), Verb::Decrypt, not_found()).await;
    assert!(matches!(&denied, Failure::Denied(said) if !said.contains("08c33a6f")), "{denied:?}");
    let may = permissions(&Rbac::default().allow("decrypt shop/*"));
    assert_eq!(may.hidden(&caller("web"), Verb::Decrypt, not_found()).await, not_found());
    // A right on one key, or on another namespace, tells nothing about the others.
    let one = permissions(&Rbac::default().allow("decrypt shop/orders").allow("decrypt bank/*"));
    assert_eq!(one.hidden(&caller("web"), Verb::Decrypt, not_found()).await, denied);
}

#[tokio::test(start_paused = true)]
async fn who_can_not_be_judged_is_told_so_and_nothing_about_the_cluster() {
    let permissions = permissions(&Rbac::default());
    let caller = caller("nobody-can-tell");
    let refused = permissions.has(&caller, Verb::Decrypt, "shop", None).await.unwrap_err();
    let Failure::Unavailable(said) = refused else { panic!("{refused:?}") };
    assert!(!said.contains("10.0.0.1"), "{said}");
}

#[tokio::test]
async fn a_burst_of_the_same_question_is_one_review() {
    let rbac = Rbac::default().allow("encrypt shop/orders");
    let permissions = permissions(&rbac);
    let burst = (0..32).map(|_| {
        let permissions = &permissions;
        async move { permissions.has(&caller("web"), Verb::Encrypt, "shop", Some("orders")).await }
    });
    assert!(futures::future::join_all(burst).await.into_iter().all(|answer| answer == Ok(true)));
    assert_eq!(rbac.reviews(), 1);
    assert_eq!(permissions.has(&caller("web"), Verb::Decrypt, "shop", Some("orders")).await, Ok(false));
    assert_eq!(permissions.has(&caller("web"), Verb::Encrypt, "shop", None).await, Ok(false));
    assert_eq!(rbac.reviews(), 2);
}

#[test]
fn no_two_questions_look_alike() {
    let user = |groups: &[&str], extra: &[(&str, &[&str])]| UserInfo {
        username: "u".into(),
        uid: "1".into(),
        groups: groups.iter().map(|&group| group.into()).collect(),
        extra: extra
            .iter()
            .map(|&(k, v)| (k.into(), v.iter().map(|&v| v.into()).collect()))
            .collect::<BTreeMap<_, _>>(),
    };
    let plain = user(&["a", "b"], &[]);
    let ids = [
        question_id(&plain, Verb::Encrypt, "shop", None),
        question_id(&plain, Verb::Decrypt, "shop", None),
        question_id(&plain, Verb::Encrypt, "shops", None),
        question_id(&plain, Verb::Encrypt, "shop", Some("")),
        question_id(&plain, Verb::Encrypt, "shop", Some("orders")),
        question_id(&plain, Verb::Encrypt, "sho", Some("porders")),
        question_id(&UserInfo { uid: "2".into(), ..plain.clone() }, Verb::Encrypt, "shop", None),
        question_id(&UserInfo { username: "v".into(), ..plain.clone() }, Verb::Encrypt, "shop", None),
        question_id(&user(&["ab"], &[]), Verb::Encrypt, "shop", None),
        question_id(&user(&["b", "a"], &[]), Verb::Encrypt, "shop", None),
        question_id(&user(&[], &[("a", &["b"])]), Verb::Encrypt, "shop", None),
        question_id(&user(&[], &[("a", &[]), ("b", &[])]), Verb::Encrypt, "shop", None),
        question_id(&user(&[], &[("a", &["b", "c"])]), Verb::Encrypt, "shop", None),
        question_id(&user(&[], &[("a", &["b"]), ("c", &[])]), Verb::Encrypt, "shop", None),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert_eq!(ids[0], question_id(&plain.clone(), Verb::Encrypt, "shop", None));
}
