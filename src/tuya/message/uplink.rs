//! The messages from the gateway to the edge.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::{
    DataPointValue,
    envelope::Envelope,
    error::{FieldError, Problem, Refused},
    fast_path::BorrowedReport,
    wire::{Field, WireMessage, WireParam, encode, push_answer, push_array},
};
use crate::{
    json::{Json, ObjectWriter, key},
    tuya::{Channel, ResultCode},
};

/// A message from the gateway to the edge.
#[derive(Clone, Debug)]
pub enum Uplink {
    /// Adds or updates one device (page, "Synchronize devices").
    Sync(Box<Device>),
    /// Reports one data point (page, "Report device properties").
    Report(Property),
    /// Says which devices are online (page, "Report device online and offline events").
    Status(Vec<DeviceStatus>),
    /// Answers a command (page, "Device commands").
    CommandResponse(CommandAnswer),
    /// A `param` sent as it was given, unchecked; never the result of decoding.
    AsGiven {
        /// Where it goes: one of the uplink topics.
        channel: Channel,
        /// The device that it speaks of.
        cid: String,
        /// The `param`, any JSON value.
        param: Box<RawValue>,
    },
}

/// The `param` of a sync; every text may be any string, and only `cid` and `product_id` are required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the page's own, by name")]
pub struct Device {
    pub cid: String,
    pub product_id: String,
    pub vendor_code: Option<String>,
    pub comm_type: Option<String>,
    pub device_ip: Option<String>,
    pub mac_address: Option<String>,
    pub device_name: Option<String>,
    pub device_desc: Option<String>,
    pub install_location: Option<String>,
    pub device_server_id: Option<String>,
    pub product_sub_type: Option<String>,
}

/// The `param` of a report: one data point of one device.
#[derive(Clone, Debug)]
pub struct Property {
    /// The device.
    pub cid: SmolStr,
    /// The data point's id, a decimal number as text.
    pub id: SmolStr,
    /// Its value, as JSON text.
    pub value: DataPointValue,
}

/// One element of a status report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// The device.
    pub cid: String,
    /// Whether it is online.
    pub status: bool,
}

impl DeviceStatus {
    /// Appends it as a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        object.text(key!(cid), &self.cid);
        object.flag(key!(status), self.status);
        object.end();
    }
}

/// What the gateway answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandAnswer {
    /// The device.
    pub cid: String,
    /// The result: 0 is success.
    pub code: ResultCode,
    /// `success`, or what went wrong.
    pub msg: String,
}

impl Envelope<Uplink> {
    /// Decodes what a gateway published on an uplink topic.
    ///
    /// # Errors
    /// A required field that is missing, empty, null or of another type is named.
    ///
    /// # Panics
    /// Never, given an uplink channel; downlink channels are the gateway's to decode.
    pub fn decode(channel: Channel, payload: &[u8]) -> Result<Self, Refused> {
        if channel == Channel::Report
            && let Some(report) = BorrowedReport::read(payload).and_then(to_owned)
        {
            return Ok(report);
        }
        WireMessage::decode(payload, |wire| {
            wire.required_t()?;
            match channel {
                Channel::Sync => {
                    Device::decode(wire.param.present("param")?.get()).map(Box::new).map(Uplink::Sync)
                }
                Channel::Report => property(&wire.param()?).map(Uplink::Report),
                Channel::Status => statuses(wire.param).map(Uplink::Status),
                Channel::CommandResponse => {
                    let param = wire.param()?;
                    Ok(Uplink::CommandResponse(CommandAnswer {
                        cid: wire.cid.text_not_empty("cid")?,
                        code: ResultCode(param.code.integer("param.code")?),
                        msg: param.msg.text_or_none("param.msg")?.unwrap_or_default(),
                    }))
                }
                Channel::SyncResponse | Channel::Command | Channel::ReportResponse => {
                    Err(FieldError::new("", Problem::Type("an uplink")))
                }
            }
        })
    }

    /// The topic on which this message travels.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match &self.body {
            Uplink::Sync(_) => Channel::Sync,
            Uplink::Report(_) => Channel::Report,
            Uplink::Status(_) => Channel::Status,
            Uplink::CommandResponse(_) => Channel::CommandResponse,
            Uplink::AsGiven { channel, .. } => *channel,
        }
    }

    /// The message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.body.encode(self.t, &self.request_id)
    }
}

