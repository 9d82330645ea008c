//! Lines of recordings: a record reads the same after it is written again, on one line without control characters.

use tuyagw::{tuya::Topics, recording::Record};

/// Panics where the promise above is broken.
pub fn check(line: &[u8]) {
    let topics = Topics::default();
    let Ok(Some(record)) = Record::read(line, &topics) else { return };
    let mut written = Vec::new();
    record.write(&mut written);
    assert_eq!(
        written.iter().filter(|byte| **byte < b' ').count(),
        1,
        "{}",
        String::from_utf8_lossy(&written)
    );
    let again = Record::read(&written, &topics).expect("what was written is read").expect("a record");
    assert_eq!((&again.topic, &again.payload), (&record.topic, &record.payload));
    let mut rewritten = Vec::new();
    again.write(&mut rewritten);
    assert_eq!(String::from_utf8_lossy(&rewritten), String::from_utf8_lossy(&written));
}
