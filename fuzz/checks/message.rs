//! Messages of all channels: a decoded message reads the same after it is encoded again.

use tuyagw::{
    mqtt::Direction,
    tuya::{Channel, Downlink, Envelope, Uplink},
};

/// Panics where the promise above is broken.
pub fn check(payload: &[u8]) {
    for channel in Channel::ALL {
        match channel.direction() {
            Direction::Up => {
                if let Ok(message) = Envelope::<Uplink>::decode(channel, payload) {
                    let written = message.encode();
                    let again =
                        Envelope::<Uplink>::decode(channel, &written).expect("what was written is read");
                    assert_eq!(again.encode(), written);
                }
            }
            Direction::Down => {
                if let Ok(message) = Envelope::<Downlink>::decode(channel, payload) {
                    let written = message.encode();
                    let again =
                        Envelope::<Downlink>::decode(channel, &written).expect("what was written is read");
                    assert_eq!(again.encode(), written);
                }
            }
        }
    }
}
