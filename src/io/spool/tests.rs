//! Seeded runs on a recorded folder that loses its power, and a few on a real one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use super::{
    folder::SpoolFolder as _,
    recorded_folder::{FolderContent, RecordedFolder},
    *,
};
use crate::spool::SpoolKind;

const LIMITS: StoreLimits = StoreLimits { segment: 2048, marks: 300 };

/// The entry with this number, which its `given` tells.
fn entry(n: u64) -> SpoolEntry {
    let mut random = Rng::with_seed(n);
    let devices =
        ["a", "b", "c", "d", "e"].into_iter().filter(|_| random.u8(..3) == 0).map(Into::into).collect();
    SpoolEntry {
        kind: if random.bool() { SpoolKind::Report } else { SpoolKind::Status },
        topic: "gateway_id/gw1/devices/report".into(),
        devices,
        payload: vec![random.u8(..); random.usize(..300)].into(),
        request_id: format!("r{n}").into(),
        given: i64::try_from(n).unwrap(),
    }
}

fn number(entry: &SpoolEntry) -> u64 {
    u64::try_from(entry.given).unwrap()
}

fn open(folder: &RecordedFolder, seed: u64) -> Store<RecordedFolder> {
    Store::open(folder.clone(), LIMITS, Rng::with_seed(seed)).unwrap()
}

fn read_all(store: &mut Store<RecordedFolder>) -> Vec<(u64, SpoolEntry)> {
    let mut all = Vec::new();
    loop {
        let read = store.read(1000).unwrap();
        if read.is_empty() {
            return all;
        }
        all.extend(read);
    }
}

/// What an agent does with a spool, and what it knows about it.
struct Run {
    folder: RecordedFolder,
    store: Store<RecordedFolder>,
    random: Rng,
    window: ReadAhead,
    given: Vec<SpooledEntry>,
    next: u64,
    /// When each entry was appended, acknowledged and finished: after so many operations.
    appended: BTreeMap<u64, usize>,
    acknowledged: BTreeMap<u64, usize>,
    finished: BTreeMap<u64, usize>,
    /// Entries of an earlier run that were stored when it ended.
    inherited: BTreeSet<u64>,
}

impl Run {
    fn new(content: FolderContent, seed: u64, next: u64) -> Self {
        let folder = RecordedFolder::with(content);
        let store = open(&folder, seed);
        Self {
            folder,
            store,
            random: Rng::with_seed(seed),
            window: ReadAhead::default(),
            given: Vec::new(),
            next,
            appended: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            finished: BTreeMap::new(),
            inherited: BTreeSet::new(),
        }
    }

    fn append(&mut self) {
        let first = self.store.next_sequence();
        let count = self.random.u64(1..8);
        let batch: Vec<_> = (0..count).map(|n| (first + n, entry(self.next + n))).collect();
        for (_, entry) in &batch {
            self.appended.insert(number(entry), self.folder.time());
        }
        self.next += count;
        let commits = self.store.append(&batch);
        assert_eq!((commits[0].first.0, commits[commits.len() - 1].last.0), (first, first + count - 1));
        assert!(commits.windows(2).all(|pair| pair[0].last.0 + 1 == pair[1].first.0), "{commits:?}");
        for (sequence, entry) in batch {
            let commit = commits.iter().find(|commit| sequence <= commit.last.0).unwrap();
            if commit.outcome.is_ok() {
                self.acknowledged.insert(number(&entry), self.folder.time());
            }
        }
    }

