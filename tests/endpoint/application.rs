//! An application: a ServiceAccount that may do something with the keys of its namespace, and an AccessKey of it.

use cmk_operator::runtime::{kms_endpoint::KmsListeners, operator::Settings};
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
pub const VERBS: [&str; 9] =
    ["encrypt", "decrypt", "generatedatakey", "importkeymaterial", "create", "patch", "delete", "get", "list"];

/// Who calls.
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl Credentials {
    /// Those of an AccessKey's Secret, which has them under the names of both clouds.
    pub fn of(secret: &Secret) -> Self {
        assert_eq!(text(secret, "AWS_ACCESS_KEY_ID"), text(secret, "ALIBABA_CLOUD_ACCESS_KEY_ID"));
        assert_eq!(text(secret, "AWS_SECRET_ACCESS_KEY"), text(secret, "ALIBABA_CLOUD_ACCESS_KEY_SECRET"));
        Self {
            access_key_id: text(secret, "AWS_ACCESS_KEY_ID"),
            secret_access_key: text(secret, "AWS_SECRET_ACCESS_KEY"),
        }
    }

    /// As the programs of `tests/clients/` are told them.
    pub fn configuration(&self) -> Value {
        json!({"accessKeyId": self.access_key_id, "secret": self.secret_access_key})
    }
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(entry(secret, key)).unwrap()
}

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
        Self::start_in(&world, world.settings()).await
    }

    /// In this one, with an operator of these settings. It may do everything.
    pub async fn start_in(world: &World, mut settings: Settings) -> Self {
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        settings.kms_url = format!("https://localhost:{}", tls.local_addr().unwrap().port());
        let operator = world.launch_listening(settings, KmsListeners { plain: None, tls: Some(tls) }).await;
        let secret = access_key(world, "app", &VERBS, "ca.crt").await;
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), entry(&secret, "ca.crt")).unwrap();
        Self { operator, secret, ca }
    }

    /// What the programs of `tests/clients/` are told: what stands in the AccessKey's Secret.
    pub fn configuration(&self) -> Value {
        json!({
            "endpoint": text(&self.secret, "AWS_ENDPOINT_URL_KMS"),
            "region": text(&self.secret, "AWS_REGION"),
            "ca": self.ca.path(),
            "credentials": Credentials::of(&self.secret).configuration(),
        })
    }
}

/// Makes a ServiceAccount that has these verbs on the keys of the test's namespace, and an AccessKey of it. Answers the Secret
/// that is delivered, once it has an entry.
pub async fn access_key(world: &World, name: &str, verbs: &[&str], entry: &str) -> Secret {
    make::<ServiceAccount>(world, json!({"metadata": {"name": name}})).await;
    let rule = json!({"apiGroups": ["kms.cmk-operator.dev"], "resources": ["customermasterkeys"], "verbs": verbs});
    make::<Role>(world, json!({"metadata": {"name": name}, "rules": [rule]})).await;
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": world.namespace});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    make::<RoleBinding>(world, json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})).await;
    let secret_name = format!("{name}-kms");
    let manifest = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "AccessKey",
        "metadata": {"name": name}, "spec": {"serviceAccountName": name, "secret": {"name": secret_name}},
    });
    make::<cmk_operator::api::AccessKey>(world, manifest).await;
    eventually("the access key to be delivered", SOON, async || {
        let secret = world.secrets().get_opt(&secret_name).await.map_err(|error| error.to_string())?;
        secret
            .filter(|secret| secret.data.as_ref().is_some_and(|data| data.contains_key(entry)))
            .ok_or_else(|| format!("no Secret with {entry} yet"))
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
