//! Packets of either end: no bytes do harm, and a decoded packet reads the same after it is encoded again.

use bytes::BytesMut;
use tuyagw::mqtt::{Side, Packet};

const LIMIT: usize = 64 * 1024;

/// Panics where the promise above is broken.
pub fn check(data: &[u8]) {
    for end in [Side::Client, Side::Server] {
        let mut inbox = BytesMut::from(data);
        while let Ok(Some(packet)) = Packet::decode(&mut inbox, end, LIMIT) {
            if matches!(packet, Packet::OtherVersion { .. }) {
                continue;
            }
            let mut written = BytesMut::new();
            packet.encode(&mut written).expect("what came has room");
            let again = Packet::decode(&mut written, end, LIMIT);
            assert_eq!(again.as_ref(), Ok(&Some(packet)));
            assert!(written.is_empty());
        }
    }
}