    fn step(&mut self) {
        match self.random.u8(..10) {
            0..4 => self.append(),
            4..6 => {
                for (sequence, entry) in self.store.read(500).unwrap() {
                    self.window.insert(EntryId(sequence), entry);
                }
                while let Some(entry) = self.window.poll_ready() {
                    self.given.push(entry);
                }
            }
            6..9 => {
                let mut finished = Vec::new();
                for _ in 0..self.random.usize(..8).min(self.given.len()) {
                    let entry = self.given.swap_remove(self.random.usize(..self.given.len()));
                    assert!(self.window.finish(entry.id));
                    self.finished.insert(number(&entry.entry), self.folder.time());
                    finished.push(entry.id.0);
                }
                self.store.finish(&mut finished);
            }
            _ if self.random.u8(..4) == 0 => {
                if self.random.bool() {
                    self.finish_all();
                }
                self.store.close();
                // An operation that fails may fail the opening.
                let reopened = || Store::open(self.folder.clone(), LIMITS, Rng::with_seed(self.next));
                self.store = reopened().or_else(|_| reopened()).unwrap();
                (self.window, self.given) = (ReadAhead::default(), Vec::new());
            }
            _ => self.store.sync_marks(),
        }
    }

    fn finish_all(&mut self) {
        let mut finished = Vec::new();
        while let Some(given) = self.given.pop().or_else(|| self.window.poll_ready()) {
            assert!(self.window.finish(given.id));
            finished.push((given.id.0, number(&given.entry)));
        }
        let read = read_all(&mut self.store);
        finished.extend(read.iter().map(|(sequence, entry)| (*sequence, number(entry))));
        let now = self.folder.time();
        self.finished.extend(finished.iter().map(|(_, n)| (*n, now)));
        self.store.finish(&mut finished.into_iter().map(|(sequence, _)| sequence).collect());
    }

