//! Status lines that gather until they make one message.

use crate::tuya::DeviceStatus;

/// What an envelope, a topic and the packet's header add to the array of a status report, in bytes at most.
const AROUND: usize = 512;

/// The statuses of the next message, each with what the caller keeps with it.
#[derive(Debug)]
pub struct StatusBatch<C> {
    statuses: Vec<(DeviceStatus, C)>,
    /// The length of their array, in bytes.
    length: usize,
    longest: usize,
}

impl<C> StatusBatch<C> {
    /// An empty batch whose message has at most `longest` bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self { statuses: Vec::new(), length: 0, longest }
    }

    /// Adds a status. Returns the batch before it, if the message would be too long with it.
    pub fn push(&mut self, status: DeviceStatus, context: C) -> Vec<(DeviceStatus, C)> {
        let mut json = Vec::new();
        status.write(&mut json);
        let length = json.len() + 1;
        let is_full = self.length + length > self.longest.saturating_sub(AROUND);
        let full = if is_full { self.take() } else { Vec::new() };
        self.length += length;
        self.statuses.push((status, context));
        full
    }

    /// Takes all statuses.
    pub fn take(&mut self) -> Vec<(DeviceStatus, C)> {
        self.length = 0;
        std::mem::take(&mut self.statuses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuya::Uplink;

    #[test]
    fn a_batch_fills_its_message_and_no_more() {
        let longest = 4096;
        let mut batch = StatusBatch::new(longest);
        let mut batches = Vec::new();
        for n in 0..500 {
            let cid = format!("meter-{n}-{}", "x".repeat(n % 40));
            let full = batch.push(DeviceStatus { cid, status: true }, n);
            if !full.is_empty() {
                batches.push(full);
            }
        }
        assert!(batches.len() > 5);
        batches.push(batch.take());
        assert!(batch.take().is_empty());
        let contexts: Vec<_> = batches.iter().flatten().map(|(_, context)| *context).collect();
        assert_eq!(contexts, (0..500).collect::<Vec<_>>());
        let last = batches.len() - 1;
        for (n, batch) in batches.into_iter().enumerate() {
            let statuses = batch.into_iter().map(|(status, _)| status).collect();
            let length =
                Uplink::Status(statuses).encode(1_700_000_000, "00000000-0000-4000-8000-000000000000").len();
            assert!(length <= longest, "{length}");
            assert!(n == last || length > longest - 2 * AROUND, "{length}");
        }
    }
}
