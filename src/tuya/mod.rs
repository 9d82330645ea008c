//! The language that both halves speak: topics, messages, codes and the login rule of the vendor's page.
//!
//! Pure: text and bytes in, values out. Nothing here knows a socket, a file or a clock.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod channel;
mod login;
mod message;
pub mod product;
mod result_code;
mod topics;

pub use channel::Channel;
pub use login::{Secret, check_login_name, derive_password};
pub use message::{
    Answer, BorrowedReport, Command, CommandAnswer, DataPointValue, Device, DeviceStatus, Downlink, Envelope,
    FieldError, Problem, Property, Refused, Uplink, speaks_of, with_t, write_answer,
};
pub use result_code::ResultCode;
pub use topics::{GatewayId, Topics};
