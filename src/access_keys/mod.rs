//! Access keys: a ServiceAccount's identity as an id and a secret, for the clients of the KMS endpoint (design, section 1).

mod credential;

pub use credential::{AccessKeySecret, Credential, Credentials};
