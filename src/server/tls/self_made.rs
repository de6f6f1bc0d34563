//! A certificate of the operator's own making: a CA and a server certificate in one Secret, which all replicas share.
//!
//! Whoever is first creates the Secret; the others read it. The server certificate is renewed under the same CA, so that clients
//! that trust `ca.crt` go on. A Secret of this name that is not ours is used as it is, and never written.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Acceptor, TlsError};
use crate::{
    api::metadata,
    clock::Clock,
    cluster::{ApiError, Secrets, WipedSecret},
};

/// The Secret.
pub const SECRET: &str = "cmk-kms-tls";
/// The label [`metadata::COMPONENT_LABEL`] of it.
const COMPONENT: &str = "kms-tls";
/// Its type. Not one of ours: everything that knows certificates can use it.
const TYPE: &str = "kubernetes.io/tls";
/// Annotation: the names and addresses in the certificate, with commas between.
const HOSTS: &str = "cmk-operator.dev/tls-hosts";
/// Annotation: when the certificate ends.
const NOT_AFTER: &str = "cmk-operator.dev/tls-not-after";
/// Annotation: when the CA ends.
const CA_NOT_AFTER: &str = "cmk-operator.dev/tls-ca-not-after";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long a server certificate lasts, and how long before its end it is renewed, in days.
const DAYS: (i32, i32) = (365, 120);
/// The same of the CA. All clients have to get the new one.
const CA_DAYS: (i32, i32) = (3650, 730);

/// What to do about the Secret.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is good.
    Use,
    /// It is ours, and its server certificate ends soon or lacks a name: a new one under the same CA.
    Renew,
    /// There is none, or it is ours and of no use: all new.
    Make,
}

/// What is to be done about a Secret for `hosts` at a time.
fn judge(secret: Option<&Secret>, hosts: &BTreeSet<String>, now: Timestamp) -> Verdict {
    let Some(secret) = secret else { return Verdict::Make };
    if !is_ours(secret) {
        return Verdict::Use;
    }
    let lasts = |annotation, days: i32| {
        let end = secret.annotations().get(annotation).and_then(|end| end.parse::<Timestamp>().ok());
        end.is_some_and(|end| end.duration_since(now) > DAY * days)
    };
    let usable = field(secret, CA).is_some() && Acceptor::new(pem(secret, CERTIFICATE), pem(secret, KEY)).is_ok();
    if !usable || !lasts(CA_NOT_AFTER, CA_DAYS.1) || key_pair(pem(secret, CA_KEY)).is_none() {
        return Verdict::Make;
    }
    if lasts(NOT_AFTER, DAYS.1) && hosts.is_subset(&hosts_in(secret)) { Verdict::Use } else { Verdict::Renew }
}

fn is_ours(secret: &Secret) -> bool {
    secret.labels().get(metadata::COMPONENT_LABEL).is_some_and(|component| component == COMPONENT)
}

fn field<'s>(secret: &'s Secret, name: &str) -> Option<&'s [u8]> {
    Some(&secret.data.as_ref()?.get(name)?.0)
}

fn pem<'s>(secret: &'s Secret, name: &str) -> &'s [u8] {
    field(secret, name).unwrap_or_default()
}

fn hosts_in(secret: &Secret) -> BTreeSet<String> {
    let hosts = secret.annotations().get(HOSTS).map(String::as_str).unwrap_or_default();
    hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect()
}

fn key_pair(pem: &[u8]) -> Option<KeyPair> {
    KeyPair::from_pem(std::str::from_utf8(pem).ok()?).ok()
}

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError::Make(error.to_string())
}

