//! The known devices, by gateway and cid, and the lines of the file that stores them.
//!
//! The file is a log: every line is one whole device, and a later line for the same device wins.

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    collections::SeededMap,
    json::{ObjectWriter, key},
    tuya::{Device, GatewayId},
};

/// The known devices.
#[derive(Debug, Default)]
pub struct Registry {
    fleets: SeededMap<GatewayId, SeededMap<Box<str>, KnownDevice>>,
    /// The approximate bytes that they occupy.
    bytes: usize,
}

/// The bytes that devices may occupy: about 150,000 devices with ids and fields of usual length.
const ROOM: usize = 32 * 1024 * 1024;

/// The bytes of a device beside its cid and its line, and of a gateway beside its id.
const OVERHEAD: usize = 96;

/// Editors on Windows begin UTF-8 files with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The state of one device.
#[derive(Debug)]
struct KnownDevice {
    online: bool,
    /// The time of its last sync or status.
    seen: Duration,
    /// Its line in the file: an unchanged device is not written again, and a lost file can be written again.
    line: Box<[u8]>,
}

/// There is no room for another device: clients must not fill the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// The file has lines, but no device: it is another kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotARegistry {
    /// The first line's number, from 1.
    pub line: usize,
    /// The problem with it.
    pub reason: String,
}

impl fmt::Display for NotARegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for NotARegistry {}

impl Registry {
    /// Parses the bytes of a registry's file. Every device counts as seen at `now`. Also returns the lines that are not devices,
    /// by number from 1, with the reason; they are skipped.
    ///
    /// # Errors
    /// There are lines, and none is a device.
    pub fn read(bytes: &[u8], now: Duration) -> Result<(Self, Vec<(usize, String)>), NotARegistry> {
        let mut registry = Self::default();
        let mut bad = Vec::new();
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        for (n, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match read_line(text) {
                Ok((gateway, device)) => {
                    registry.insert(&gateway, &device.cid, line(&gateway, &device), now);
                }
                Err(reason) => bad.push((n + 1, reason)),
            }
        }
        match bad.first() {
            Some((line, reason)) if registry.is_empty() => {
                Err(NotARegistry { line: *line, reason: reason.clone() })
            }
            _ => Ok((registry, bad)),
        }
    }

    /// Adds or updates a device, and sets it online. Returns its line for the file, with a newline; empty if the file should have
    /// that line already.
    ///
    /// # Errors
    /// There is no room; nothing changes.
    pub(crate) fn sync(
        &mut self,
        gateway: &GatewayId,
        device: &Device,
        now: Duration,
    ) -> Result<Vec<u8>, NoRoom> {
        let line = line(gateway, device);
        match self.fleets.get_mut(gateway).and_then(|fleet| fleet.get_mut(device.cid.as_str())) {
            Some(known) if *known.line == *line => {
                (known.online, known.seen) = (true, now);
                Ok(Vec::new())
            }
            known => {
                let new = match known {
                    Some(known) => line.len().saturating_sub(known.line.len()),
                    None => 2 * OVERHEAD + gateway.as_str().len() + device.cid.len() + line.len(),
                };
                if self.bytes + new > ROOM {
                    return Err(NoRoom);
                }
                self.insert(gateway, &device.cid, line.clone(), now);
                Ok(line)
            }
        }
    }

    fn insert(&mut self, gateway: &GatewayId, cid: &str, line: Vec<u8>, now: Duration) {
        if !self.fleets.contains_key(gateway) {
            self.bytes += OVERHEAD + gateway.as_str().len();
        }
        let fleet = self.fleets.entry(gateway.clone()).or_default();
        self.bytes += line.len();
        let known = KnownDevice { online: true, seen: now, line: line.into() };
        match fleet.insert(cid.into(), known) {
            Some(former) => self.bytes -= former.line.len(),
            None => self.bytes += OVERHEAD + cid.len(),
        }
    }

    /// The lines of all devices for a new file, in the order of gateways and cids.
    #[must_use]
    pub fn lines(&self) -> Vec<u8> {
        let devices = |(gateway, fleet)| std::iter::repeat(gateway).zip(fleet);
        let mut all: Vec<_> = self.fleets.iter().flat_map(devices).collect();
        all.sort_unstable_by_key(|(gateway, (cid, _))| (GatewayId::as_str(gateway), &**cid));
        all.iter().flat_map(|(_, (_, known))| known.line.iter().copied()).collect()
    }

