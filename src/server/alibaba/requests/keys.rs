//! What concerns a key as a whole: its making, description, deletion, alias, rotation and import.

use jiff::Timestamp;

use super::{
    ActionRequest, ImportKeyMaterial,
    fields::{bytes, decimal, flag, invalid, key_by_id, key_in, number, one_of, optional, refuse, required},
    tags,
};
use crate::{
    kms::{Origin, WrappingAlgorithm, WrappingKeySpec, key_record::SERVICE_ALIASES},
    server::{
        Failure,
        alibaba::Parameters,
        operations::{NewKeyDeclaration, RotationPolicy},
    },
};

/// The longest description, in characters.
pub(super) const MAX_DESCRIPTION: usize = 8192;
/// The longest alias, in characters, with its prefix.
pub(super) const MAX_ALIAS: usize = 255;

const NO_INSTANCES: &str = "there are no KMS instances here";

pub(super) fn new_key(p: &Parameters<'_>) -> Result<NewKeyDeclaration, Failure> {
    refuse(p, "DKMSInstanceId", NO_INSTANCES)?;
    refuse(p, "KeyStorageMechanism", NO_INSTANCES)?;
    refuse(p, "Policy", "Kubernetes RBAC decides who may use a key")?;
    one_of(p, "KeyUsage", &[("ENCRYPT/DECRYPT", ())])?;
    one_of(p, "KeySpec", &[("Aliyun_AES_256", ())])?;
    one_of(p, "ProtectionLevel", &[("SOFTWARE", ())])?;
    let origins = [("Aliyun_KMS", Origin::AliyunKms), ("EXTERNAL", Origin::External)];
    let origin = one_of(p, "Origin", &origins)?.unwrap_or_default();
    let rotation_interval_days = match rotation(p, flag(p, "EnableAutomaticRotation")?.unwrap_or(false))? {
        RotationPolicy::Every(_) if origin == Origin::External => {
            return Err(Failure::UnsupportedOrigin("a key whose material is imported does not rotate".into()));
        }
        RotationPolicy::Every(days) => Some(days),
        RotationPolicy::Never => None,
    };
    Ok(NewKeyDeclaration {
        origin,
        description: description(p)?.map(str::to_owned),
        tags: tags::optional(p)?,
        rotation_interval_days,
        ..NewKeyDeclaration::default()
    })
}

/// A description, which may be empty.
fn description<'a>(p: &'a Parameters<'_>) -> Result<Option<&'a str>, Failure> {
    let description = p.get("Description");
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
        return Err(invalid("Description", format!("it has more than {MAX_DESCRIPTION} characters")));
    }
    Ok(description)
}

pub(super) fn new_description<'a>(p: &'a Parameters<'_>) -> Result<&'a str, Failure> {
    description(p)?.ok_or(Failure::MissingParameter("Description"))
}

pub(super) fn pending_window(p: &Parameters<'_>) -> Result<Option<i32>, Failure> {
    number(p, "PendingWindowInDays", 7..=366)
}

/// The key is named by its ARN, or by `KeyId` in older clients.
pub(super) fn deletion_protection<'a>(p: &'a Parameters<'_>) -> Result<ActionRequest<'a>, Failure> {
    refuse(p, "KmsInstanceId", NO_INSTANCES)?;
    let by_id = optional(p, "ProtectedResourceArn").is_none() && optional(p, "KeyId").is_some();
    let key = key_in(p, if by_id { "KeyId" } else { "ProtectedResourceArn" })?;
    let protected = flag(p, "EnableDeletionProtection")?;
    let protected = protected.ok_or(Failure::MissingParameter("EnableDeletionProtection"))?;
    Ok(ActionRequest::SetDeletionProtection(key, protected))
}

