//! Rule 9 through the KMS endpoint: material that is imported, expires, is deleted and imported again, as an SDK does it.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use cmk_operator::{
    api::metadata,
    clock::Clock,
    kms::{EncryptionContext, KeyState, WrappingAlgorithm, WrappingKeySpec},
    server::{
        Failure,
        operations::{ImportParameters, KeyDescription, MaterialToImport},
    },
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;

use crate::endpoint::{Endpoint, by_id, impatient};
use crate::helpers::{external, material};
use crate::support::world::{World, key_id, key_state};

const MATERIAL: [u8; 32] = [7; 32];

fn wrap(parameters: &ImportParameters, plaintext: &[u8]) -> Vec<u8> {
    let public = PublicEncryptingKey::from_der(&parameters.public_key).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let mut encrypted = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut encrypted, None).unwrap();
    encrypted
}

async fn parameters(endpoint: &Endpoint, id: &str) -> ImportParameters {
    let (algorithm, spec) = (WrappingAlgorithm::RsaesOaepSha256, WrappingKeySpec::Rsa2048);
    endpoint.kms.get_parameters_for_import(&mut endpoint.aws(), &by_id(id), algorithm, spec).await.unwrap()
}

async fn import(
    endpoint: &Endpoint,
    id: &str,
    token: &ImportParameters,
    encrypted: &[u8],
) -> Result<KeyDescription, Failure> {
    let material =
        MaterialToImport { encrypted_key_material: encrypted, import_token: &token.import_token, expire_time: None };
    endpoint.kms.import_key_material(&mut endpoint.aws(), &by_id(id), material).await
}

/// The Secrets that calls made.
async fn made(world: &World) -> Vec<Secret> {
    let label = format!("{}={}", metadata::COMPONENT_LABEL, metadata::COMPONENT_IMPORTED_MATERIAL);
    world.secrets().list(&ListParams::default().labels(&label)).await.unwrap().items
}

fn state(description: &KeyDescription) -> KeyState {
    description.key.record.state(description.now)
}

async fn external_key(world: &World) -> String {
    world.keys().create(&Default::default(), &serde_json::from_value(json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey", "metadata": {"name": "orders"},
        "spec": {"origin": "EXTERNAL"},
    })).unwrap()).await.unwrap();
    key_id(&world.key_ready("orders").await)
}

