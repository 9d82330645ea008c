//! Packets of either end: no bytes do harm, and what was understood reads the same once it is written again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tuyagw::mqtt::{End, Packet};

const LIMIT: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    for end in [End::Client, End::Server] {
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
});
