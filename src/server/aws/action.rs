//! The names of the operations: those that are served, and those of the real API that are not.

use crate::server::Failure;

macro_rules! actions {
    ($($name:ident),+ $(,)?) => {
        /// An operation that is served, by the name that the API gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the API's own names")]
        pub enum Action {
            $($name),+
        }

        impl Action {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            fn named(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name)),+
                }
            }
        }
    };
}

actions![
    CancelKeyDeletion,
    CreateAlias,
    CreateKey,
    Decrypt,
    DeleteAlias,
    DeleteImportedKeyMaterial,
    DescribeKey,
    DisableKey,
    DisableKeyRotation,
    EnableKey,
    EnableKeyRotation,
    Encrypt,
    GenerateDataKey,
    GenerateDataKeyWithoutPlaintext,
    GenerateRandom,
    GetKeyPolicy,
    GetKeyRotationStatus,
    GetParametersForImport,
    ImportKeyMaterial,
    ListAliases,
    ListKeyPolicies,
    ListKeyRotations,
    ListKeys,
    ListResourceTags,
    ReEncrypt,
    RotateKeyOnDemand,
    ScheduleKeyDeletion,
    TagResource,
    UntagResource,
    UpdateAlias,
    UpdateKeyDescription,
];

const GRANTS: &str = "There are no grants here: Kubernetes RBAC decides who may use a key. Bind a Role instead.";
const POLICIES: &str =
    "Key policies can't be changed here: Kubernetes RBAC decides who may use a key. Bind a Role instead.";
const KEY_STORES: &str =
    "There are no custom key stores here: key stores are ClusterKeyStore objects, which an administrator applies.";
const ASYMMETRIC: &str = "Only symmetric encryption keys (SYMMETRIC_DEFAULT) are served here.";
const MULTI_REGION: &str = "There are no multi-Region keys here.";
const LAST_USAGE: &str = "The last use of a key is not kept here: the endpoint's log has every use.";

/// The operations of the real API that are not served, and why.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("ConnectCustomKeyStore", KEY_STORES),
    ("CreateCustomKeyStore", KEY_STORES),
    ("CreateGrant", GRANTS),
    ("Decapsulate", ASYMMETRIC),
    ("DeleteCustomKeyStore", KEY_STORES),
    ("DeriveSharedSecret", ASYMMETRIC),
    ("DescribeCustomKeyStores", KEY_STORES),
    ("DisconnectCustomKeyStore", KEY_STORES),
    ("Encapsulate", ASYMMETRIC),
    ("GenerateDataKeyPair", ASYMMETRIC),
    ("GenerateDataKeyPairWithoutPlaintext", ASYMMETRIC),
    ("GenerateMac", ASYMMETRIC),
    ("GetKeyLastUsage", LAST_USAGE),
    ("GetPublicKey", ASYMMETRIC),
    ("ListGrants", GRANTS),
    ("ListRetirableGrants", GRANTS),
    ("PutKeyPolicy", POLICIES),
    ("ReplicateKey", MULTI_REGION),
    ("RetireGrant", GRANTS),
    ("RevokeGrant", GRANTS),
    ("Sign", ASYMMETRIC),
    ("UpdateCustomKeyStore", KEY_STORES),
    ("UpdatePrimaryRegion", MULTI_REGION),
    ("Verify", ASYMMETRIC),
    ("VerifyMac", ASYMMETRIC),
];

impl Action {
    /// The operation with a name.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] for one of the real API that is not served; [`Failure::UnknownOperation`].
    pub fn find(name: &str) -> Result<Self, Failure> {
        if let Some(action) = Self::named(name) {
            return Ok(action);
        }
        match unsupported(name) {
            Some((name, reason)) => Err(Failure::Unsupported(format!("{name} is not supported. {reason}"))),
            None => Err(Failure::UnknownOperation(name.chars().take(64).collect())),
        }
    }
}

/// The name of an operation of the real API, served or not: what logs and metrics may say. None: it is no operation.
#[must_use]
pub fn known(operation: &str) -> Option<&'static str> {
    Action::named(operation).map(Action::as_str).or_else(|| unsupported(operation).map(|(name, _)| name))
}

fn unsupported(operation: &str) -> Option<(&'static str, &'static str)> {
    UNSUPPORTED.iter().copied().find(|(name, _)| *name == operation)
}
