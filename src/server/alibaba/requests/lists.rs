//! Pages of lists.

use super::fields::number;
use crate::server::{Failure, alibaba::Parameters};

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: usize,
    /// 1 to 100.
    pub size: usize,
}

impl Page {
    /// The items of this page. A page after the last one is empty.
    pub fn cut<T>(self, items: Vec<T>) -> Vec<T> {
        let before = self.number.saturating_sub(1).saturating_mul(self.size);
        items.into_iter().skip(before).take(self.size).collect()
    }
}

pub(super) fn page(p: &Parameters<'_>) -> Result<Page, Failure> {
    let read = |name, range, default| -> Result<usize, Failure> {
        let number = number(p, name, range)?.unwrap_or(default);
        Ok(usize::try_from(number).unwrap_or_default())
    };
    Ok(Page { number: read("PageNumber", 1..=i32::MAX, 1)?, size: read("PageSize", 1..=100, 10)? })
}
