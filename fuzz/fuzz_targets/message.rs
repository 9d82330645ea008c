//! Messages of all channels: what was understood reads the same once it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuyagw::protocol::{Channel, Direction, Downlink, Envelope, Uplink};

fuzz_target!(|payload: &[u8]| {
    for channel in Channel::ALL {
        match channel.direction() {
            Direction::Up => {
                if let Ok(message) = Envelope::<Uplink>::decode(channel, payload) {
                    let written = message.encode();
                    let again = Envelope::<Uplink>::decode(channel, &written).expect("what was written is read");
                    assert_eq!(again.encode(), written);
                }
            }
            Direction::Down => {
                if let Ok(message) = Envelope::<Downlink>::decode(channel, payload) {
                    let written = message.encode();
                    let again = Envelope::<Downlink>::decode(channel, &written).expect("what was written is read");
                    assert_eq!(again.encode(), written);
                }
            }
        }
    }
});