    /// Sets a device's status; returns `false` if the device was never synchronised.
    pub fn set_status(&mut self, gateway: &GatewayId, cid: &str, online: bool, now: Duration) -> bool {
        match self.fleets.get_mut(gateway).and_then(|fleet| fleet.get_mut(cid)) {
            None => false,
            Some(known) => {
                known.online = online;
                known.seen = now;
                true
            }
        }
    }

    /// Whether a device is known.
    #[must_use]
    pub fn knows(&self, gateway: &GatewayId, cid: &str) -> bool {
        self.fleets.get(gateway).is_some_and(|fleet| fleet.contains_key(cid))
    }

    /// Whether a device is known and online: by its last status, not longer ago than `offline_after`.
    #[must_use]
    pub fn is_online(
        &self,
        gateway: &GatewayId,
        cid: &str,
        now: Duration,
        offline_after: Option<Duration>,
    ) -> bool {
        self.fleets.get(gateway).and_then(|fleet| fleet.get(cid)).is_some_and(|known| {
            known.online && offline_after.is_none_or(|limit| now.saturating_sub(known.seen) <= limit)
        })
    }

    /// The gateways that know a cid.
    pub fn gateways_of<'a>(&'a self, cid: &'a str) -> impl Iterator<Item = &'a GatewayId> {
        self.fleets.iter().filter(move |(_, fleet)| fleet.contains_key(cid)).map(|(id, _)| id)
    }

    /// The number of known devices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fleets.values().map(SeededMap::len).sum()
    }

    /// Whether no device is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A device's line.
fn line(gateway: &GatewayId, device: &Device) -> Vec<u8> {
    let mut line = Vec::with_capacity(192);
    let mut object = ObjectWriter::new(&mut line);
    object.text(key!(gateway_id), gateway.as_str());
    for (name, value) in device.fields() {
        object.named_text(name, value);
    }
    object.end();
    line.push(b'\n');
    line
}