/// A CA, about to issue.
struct Authority {
    certificate: String,
    key: Zeroizing<String>,
    not_after: Timestamp,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// What the CA's certificate says. Its name comes from its key: so the issuer can be made again from the key alone.
    fn params(key: &KeyPair) -> CertificateParams {
        let id: String =
            Sha256::digest(key.public_key_raw()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("cmk-operator KMS CA {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    fn new(now: Timestamp) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = Self::params(&key);
        let not_after = set_validity(&mut params, now, CA_DAYS.0);
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let pem = Zeroizing::new(key.serialize_pem());
        Ok(Self { certificate, key: pem, not_after, issuer: Issuer::new(params, key) })
    }

    /// The one in a Secret that [`judge`] found good.
    fn of(secret: &Secret) -> Result<Self, TlsError> {
        let text = |name| String::from_utf8(pem(secret, name).to_vec()).map_err(failed);
        let key = Zeroizing::new(text(CA_KEY)?);
        let pair = KeyPair::from_pem(&key).map_err(failed)?;
        let not_after = secret.annotations().get(CA_NOT_AFTER).map(String::as_str).unwrap_or_default();
        let not_after = not_after.parse().map_err(failed)?;
        Ok(Self { certificate: text(CA)?, key, not_after, issuer: Issuer::new(Self::params(&pair), pair) })
    }

    /// The Secret with a new server certificate, in no place yet.
    fn issue(&self, hosts: &BTreeSet<String>, now: Timestamp) -> Result<Secret, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(hosts.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "cmk-operator KMS endpoint");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let not_after = set_validity(&mut params, now, DAYS.0);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        let mut key = Zeroizing::new(key.serialize_pem());
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let annotations = [
            (HOSTS, hosts.iter().cloned().collect::<Vec<_>>().join(",")),
            (NOT_AFTER, not_after.to_string()),
            (CA_NOT_AFTER, self.not_after.to_string()),
        ];
        let labels = [(metadata::MANAGED_BY_LABEL, metadata::MANAGER), (metadata::COMPONENT_LABEL, COMPONENT)];
        Ok(Secret {
            metadata: ObjectMeta {
                labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
                annotations: Some(annotations.map(|(name, value)| (name.to_owned(), value)).into()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.into()),
            data: Some(BTreeMap::from([
                (CERTIFICATE.into(), bytes(&certificate)),
                (KEY.into(), ByteString(std::mem::take(&mut *key).into_bytes())),
                (CA.into(), bytes(&self.certificate)),
                (CA_KEY.into(), bytes(&self.key)),
            ])),
            ..Secret::default()
        })
    }
}

/// Valid from yesterday, for clients whose clock is slow, and `days` from now. Answers the end.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i32) -> Timestamp {
    let date = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        // Months and days are 1 to 31.
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let not_after = now.saturating_add(DAY * days).unwrap_or(Timestamp::MAX);
    params.not_before = date(now.saturating_sub(DAY).unwrap_or(now));
    params.not_after = date(not_after);
    not_after
}

/// Keeps the Secret, and what accepts connections with it.
pub struct SelfMade<S> {
    secrets: S,
    namespace: String,
    hosts: BTreeSet<String>,
    clock: Arc<dyn Clock>,
    acceptor: Acceptor,
    /// What is in use: to be written back if somebody deletes it.
    held: WipedSecret,
    authority: watch::Sender<Option<String>>,
}

impl<S: Secrets> SelfMade<S> {
    /// Reads the Secret, or makes it.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn start(
        secrets: S,
        namespace: &str,
        hosts: BTreeSet<String>,
        clock: Arc<dyn Clock>,
        authority: watch::Sender<Option<String>>,
    ) -> Result<Self, TlsError> {
        let held = settle(&secrets, namespace, &hosts, clock.now(), None).await?;
        let acceptor = Acceptor::new(pem(&held, CERTIFICATE), pem(&held, KEY))?;
        authority.send_replace(authority_in(&held));
        Ok(Self { secrets, namespace: namespace.to_owned(), hosts, clock, acceptor, held, authority })
    }

    /// What accepts connections with it.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Looks at the Secret, renews it when it is time, writes it back when it was deleted, and answers whether another
    /// certificate is in use now.
    ///
    /// # Errors
    /// [`TlsError`]. The certificate in use stays.
    pub async fn look(&mut self) -> Result<bool, TlsError> {
        let found = settle(&self.secrets, &self.namespace, &self.hosts, self.clock.now(), Some(&self.held)).await?;
        if found.data == self.held.data {
            return Ok(false);
        }
        self.acceptor.replace(pem(&found, CERTIFICATE), pem(&found, KEY))?;
        self.authority.send_replace(authority_in(&found));
        self.held = found;
        Ok(true)
    }
}

fn authority_in(secret: &Secret) -> Option<String> {
    String::from_utf8(field(secret, CA)?.to_vec()).ok()
}

/// The Secret as all replicas will use it. Whoever loses a race takes what the winner wrote.
async fn settle<S: Secrets>(
    secrets: &S,
    namespace: &str,
    hosts: &BTreeSet<String>,
    now: Timestamp,
    held: Option<&WipedSecret>,
) -> Result<WipedSecret, TlsError> {
    // Each time around somebody else has written it: that ends.
    loop {
        let found = secrets.get_secret(namespace, SECRET).await?.map(WipedSecret::from);
        let good = held.filter(|held| is_ours(held) && judge(Some(held), hosts, now) == Verdict::Use);
        let verdict = judge(found.as_deref(), hosts, now);
        let wanted = match (found, verdict, good) {
            (Some(found), Verdict::Use, _) => return Ok(found),
            (Some(found), Verdict::Renew, _) => {
                let all = hosts.union(&hosts_in(&found)).cloned().collect();
                placed(Authority::of(&found)?.issue(&all, now)?, namespace, Some(&found))
            }
            (None, _, Some(held)) => placed(copy(held), namespace, None),
            (found, _, _) => placed(Authority::new(now)?.issue(hosts, now)?, namespace, found.as_deref()),
        };
        let done = match wanted.metadata.resource_version {
            Some(_) => secrets.replace_secret(&wanted).await,
            None => secrets.create_secret(&wanted).await,
        };
        match done {
            Ok(done) => return Ok(WipedSecret::from(done)),
            Err(ApiError::AlreadyExists | ApiError::Conflict(_) | ApiError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A Secret as it was before it was deleted.
fn copy(secret: &Secret) -> Secret {
    Secret {
        metadata: ObjectMeta {
            labels: secret.metadata.labels.clone(),
            annotations: secret.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        type_: secret.type_.clone(),
        data: secret.data.clone(),
        ..Secret::default()
    }
}

/// A Secret under its name: over exactly the one that was found, or where none was.
fn placed(mut secret: Secret, namespace: &str, over: Option<&Secret>) -> WipedSecret {
    secret.metadata.name = Some(SECRET.into());
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.uid = over.and_then(ResourceExt::uid);
    secret.metadata.resource_version = over.and_then(ResourceExt::resource_version);
    WipedSecret::from(secret)
}
