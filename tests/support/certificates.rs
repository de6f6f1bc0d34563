//! The keys and certificates of one control plane, made afresh for it and gone with its directory.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Where the files are that the components and the kubeconfigs name.
pub struct Certificates {
    /// Vouches for the API server towards its clients, and for the administrator towards it.
    pub authority: PathBuf,
    pub server: Identity,
    /// A member of `system:masters`.
    pub admin: Identity,
    /// Signs the tokens of service accounts.
    pub service_account_key: PathBuf,
    pub service_account_public_key: PathBuf,
}

/// A certificate and its private key.
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them all in `directory`, which must be private: its files are readable as it is.
    pub fn create(directory: &Path) -> Self {
        let authority_key = new_key();
        let mut params = named("cmk-testbed-ca", None, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&authority_key).expect("the authority's certificate");
        let authority = write(directory, "ca.crt", &certificate.pem());
        let issuer = Issuer::new(params, authority_key);

        let mut params = named("kube-apiserver", None, &["127.0.0.1", "localhost"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = issue(directory, "kube-apiserver", params, &issuer);

        let mut params = named("cmk-testbed-admin", Some("system:masters"), &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let admin = issue(directory, "admin", params, &issuer);

        let key = new_key();
        Self {
            authority,
            server,
            admin,
            service_account_key: write(directory, "sa.key", &key.serialize_pem()),
            service_account_public_key: write(directory, "sa.pub", &key.public_key_pem()),
        }
    }
}

/// A certificate for the common name and, to a client, the user's group; `hosts` for a server.
fn named(common_name: &str, group: Option<&str>, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn issue(directory: &Path, name: &str, params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Identity {
    let key = new_key();
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    Identity {
        certificate: write(directory, &format!("{name}.crt"), &certificate.pem()),
        key: write(directory, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key pair")
}

fn write(directory: &Path, name: &str, contents: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
