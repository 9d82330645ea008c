//! Every message of the page, decoded and encoded, in types that keep the direction: a gateway cannot encode a
//! downlink. An error names the field at fault.
//!
//! Values of data points stay JSON text ([`DataPointValue`]), so that `1.10` and `12345678901234567890` travel
//! unchanged; what they mean is the product's business.

mod device_filter;
mod downlink;
mod envelope;
mod error;
mod fast_path;
#[cfg(test)]
mod tests;
mod uplink;
mod wire;

pub use self::{
    device_filter::speaks_of,
    downlink::{Answer, Command, Downlink, write_answer},
    envelope::{Envelope, with_t},
    error::{FieldError, Problem, Refused},
    fast_path::BorrowedReport,
    uplink::{CommandAnswer, Device, DeviceStatus, Property, Uplink},
};
/// The JSON text of a data point's value, exactly as it travels.
pub use crate::json::Json as DataPointValue;