impl Uplink {
    /// The whole message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        match self {
            Uplink::Sync(device) => encode(t, request_id, None, |out| device.write(out)),
            Uplink::Report(Property { cid, id, value }) => encode(t, request_id, None, |out| {
                let mut param = ObjectWriter::new(out);
                param.text(key!(cid), cid);
                param.text(key!(id), id);
                param.json(key!(value), value.get());
                param.end();
            }),
            Uplink::Status(statuses) => encode(t, request_id, None, |out| {
                push_array(out, statuses, |out, status| status.write(out));
            }),
            Uplink::CommandResponse(CommandAnswer { cid, code, msg }) => {
                encode(t, request_id, Some(cid), |out| push_answer(out, None, msg, *code))
            }
            Uplink::AsGiven { param, .. } => {
                encode(t, request_id, None, |out| out.extend_from_slice(param.get().as_bytes()))
            }
        }
    }
}

impl Device {
    /// The names of all fields, in the page's order; the first two are required.
    pub const FIELDS: [&'static str; 11] = [
        "cid",
        "product_id",
        "vendor_code",
        "comm_type",
        "device_ip",
        "mac_address",
        "device_name",
        "device_desc",
        "install_location",
        "device_server_id",
        "product_sub_type",
    ];

    /// Its fields in the page's order, those that it has.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let required = [Some(self.cid.as_str()), Some(self.product_id.as_str())];
        let optional = [
            &self.vendor_code,
            &self.comm_type,
            &self.device_ip,
            &self.mac_address,
            &self.device_name,
            &self.device_desc,
            &self.install_location,
            &self.device_server_id,
            &self.product_sub_type,
        ];
        let values = required.into_iter().chain(optional.into_iter().map(Option::as_deref));
        Self::FIELDS.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?)))
    }

    /// Appends it as a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        for (name, value) in self.fields() {
            object.named_text(name, value);
        }
        object.end();
    }

    /// Decodes the `param` of a sync; unknown fields are passed over.
    ///
    /// # Errors
    /// A `cid` or `product_id` that is missing, empty or null, or a field that is not a string, is named.
    pub fn decode(param: &str) -> Result<Self, FieldError> {
        #[derive(Deserialize)]
        struct Wire<'a>(#[serde(borrow)] std::collections::HashMap<Cow<'a, str>, Field<'a>>);
        let not_an_object = || FieldError::new("param", Problem::Type("an object"));
        if !param.starts_with('{') {
            return Err(not_an_object());
        }
        let Wire(fields) = serde_json::from_str(param).map_err(|_| not_an_object())?;
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        let optional = |name: &str| field(name).text_or_none(&format!("param.{name}"));
        Ok(Self {
            cid: field("cid").text_not_empty("param.cid")?,
            product_id: field("product_id").text_not_empty("param.product_id")?,
            vendor_code: optional("vendor_code")?,
            comm_type: optional("comm_type")?,
            device_ip: optional("device_ip")?,
            mac_address: optional("mac_address")?,
            device_name: optional("device_name")?,
            device_desc: optional("device_desc")?,
            install_location: optional("install_location")?,
            device_server_id: optional("device_server_id")?,
            product_sub_type: optional("product_sub_type")?,
        })
    }
}

pub(super) fn to_owned(report: BorrowedReport<'_>) -> Option<Envelope<Uplink>> {
    let BorrowedReport { t, request_id, cid, id, value } = report;
    let property = Property { cid: cid.into(), id: id.into(), value: Json::parse(value).ok()? };
    Some(Envelope { t, request_id: request_id.into(), body: Uplink::Report(property) })
}

pub(super) fn property(param: &WireParam<'_>) -> Result<Property, FieldError> {
    Ok(Property {
        cid: param.cid.text_not_empty("param.cid")?.into(),
        id: param.id.id("param.id")?.into(),
        value: param.value.present("param.value")?.into(),
    })
}

/// The page types `param` as an object and shows an array; both are understood.
pub(super) fn statuses(param: Field<'_>) -> Result<Vec<DeviceStatus>, FieldError> {
    let one = |place: &str, element: Field<'_>| -> Result<DeviceStatus, FieldError> {
        let wire: WireParam<'_> = element.object(place)?;
        let status = wire.status.parse(&format!("{place}.status"), "true or false")?;
        Ok(DeviceStatus { cid: wire.cid.text_not_empty(&format!("{place}.cid"))?, status })
    };
    if !param.present("param")?.get().starts_with('[') {
        return Ok(vec![one("param", param)?]);
    }
    let elements: Vec<Field<'_>> = param.parse("param", "an array of objects")?;
    if elements.is_empty() {
        return Err(FieldError::new("param", Problem::Empty));
    }
    elements.into_iter().enumerate().map(|(n, element)| one(&format!("param[{n}]"), element)).collect()
}
