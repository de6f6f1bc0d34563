//! The cluster that a command talks to, and as whom.

use std::{env, time::Duration};

use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use super::{arguments::Connection, failure::Failure, output::Paint};
use crate::api::{CustomerMasterKey, DataKey};

/// Our field manager. Not kubectl-…: Flux takes what managers of such names own for its own, and removes what its manifests do
/// not have. A key that was disabled in an emergency would be enabled a few minutes later.
pub const FIELD_MANAGER: &str = "cmk-plugin";

/// How long the API server may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// And to be connected to.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Objects a page when listing.
const PAGE: u32 = 500;

/// What a command works with.
pub struct Session {
    /// Talks to the API server.
    pub client: Client,
    /// The namespace that was given, or the context's.
    pub namespace: String,
    /// Whether it was given.
    pub namespace_given: bool,
    /// Whether to use colours.
    pub paint: Paint,
}

impl Session {
    /// Opens it. Nothing is sent yet.
    pub async fn open(connection: &Connection) -> Result<Self, Failure> {
        let mut config = config(connection).await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.read_timeout = Some(ANSWER_WITHIN);
        config.default_retry = false;
        if let Some(user) = &connection.impersonate {
            config.auth_info.impersonate = Some(user.clone());
        }
        if !connection.impersonate_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(connection.impersonate_groups.clone());
        }
        let namespace = connection.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Failure::NoCluster(error.to_string()))?;
        Ok(Self { client, namespace, namespace_given: connection.namespace.is_some(), paint: Paint::of_terminal() })
    }

    /// The keys of the namespace.
    pub fn keys(&self) -> Api<CustomerMasterKey> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A key of the namespace.
    pub async fn key(&self, name: &str) -> Result<CustomerMasterKey, Failure> {
        self.keys()
            .get_opt(name)
            .await?
            .ok_or_else(|| Failure::NoSuchKey { namespace: self.namespace.clone(), name: name.to_owned() })
    }

    /// All objects of a kind in a namespace, or in all.
    pub async fn list<K>(&self, namespace: Option<&str>) -> Result<Vec<K>, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        list_all(&api).await
    }

    /// All DataKeys of the cluster, or, without the right to see them, of the namespace. And whether it is all.
    pub async fn data_keys_everywhere(&self) -> Result<(Vec<DataKey>, bool), Failure> {
        match self.list(None).await {
            Ok(all) => Ok((all, true)),
            Err(error) if error.is_forbidden() => Ok((self.list(Some(&self.namespace)).await?, false)),
            Err(error) => Err(error),
        }
    }
}

/// Everything that an [`Api`] lists, page by page.
pub async fn list_all<K: Clone + DeserializeOwned + std::fmt::Debug>(api: &Api<K>) -> Result<Vec<K>, Failure> {
    list_with(api, ListParams::default()).await
}

/// Everything that an [`Api`] lists of what is asked for, page by page.
pub async fn list_with<K: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    params: ListParams,
) -> Result<Vec<K>, Failure> {
    let mut params = params.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            _ => return Ok(all),
        }
    }
}

async fn config(connection: &Connection) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
    let no_cluster = |error: &dyn std::error::Error| Failure::NoCluster(error.to_string());
    let kubeconfig = match &connection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let mut config = match kubeconfig {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| no_cluster(&e))?,
        // In a pod, as kubectl does.
        Err(_) if connection.kubeconfig.is_none() && env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::incluster().map_err(|e| no_cluster(&e))?
        }
        Err(error) => return Err(no_cluster(&error)),
    };
    // Nor does kubectl go through the environment's proxy to this machine.
    if is_loopback(config.cluster_url.host().unwrap_or_default()) && proxy_is_the_environments(&config) {
        config.proxy_url = None;
    }
    Ok(config)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn proxy_is_the_environments(config: &Config) -> bool {
    let Some(proxy) = &config.proxy_url else { return false };
    let of_environment = ["HTTPS_PROXY", "https_proxy"].map(|name| env::var(name).ok());
    of_environment.into_iter().flatten().any(|value| value.parse().is_ok_and(|uri: hyper::Uri| uri == *proxy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let table = [("localhost", true), ("127.0.0.1", true), ("[::1]", true), ("10.0.0.1", false), ("api", false)];
        for (host, expected) in table {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