    /// Checks what a power loss after `time` operations leaves, and returns it with the entries that are stored in it.
    fn cut(&mut self, time: usize) -> (FolderContent, BTreeSet<u64>) {
        let content = self.folder.cut(time, &mut self.random);
        let mut store = open(&RecordedFolder::with(content.clone()), 1);
        let found: Vec<_> = read_all(&mut store).into_iter().map(|(_, entry)| entry).collect();
        let numbers: Vec<_> = found.iter().map(number).collect();
        assert!(numbers.is_sorted_by(|before, after| before < after), "in order and once: {numbers:?}");
        assert!(found.iter().all(|found| *found == entry(number(found))), "with the same bytes");
        let by = |times: &BTreeMap<u64, usize>| -> BTreeSet<u64> {
            times.iter().filter(|(_, when)| **when <= time).map(|(n, _)| *n).collect()
        };
        let stored: BTreeSet<_> = self.inherited.union(&by(&self.acknowledged)).copied().collect();
        let found: BTreeSet<_> = numbers.into_iter().collect();
        let finished = by(&self.finished);
        let lost: Vec<_> = stored.difference(&finished).filter(|n| !found.contains(n)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let known: BTreeSet<_> = self.inherited.union(&by(&self.appended)).copied().collect();
        assert!(found.is_subset(&known), "never given: {:?}", found.difference(&known));
        (content, found)
    }
}

#[test]
fn no_cut_between_two_syncs_loses_an_acknowledged_entry() {
    let mut finished = 0;
    for seed in 0..8 {
        let mut run = Run::new(FolderContent::default(), seed, 0);
        for _ in 0..50 {
            run.step();
        }
        assert!(run.acknowledged.len() > 40);
        finished += run.finished.len();
        for time in 0..=run.folder.time() {
            for _ in 0..3 {
                run.cut(time);
            }
        }
    }
    assert!(finished > 60, "{finished}");
}

#[test]
fn a_spool_survives_one_power_loss_after_another() {
    for seed in 0..60 {
        let mut run = Run::new(FolderContent::default(), seed, 0);
        for _ in 0..8 {
            for _ in 0..run.random.usize(1..40) {
                run.step();
            }
            let time = run.folder.time();
            let time = run.random.usize(time.saturating_sub(12)..=time);
            let (content, inherited) = run.cut(time);
            let mut after = Run::new(content, run.random.u64(..), run.next);
            // What was finished may have come back; it may end a second time, or never.
            after.inherited = inherited;
            run = after;
        }
    }
}

#[test]
fn a_killed_program_whose_entries_were_all_finished_leaves_nothing_in_the_way_of_later_ones() {
    let folder = RecordedFolder::default();
    let mut store = open(&folder, 1);
    let small = |n| SpoolEntry { payload: "{}".into(), ..entry(n) };
    let mut batch: Vec<_> = (1..4).map(|n| (n, small(n))).collect();
    store.append(&batch);
    assert_eq!(read_all(&mut store).len(), 3);
    store.finish(&mut vec![1, 2, 3]);
    assert_eq!(folder.names().unwrap().len(), 2, "the segment is kept for more");
    drop(store);
    let mut store = open(&folder, 2);
    for (sequence, _) in &mut batch {
        *sequence += 3;
    }
    store.append(&batch);
    assert_eq!(read_all(&mut store), batch);
}

#[test]
fn a_number_is_not_used_again_after_a_restart_of_an_empty_spool() {
    let mut run = Run::new(FolderContent::default(), 1, 0);
    for _ in 0..5 {
        run.append();
        run.finish_all();
        run.store.close();
        assert_eq!(run.folder.names().unwrap(), ["finished"]);
        run.store = open(&run.folder, run.next);
        run.append();
        run.store.close();
        run.store = open(&run.folder, run.next);
        let found = read_all(&mut run.store).len();
        assert_eq!(found, run.acknowledged.len() - run.finished.len());
        // These were given by `read_all`.
        run.store.close();
        run.store = open(&run.folder, run.next);
    }
}

#[test]
fn a_process_that_ends_without_a_power_loss_loses_nothing() {
    for seed in 0..40 {
        let mut run = Run::new(FolderContent::default(), seed, 0);
        for _ in 0..100 {
            run.step();
        }
        let mut store = open(&RecordedFolder::with(run.folder.content()), 1);
        assert_eq!(store.take_warnings(), [""; 0]);
        let found: Vec<_> = read_all(&mut store).iter().map(|(_, entry)| number(entry)).collect();
        let expected: Vec<_> =
            run.acknowledged.keys().copied().filter(|n| !run.finished.contains_key(n)).collect();
        assert_eq!(found, expected, "marks that are written are read");
        assert_eq!(store.unfinished(), expected.len() as u64);
    }
}

#[test]
fn an_operation_that_fails_costs_no_acknowledged_entry_and_works_again() {
    for seed in 0..150 {
        let mut run = Run::new(FolderContent::default(), seed, 0);
        for _ in 0..10 {
            run.step();
        }
        run.folder.fail_in(run.random.usize(..12));
        for _ in 0..10 {
            run.step();
        }
        run.folder.fail_in(usize::MAX);
        let before = run.acknowledged.len();
        run.append();
        assert!(run.acknowledged.len() > before, "seed {seed}: it works again");
        run.cut(run.folder.time());
    }
}

#[test]
fn a_full_disk_refuses_entries_and_has_room_again_once_some_are_finished() {
    for seed in 0..60 {
        let mut run = Run::new(FolderContent::default(), seed, 0);
        run.folder.set_room(Some(run.random.usize(3000..9000)));
        let mut refusals = 0;
        while refusals < 5 {
            run.append();
            refusals = run.appended.len() - run.acknowledged.len();
        }
        let numbers = |store: &mut Store<_>| -> Vec<_> {
            read_all(store).iter().map(|(_, entry)| number(entry)).collect()
        };
        let stored: Vec<_> = run.acknowledged.keys().copied().collect();
        let mut again = open(&RecordedFolder::with(run.folder.content()), 1);
        assert_eq!(numbers(&mut again), stored, "nothing of the refused entries is there");
        let read = read_all(&mut run.store);
        let mut sequences: Vec<_> = read.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(read.iter().map(|(_, entry)| number(entry)).collect::<Vec<_>>(), stored);
        run.store.finish(&mut sequences);
        assert_eq!(run.store.unfinished(), 0);
        let before = run.acknowledged.len();
        run.append();
        assert!(run.acknowledged.len() > before, "seed {seed}: there is room again");
    }
}

/// Completed segments of 40 entries each, in order.
fn filled(count: u64) -> (RecordedFolder, Vec<String>) {
    let folder = RecordedFolder::default();
    let mut store = open(&folder, 3);
    let batch: Vec<_> = (1..=count).map(|n| (n, entry(n))).collect();
    assert!(store.append(&batch).iter().all(|commit| commit.outcome.is_ok()));
    store.close();
    let names = folder.names().unwrap().into_iter().filter(|name| name.ends_with(".segment")).collect();
    (folder, names)
}

#[test]
fn a_flipped_bit_costs_one_entry_and_is_said_with_file_and_offset() {
    let (folder, names) = filled(40);
    assert!(names.len() > 2, "{names:?}");
    let whole = folder.content();
    for name in &names {
        let length = whole.files[whole.names[name]].len();
        for at in (0..length).step_by(7) {
            let damaged = RecordedFolder::with(whole.clone());
            damaged.damage(name, |bytes| bytes[at] ^= 0x20);
            let mut store = open(&damaged, 1);
            let found = read_all(&mut store);
            let lost = 40 - found.len();
            let warnings = store.take_warnings();
            assert!(found.iter().all(|(_, found)| *found == entry(number(found))));
            assert!(lost <= 1, "{name} {at}");
            if lost == 1 {
                assert!(warnings.iter().any(|warning| warning.contains(name) && warning.contains("at byte")));
            }
            assert_eq!(store.unfinished(), found.len() as u64, "{name} {at}");
            let mut sequences = found.iter().map(|(sequence, _)| *sequence).collect();
            store.finish(&mut sequences);
            store.close();
            assert_eq!((store.unfinished(), damaged.names().unwrap()), (0, vec!["finished".to_owned()]));
        }
    }
}

#[test]
fn files_of_another_version_are_refused_and_left_alone() {
    let (folder, names) = filled(40);
    for name in [&*names[1], "finished"] {
        let newer = RecordedFolder::with(folder.content());
        newer.damage(name, |bytes| {
            for copy in bytes[..if name == "finished" { 32 } else { 64 }].chunks_exact_mut(32) {
                copy[7] = 2;
                let sum = crc32fast::hash(&[&[0; 4], &copy[..28]].concat());
                copy[28..].copy_from_slice(&sum.to_le_bytes());
            }
        });
        let refused = Store::open(newer.clone(), LIMITS, Rng::with_seed(1)).unwrap_err();
        assert!(refused.message.contains("expected a spool of format 1; got format 2"), "{refused}");
        assert!(refused.message.contains(name));
        assert_eq!(newer.time(), 0);
    }
}

#[test]
fn a_segment_whose_header_is_lost_is_kept_under_another_name() {
    let (folder, names) = filled(40);
    folder.damage(&names[1], |bytes| bytes[..64].fill(0));
    let mut store = open(&folder, 1);
    assert!(store.take_warnings()[0].contains(&format!("{} is damaged at byte 0", names[1])));
    let found = read_all(&mut store).len();
    assert!((20..40).contains(&found));
    assert!(folder.names().unwrap().contains(&format!("{}.damaged", names[1])));
}

fn options() -> SpoolOptions {
    SpoolOptions { max_bytes: 4 * 1024 * 1024 }
}

fn of(device: &str, n: u64) -> SpoolEntry {
    SpoolEntry { devices: vec![device.into()], ..entry(n) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Waits until the spool gives an entry.
async fn next(spool: &mut Spool) -> SpooledEntry {
    loop {
        if let Some(entry) = spool.poll_next() {
            return entry;
        }
        spool.changed().await;
    }
}

/// Waits until an entry is stored or refused.
async fn settled(spool: &mut Spool, id: EntryId) -> Result<(), AppendError> {
    loop {
        while let Some(commit) = spool.poll_commit() {
            if commit.last >= id {
                return commit.outcome;
            }
        }
        spool.changed().await;
    }
}

#[test]
fn entries_come_in_order_for_each_device_and_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/spool");
    runtime().block_on(async {
        let (mut spool, warnings) = Spool::open(&path, options()).unwrap();
        assert_eq!((warnings, spool.len(), spool.oldest()), (vec![], 0, None));
        let devices = ["a", "a", "b", "a", "c"];
        let mut last = None;
        for (n, device) in (0..).zip(devices) {
            last = Some(spool.append(of(device, n)).unwrap());
        }
        assert_eq!(spool.len(), 5);
        settled(&mut spool, last.unwrap()).await.unwrap();
        let first = [next(&mut spool).await, next(&mut spool).await, next(&mut spool).await];
        assert_eq!(first.clone().map(|entry| number(&entry.entry)), [0, 2, 4]);
        assert_eq!(spool.poll_next(), None);
        assert_eq!(spool.oldest(), Some(0));
        spool.finish(first[1].id);
        spool.finish(first[1].id);
        spool.give_back(first[2].id);
        assert_eq!(next(&mut spool).await, first[2]);
        spool.finish(first[0].id);
        assert_eq!(number(&next(&mut spool).await.entry), 1);
        assert_eq!((spool.len(), spool.oldest()), (3, Some(1)));
        assert!(spool.holds("a") && !spool.holds("b") && spool.holds("c") && !spool.holds("d"));
        spool.close().await;
        let (mut spool, warnings) = Spool::open(&path, options()).unwrap();
        assert_eq!((warnings, spool.len()), (vec![], 3));
        let again = [next(&mut spool).await, next(&mut spool).await];
        assert_eq!(again.clone().map(|entry| number(&entry.entry)), [1, 4]);
        assert!(spool.holds("a") && !spool.holds("b"));
        for entry in again {
            spool.finish(entry.id);
        }
        let id = next(&mut spool).await.id;
        spool.finish(id);
        assert!(spool.is_empty() && !spool.holds("a"));
        spool.close().await;
        let mut names: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|found| found.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["finished", "lock"]);
    });
}

#[test]
fn a_spool_is_for_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(folder.path(), options()).unwrap();
    let refused = Spool::open(folder.path(), options()).unwrap_err();
    assert!(refused.message.contains("in use by another program"), "{refused}");
    drop(spool);
    Spool::open(folder.path(), options()).unwrap();
}

