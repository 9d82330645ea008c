//! The language that both halves speak: topics, messages, codes and the login rule of the vendor's page.
//!
//! Pure: text and bytes in, values out. Nothing here knows a socket, a file or a clock.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod login;
mod message;
mod return_code;
mod text;
mod topic;

pub use login::{Secret, derive_password};
pub use message::{
    Answer, BorrowedReport, Command, CommandAnswer, DataPointValue, Device, DeviceStatus, Downlink, Envelope,
    FieldError, Problem, Property, Refused, Uplink, speaks_of, with_t, write_answer,
};
pub use return_code::{ConnectCode, Explained, ResultCode, SUBSCRIPTION_REFUSED};
pub use text::{is_blank, is_invisible, is_unsafe};
pub use topic::{
    Channel, Direction, GatewayId, InvalidTopic, Topics, check_filter, check_topic_name, matches,
};
