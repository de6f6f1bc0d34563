//! Limits of keys and data keys, by the documents that set them.

/// What a key store allows for the window of a deletion, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingDeletionDays {
    /// The shortest window.
    pub min: i32,
    /// The longest window.
    pub max: i32,
    /// The window when none is declared.
    pub default: i32,
}

impl PendingDeletionDays {
    /// 7 to 366 days, 366 when not said (Alibaba Cloud KMS, "Schedule a key deletion task", 2024).
    pub const EMBEDDED: Self = Self { min: 7, max: 366, default: 366 };

    /// Whether the store takes a window.
    #[must_use]
    pub fn allows(self, days: i32) -> bool {
        (self.min..=self.max).contains(&days)
    }
}

/// The most versions that a key may have. None is ever dropped, and a Secret, which holds them all, has at most
/// 1 MiB: that many take about two thirds of it, beside the longest description and tags.
pub const MAX_KEY_VERSIONS: usize = 3000;

/// The intervals of automatic rotation that the embedded store takes, in days (AWS: 90 to 2560, Alibaba: 7 to 730).
pub const ROTATION_INTERVAL_DAYS: std::ops::RangeInclusive<i32> = 7..=2560;

/// The most tags that a key may have (Alibaba Cloud KMS, TagResource).
pub const MAX_TAGS: usize = 20;
/// The longest key of a tag, in characters.
pub const MAX_TAG_KEY_CHARACTERS: usize = 128;
/// The longest value of a tag, in characters.
pub const MAX_TAG_VALUE_CHARACTERS: usize = 256;
/// What no key of a tag may begin with: the clouds reserve it.
pub const RESERVED_TAG_PREFIXES: [&str; 3] = ["aliyun", "acs:", "aws:"];

/// How often somebody may ask for a rotation of a key through the AWS API (AWS KMS, RotateKeyOnDemand).
pub const MAX_ON_DEMAND_ROTATIONS: usize = 25;
