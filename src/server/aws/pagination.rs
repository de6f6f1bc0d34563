//! Lists in pages. Nothing is remembered between two pages: a marker says after which item the next page begins, so items
//! that come or go in between neither repeat nor hide others.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::limits::{self, MARKER_CHARS};
use crate::server::Failure;

/// A list, and the sizes of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    /// The operation.
    pub name: &'static str,
    /// The longest page that may be asked for.
    pub max: i64,
    /// The page when its length isn't said.
    pub default: i64,
}

impl List {
    pub const KEYS: Self = Self { name: "ListKeys", max: 1000, default: 100 };
    pub const ALIASES: Self = Self { name: "ListAliases", max: 100, default: 50 };
    pub const TAGS: Self = Self { name: "ListResourceTags", max: 50, default: 50 };
    pub const POLICIES: Self = Self { name: "ListKeyPolicies", max: 1000, default: 100 };
    pub const ROTATIONS: Self = Self { name: "ListKeyRotations", max: 1000, default: 100 };
}

/// The page that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    list: List,
    limit: usize,
    after: Option<String>,
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins. None: this was the last one.
    pub next_marker: Option<String>,
}

impl Page {
    /// Reads what a request says about its page.
    ///
    /// # Errors
    /// A limit that is not allowed; [`Failure::InvalidMarker`], also for the marker of another list.
    pub fn read(list: List, limit: Option<i64>, marker: Option<&str>) -> Result<Self, Failure> {
        let limit = limits::range("Limit", limit.unwrap_or(list.default), 1..=list.max)?;
        let limit = usize::try_from(limit).map_err(|_| Failure::InvalidMarker)?;
        let after = match marker {
            None => None,
            Some(marker) => {
                limits::length("Marker", marker.chars().count(), MARKER_CHARS, None)?;
                Some(open_marker(list, marker).ok_or(Failure::InvalidMarker)?)
            }
        };
        Ok(Self { list, limit, after })
    }

    /// The items of this page. `position` says where an item stands: no two items stand at the same place.
    pub fn cut<T>(&self, mut items: Vec<T>, position: impl Fn(&T) -> String) -> Cut<T> {
        items.sort_by_cached_key(&position);
        if let Some(after) = &self.after {
            items.retain(|item| position(item) > *after);
        }
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| more).map(position);
        Cut { items, next_marker: last.map(|position| marker(self.list, &position)) }
    }
}

fn marker(list: List, position: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}\n{position}", list.name))
}

fn open_marker(list: List, marker: &str) -> Option<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(marker).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, position) = text.split_once('\n')?;
    (name == list.name).then(|| position.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(mut items: Vec<u32>, limit: i64, change: impl Fn(&mut Vec<u32>)) -> Vec<Vec<u32>> {
        let mut pages = Vec::new();
        let mut marker = None;
        loop {
            let page = Page::read(List::KEYS, Some(limit), marker.as_deref()).unwrap();
            let cut = page.cut(items.clone(), |item| format!("{item:03}"));
            pages.push(cut.items);
            marker = cut.next_marker;
            if marker.is_none() {
                return pages;
            }
            change(&mut items);
        }
    }

    #[test]
    fn pages_are_complete_and_in_order() {
        assert_eq!(walk(vec![3, 1, 2], 2, |_| ()), [vec![1, 2], vec![3]]);
        assert_eq!(walk(vec![3, 1, 2], 3, |_| ()), [vec![1, 2, 3]], "a full page need not be followed by an empty one");
        assert_eq!(walk(vec![], 3, |_| ()), [Vec::<u32>::new()]);
        // The item that the marker names goes, and one comes before it: neither hides or repeats another.
        let change = |items: &mut Vec<u32>| {
            items.retain(|item| *item != 20);
            items.push(5);
        };
        assert_eq!(walk(vec![10, 20, 30], 2, change), [vec![10, 20], vec![30]]);
    }

    #[test]
    fn a_marker_is_good_for_its_list_only() {
        let page = Page::read(List::KEYS, Some(1), None).unwrap();
        let marker = page.cut(vec![1, 2], ToString::to_string).next_marker.unwrap();
        assert!(Page::read(List::KEYS, None, Some(&marker)).is_ok());
        for (list, marker) in [(List::ALIASES, marker.as_str()), (List::KEYS, "!"), (List::KEYS, "YQ")] {
            assert_eq!(Page::read(list, None, Some(marker)), Err(Failure::InvalidMarker), "{marker}");
        }
        assert!(matches!(Page::read(List::KEYS, None, Some("")), Err(Failure::Validation(_))));
    }

    #[test]
    fn limits_are_those_of_the_list() {
        for (list, max) in [(List::KEYS, 1000), (List::ALIASES, 100), (List::TAGS, 50), (List::ROTATIONS, 1000)] {
            assert!(Page::read(list, Some(max), None).is_ok());
            for refused in [0, -1, max + 1] {
                assert!(matches!(Page::read(list, Some(refused), None), Err(Failure::Validation(_))), "{refused}");
            }
        }
    }
}
