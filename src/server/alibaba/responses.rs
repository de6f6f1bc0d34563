//! What each action answers, described once for both forms. Names and their order: the API's documentation, with newer
//! fields after the older ones.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Format, requests::Page, writer::Writer};
use crate::{
    kms::{
        AutomaticRotation, Dialect, KeyRecord, KeyState, Origin,
        key_record::{add_days, to_seconds},
    },
    server::{
        Reply,
        operations::{
            AliasDescription, Decrypted, Encrypted, GeneratedKey, ImportParameters, KeyDescription,
            KeyVersionDescription, ReEncrypted,
        },
    },
};

/// The only key spec.
pub(super) const KEY_SPEC: &str = "Aliyun_AES_256";
/// The only key usage.
pub(super) const KEY_USAGE: &str = "ENCRYPT/DECRYPT";
/// The only protection level.
pub(super) const PROTECTION_LEVEL: &str = "SOFTWARE";

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// A page of a list.
pub struct Listed<T> {
    /// Which page.
    pub page: Page,
    /// How many there are on all pages.
    pub total: usize,
    /// Those of the page.
    pub items: Vec<T>,
}

impl<T> Listed<T> {
    /// A page of all items.
    pub fn of(all: Vec<T>, page: Page) -> Self {
        Self { page, total: all.len(), items: page.cut(all) }
    }
}

/// What an action answers. It can't be printed: it may hold plaintext.
pub enum Response {
    /// Nothing but the request's id.
    Done,
    /// CreateKey.
    KeyCreated(KeyDescription),
    /// DescribeKey.
    KeyDescribed(KeyDescription),
    /// ListKeys.
    Keys(Listed<KeyDescription>),
    /// ListAliases and ListAliasesByKeyId.
    Aliases(Listed<AliasDescription>),
    /// ListKeyVersions.
    KeyVersions(Listed<KeyVersionDescription>),
    /// CreateKeyVersion and DescribeKeyVersion.
    KeyVersion(KeyVersionDescription),
    /// ListResourceTags.
    Tags(KeyDescription),
    /// Encrypt and GenerateDataKeyWithoutPlaintext.
    Encrypted(Encrypted),
    /// Decrypt.
    Decrypted(Decrypted),
    /// ReEncrypt.
    ReEncrypted(ReEncrypted),
    /// GenerateDataKey.
    DataKey(GeneratedKey),
    /// GetParametersForImport.
    ImportParameters(ImportParameters),
}

/// Writes an answer.
#[must_use]
pub fn render(response: &Response, format: Format, request_id: Uuid) -> Reply {
    Writer::answer(format, hyper::StatusCode::OK, request_id, |writer| write(writer, response))
}

fn write(writer: &mut Writer, response: &Response) {
    match response {
        Response::Done => {}
        Response::KeyCreated(key) => writer.object("KeyMetadata", |writer| key_metadata(writer, key)),
        Response::KeyDescribed(key) => writer.object("KeyMetadata", |writer| {
            key_metadata(writer, key);
            writer.text("DeletionProtection", on_or_off(key.key.record.deletion_protection));
        }),
        Response::Keys(listed) => {
            page(writer, listed);
            writer.list("Keys", "Key", &listed.items, |writer, key| {
                writer.uuid("KeyId", key.name.key_id);
                writer.text("KeyArn", &key.name.arn(Dialect::Alibaba));
            });
        }
        Response::Aliases(listed) => {
            page(writer, listed);
            writer.list("Aliases", "Alias", &listed.items, |writer, alias| {
                writer.uuid("KeyId", alias.key.key_id);
                writer.text("AliasName", &alias.alias);
                writer.text("AliasArn", &alias.key.alias_arn(Dialect::Alibaba, &alias.alias));
            });
        }
        Response::KeyVersions(listed) => {
            page(writer, listed);
            writer.list("KeyVersions", "KeyVersion", &listed.items, key_version);
        }
        Response::KeyVersion(version) => writer.object("KeyVersion", |writer| key_version(writer, version)),
        Response::Tags(key) => tags(writer, &key.key.record),
        Response::Encrypted(encrypted) => ciphertext(writer, encrypted),
        Response::Decrypted(decrypted) => {
            key_and_version(writer, decrypted.key.key_id, decrypted.key_version_id);
            writer.base64("Plaintext", decrypted.plaintext.expose());
        }
        // The key is the one that the ciphertext was under, as the models of the SDKs say.
        Response::ReEncrypted(ReEncrypted { source, source_version_id, destination }) => {
            key_and_version(writer, source.key_id, *source_version_id);
            writer.base64("CiphertextBlob", &destination.ciphertext_blob);
        }
        Response::DataKey(generated) => {
            ciphertext(writer, &generated.encrypted);
            writer.base64("Plaintext", generated.plaintext.expose());
        }
        Response::ImportParameters(parameters) => {
            writer.uuid("KeyId", parameters.key.key_id);
            writer.text("ImportToken", &parameters.import_token);
            writer.base64("PublicKey", &parameters.public_key);
            writer.text("TokenExpireTime", &time(parameters.valid_to));
        }
    }
}

