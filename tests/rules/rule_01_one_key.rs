//! Rule 1: applying a `CustomerMasterKey` makes one key, once.

use cmk_operator::api::metadata;
use kube::ResourceExt;
use serde_json::json;

use crate::support::world::{World, key_id, key_state};

#[tokio::test]
async fn rule_1_a_manifest_becomes_a_key() {
    let (world, operator) = World::with_operator("r1-simple").await;
    world.apply_key("orders", json!({"description": "Orders database", "tags": {"team": "orders"}})).await;
    let key = world.key_ready("orders").await;

    let id = key_id(&key);
    assert_eq!(key_state(&key), "Enabled");
    assert_eq!(key.annotations()[metadata::KEY_ID], id);
    assert_eq!(key.finalizers(), [metadata::FINALIZER]);
    let status = serde_json::to_value(key.status.unwrap()).unwrap();
    let metadata = &status["keyMetadata"];
    assert_eq!(metadata["arn"], format!("acs:kms:cn-hangzhou:123456:key/{id}"));
    assert_eq!(metadata["description"], "Orders database");
    assert_eq!(metadata["origin"], "Aliyun_KMS");
    assert_eq!(metadata["keyUsage"], "ENCRYPT/DECRYPT");
    assert_eq!(metadata["creator"], "123456");
    assert_eq!(metadata["keyManager"], "CUSTOMER");
    assert_eq!(metadata["protectionLevel"], "SOFTWARE");
    assert!(metadata.get("deleteDate").is_none());

    let record = world.only_record().await;
    assert_eq!(record["keyId"], id);
    assert_eq!(record["owner"]["name"], "orders");
    assert_eq!(record["tags"], json!({"team": "orders"}));
    operator.stop().await.unwrap();
}
