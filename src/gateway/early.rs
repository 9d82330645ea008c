//! Messages that come before the SUBACK of their subscription.

use crate::mqtt::codec::Message;

/// The bytes of messages that are kept for the SUBACK, at most.
const MOST_BYTES: usize = 16 << 20;
/// The memory that a message takes beside topic and payload, in bytes.
const OVERHEAD: usize = 128;

/// The messages that came before the SUBACK, which makes answers of them.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    messages: Vec<Message>,
    bytes: usize,
}

impl EarlyMessages {
    /// Keeps a message.
    ///
    /// # Errors
    /// The kept messages take as much memory as they may.
    pub(super) fn push(&mut self, message: Message) -> Result<(), TooMany> {
        if self.bytes >= MOST_BYTES {
            return Err(TooMany);
        }
        self.bytes += message.payload.len() + message.topic.len() + OVERHEAD;
        self.messages.push(message);
        Ok(())
    }

    /// Takes all messages, in the order of arrival.
    pub(super) fn take(&mut self) -> Vec<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// The messages before the SUBACK take as much memory as they may.
#[derive(Debug)]
pub(super) struct TooMany;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mqtt::codec::QoS;

    #[test]
    fn early_messages_are_bounded_and_come_back_in_order() {
        let message = |id: u16, length: usize| Message {
            topic: "a".into(),
            payload: Bytes::from(vec![0; length]),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            id: Some(id),
        };
        let mut early = EarlyMessages::default();
        for id in [1, 2] {
            early.push(message(id, MOST_BYTES / 2)).unwrap();
        }
        assert!(early.push(message(3, 1)).is_err());
        let ids: Vec<_> = early.take().into_iter().map(|message| message.id).collect();
        assert_eq!(ids, [Some(1), Some(2)]);
        early.push(message(4, 1)).unwrap();
    }
}
