//! Unwrapped keys: kept while the record is what it was, and used, and not for longer.

use super::*;

async fn encrypt(bench: &Bench, key: &StoredKey) -> Vec<u8> {
    bench.store.encrypt(key, &context("shop"), b"secret").await.unwrap().ciphertext_blob
}

fn kept(bench: &Bench) -> usize {
    bench.store.view.unwrapped_count()
}

#[tokio::test]
async fn a_key_is_unwrapped_once_until_its_record_changes() {
    let bench = Bench::new();
    let key = bench.create("orders").await;
    assert_eq!(kept(&bench), 0);
    let blob = encrypt(&bench, &key).await;
    encrypt(&bench, &key).await;
    assert!(bench.store.decrypt(&key, &context("shop"), &blob).await.unwrap().ct_eq(b"secret"));
    assert_eq!(kept(&bench), 1);

    let disabled = bench.store.update(&key, &[KeyStep::Disable]).await.unwrap();
    assert_eq!(kept(&bench), 0, "disabled");
    assert!(bench.store.encrypt(&disabled, &context("shop"), b"x").await.is_err());
    assert_eq!(kept(&bench), 0);

    let enabled = bench.store.update(&disabled, &[KeyStep::Enable]).await.unwrap();
    encrypt(&bench, &enabled).await;
    let rotate = KeyStep::Rotate { version_id: Uuid::from_u128(9), request: None };
    let rotated = bench.store.update(&enabled, &[rotate]).await.unwrap();
    assert_eq!(kept(&bench), 0, "rotated");
    encrypt(&bench, &rotated).await;
    assert!(bench.store.decrypt(&rotated, &context("shop"), &blob).await.unwrap().ct_eq(b"secret"));
    assert_eq!(kept(&bench), 2, "one a version");

    // Whoever still has what the record was: it works as it did, and leaves nothing behind.
    assert!(bench.store.decrypt(&enabled, &context("shop"), &blob).await.unwrap().ct_eq(b"secret"));
    assert_eq!(kept(&bench), 2);

    bench.store.note_deleted(&record_secret::name_of(&rotated.record));
    assert_eq!(kept(&bench), 0, "deleted");
    assert_eq!(bench.store.key(rotated.record.key_id), None);
}

#[tokio::test]
async fn a_key_that_nobody_uses_is_wrapped_again() {
    let bench = Bench::new();
    let (used, unused) = (bench.create("used").await, bench.create("unused").await);
    let pass = |seconds| {
        *bench.clock.1.lock().unwrap() += seconds;
        // Somebody sets the clock back, again and again.
        *bench.clock.0.lock().unwrap() -= 86_400;
    };
    *bench.clock.0.lock().unwrap() = 10 * 86_400;
    encrypt(&bench, &used).await;
    encrypt(&bench, &unused).await;
    pass(299);
    encrypt(&bench, &used).await;
    bench.store.drop_idle_keys();
    assert_eq!(kept(&bench), 2);
    pass(2);
    bench.store.drop_idle_keys();
    assert_eq!(kept(&bench), 1);
    pass(300);
    bench.store.drop_idle_keys();
    assert_eq!(kept(&bench), 0);
    encrypt(&bench, &unused).await;
    assert_eq!(kept(&bench), 1);
    let used = bench.store.last_used()[&unused.record.key_id];
    assert_eq!(used, bench.clock.now(), "what is told is the time");
}

#[tokio::test]
async fn rule_9_material_that_has_expired_is_kept_no_longer_although_no_record_changes() {
    let bench = Bench::new();
    let key = bench.store.create(&NewKey { origin: Origin::External, ..new_key("orders", 0) }).await.unwrap();
    let import = MaterialImport {
        source: MaterialSource { secret: "s".into(), key: "k".into() },
        expire_time: Some(jiff::Timestamp::from_second(100).unwrap()),
        wrapping: None,
        fresh: [Uuid::from_u128(5), Uuid::from_u128(6)],
        enabled: true,
    };
    let key = bench.store.import(&key, &import, &[7; 32]).await.unwrap();
    encrypt(&bench, &key).await;
    *bench.clock.0.lock().unwrap() = 101;
    assert!(bench.store.encrypt(&key, &context("shop"), b"x").await.is_err());
    bench.store.drop_idle_keys();
    assert_eq!(kept(&bench), 0);
}

#[tokio::test]
async fn a_record_is_found_by_id_until_it_goes_or_can_be_read_no_more() {
    let bench = Bench::new();
    let (one, two) = (bench.create("one").await, bench.create("two").await);
    let found = |key: &StoredKey| bench.store.key(key.record.key_id);
    assert_eq!((found(&one), found(&two)), (Some(one.clone()), Some(two.clone())));
    let changed = bench.store.update(&one, &[KeyStep::Disable]).await.unwrap();
    assert_eq!(found(&one), Some(changed));
    let tampered = bench.memory.tamper(&record_secret::name_of(&one.record), |data| data.clear());
    bench.store.note(&tampered);
    assert_eq!((found(&one), found(&two)), (None, Some(two.clone())));
    bench.store.note_deleted(&record_secret::name_of(&two.record));
    assert_eq!(found(&two), None);
}