/// The ten fields that the API began with, then the newer ones.
fn key_metadata(writer: &mut Writer, description: &KeyDescription) {
    let KeyDescription { key, name, now } = description;
    let record: &KeyRecord = &key.record;
    let state = record.state(*now);
    let delete_date = record.deletion.as_ref().filter(|_| state == KeyState::PendingDeletion);
    writer.text("CreationDate", &time(record.creation_date));
    writer.text("Description", &record.description);
    writer.uuid("KeyId", record.key_id);
    writer.text("KeyState", state.as_str());
    writer.text("KeyUsage", KEY_USAGE);
    writer.text("DeleteDate", &time_or_empty(delete_date.map(|deletion| deletion.delete_date)));
    writer.text("Creator", &record.account_id);
    writer.text("Arn", &name.arn(Dialect::Alibaba));
    writer.text("Origin", origin(record.origin));
    writer.text("MaterialExpireTime", &time_or_empty(record.material_expire_time()));
    writer.text("KeySpec", KEY_SPEC);
    writer.text("ProtectionLevel", PROTECTION_LEVEL);
    rotation(writer, record, *now);
}

fn rotation(writer: &mut Writer, record: &KeyRecord, now: Timestamp) {
    let primary = record.primary_version();
    match primary {
        Some(version) => writer.uuid("PrimaryKeyVersion", version.id),
        None => writer.text("PrimaryKeyVersion", ""),
    }
    // A key that never rotated shows when its first version was made.
    writer.text("LastRotationDate", &time_or_empty(primary.map(|version| version.creation_date)));
    let automatic = match record.automatic_rotation(now) {
        AutomaticRotation::Enabled => "Enabled",
        AutomaticRotation::Disabled => "Disabled",
        AutomaticRotation::Suspended => "Suspended",
    };
    writer.text("AutomaticRotation", automatic);
    // Shown while rotation is suspended, too.
    if let Some(days) = record.rotation_interval_days {
        writer.text("RotationInterval", &format!("{}s", i64::from(days) * SECONDS_PER_DAY));
        let next = primary.and_then(|version| add_days(version.creation_date, days));
        writer.text("NextRotationDate", &time_or_empty(next));
    }
}

/// AWS_KMS is an origin that this API has no word for: it too means that the service made the material.
fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::AliyunKms | Origin::AwsKms => Origin::AliyunKms.as_str(),
        Origin::External => Origin::External.as_str(),
    }
}

fn tags(writer: &mut Writer, record: &KeyRecord) {
    writer.list("Tags", "Tag", &record.tags, |writer, (key, value)| {
        writer.uuid("KeyId", record.key_id);
        writer.text("TagKey", key);
        writer.text("TagValue", value);
    });
}

fn page<T>(writer: &mut Writer, listed: &Listed<T>) {
    writer.number("TotalCount", listed.total);
    writer.number("PageNumber", listed.page.number);
    writer.number("PageSize", listed.page.size);
}

fn key_version(writer: &mut Writer, version: &KeyVersionDescription) {
    key_and_version(writer, version.key.key_id, version.id);
    writer.text("CreationDate", &time(version.creation_date));
}

fn ciphertext(writer: &mut Writer, encrypted: &Encrypted) {
    key_and_version(writer, encrypted.key.key_id, encrypted.key_version_id);
    writer.base64("CiphertextBlob", &encrypted.ciphertext_blob);
}

fn key_and_version(writer: &mut Writer, key_id: Uuid, version_id: Uuid) {
    writer.uuid("KeyId", key_id);
    writer.uuid("KeyVersionId", version_id);
}

fn on_or_off(enabled: bool) -> &'static str {
    if enabled { "Enabled" } else { "Disabled" }
}

/// `2016-03-25T10:42:40Z`.
fn time(time: Timestamp) -> String {
    to_seconds(time).to_string()
}

fn time_or_empty(optional: Option<Timestamp>) -> String {
    optional.map(time).unwrap_or_default()
}
