//! The limit: the writes that a new key needs, done by a bare client that decides nothing and watches nothing.

use std::time::Duration;

use cmk_operator::api::{CustomerMasterKey, metadata};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Created, load, progress::Progress};
use crate::support::world::{self, OPERATOR_NAMESPACE};

/// What the operator wrote for one key: the bare client writes the same for all.
#[derive(Clone)]
pub struct Pattern {
    record: Secret,
    key: CustomerMasterKey,
}

impl Pattern {
    /// Of any key that is Ready.
    pub async fn find(admin: &Client) -> Self {
        let records: Api<Secret> = Api::namespaced(admin.clone(), OPERATOR_NAMESPACE);
        let params = ListParams::default().fields(&format!("type={}", metadata::KEY_RECORD_TYPE)).limit(1);
        let mut record = records.list(&params).await.expect("records").items.remove(0);
        record.metadata = kube::api::ObjectMeta {
            labels: record.metadata.labels,
            annotations: record.metadata.annotations,
            ..Default::default()
        };
        Self { record, key: load::any(admin).await }
    }
}

/// Makes `count` keys on a fresh control plane, without an operator.
pub async fn run(pattern: Pattern, count: usize, concurrency: usize, within: Duration) -> Created {
    let bed = world::install().await;
    let admin = bed.control_plane.admin_client().await;
    let user = load::user(&bed).await;
    let operator = bed.control_plane.client_for_service_account(OPERATOR_NAMESPACE, "cmk-operator").await;
    super::measured(&bed, async || {
        let (created, to_do) = unbounded_channel();
        let (user, operator, pattern) = (user.clone(), operator.clone(), pattern.clone());
        let work = async move {
            let writing = tokio::spawn(write_all(operator, pattern, concurrency, to_do));
            load::create(user, count, concurrency, Some(created)).await;
            writing.await.expect("all writes");
        };
        let progress = Progress::begin(format!("{count} keys, bare client"), count);
        load::until_all(&admin, count, load::is_ready, work, progress, within).await
    })
    .await
    .of(count)
}

async fn write_all(
    client: Client,
    pattern: Pattern,
    concurrency: usize,
    mut to_do: UnboundedReceiver<CustomerMasterKey>,
) {
    let created = stream::poll_fn(move |cx| to_do.poll_recv(cx));
    let writes = created.map(|key| tokio::spawn(write(client.clone(), pattern.clone(), key)));
    let writes = writes.buffer_unordered(concurrency);
    writes.for_each(async |result| result.expect("no panic").expect("the bare client's request")).await;
}

/// The three writes, with the preconditions that the operator's have.
async fn write(client: Client, pattern: Pattern, key: CustomerMasterKey) -> Result<(), kube::Error> {
    let post = PostParams { field_manager: Some(metadata::MANAGER.into()), ..PostParams::default() };
    let mut record = pattern.record;
    // As long as the operator's names.
    record.metadata.name = Some(format!("cmk-{:0>64}", key.name_any()));
    Api::<Secret>::namespaced(client.clone(), OPERATOR_NAMESPACE).create(&post, &record).await?;

    let keys = load::keys(&client);
    let params = PatchParams { field_manager: Some(metadata::MANAGER.into()), ..PatchParams::default() };
    let patch = json!({"metadata": {
        "uid": key.uid(), "resourceVersion": key.resource_version(),
        "finalizers": [metadata::FINALIZER],
        "annotations": {metadata::KEY_ID: pattern.key.annotations().get(metadata::KEY_ID)},
    }});
    let mut key = keys.patch(&key.name_any(), &params, &Patch::Merge(patch)).await?;

    key.status = pattern.key.status;
    keys.replace_status(&key.name_any(), &post, &key).await.map(drop)
}