#[tokio::test]
async fn rule_9_material_is_imported_and_deleted_by_calls() {
    let (world, operator) = World::with_operator("ep-import").await;
    let id = external_key(&world).await;
    let endpoint = Endpoint::new(&world).await;
    let (kms, call, key) = (&endpoint.kms, &mut endpoint.aws(), by_id(&id));
    let day = |from: jiff::Timestamp| from.as_second() + 24 * 60 * 60;
    let before = world.clock.now();
    let (token, context) = (parameters(&endpoint, &id).await, EncryptionContext::default());
    assert!((day(before)..=day(world.clock.now())).contains(&token.valid_to.as_second()), "{}", token.valid_to);
    assert_ne!(parameters(&endpoint, &id).await.public_key, token.public_key, "another one at every call");

    let imported = import(&endpoint, &id, &token, &wrap(&token, &MATERIAL)).await.unwrap();
    assert_eq!(state(&imported), KeyState::Enabled);
    let first = made(&world).await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].owner_references()[0].uid, world.keys().get("orders").await.unwrap().uid().unwrap());
    let encrypted = kms.encrypt(call, &key, &context, b"secret").await.unwrap();

    // The same material once more, as one that expires; a disabled key is enabled by it.
    kms.disable_key(call, &key).await.unwrap();
    let again = wrap(&token, &MATERIAL);
    let expire_time = Some(world.clock.now() + SignedDuration::from_hours(24));
    let expiring = MaterialToImport { encrypted_key_material: &again, import_token: &token.import_token, expire_time };
    let expires = kms.import_key_material(call, &key, expiring).await.unwrap();
    assert_eq!(state(&expires), KeyState::Enabled);
    let seconds = |time: Option<jiff::Timestamp>| time.map(jiff::Timestamp::as_second);
    assert_eq!(seconds(expires.key.record.material_expire_time()), seconds(expire_time));
    let second = made(&world).await;
    assert_eq!(second.len(), 1, "the Secret before is gone");
    assert_ne!(second[0].name_any(), first[0].name_any());

    // Other material never.
    let other = import(&endpoint, &id, &token, &wrap(&token, &[8; 32])).await;
    assert_eq!(other, Err(Failure::IncorrectKeyMaterial));

    kms.set_deletion_protection(call, &key, true).await.unwrap();
    let refused = kms.delete_key_material(call, &key).await;
    assert!(matches!(refused, Err(Failure::DeletionProtected(_))), "{refused:?}");
    kms.set_deletion_protection(call, &key, false).await.unwrap();
    kms.delete_key_material(call, &key).await.unwrap();
    assert_eq!(state(&kms.describe_key(call, &key).await.unwrap()), KeyState::PendingImport);
    assert_eq!(made(&world).await, []);
    kms.delete_key_material(call, &key).await.unwrap();

    import(&endpoint, &id, &token, &wrap(&token, &MATERIAL)).await.unwrap();
    let opened = kms.decrypt(call, None, &context, &encrypted.ciphertext_blob).await.unwrap();
    assert_eq!(opened.plaintext.expose(), b"secret");

    // While it is to be deleted, deleting material leaves state and date as they are.
    let scheduled = kms.schedule_key_deletion(call, &key, Some(7)).await.unwrap();
    kms.delete_key_material(call, &key).await.unwrap();
    let after = kms.describe_key(call, &key).await.unwrap();
    assert_eq!(
        (state(&after), &after.key.record.deletion),
        (KeyState::PendingDeletion, &scheduled.key.record.deletion)
    );
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_what_is_wrong_with_an_import_is_said_in_order() {
    let (world, operator) = World::with_operator("ep-import-bad").await;
    let id = external_key(&world).await;
    world.apply_key("generated", json!({})).await;
    let generated = key_id(&world.key_ready("generated").await);
    let endpoint = Endpoint::new(&world).await;
    let token = parameters(&endpoint, &id).await;
    let good = wrap(&token, &MATERIAL);
    let no_token = ImportParameters { import_token: "AAAA".into(), ..token.clone() };
    assert_eq!(import(&endpoint, &id, &no_token, b"").await, Err(Failure::InvalidImportToken), "before the material");
    for bad in [&b""[..], &good[1..], &[0; 256], &wrap(&token, &[7; 31]), &wrap(&token, &[7; 33])] {
        assert_eq!(import(&endpoint, &id, &token, bad).await, Err(Failure::InvalidKeyMaterial));
    }
    let refused = import(&endpoint, &generated, &token, &good).await;
    assert!(matches!(refused, Err(Failure::UnsupportedOrigin(_))), "{refused:?}");
    let expire_time = Some(world.clock.now());
    let past = MaterialToImport { encrypted_key_material: &good, import_token: &token.import_token, expire_time };
    let refused = endpoint.kms.import_key_material(&mut endpoint.aws(), &by_id(&id), past).await;
    assert!(matches!(refused, Err(Failure::InvalidParameter { name: "ValidTo", .. })), "{refused:?}");
    endpoint.deny(&["importkeymaterial"]);
    let refused = import(&endpoint, &id, &no_token, b"").await;
    assert!(matches!(refused, Err(Failure::Denied(_))), "{refused:?}");
    endpoint.deny(&[]);

    world.clock.advance_days(2);
    assert_eq!(import(&endpoint, &id, &token, b"").await, Err(Failure::ExpiredImportToken));
    assert_eq!((made(&world).await, endpoint.edits()), (vec![], 0), "nothing is written of what is refused");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn rule_9_a_secret_that_somebody_made_is_left_alone() {
    let (world, operator) = World::with_operator("ep-import-own").await;
    material(&world, "brought", &MATERIAL).await;
    let mut spec = external("brought");
    spec["enabled"] = json!(true);
    world.apply_key("orders", spec).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    let token = parameters(&endpoint, &id).await;
    let owned = import(&endpoint, &id, &token, &wrap(&token, &MATERIAL)).await;
    assert!(matches!(&owned, Err(Failure::Owned(text)) if text.contains("importedKeyMaterial")), "{owned:?}");
    assert_eq!(made(&world).await, [], "no Secret is made for nothing");

    // Given up by the manifest and set by hand, it may be exchanged.
    let other = external_by_hand(&world).await;
    let token = parameters(&endpoint, &other).await;
    import(&endpoint, &other, &token, &wrap(&token, &MATERIAL)).await.unwrap();
    assert!(world.secrets().get_opt("brought").await.unwrap().is_some());
    assert_eq!(made(&world).await.len(), 1);
    operator.stop().await.unwrap();
}

async fn external_by_hand(world: &World) -> String {
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey", "metadata": {"name": "by-hand"},
        "spec": external("brought"),
    });
    world.keys().create(&Default::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let key = world.key_ready("by-hand").await;
    assert_eq!(key_state(&key), "Enabled");
    key_id(&key)
}

#[tokio::test]
async fn an_import_that_waits_for_the_operator_is_kept() {
    let (world, operator) = World::with_operator("ep-import-wait").await;
    let id = external_key(&world).await;
    operator.stop().await.unwrap();
    let endpoint = Endpoint::with(&world, impatient()).await;
    let token = parameters(&endpoint, &id).await;
    let result = import(&endpoint, &id, &token, &wrap(&token, &MATERIAL)).await;
    assert!(matches!(result, Err(Failure::NotCarriedOut(_))), "{result:?}");
    assert_eq!(made(&world).await.len(), 1);
    let operator = world.start().await;
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");
    operator.stop().await.unwrap();
}
