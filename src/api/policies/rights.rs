//! Making an object needs the right that it exercises (design, rule 18), which the policies ask RBAC about.

use super::{
    GROUP, Policy, VERSION,
    draft::{Draft, annotation, cel_string, rule},
    metadata::{ADOPT_KEYS, CIPHERTEXT_BLOB, CIPHERTEXT_HISTORY, ROTATE_REQUESTED_AT, SERVICE_KEY},
};
use crate::api::cluster_key_store::DEFAULT_STORE;

/// Whether the user may do `verb` with what `resource` names, which goes on after `authorizer.group(…)`.
fn may(verb: &str, group: &str, resource: &str) -> String {
    format!("authorizer.group('{group}').{resource}.check('{verb}').allowed()")
}

/// A message, as an expression: who may not do what, and what it needs. `what` is an expression.
fn lacking(refusal: &str, what: &str, needs: &str) -> String {
    format!(
        "'user ' + request.userInfo.username + {} + {what} + {}",
        cel_string(&format!(" {refusal} ")),
        cel_string(needs)
    )
}

/// Whether the operator is to make something: the object is new, its spec changes, or a rotation is asked for that was not
/// before.
fn makes_one() -> String {
    let request = |object: &str| annotation(object, ROTATE_REQUESTED_AT);
    let (new, old) = (request("object"), request("oldObject"));
    format!("oldObject == null || object.spec != oldObject.spec || ({new} != '' && {new} != {old})")
}

/// A policy about a `DataKey`'s `CustomerMasterKey`, which is `variables.keyNamespace` and `variables.keyName`.
fn about_its_key(purpose: &'static str) -> Draft {
    Draft::new(purpose, rule(GROUP, VERSION, &["datakeys"], &["CREATE", "UPDATE"]))
        .with("keyNamespace", "object.spec.?keyRef.?namespace.orValue(request.namespace)")
        .with("keyName", format!("object.spec.?keyRef.?name.orValue('{SERVICE_KEY}')"))
}

/// Whether the user may do `verb` with that key.
fn may_with_its_key(verb: &str) -> String {
    may(verb, GROUP, "resource('customermasterkeys').namespace(variables.keyNamespace).name(variables.keyName)")
}

/// Says who lacks which verb on that key, and which of our roles has it.
fn lacking_on_its_key(refusal: &str, verb: &str, role: &str) -> String {
    let needs =
        format!(": that needs the verb {verb} on customermasterkeys.{GROUP}, which the ClusterRole {role} gives");
    lacking(refusal, "variables.keyNamespace + '/' + variables.keyName", &needs)
}

/// A `DataKey` makes the operator generate a data key and hand it out, so whoever makes or changes one needs the
/// right to generate data keys under that key, also where it is another namespace's. Asking for a rotation makes one as
/// well. Other metadata may change without it. The service key is there for all `DataKey`s of its namespace.
pub fn use_a_key() -> Policy {
    about_its_key("use-key")
        .when("names-a-key", "has(object.spec.keyRef)")
        .when("makes-one", makes_one())
        .require(
            may_with_its_key("generatedatakey"),
            "generatedatakey on the CustomerMasterKey in spec.keyRef is missing",
        )
        .saying(lacking_on_its_key("may not use the key in spec.keyRef,", "generatedatakey", "cmk-edit"))
        .finish()
}

/// Whoever brings a ciphertext gets its plaintext in a Secret: that is decryption. It can be brought in the spec
/// or, where status is gone, in the annotations, of which one has the data keys before (rule 12); moving it from one to
/// the other counts, taking it away does not. A data key that is there without its plaintext is such a ciphertext, too:
/// taking `withoutPlaintext` back has it decrypted. (A Secret with a ciphertext can be brought as well, which is for the
/// operator to see: it delivers none whose plaintext is not in that Secret.)
pub fn bring_a_ciphertext() -> Policy {
    let current = |object: &str| annotation(object, CIPHERTEXT_BLOB);
    let history = |object: &str| annotation(object, CIPHERTEXT_HISTORY);
    let spec = |object: &str| format!("{object}.spec.?ciphertextBlob.orValue('')");
    let brought = |of: &dyn Fn(&str) -> String| {
        let (new, old) = (of("object"), of("oldObject"));
        format!("({new} != '' && (oldObject == null || {new} != {old}))")
    };
    let withheld = |object: &str| format!("{object}.spec.?withoutPlaintext.orValue(false)");
    let disclosed = format!("(oldObject != null && {} && !{})", withheld("oldObject"), withheld("object"));
    let refusal = format!(
        "may not bring a ciphertext (spec.ciphertextBlob, or the annotation {CIPHERTEXT_BLOB} or {CIPHERTEXT_HISTORY}), nor \
         take spec.withoutPlaintext: true back, under the key"
    );
    let opens = [brought(&current), brought(&history), brought(&spec), disclosed].join(" || ");
    about_its_key("bring-ciphertext")
        .when("opens-a-ciphertext", opens)
        .require(may_with_its_key("decrypt"), "decrypt on the CustomerMasterKey of the DataKey is missing")
        .saying(lacking_on_its_key(&refusal, "decrypt", "cmk-decrypter"))
        .finish()
}