/// An alias that a caller may give, move or remove.
pub(super) fn alias<'a>(p: &'a Parameters<'_>) -> Result<&'a str, Failure> {
    const NAME: &str = "AliasName";
    let alias = required(p, NAME)?;
    let Some(name) = alias.strip_prefix("alias/").filter(|name| !name.is_empty()) else {
        return Err(invalid(NAME, "it must begin with alias/ and go on"));
    };
    if alias.chars().count() > MAX_ALIAS {
        return Err(invalid(NAME, format!("it has more than {MAX_ALIAS} characters")));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte)) {
        return Err(invalid(NAME, "after alias/ there may be letters, digits, '/', '_' and '-' only"));
    }
    let reserved = |prefix: &str| name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    if reserved("acs") || reserved("aws") {
        return Err(invalid(NAME, format!("{SERVICE_ALIASES} and alias/aws/ are reserved")));
    }
    Ok(alias)
}

pub(super) fn rotation_policy(p: &Parameters<'_>) -> Result<RotationPolicy, Failure> {
    let enabled = flag(p, "EnableAutomaticRotation")?;
    rotation(p, enabled.ok_or(Failure::MissingParameter("EnableAutomaticRotation"))?)
}

/// With rotation an interval has to be there, without it none counts.
fn rotation(p: &Parameters<'_>, enabled: bool) -> Result<RotationPolicy, Failure> {
    if !enabled {
        return Ok(RotationPolicy::Never);
    }
    let text = required(p, "RotationInterval")?;
    interval_days(text).map(RotationPolicy::Every).ok_or_else(|| {
        invalid("RotationInterval", "it must be whole days from 7 to 730, as a number with d, h, m or s: 7d or 604800s")
    })
}

/// Whole days in an interval like `7d` or `604800s`.
fn interval_days(text: &str) -> Option<i32> {
    const DAY: i64 = 24 * 60 * 60;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => DAY,
        "h" => 60 * 60,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let seconds = decimal(number)?.checked_mul(seconds)?;
    let days = i32::try_from(seconds / DAY).ok()?;
    (seconds % DAY == 0 && (7..=730).contains(&days)).then_some(days)
}

pub(super) fn import_parameters<'a>(p: &'a Parameters<'_>) -> Result<ActionRequest<'a>, Failure> {
    let key = key_by_id(p)?;
    let spec = one_of(p, "WrappingKeySpec", &[("RSA_2048", WrappingKeySpec::Rsa2048)])?;
    let spec = spec.ok_or(Failure::MissingParameter("WrappingKeySpec"))?;
    Ok(ActionRequest::GetParametersForImport(key, wrapping_algorithm(required(p, "WrappingAlgorithm")?)?, spec))
}

/// The algorithms of the API that the operator has: RSAES_PKCS1_V1_5 is not one of them (docs/architecture.md).
fn wrapping_algorithm(text: &str) -> Result<WrappingAlgorithm, Failure> {
    const OAEP: &str = "RSAES_OAEP_SHA_256 or RSAES_OAEP_SHA_1";
    if !["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1", "RSAES_PKCS1_V1_5"].contains(&text) {
        return Err(invalid("WrappingAlgorithm", format!("it must be {OAEP}")));
    }
    let known = WrappingAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
    known.ok_or_else(|| Failure::Unsupported(format!("{text} is not supported here: take {OAEP}")))
}

pub(super) fn import<'a>(p: &'a Parameters<'_>) -> Result<ActionRequest<'a>, Failure> {
    Ok(ActionRequest::ImportKeyMaterial(ImportKeyMaterial {
        key: key_by_id(p)?,
        encrypted_key_material: bytes(p, "EncryptedKeyMaterial")?,
        import_token: required(p, "ImportToken")?,
        expire_time: expire_time(p)?,
    }))
}

/// Seconds since 1970. 0, or absent: never. Whether it is past is for the operation to say: it has the clock.
fn expire_time(p: &Parameters<'_>) -> Result<Option<Timestamp>, Failure> {
    const NAME: &str = "KeyMaterialExpireUnix";
    let Some(text) = optional(p, NAME) else { return Ok(None) };
    let time = decimal(text).and_then(|seconds| Timestamp::from_second(seconds).ok());
    let time = time.ok_or_else(|| invalid(NAME, "it must be a number of seconds since 1970, or 0 for never"))?;
    Ok((time != Timestamp::UNIX_EPOCH).then_some(time))
}
