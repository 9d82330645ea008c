//! Topic filters: matching agrees with the standard's definition, written down a second time.

use tuyagw::mqtt::{check_filter, matches};

/// Section 4.7, word by word.
fn by_the_book(filter: &[&str], topic: &[&str]) -> bool {
    match (filter.first(), topic.first()) {
        (Some(&"#"), _) | (None, None) => true,
        (Some(&"+"), Some(_)) => by_the_book(&filter[1..], &topic[1..]),
        (Some(wanted), Some(name)) => wanted == name && by_the_book(&filter[1..], &topic[1..]),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Panics where the promise above is broken.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((filter, topic)) = text.split_once('\n') else { return };
    // Recursion is for the fuzzer's short texts only.
    if check_filter(filter).is_err() || topic.is_empty() || topic.contains(['+', '#']) || text.len() > 4096 {
        return;
    }
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    let (filter_levels, levels): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    assert_eq!(
        matches(filter, topic),
        !hidden && by_the_book(&filter_levels, &levels),
        "{filter:?} {topic:?}"
    );
}