#[test]
fn a_full_spool_refuses_entries_until_some_are_finished() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (mut spool, _) = Spool::open(folder.path(), SpoolOptions { max_bytes: 300_000 }).unwrap();
        let mut count = 0;
        let refused = loop {
            match spool.append(of(&format!("m{}", count % 50), count)) {
                Ok(id) => settled(&mut spool, id).await.unwrap(),
                Err(why) => break why,
            }
            count += 1;
            assert!(spool.bytes() <= 300_000);
        };
        assert_eq!(refused, AppendError::Full { max_bytes: 300_000 });
        assert_eq!(spool.len(), count);
        let mut given = BTreeSet::new();
        while spool.append(of("m0", count)).is_err() {
            let entry = next(&mut spool).await;
            assert!(given.insert(number(&entry.entry)), "each once");
            spool.finish(entry.id);
        }
        let room_after = given.len() as u64;
        assert!(room_after < count, "there was room again before the spool was empty");
        while (given.len() as u64) < count {
            let entry = next(&mut spool).await;
            assert!(given.insert(number(&entry.entry)));
            spool.finish(entry.id);
        }
        assert_eq!(number(&next(&mut spool).await.entry), count);
    });
}

#[test]
fn holds_tells_which_devices_have_unfinished_entries_in_any_segment() {
    let folder = tempfile::tempdir().unwrap();
    let small = SpoolOptions { max_bytes: 1_000_000 };
    runtime().block_on(async {
        let (mut spool, _) = Spool::open(folder.path(), small).unwrap();
        let device = |n: u64| format!("meter-{}", n * 7919 % 500);
        let mut left = BTreeMap::<String, u64>::new();
        let mut id = None;
        for n in 0..2_000 {
            id = Some(spool.append(of(&device(n), n)).unwrap());
            *left.entry(device(n)).or_default() += 1;
            if n % 100 == 0 {
                settled(&mut spool, id.unwrap()).await.unwrap();
                assert!((0..500).all(|n| spool.holds(&device(n)) == left.contains_key(&device(n))));
            }
        }
        settled(&mut spool, id.unwrap()).await.unwrap();
        spool.close().await;
        let (mut spool, _) = Spool::open(folder.path(), small).unwrap();
        for n in 0..2_000 {
            let entry = next(&mut spool).await;
            let device = entry.entry.devices[0].to_string();
            *left.get_mut(&device).unwrap() -= 1;
            spool.finish(entry.id);
            if n % 50 == 0 {
                for n in 0..500 {
                    let device = format!("meter-{n}");
                    assert_eq!(
                        spool.holds(&device),
                        left.get(&device).is_some_and(|left| *left > 0),
                        "{device}"
                    );
                }
                assert!(!spool.holds("never seen"));
            }
        }
        assert!(spool.is_empty());
    });
}

