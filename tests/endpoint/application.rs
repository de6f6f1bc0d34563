//! An application: a ServiceAccount that may do everything with the keys of its namespace, and an AccessKey of it.

use std::time::Duration;

use cmk_operator::runtime::kms_endpoint::KmsListeners;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use crate::support::{
    eventually,
    world::{Operator, SOON, World, entry},
};

/// Every verb of the endpoint.
const VERBS: [&str; 9] =
    ["encrypt", "decrypt", "generatedatakey", "importkeymaterial", "create", "patch", "delete", "get", "list"];

/// The application, with the operator whose endpoint it calls.
pub struct Application {
    pub operator: Operator,
    secret: Secret,
    ca: NamedTempFile,
}

impl Application {
    /// In a new world.
    pub async fn start(name: &str) -> Self {
        let world = World::new(name).await;
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = world.settings();
        settings.kms_url = format!("https://localhost:{}", tls.local_addr().unwrap().port());
        let operator = world.launch_listening(settings, KmsListeners { plain: None, tls: Some(tls) }).await;
        let secret = access_key(&world, "app").await;
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), entry(&secret, "ca.crt")).unwrap();
        Self { operator, secret, ca }
    }

    /// What the programs of `tests/clients/` are told: what stands in the AccessKey's Secret.
    pub fn configuration(&self) -> Value {
        let text = |key: &str| String::from_utf8(entry(&self.secret, key)).unwrap();
        assert_eq!(text("AWS_ACCESS_KEY_ID"), text("ALIBABA_CLOUD_ACCESS_KEY_ID"));
        assert_eq!(text("AWS_SECRET_ACCESS_KEY"), text("ALIBABA_CLOUD_ACCESS_KEY_SECRET"));
        json!({
            "endpoint": text("AWS_ENDPOINT_URL_KMS"),
            "region": text("AWS_REGION"),
            "ca": self.ca.path(),
            "credentials": {"accessKeyId": text("AWS_ACCESS_KEY_ID"), "secret": text("AWS_SECRET_ACCESS_KEY")},
        })
    }
}

/// Makes a ServiceAccount that may do everything with the keys of the test's namespace, and an AccessKey of it; answers the
/// Secret that is delivered.
async fn access_key(world: &World, name: &str) -> Secret {
    make::<ServiceAccount>(world, json!({"metadata": {"name": name}})).await;
    let rule = json!({"apiGroups": ["kms.cmk-operator.dev"], "resources": ["customermasterkeys"], "verbs": VERBS});
    make::<Role>(world, json!({"metadata": {"name": name}, "rules": [rule]})).await;
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": world.namespace});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    make::<RoleBinding>(world, json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})).await;
    let manifest = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "AccessKey",
        "metadata": {"name": name}, "spec": {"serviceAccountName": name, "secret": {"name": "app-kms"}},
    });
    make::<cmk_operator::api::AccessKey>(world, manifest).await;
    eventually("the access key to be delivered", SOON.max(Duration::from_secs(60)), async || {
        let secret = world.secrets().get_opt("app-kms").await.map_err(|error| error.to_string())?;
        secret
            .filter(|secret| secret.data.as_ref().is_some_and(|data| data.contains_key("ca.crt")))
            .ok_or_else(|| "no Secret with a CA yet".to_owned())
    })
    .await
}

async fn make<K>(world: &World, object: Value)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::namespaced(world.client.clone(), &world.namespace).create(&PostParams::default(), &object).await.unwrap();
}
