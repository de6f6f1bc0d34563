//! What the endpoint refuses, on the wire: `tests/clients/refusals.py` has the table. Here is what it needs in the cluster.

use cmk_operator::{runtime::operator::Settings, server::auth::AUDIENCE};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{
    application::{Application, Credentials, access_key},
    clients,
    support::world::{World, key_id},
};

/// A token of the application, for an audience or the API server itself.
async fn token(world: &World, audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let audiences = audience.map(str::to_owned).into_iter().collect();
    let spec = TokenRequestSpec { audiences, expiration_seconds: Some(600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    accounts.create_token_request("app", &PostParams::default(), &request).await.unwrap().status.unwrap().token
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_on_the_wire() {
    let world = World::new("refusals").await;
    let bank = world.another_namespace("bank").await;
    let watch_namespaces = vec![world.namespace.clone(), bank.namespace.clone()];
    let application = Application::start_in(&world, Settings { watch_namespaces, ..world.settings() }).await;
    bank.apply_key("vault", json!({})).await;
    let foreign = key_id(&bank.key_ready("vault").await);
    let encrypter = access_key(&world, "encrypter", &["encrypt"], "ca.crt").await;
    let mut configuration = application.configuration();
    configuration["encrypter"] = Credentials::of(&encrypter).configuration();
    configuration["encrypter"]["user"] = format!("system:serviceaccount:{}:encrypter", world.namespace).into();
    configuration["foreignKeyId"] = foreign.into();
    configuration["tokens"] = json!({
        "good": token(&world, Some(AUDIENCE)).await,
        "otherAudience": token(&world, Some("other.example")).await,
        "apiServer": token(&world, None).await,
    });
    clients::run("refusals.py", &configuration).await;
    application.operator.stop().await.unwrap();
}