/// The variable by which a test that runs this binary again tells it to be the program that is killed.
const KILLED: &str = "TUYAGW_TEST_SPOOL";

#[test]
fn a_killed_program_loses_nothing_that_it_acknowledged() {
    if let Some(folder) = std::env::var_os(KILLED) {
        return runtime().block_on(append_and_finish(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut stored, mut finished) = (BTreeSet::new(), BTreeSet::new());
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::spool::tests::a_killed_program_loses_nothing_that_it_acknowledged"])
            .args(["--nocapture", "--test-threads=1"])
            .env(KILLED, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        while let Some(Ok(line)) = lines.next() {
            match line.split_once(' ') {
                Some(("stored", n)) => drop(stored.insert(n.parse::<u64>().unwrap())),
                Some(("finished", n)) => drop(finished.insert(n.parse::<u64>().unwrap())),
                _ => continue,
            }
            count += 1;
            if count == 200 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= 200 * round, "it ended by itself");
    }
    let (mut spool, _) = Spool::open(folder.path(), options()).unwrap();
    runtime().block_on(async {
        let mut found = BTreeSet::new();
        while !spool.is_empty() {
            let entry = next(&mut spool).await;
            assert_eq!(entry.entry, self::entry(number(&entry.entry)));
            assert!(found.insert(number(&entry.entry)));
            spool.finish(entry.id);
        }
        let lost: Vec<_> = stored.difference(&finished).filter(|n| !found.contains(n)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    });
}

/// Appends without end, finishes some, and says on stdout what is stored and what it is about to finish.
async fn append_and_finish(folder: &Path) {
    let (mut spool, _) = Spool::open(folder, options()).unwrap();
    let mut numbers = BTreeMap::new();
    let mut n = u64::from(std::process::id()) * 1_000_000;
    // The test's name stands on the line so far.
    writeln!(io::stdout()).unwrap();
    loop {
        for _ in 0..5 {
            // A full spool is emptied below.
            if let Ok(id) = spool.append(entry(n)) {
                numbers.insert(id, n);
                n += 1;
            }
        }
        spool.changed().await;
        let mut out = io::stdout().lock();
        while let Some(commit) = spool.poll_commit() {
            assert_eq!(commit.outcome, Ok(()));
            let after = numbers.split_off(&EntryId(commit.last.0 + 1));
            for n in mem::replace(&mut numbers, after).values() {
                writeln!(out, "stored {n}").unwrap();
            }
        }
        for _ in 0..3 {
            if let Some(entry) = spool.poll_next() {
                writeln!(out, "finished {}", number(&entry.entry)).unwrap();
                out.flush().unwrap();
                spool.finish(entry.id);
            }
        }
        out.flush().unwrap();
    }
}
