//! What two maps of the same kind have not in common.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// The keys that only one of two maps has, or whose values differ, in no order.
pub fn differing<K: Eq + Hash + Clone, V: PartialEq>(before: &HashMap<K, V>, now: &HashMap<K, V>) -> Vec<K> {
    let keys: HashSet<_> = before.keys().chain(now.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != now.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_or_changed_differs() {
        let before = HashMap::from([("same", 1), ("changed", 1), ("gone", 1)]);
        let now = HashMap::from([("same", 1), ("changed", 2), ("new", 1)]);
        let mut differ = differing(&before, &now);
        differ.sort_unstable();
        assert_eq!(differ, ["changed", "gone", "new"]);
        assert!(differing(&now, &now).is_empty());
    }
}
