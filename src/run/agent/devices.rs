//! The devices whose status an agent says.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    time::Duration,
};

use crate::{
    error::Failure,
    io::request_ids::request_id,
    mqtt::codec::Will,
    request::{Request, status_request},
    run::{connection_settings::ConnectionSettings, known_devices::read_devices, time_unit::TimeUnit},
    tuya::{Channel, DeviceStatus, Envelope, Uplink},
};

/// MQTT gives a will's length two bytes (MQTT 3.1.1, section 3.1.3.3).
const LONGEST_WILL: usize = 65_535;
/// How many devices one status names: about 30 KB with cids of 36 bytes, well below what brokers take.
const DEVICES_IN_A_MESSAGE: usize = 500;

/// Whose status is said.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// The file of the devices.
    pub file: Option<PathBuf>,
    /// How often their status is said; not at all without it.
    pub every: Option<Duration>,
    /// Whether devices that are synchronised through the agent join.
    pub joins_synchronised: bool,
    /// Whether the devices are said to be offline at the end.
    pub offline_on_exit: bool,
}

/// The devices, as far as they are known.
#[derive(Debug)]
pub(super) struct AgentDevices {
    options: DeviceOptions,
    /// Those of the file.
    listed: BTreeSet<String>,
    /// Those that were synchronised through the agent.
    synchronised: BTreeSet<String>,
}

impl AgentDevices {
    /// Reads the file.
    pub(super) fn load(options: DeviceOptions) -> Result<Self, Failure> {
        let mut devices = Self { options, listed: BTreeSet::new(), synchronised: BTreeSet::new() };
        devices.reload()?;
        Ok(devices)
    }

    /// Reads the file again, and returns what is in it; `None` without a file.
    pub(super) fn reload(&mut self) -> Result<Option<HashSet<String>>, Failure> {
        let Some(file) = &self.options.file else { return Ok(None) };
        let known = read_devices(file)?;
        self.listed = known.iter().cloned().collect();
        Ok(Some(known))
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        self.options.every
    }

    pub(super) fn says_offline(&self) -> bool {
        self.options.offline_on_exit
    }

    /// Takes an accepted synchronisation.
    pub(super) fn handle_synchronised(&mut self, cid: &str) {
        if self.options.joins_synchronised && !self.synchronised.contains(cid) {
            self.synchronised.insert(cid.to_owned());
        }
    }

    /// The messages that say that every device is online, or offline.
    pub(super) fn statuses(&self, online: bool) -> Vec<Request> {
        let all: Vec<_> = self.all().map(|cid| DeviceStatus { cid: cid.clone(), status: online }).collect();
        all.chunks(DEVICES_IN_A_MESSAGE).map(|chunk| status_request(chunk.to_vec())).collect()
    }

    /// The will, which the broker publishes if the connection is cut: every device known now is offline.
    pub(super) fn will(
        &self,
        settings: &ConnectionSettings,
        unit: TimeUnit,
    ) -> Result<Option<Will>, Failure> {
        let Some(gateway) = settings.gateway_id.as_ref().filter(|_| self.says_offline()) else {
            return Ok(None);
        };
        let statuses: Vec<_> =
            self.all().map(|cid| DeviceStatus { cid: cid.clone(), status: false }).collect();
        if statuses.is_empty() {
            return Ok(None);
        }
        let request_id = request_id().to_string();
        let payload = Envelope { t: unit.now(), request_id, body: Uplink::Status(statuses) }.encode();
        if payload.len() > LONGEST_WILL {
            return Err(Failure::invalid(format!(
                "--offline-on-exit: the will of these devices takes {} bytes, more than the {LONGEST_WILL} that MQTT allows",
                payload.len()
            ))
            .hint("Split the devices over several gateways, or leave out --offline-on-exit"));
        }
        let topic = settings.topics.topic(Channel::Status, gateway);
        Ok(Some(Will { topic, payload: payload.into(), qos: settings.qos, retain: false }))
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.listed.union(&self.synchronised)
    }
}
