//! What reaches stdout, pipes and files.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::mpsc,
};

use super::{lines::cut_torn_line, recovery::open, *};

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// What a file holds, but for the marks of runs that go on with it.
fn lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split_inclusive('\n').filter(|line| !line.contains("\"event\":\"begin\"")).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("a hang") })
}

/// A stream that tells each write and waits until it is let go.
struct Gate {
    written: mpsc::Sender<Vec<u8>>,
    go: mpsc::Receiver<()>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.send(bytes.to_vec()).unwrap();
        self.go.recv().map_err(|_| io::Error::other("no gate"))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated() -> (BatchWriter, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
    let (written, writes) = mpsc::channel();
    let (go, gate) = mpsc::channel();
    (
        BatchWriter::over(
            WriteTarget::Stream { stream: Box::new(Gate { written, go: gate }), file: None },
            None,
        ),
        writes,
        go,
    )
}

#[test]
fn lines_keep_their_order_and_follow_what_was_there() {
    let (_folder, path) = file(b"before\n");
    block_on(async {
        let mut sink = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
        let mut expected = String::from("before\n");
        let mut last = Offset::default();
        for n in 0..1000 {
            let line = format!("{n}\n");
            let ticket = sink.write(line.as_bytes());
            assert!(ticket > last);
            last = ticket;
            expected += &line;
            if n % 7 == 0 {
                sink.flush();
            }
        }
        sink.flush();
        while sink.committed_changed().await.unwrap() < last {}
        assert_eq!((sink.committed(), sink.backlog()), (last, 0));
        assert_eq!(lines(&path), expected);
        sink.write(b"unflushed\n");
        sink.close().await.unwrap();
        assert_eq!(lines(&path), expected + "unflushed\n");
    });
}

#[test]
fn what_queues_up_during_a_write_goes_out_in_the_next() {
    block_on(async {
        let (mut sink, writes, go) = gated();
        let first = sink.write(b"1\n");
        sink.flush();
        assert_eq!(writes.recv().unwrap(), b"1\n");
        for line in [b"2\n", b"3\n", b"4\n"] {
            sink.write(line);
            sink.flush();
        }
        assert_eq!((sink.committed(), sink.backlog()), (Offset::default(), 8));
        assert!(sink.is_behind(7) && !sink.is_behind(8));
        go.send(()).unwrap();
        assert_eq!(sink.committed_changed().await, Ok(first));
        assert_eq!(writes.recv().unwrap(), b"2\n3\n4\n");
        assert_eq!(sink.backlog(), 6);
        assert!(sink.is_behind(5) && !sink.is_behind(6));
        go.send(()).unwrap();
        assert!(sink.committed_changed().await.unwrap() > first);
        assert_eq!(sink.backlog(), 0);
        sink.close().await.unwrap();
    });
}

#[test]
fn progress_may_be_dropped_and_asked_again() {
    block_on(async {
        let (mut sink, _writes, go) = gated();
        let ticket = sink.write(b"1\n");
        sink.flush();
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::ZERO, sink.committed_changed()).await.is_err());
        }
        go.send(()).unwrap();
        assert_eq!(sink.committed_changed().await, Ok(ticket));
    });
}

