//! What is ready when, of which handler: the order in which claims take things.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use crate::time::Timestamp;

/// Keys by handler, then priority (the highest first), then time.
///
/// Looking for what is due touches, for each handler asked for and each priority in use, only what is due.
#[derive(Debug)]
pub(super) struct Ready<K> {
    handlers: BTreeMap<String, BTreeMap<Reverse<i32>, Times<K>>>,
}

/// Always `Some`: `None` only stands, in a search, before every key of the same time.
type Times<K> = BTreeSet<(Timestamp, Option<K>)>;

impl<K> Default for Ready<K> {
    fn default() -> Self {
        Self { handlers: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Ready<K> {
    pub(super) fn insert(&mut self, handler: &str, priority: i32, at: Timestamp, key: K) {
        if !self.handlers.contains_key(handler) {
            self.handlers.insert(handler.to_owned(), BTreeMap::new());
        }
        if let Some(levels) = self.handlers.get_mut(handler) {
            levels.entry(Reverse(priority)).or_default().insert((at, Some(key)));
        }
    }

    pub(super) fn remove(&mut self, handler: &str, priority: i32, at: Timestamp, key: K) {
        let Some(levels) = self.handlers.get_mut(handler) else { return };
        if let Some(times) = levels.get_mut(&Reverse(priority)) {
            times.remove(&(at, Some(key)));
            if times.is_empty() {
                levels.remove(&Reverse(priority));
            }
        }
        if levels.is_empty() {
            self.handlers.remove(handler);
        }
    }

    /// What is due at `now` of these handlers: by priority, then time, then key.
    pub(super) fn due<'a>(
        &'a self,
        handlers: &'a BTreeSet<String>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a K> {
        let mut levels: BTreeMap<Reverse<i32>, Vec<&Times<K>>> = BTreeMap::new();
        for (priority, times) in self.levels(handlers) {
            levels.entry(*priority).or_default().push(times);
        }
        levels
            .into_values()
            .flat_map(move |sets| {
                let sources = sets.into_iter().map(|times| times.iter().peekable()).collect();
                Merge { sources }.take_while(move |(at, _)| *at <= now)
            })
            .filter_map(|(_, key)| key.as_ref())
    }

    /// When something of these handlers becomes ready next, after `now`.
    pub(super) fn next_after(&self, handlers: &BTreeSet<String>, now: Timestamp) -> Option<Timestamp> {
        let from = (Timestamp::from_millis(now.as_millis().saturating_add(1)), None);
        self.levels(handlers)
            .filter_map(|(_, times)| times.range(from.clone()..).next())
            .map(|(at, _)| *at)
            .min()
    }

    /// The earliest time of all.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.handlers.values().flat_map(BTreeMap::values).filter_map(|t| t.first()).map(|(at, _)| *at).min()
    }

    fn levels<'a>(
        &'a self,
        handlers: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = (&'a Reverse<i32>, &'a Times<K>)> {
        handlers.iter().filter_map(|handler| self.handlers.get(handler)).flatten()
    }
}

/// Several ascending sequences as one.
struct Merge<I: Iterator> {
    sources: Vec<Peekable<I>>,
}

impl<T: Ord + Copy, I: Iterator<Item = T>> Iterator for Merge<I> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let heads = self.sources.iter_mut().enumerate();
        let (_, first) = heads.filter_map(|(i, source)| source.peek().map(|head| (*head, i))).min()?;
        self.sources.get_mut(first)?.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn handlers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_due_comes_by_priority_then_time_over_all_handlers() {
        let mut ready = Ready::default();
        ready.insert("a", 0, at(5), 1);
        ready.insert("b", 0, at(3), 2);
        ready.insert("a", 9, at(7), 3);
        ready.insert("b", 9, at(11), 4);
        ready.insert("c", 9, at(1), 5);
        let both = handlers(&["a", "b", "unknown"]);
        assert_eq!(ready.due(&both, at(10)).copied().collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(ready.next_after(&both, at(10)), Some(at(11)));
        assert_eq!(ready.next_after(&both, at(11)), None);
        assert_eq!(ready.first(), Some(at(1)));
    }

    #[test]
    fn nothing_is_left_of_what_is_removed() {
        let mut ready = Ready::default();
        ready.insert("a", 0, at(5), 1);
        ready.remove("a", 0, at(5), 1);
        assert!(ready.handlers.is_empty());
    }
}
