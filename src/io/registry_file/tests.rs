//! A registry's file, and other programs that touch it.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use super::*;
use crate::{
    io::batch_writer::push,
    tuya::{Device, GatewayId},
};

/// A registry's file, and the registry itself.
struct Site {
    _folder: tempfile::TempDir,
    path: PathBuf,
    file: RegistryFile,
    steps: RegistryFileEvents,
    registry: Registry,
}

fn line(cid: &str) -> Vec<u8> {
    format!("{{\"gateway_id\":\"gw1\",\"cid\":\"{cid}\",\"product_id\":\"p\"}}\n").into_bytes()
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.jsonl");
        let (file, LoadedRegistry { registry, warnings }) = RegistryFile::open(&path).unwrap();
        assert_eq!((registry.len(), warnings), (0, vec![]));
        Self { _folder: folder, path, steps: file.watch(), file, registry }
    }

    /// Synchronises a device, waits until it is safe, and gives the reasons for which the file was written anew.
    fn sync(&mut self, cid: &str) -> Vec<String> {
        let device = Device { cid: cid.into(), product_id: "p".into(), ..Device::default() };
        let gateway = GatewayId::new("gw1").unwrap();
        let line = self.registry.sync(&gateway, &device, Duration::ZERO).unwrap();
        let position = self.file.write(&line);
        self.file.flush();
        let mut reasons = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            loop {
                let step = tokio::time::timeout(Duration::from_secs(20), self.steps.next());
                match step.await.expect("a hang").unwrap() {
                    RegistryFileEvent::Done(done) if done >= position => return,
                    RegistryFileEvent::Done(_) => {}
                    RegistryFileEvent::Lost(why) => {
                        reasons.push(why);
                        self.file.rewrite(self.registry.lines());
                    }
                }
            }
        });
        reasons
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

#[test]
fn a_file_that_another_program_touches_is_written_anew_before_anything_is_done() {
    type Touch = fn(&Path);
    let touches: [(&str, Touch); 7] = [
        ("was removed", |path| fs::remove_file(path).unwrap()),
        ("was removed", |path| fs::rename(path, path.with_extension("old")).unwrap()),
        ("was replaced", |path| {
            let beside = path.with_extension("new");
            fs::copy(path, &beside).unwrap();
            fs::rename(beside, path).unwrap();
        }),
        ("was changed", |path| File::create(path).map(drop).unwrap()),
        ("was changed", |path| {
            let edited = String::from_utf8(fs::read(path).unwrap()).unwrap().replace("\"p\"", "\"q\"");
            fs::write(path, edited).unwrap();
            // Later than the last write, whatever the file system's clock ticks by.
            let later = std::time::SystemTime::now() + Duration::from_secs(5);
            File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
        }),
        ("was changed", |path| {
            push(&mut OpenOptions::new().append(true).open(path).unwrap(), &mut &b"{}\n"[..]).unwrap();
        }),
        ("was replaced", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "no JSON, and no newline").unwrap();
        }),
    ];
    for (reason, touch) in touches {
        for unchanged in [false, true] {
            let mut site = Site::new();
            assert_eq!(site.sync("m1"), [""; 0]);
            touch(&site.path);
            let reasons = site.sync(if unchanged { "m1" } else { "m2" });
            assert!(matches!(&reasons[..], [why] if why.contains(reason)), "{reason}: {reasons:?}");
            assert_eq!(site.content(), site.registry.lines(), "{reason}");
            assert_eq!(site.sync("m3"), [""; 0], "{reason}: once");
            assert_eq!(site.content(), site.registry.lines(), "{reason}");
            assert!(RegistryFile::open(&site.path).is_err(), "the new file is locked, too");
            let left = fs::read_dir(site.path.parent().unwrap()).unwrap().count();
            assert!(left <= 2, "nothing is left beside it");
        }
    }
}

#[test]
fn a_file_that_only_looks_touched_stays() {
    let mut site = Site::new();
    site.sync("m1");
    let before = fs::metadata(&site.path).unwrap().ino();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    File::options().append(true).open(&site.path).unwrap().set_modified(later).unwrap();
    assert_eq!(site.sync("m2"), [""; 0]);
    assert_eq!(fs::metadata(&site.path).unwrap().ino(), before);
    assert_eq!(site.content(), [line("m1"), line("m2")].concat());
}

#[test]
fn a_symbolic_link_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (link, path) = (folder.path().join("link.jsonl"), folder.path().join("fleet.jsonl"));
    std::os::unix::fs::symlink("fleet.jsonl", &link).unwrap();
    let (mut file, _) = RegistryFile::open(&link).unwrap();
    let mut steps = file.watch();
    fs::remove_file(&path).unwrap();
    file.write(b"");
    file.flush();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(steps.next()), Ok(RegistryFileEvent::Lost(_))));
    file.rewrite(line("m1"));
    assert!(matches!(runtime.block_on(steps.next()), Ok(RegistryFileEvent::Done(_))));
    assert_eq!((fs::read(&path).unwrap(), fs::read(&link).unwrap()), (line("m1"), line("m1")));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_file_that_is_mostly_superseded_is_made_shorter_at_the_start() {
    let size = |content: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.jsonl");
        fs::write(&path, content).unwrap();
        let (_, found) = RegistryFile::open(&path).unwrap();
        (fs::read(&path).unwrap().len(), found.registry.len(), found.warnings.len())
    };
    let one = line("m1").len();
    assert_eq!(size(&line("m1").repeat(1000)), (one, 1, 0));
    assert_eq!(size(&line("m1").repeat(10)), (one * 10, 1, 0), "too small to be worth it");
    let many: Vec<u8> = (100..200).flat_map(|n| line(&format!("m{n}"))).collect();
    assert_eq!(size(&many), (many.len(), 100, 0), "nothing is superseded");
    let foreign = [&line("m1").repeat(1000)[..], b"# mine\n"].concat();
    assert_eq!(size(&foreign), (foreign.len(), 1, 1), "a line that is no device stays");
}

#[test]
fn a_file_is_for_one_edge_and_for_its_owner() {
    let site = Site::new();
    assert_eq!(fs::metadata(&site.path).unwrap().mode() & 0o777, 0o600);
    let refused = RegistryFile::open(&site.path).unwrap_err();
    assert!(refused.message.contains("in use by another program"), "{refused}");
}

#[test]
fn a_byte_order_mark_and_a_missing_newline_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.jsonl");
    fs::write(&path, [b"\xef\xbb\xbf", line("m1").trim_ascii()].concat()).unwrap();
    let (_, found) = RegistryFile::open(&path).unwrap();
    assert_eq!((found.registry.len(), found.warnings), (1, vec![]));
    assert_eq!(fs::read(&path).unwrap(), [b"\xef\xbb\xbf", &line("m1")[..]].concat());
}
