//! The finalizer, labels, annotations and Secret types that the operator reads and writes.

/// Keeps a `CustomerMasterKey` until its key is scheduled for deletion or retained (design, rule 5).
pub const FINALIZER: &str = "cmk-operator.dev/finalizer";

/// On a `CustomerMasterKey`: the id of its key, written together with the finalizer, so that identity does
/// not live in status alone (design, rule 1).
pub const KEY_ID: &str = "cmk-operator.dev/key-id";

/// On a `CustomerMasterKey`: give up the key with this id and make a new one (design, rule 5). It acts only
/// while the key's record has that id.
pub const ABANDON_KEY: &str = "cmk-operator.dev/abandon-key";

/// On a `CustomerMasterKey`, a `DataKey` or an `AccessKey`: a value that was not there before asks for one rotation. Any text will do; a
/// time is usual.
pub const ROTATE_REQUESTED_AT: &str = "cmk-operator.dev/rotate-requested-at";

/// On a `CustomerMasterKey` that was made or changed through the KMS endpoint: the username of who asked for it last.
pub const REQUESTED_BY: &str = "cmk-operator.dev/requested-by";

/// On a Secret with key material that a command or a call put there: `NAMESPACE/NAME` of its `CustomerMasterKey`.
pub const MATERIAL_OF: &str = "cmk-operator.dev/material-of";

/// Name of the `CustomerMasterKey` that a namespace's DataKeys without keyRef are under.
pub const SERVICE_KEY: &str = "acs-datakey";
/// The alias of that key.
pub const SERVICE_KEY_ALIAS: &str = "alias/acs/DataKey";

/// On a Namespace, `"true"`: keys of a namespace of the same name that existed before may be taken over
/// (design, rule 5).
pub const ADOPT_KEYS: &str = "cmk-operator.dev/adopt-keys";

/// On one of our CustomResourceDefinitions, with any value: it may be deleted, with all objects of its kind (design,
/// rule 7).
pub const ALLOW_CRD_DELETION: &str = "cmk-operator.dev/allow-crd-deletion";

/// On the operator's Namespace, with any value: it may be deleted, with every record and the root key (design, rule 7).
pub const ALLOW_NAMESPACE_DELETION: &str = "cmk-operator.dev/allow-namespace-deletion";

/// On a `DataKey` and on its Secret: the data key's ciphertext, base64 (design, rule 12).
pub const CIPHERTEXT_BLOB: &str = "cmk-operator.dev/ciphertext-blob";

/// On a `DataKey`: the ciphertexts before that one, the newest last, as `status.history` has them: a JSON list of
/// {ciphertextBlob, generatedAt}. Absent while there are none. It counts only where status was lost (design, rule 12).
pub const CIPHERTEXT_HISTORY: &str = "cmk-operator.dev/ciphertext-history";

/// On a `DataKey`: when the data key in [`CIPHERTEXT_BLOB`] was generated (RFC 3339, UTC), as `status.generatedAt` says,
/// so that its rotation interval goes on where status was lost.
pub const GENERATED_AT: &str = "cmk-operator.dev/generated-at";

/// On a delivered Secret: `NAMESPACE/NAME` of its `DataKey`. Also the reserved entry of the encryption
/// context of every generated data key (design, rule 12).
pub const DATA_KEY: &str = "cmk-operator.dev/data-key";

/// On a delivered Secret: `NAMESPACE/NAME` of its `AccessKey`.
pub const ACCESS_KEY: &str = "cmk-operator.dev/access-key";

/// On a delivered Secret: which labels and annotations came from `spec.secret`, as JSON, so that one taken
/// out of the spec is taken off the Secret.
pub const APPLIED_METADATA: &str = "cmk-operator.dev/applied-metadata";

/// Every label, annotation and encryption-context entry that begins with this is the operator's.
pub const RESERVED_PREFIX: &str = "cmk-operator.dev/";

/// Label on every Secret that the operator makes: what it is for.
pub const COMPONENT_LABEL: &str = "cmk-operator.dev/component";
/// Value of [`COMPONENT_LABEL`] on a Secret delivered for a `DataKey`.
pub const COMPONENT_DATA_KEY: &str = "data-key";
/// Value of [`COMPONENT_LABEL`] on a Secret delivered for an `AccessKey`.
pub const COMPONENT_ACCESS_KEY: &str = "access-key";
/// Value of [`COMPONENT_LABEL`] on the record of an access key.
pub const COMPONENT_ACCESS_KEY_RECORD: &str = "access-key-record";
/// Value of [`COMPONENT_LABEL`] on a Secret with material that was imported through the KMS endpoint, encrypted.
pub const COMPONENT_IMPORTED_MATERIAL: &str = "imported-material";
/// Value of [`COMPONENT_LABEL`] on the record of a key.
pub const COMPONENT_RECORD: &str = "key-record";
/// Value of [`COMPONENT_LABEL`] on the claim of an alias.
pub const COMPONENT_ALIAS: &str = "alias";
/// Value of [`COMPONENT_LABEL`] on the generated root key.
pub const COMPONENT_ROOT_KEY: &str = "root-key";

/// The usual label that says which program manages an object, and our value of it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`], and our field manager.
pub const MANAGER: &str = "cmk-operator";

/// The types of all Secrets that are the operator's own begin with this.
pub const SECRET_TYPE_PREFIX: &str = "kms.cmk-operator.dev/";
/// Secret type of the record of a key (design, section 4).
pub const KEY_RECORD_TYPE: &str = "kms.cmk-operator.dev/key";
/// Secret type of the claim of an alias (design, section 4).
pub const ALIAS_TYPE: &str = "kms.cmk-operator.dev/alias";
/// Secret type of the record of an access key (design, section 4).
pub const ACCESS_KEY_TYPE: &str = "kms.cmk-operator.dev/access-key";
/// Secret type of the generated root key.
pub const ROOT_KEY_TYPE: &str = "kms.cmk-operator.dev/root-key";
/// Name of the Secret that holds the generated root key, in the operator's namespace.
pub const ROOT_KEY_SECRET: &str = "cmk-root-key";