#[test]
fn a_reader_that_went_away_ends_the_writing() {
    block_on(async {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = BatchWriter::over(WriteTarget::Stream { stream: Box::new(writer), file: None }, None);
        drop(reader);
        sink.write(b"1\n");
        sink.flush();
        assert_eq!(sink.committed_changed().await, Err(WriterError::ReaderGone));
        sink.write(b"2\n");
        sink.flush();
        assert_eq!(sink.committed_changed().await, Err(WriterError::ReaderGone));
        assert!(!sink.is_behind(0), "a run that waits for room would wait for ever");
        assert_eq!(sink.close().await, Err(WriterError::ReaderGone));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named() {
    let mut sink = BatchWriter::append("/dev/full", Purpose::ListenRecords).unwrap();
    sink.write(b"1\n");
    let Err(WriterError::Failed(failure)) = sink.close_blocking() else { panic!("no failure") };
    assert!(failure.message.contains("/dev/full"), "{failure}");
    assert_eq!(failure.kind, crate::error::FailureKind::Io);
}

/// Nothing goes on into the removed file: what is not written is not acknowledged.
#[test]
fn a_recording_whose_folder_is_removed_ends_with_the_hint_of_its_purpose() {
    for purpose in [Purpose::ListenRecords, Purpose::TapRecords, Purpose::EdgeRecords] {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut sink = BatchWriter::append(inner.join("out.jsonl"), purpose).unwrap();
        fs::remove_dir_all(&inner).unwrap();
        let written = sink.written();
        sink.write(b"{\"v\":1}\n");
        let Err(WriterError::Failed(failure)) = sink.close_blocking() else { panic!("no failure") };
        assert!(failure.message.contains("out.jsonl"), "{failure}");
        assert_eq!((failure.hint.as_deref(), written.offset()), (Some(purpose.hint()), Offset::default()));
    }
}

#[test]
fn a_recording_that_is_moved_or_removed_is_begun_anew_under_its_name() {
    for purpose in [Purpose::ListenRecords, Purpose::TapRecords, Purpose::EdgeRecords] {
        let (folder, path) = file(b"");
        let moved = folder.path().join("moved.jsonl");
        let mut sink = BatchWriter::append(&path, purpose).unwrap();
        let mut write = |line: &str| {
            let ticket = sink.write(line.as_bytes());
            sink.flush();
            block_on(async { while sink.committed_changed().await.unwrap() < ticket {} });
        };
        write("{\"v\":1}\n");
        fs::rename(&path, &moved).unwrap();
        write("{\"v\":2}\n");
        assert_eq!((lines(&moved), lines(&path)), ("{\"v\":1}\n".to_owned(), "{\"v\":2}\n".to_owned()));
        fs::remove_file(&path).unwrap();
        write("{\"v\":3}\n");
        assert_eq!(lines(&path), "{\"v\":3}\n");
        // logrotate's `create` makes the new file.
        fs::rename(&path, &moved).unwrap();
        File::create(&path).unwrap();
        write("{\"v\":4}\n");
        assert_eq!(lines(&path), "{\"v\":4}\n");
    }
}

#[test]
fn a_line_that_a_failed_write_tore_is_taken_back() {
    let (_folder, path) = file(b"1\n");
    let (mut file, _) = open(&path, Purpose::EdgeRecords).unwrap();
    file.write_all(b"2\n3\n4").unwrap();
    cut_torn_line(&mut file, b"2\n3\n4");
    assert_eq!(fs::read(&path).unwrap(), b"1\n2\n3\n");
    // Somebody else's line, appended meanwhile, stays.
    file.write_all(b"5").unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"6\n").unwrap();
    cut_torn_line(&mut file, b"5");
    assert_eq!(fs::read(&path).unwrap(), b"1\n2\n3\n56\n");
}

fn numbered(lines: usize) -> String {
    (0..lines).fold(String::new(), |text, n| text + &format!("{{\"line\":{n}}}\n"))
}

/// The test runs itself again under a limit on file sizes, which is as good as a full disk.
#[test]
#[cfg(unix)]
fn a_batch_that_does_not_fit_leaves_whole_lines() {
    if let Some(path) = std::env::var_os("TEST_LIMITED_FILE") {
        let mut sink = BatchWriter::append(path, Purpose::ListenRecords).unwrap();
        sink.write(numbered(10_000).as_bytes());
        let Err(WriterError::Failed(failure)) = sink.close_blocking() else { panic!("no failure") };
        assert!(failure.message.contains("out.jsonl"), "{failure}");
        return;
    }
    let (_folder, path) = file(b"{}\n");
    let run = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("io::batch_writer::tests::a_batch_that_does_not_fit_leaves_whole_lines")
        .env("TEST_LIMITED_FILE", &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && output.contains("1 passed"), "{output}");
    let left = lines(&path);
    assert_eq!(left, format!("{{}}\n{}", numbered(left.lines().count() - 1)));
    assert!(left.len() > 3000, "{} bytes are left", left.len());
}

#[test]
fn a_thread_that_dies_is_an_error_and_no_endless_progress() {
    block_on(async {
        let (mut sink, writes, go) = gated();
        drop((writes, go));
        let ticket = sink.write(b"1\n");
        sink.flush();
        assert!(matches!(sink.committed_changed().await, Err(WriterError::Failed(_))));
        assert!(matches!(sink.committed_changed().await, Err(WriterError::Failed(_))));
        assert!(sink.committed() < ticket);
        assert!(matches!(sink.close().await, Err(WriterError::Failed(_))));
    });
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let long = "{\"v\":1}\n{\"v\":1,\"b\":\"".to_owned() + &"x".repeat(20_000);
    for (content, whole, told) in [
        ("{\"v\":1}\n{\"v\":1,\"b\":", "{\"v\":1}\n", Some("11 bytes")),
        ("{\"v\":1,\"b\":", "", Some("11 bytes")),
        (&long, "{\"v\":1}\n", Some("20012 bytes")),
        ("{\"v\":1,\"a\":1}\n\0\0\0", "{\"v\":1,\"a\":1}\n", Some("3 bytes")),
        ("{\"v\":1}\n{\"b\":2}", "{\"v\":1}\n{\"b\":2}\n", None),
        ("{\"v\":1}\n", "{\"v\":1}\n", None),
        ("", "", None),
    ] {
        let (_folder, path) = file(content.as_bytes());
        let mut sink = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
        let repaired = sink.recovery_note().map(str::to_owned);
        assert_eq!(repaired.is_some(), told.is_some(), "{content}");
        assert!(repaired.as_deref().unwrap_or_default().contains(told.unwrap_or_default()), "{repaired:?}");
        sink.write(b"next\n");
        sink.close_blocking().unwrap();
        assert_eq!(lines(&path), whole.to_owned() + "next\n");
    }
    for foreign in [&b"\x89PNG"[..], b"{draft", b"{\"v\":1}\n{\"b\":", b"a\n\0\0"] {
        let (_folder, path) = file(foreign);
        let failure = BatchWriter::append(&path, Purpose::ListenRecords).unwrap_err();
        assert!(failure.message.contains("out.jsonl") && failure.hint.is_some(), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), foreign);
    }
}

#[test]
#[cfg(unix)]
fn a_last_line_that_another_program_writes_is_not_torn() {
    let (_folder, path) = file(b"");
    let mut other = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
    let half = "{\"v\":1,\"b\":";
    let add_half =
        || OpenOptions::new().append(true).open(&path).unwrap().write_all(half.as_bytes()).unwrap();
    add_half();
    let mut sink = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
    assert_eq!((sink.recovery_note(), lines(&path)), (None, half.to_owned()));
    other.write(b"2}\n");
    other.close_blocking().unwrap();
    sink.write(b"{\"c\":3}\n");
    sink.close_blocking().unwrap();
    assert_eq!(lines(&path), half.to_owned() + "2}\n{\"c\":3}\n");
    // A lock that another program holds for its own reasons holds up nothing; later the line can be repaired.
    let foreign = File::open(&path).unwrap();
    foreign.lock().unwrap();
    add_half();
    assert_eq!(BatchWriter::append(&path, Purpose::ListenRecords).unwrap().recovery_note(), None);
    drop(foreign);
    assert!(BatchWriter::append(&path, Purpose::ListenRecords).unwrap().recovery_note().is_some());
}

#[test]
fn a_file_is_created_for_its_owner_to_write_and_a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.jsonl");
    BatchWriter::append(&path, Purpose::ListenRecords).unwrap().close_blocking().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    let missing = folder.path().join("no/such.jsonl");
    assert!(BatchWriter::append(missing, Purpose::EdgeRecords).unwrap_err().message.contains("such.jsonl"));
}