fn read_line(text: &[u8]) -> Result<(GatewayId, Device), String> {
    #[derive(Deserialize)]
    struct Owner {
        gateway_id: String,
    }
    let raw: &RawValue = serde_json::from_slice(text).map_err(|why| format!("not JSON: {why}"))?;
    if !raw.get().starts_with('{') {
        return Err("not an object".into());
    }
    let owner: Owner = serde_json::from_str(raw.get()).map_err(|why| why.to_string())?;
    let gateway = GatewayId::new(owner.gateway_id).map_err(|why| why.to_string())?;
    let device = Device::decode(raw.get()).map_err(|why| why.to_string().replace("param.", ""))?;
    Ok((gateway, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(id: &str) -> GatewayId {
        GatewayId::new(id).unwrap()
    }

    fn device(cid: &str, product: &str) -> Device {
        Device { cid: cid.into(), product_id: product.into(), ..Device::default() }
    }

    #[test]
    fn a_device_belongs_to_its_gateway() {
        let mut registry = Registry::default();
        registry.sync(&gateway("gw1"), &device("m1", "p"), Duration::ZERO).unwrap();
        assert!(registry.knows(&gateway("gw1"), "m1"));
        assert!(!registry.knows(&gateway("gw2"), "m1"));
        assert!(!registry.knows(&gateway("gw1"), "m2"));
        registry.sync(&gateway("gw2"), &device("m1", "p"), Duration::ZERO).unwrap();
        assert_eq!(registry.gateways_of("m1").count(), 2);
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn every_gateway_and_device_takes_its_room_once() {
        let mut registry = Registry::default();
        let now = Duration::ZERO;
        let line = br#"{"gateway_id":"gw1","cid":"m1","product_id":"p"}"#.len() + 1;
        for (id, cid, product, expected) in [
            ("gw1", "m1", "p", 2 * OVERHEAD + 5 + line),
            ("gw1", "m22", "p", 3 * OVERHEAD + 8 + line * 2 + 1),
            ("gw1", "m1", "p", 3 * OVERHEAD + 8 + line * 2 + 1),
            ("gw1", "m1", "pp", 3 * OVERHEAD + 8 + line * 2 + 2),
            ("gw1", "m1", "p", 3 * OVERHEAD + 8 + line * 2 + 1),
        ] {
            registry.sync(&gateway(id), &device(cid, product), now).unwrap();
            assert_eq!(registry.bytes, expected, "{id} {cid} {product}");
        }
        registry.bytes = ROOM - 2 * OVERHEAD - 5 - line;
        let mut sync = |id, cid, product| registry.sync(&gateway(id), &device(cid, product), now).is_ok();
        assert!(!sync("gw2", "m22", "p"));
        assert!(sync("gw2", "m1", "p"));
        assert!(!sync("gw1", "m1", "pp"), "a longer line");
        assert!(sync("gw1", "m22", "p"), "it is there already");
    }

    #[test]
    fn online_ends_with_a_status_or_with_time() {
        let mut registry = Registry::default();
        let (gw1, second) = (gateway("gw1"), Duration::from_secs(1));
        registry.sync(&gw1, &device("m1", "p"), Duration::ZERO).unwrap();
        let online = |registry: &Registry, now, limit| registry.is_online(&gateway("gw1"), "m1", now, limit);
        assert!(online(&registry, second, Some(second)));
        assert!(!online(&registry, second * 2, Some(second)));
        assert!(registry.set_status(&gw1, "m1", true, second * 2));
        assert!(online(&registry, second * 3, Some(second)));
        assert!(registry.set_status(&gw1, "m1", false, second * 3));
        assert!(!online(&registry, second * 3, None));
        assert!(!registry.set_status(&gw1, "m2", true, second));
        registry.sync(&gw1, &device("m1", "p"), second * 4).unwrap();
        assert!(online(&registry, second * 4, None), "a sync brings it back");
    }

    #[test]
    fn what_is_written_reads_back_and_the_later_line_wins() {
        let mut registry = Registry::default();
        let (gw1, now) = (gateway("gw1"), Duration::ZERO);
        let mut file = registry.sync(&gw1, &device("m1", "p"), now).unwrap();
        assert_eq!(file, b"{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}\n");
        assert_eq!(registry.sync(&gw1, &device("m1", "p"), now).unwrap(), b"", "unchanged");
        file.extend(registry.sync(&gw1, &device("m1", "q"), now).unwrap());
        file.extend(registry.sync(&gw1, &device("m2", "p"), now).unwrap());
        let (mut read, bad) = Registry::read(&file, now).unwrap();
        assert_eq!(bad, []);
        assert_eq!(read.len(), 2);
        assert_eq!(read.sync(&gw1, &device("m1", "q"), now).unwrap(), b"", "the file has it");
        assert_ne!(read.sync(&gw1, &device("m1", "p"), now).unwrap(), b"");
    }

    #[test]
    fn all_lines_are_those_that_count_in_order_and_read_back() {
        let mut registry = Registry::default();
        for (id, cid, product) in
            [("gw2", "m1", "p"), ("gw1", "m2", "p"), ("gw1", "m1", "p"), ("gw1", "m2", "q")]
        {
            registry.sync(&gateway(id), &device(cid, product), Duration::ZERO).unwrap();
        }
        let line = |id, cid, product| {
            format!("{{\"gateway_id\":\"{id}\",\"cid\":\"{cid}\",\"product_id\":\"{product}\"}}\n")
        };
        let expected = [line("gw1", "m1", "p"), line("gw1", "m2", "q"), line("gw2", "m1", "p")].concat();
        assert_eq!(String::from_utf8(registry.lines()).unwrap(), expected);
        let marked = [BYTE_ORDER_MARK, expected.as_bytes()].concat();
        let (read, bad) = Registry::read(&marked, Duration::ZERO).unwrap();
        assert_eq!((read.lines(), bad), (registry.lines(), vec![]));
    }

    #[test]
    fn a_bad_line_is_named_and_a_file_of_another_kind_is_refused() {
        let file =
            b"\n{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}\nrubbish\n{\"cid\":\"m1\"}\n";
        let (registry, bad) = Registry::read(file, Duration::ZERO).unwrap();
        assert_eq!(registry.len(), 1);
        let lines: Vec<_> = bad.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4]);
        assert!(bad[1].1.contains("gateway_id"), "{}", bad[1].1);
        let other = Registry::read(b"[profile.x]\nbroker = \"y\"\n", Duration::ZERO).expect_err("toml");
        assert_eq!(other.line, 1);
        assert!(Registry::read(b"", Duration::ZERO).unwrap().0.is_empty());
    }
}
