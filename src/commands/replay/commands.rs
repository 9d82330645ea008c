//! Finds for each recorded answer to a command the command that it answers now: pure.

use std::collections::{HashMap, VecDeque};

use crate::protocol::{Channel, Downlink, Envelope};

/// How many commands are remembered that nothing was recorded about, or that never came.
const REMEMBERED: usize = 10_000;

/// Commands that were recorded, and commands that have come.
#[derive(Debug, Default)]
pub struct Commands {
    recorded: HashMap<(String, String), Print>,
    recorded_order: VecDeque<(String, String)>,
    came: VecDeque<Came>,
    answered: u64,
    total: u64,
}

/// What a command asks for: the device and its data points.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    cid: String,
    points: Vec<(String, String)>,
}

#[derive(Debug)]
struct Came {
    gateway: String,
    request_id: String,
    print: Print,
}

impl Commands {
    /// The recording holds a command; `gateway` is the one that gets it now, and cids are those in use now.
    pub fn record(&mut self, gateway: &str, payload: &[u8], map_cid: impl Fn(&str) -> Option<String>) {
        let Some((request_id, mut print)) = print(payload) else { return };
        if let Some(cid) = map_cid(&print.cid) {
            print.cid = cid;
        }
        let key = (gateway.to_owned(), request_id);
        if self.recorded.insert(key.clone(), print).is_none() {
            self.recorded_order.push_back(key);
        }
        if self.recorded_order.len() > REMEMBERED
            && let Some(oldest) = self.recorded_order.pop_front()
        {
            self.recorded.remove(&oldest);
        }
    }

    /// A command has come.
    pub fn come(&mut self, gateway: &str, payload: &[u8]) {
        let Some((request_id, print)) = print(payload) else { return };
        self.total += 1;
        self.came.push_back(Came { gateway: gateway.to_owned(), request_id, print });
        if self.came.len() > REMEMBERED {
            self.came.pop_front();
        }
    }

    /// The request id of the command that a recorded answer is to; `None` while it has not come.
    ///
    /// The command with the recorded id counts, else the oldest without an answer that asks for the same. Where
    /// the recording does not hold the command, the oldest to the same device does.
    pub fn answer(&mut self, gateway: &str, recorded_id: &str, cid: &str) -> Option<String> {
        let of_gateway = |came: &&Came| came.gateway == gateway;
        let place = |wanted: &dyn Fn(&Came) -> bool| {
            self.came.iter().position(|came| of_gateway(&came) && wanted(came))
        };
        let recorded = self.recorded.get(&(gateway.to_owned(), recorded_id.to_owned()));
        let at = place(&|came| came.request_id == recorded_id).or_else(|| match recorded {
            Some(print) => place(&|came| came.print == *print),
            None => place(&|came| came.print.cid == cid),
        })?;
        self.answered += 1;
        self.came.remove(at).map(|came| came.request_id)
    }

    /// How many commands came that the recording holds no answer to.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.total - self.answered
    }
}

fn print(payload: &[u8]) -> Option<(String, Print)> {
    let message = Envelope::<Downlink>::decode(Channel::Command, payload).ok()?;
    let Downlink::Command(command) = message.body else { return None };
    let points = command.points.into_iter().map(|(id, value)| (id, value.get().to_owned())).collect();
    Some((message.request_id, Print { cid: command.cid, points }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str, cid: &str, value: u8) -> Vec<u8> {
        format!(r#"{{"t":1,"cid":"{cid}","request_id":"{id}","param":{{"id":"4","value":{value}}}}}"#)
            .into_bytes()
    }

    #[test]
    fn an_answer_finds_its_command() {
        let mut commands = Commands::default();
        let map = |cid: &str| (cid == "old").then(|| "new".to_owned());
        commands.record("gw1", &command("r1", "old", 1), map);
        commands.record("gw1", &command("r2", "old", 0), map);
        assert_eq!(commands.answer("gw1", "r1", "new"), None);
        commands.come("gw2", &command("x0", "new", 1));
        commands.come("gw1", &command("x1", "new", 0));
        assert_eq!(commands.answer("gw1", "r1", "new"), None);
        commands.come("gw1", &command("x2", "new", 1));
        assert_eq!(commands.answer("gw1", "r1", "new").as_deref(), Some("x2"));
        assert_eq!(commands.answer("gw1", "r1", "new"), None);
        assert_eq!(commands.answer("gw1", "unrecorded", "new").as_deref(), Some("x1"));
        commands.come("gw1", &command("r2", "other", 1));
        assert_eq!(commands.answer("gw1", "r2", "new").as_deref(), Some("r2"));
        assert_eq!(commands.unanswered(), 1);
    }
}