/// The material of a key comes from a Secret, which the operator reads for whoever declares it.
pub fn import_material() -> Policy {
    let secret = |object: &str| format!("{object}.spec.?importedKeyMaterial.?secretRef");
    let (new, old) = (secret("object"), secret("oldObject"));
    Draft::new("import-material", rule(GROUP, VERSION, &["customermasterkeys"], &["CREATE", "UPDATE"]))
        .when("names-another-secret", format!("{new}.hasValue() && (oldObject == null || {new} != {old})"))
        .with("secretName", "object.spec.importedKeyMaterial.secretRef.name")
        .require(
            may("get", "", "resource('secrets').namespace(request.namespace).name(variables.secretName)"),
            "get on the Secret in spec.importedKeyMaterial.secretRef is missing",
        )
        .saying(lacking(
            "may not import key material from the Secret in spec.importedKeyMaterial.secretRef,",
            "request.namespace + '/' + variables.secretName",
            ": that needs the verb get on this Secret",
        ))
        .finish()
}

/// An access key is a ServiceAccount's identity as far as the KMS endpoint goes, and the operator puts it into a Secret: so
/// whoever makes one needs what making a token of that ServiceAccount takes. Asking for a rotation makes one as well.
/// Other metadata may change without it.
pub fn make_an_access_key() -> Policy {
    let needs = ": that needs the verb create on serviceaccounts/token, as making a token of it does (the ClusterRole \
                 edit gives it)";
    Draft::new("make-access-key", rule(GROUP, VERSION, &["accesskeys"], &["CREATE", "UPDATE"]))
        .when("makes-one", makes_one())
        .with("serviceAccount", "object.spec.serviceAccountName")
        .require(
            may(
                "create",
                "",
                "resource('serviceaccounts').subresource('token').namespace(request.namespace)\
                 .name(variables.serviceAccount)",
            ),
            "create on serviceaccounts/token of the ServiceAccount in spec.serviceAccountName is missing",
        )
        .saying(lacking(
            "may not make an access key of the ServiceAccount in spec.serviceAccountName,",
            "request.namespace + '/' + variables.serviceAccount",
            needs,
        ))
        .finish()
}

/// Adopting takes over a key that somebody else made, whichever namespace it was in (rule 11).
pub fn adopt_a_key() -> Policy {
    let key_id = |object: &str| format!("{object}.spec.?keyId.orValue('')");
    let (new, old) = (key_id("object"), key_id("oldObject"));
    let needs =
        format!(": that needs the verb adopt on clusterkeystores.{GROUP}, which the ClusterRole cmk-adopter gives");
    Draft::new("adopt-key", rule(GROUP, VERSION, &["customermasterkeys"], &["CREATE", "UPDATE"]))
        .when("newly-adopts", format!("{new} != '' && (oldObject == null || {new} != {old})"))
        .with("store", format!("object.spec.?keyStoreRef.?name.orValue('{DEFAULT_STORE}')"))
        .require(
            may("adopt", GROUP, "resource('clusterkeystores').name(variables.store)"),
            "adopt on the key store of the key in spec.keyId is missing",
        )
        .saying(lacking("may not adopt a key (spec.keyId) of the ClusterKeyStore", "variables.store", &needs))
        .finish()
}

/// The annotation on a Namespace hands it the keys of an earlier namespace of the same name (rule 5), in whichever
/// store they are, so the verb is needed on all of them: a role with resourceNames does not give that.
///
/// Fail, although it matches Namespaces: the condition lets all writes pass that do not newly set the annotation,
/// before anything else is evaluated. It reads nothing but optional metadata, has no parameter, and is tried in
/// a cluster, so it does not fail; and with Ignore, what does fail would hand over the keys. The subresources are
/// there because writing them can change annotations, too.
pub fn adopt_keys() -> Policy {
    let is_set = |object: &str| format!("{} == 'true'", annotation(object, ADOPT_KEYS));
    let needs = format!(
        ": it takes over the keys of an earlier namespace of that name, which needs the verb adopt on all \
         clusterkeystores.{GROUP}, which the ClusterRole cmk-adopter gives (ask a cluster administrator)"
    );
    let rule = rule("", "v1", &["namespaces", "namespaces/finalize", "namespaces/status"], &["CREATE", "UPDATE"]);
    Draft::new("adopt-keys", rule)
        .when("newly-set", format!("{} && (oldObject == null || !({}))", is_set("object"), is_set("oldObject")))
        .require(
            may("adopt", GROUP, "resource('clusterkeystores')"),
            format!("adopt on clusterkeystores ({GROUP}) is missing"),
        )
        .saying(lacking(
            &format!("may not set the annotation {ADOPT_KEYS} on the namespace"),
            "object.metadata.name",
            &needs,
        ))
        .finish()
}
