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
