//! What a gateway makes of the commands that arrive: checks each against its devices and its product, has it
//! executed once, and answers its repeated deliveries alike.

use std::collections::HashSet;

use md5::{Digest as _, Md5};

use crate::{
    collections::Recent,
    tuya::{
        Channel, Command, CommandAnswer, DataPointValue, Downlink, Envelope, Refused, ResultCode,
        product::{Product, ValueError},
    },
};

/// The number of answers kept for repeated deliveries, and the total bytes of their messages, at most.
const REMEMBERED: usize = 10_000;
const REMEMBERED_BYTES: usize = 16 << 20;

/// The identity of a command: the request id, the device, and the values to set. Platforms may count their
/// request ids for each device, or begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandKey([u8; 16]);

impl CommandKey {
    /// The key of a command.
    #[must_use]
    pub fn of(request_id: &str, command: &Command) -> Self {
        let mut digest = Md5::new();
        let mut add = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        add(request_id);
        add(&command.cid);
        for (id, value) in &command.points {
            add(id);
            add(value.get());
        }
        Self(digest.finalize().into())
    }
}

/// What the caller must do with a delivery of a command.
#[derive(Debug)]
pub enum CommandAction {
    /// Execute it, then call [`ReceivedCommands::finish`] with its key. The values are in their native form.
    Execute(CommandKey, Envelope<Command>),
    /// Answer at once: it is refused, or has been executed before.
    Answer(String, CommandAnswer),
    /// It is being executed: this delivery is answered with the first one.
    Repeated(CommandKey),
    /// It cannot be answered; why, in words.
    Ignore(String),
}

/// The commands of one gateway.
#[derive(Debug)]
pub struct ReceivedCommands {
    product: Product,
    check: bool,
    /// The devices that the gateway has; without a list every device is known.
    devices: Option<HashSet<String>>,
    /// Commands being executed. They are never forgotten, or they could be executed twice.
    executing: HashSet<CommandKey>,
    /// The code and the message that each other command was answered with.
    answers: Recent<CommandKey, (ResultCode, String)>,
    /// The bytes of their messages.
    bytes: usize,
}

impl ReceivedCommands {
    /// Replaces the devices that the gateway has.
    pub fn set_devices(&mut self, devices: HashSet<String>) {
        self.devices = Some(devices);
    }

    /// No command yet. With `check`, values are held against the product; `devices` lists the known devices.
    #[must_use]
    pub fn new(product: Product, check: bool, devices: Option<HashSet<String>>) -> Self {
        Self {
            product,
            check,
            devices,
            executing: HashSet::new(),
            answers: Recent::new(REMEMBERED),
            bytes: 0,
        }
    }

    /// Handles one delivery of a command.
    pub fn handle_delivery(&mut self, payload: &[u8]) -> CommandAction {
        let envelope = match Envelope::<Downlink>::decode(Channel::Command, payload) {
            Ok(envelope) => envelope,
            Err(refused) => return unreadable(refused),
        };
        let Downlink::Command(command) = envelope.body else {
            return CommandAction::Ignore("not a command".into());
        };
        let request_id = envelope.request_id;
        let key = CommandKey::of(&request_id, &command);
        if self.executing.contains(&key) {
            return CommandAction::Repeated(key);
        }
        if let Some((code, msg)) = self.answers.get(&key) {
            let answer = CommandAnswer { cid: command.cid, code: *code, msg: msg.clone() };
            return CommandAction::Answer(request_id, answer);
        }
        match self.checked(&command) {
            Ok(command) => {
                self.executing.insert(key);
                CommandAction::Execute(key, Envelope { t: envelope.t, request_id, body: command })
            }
            Err((code, msg)) => {
                self.remember(key, code, &msg);
                CommandAction::Answer(request_id, CommandAnswer { cid: command.cid, code, msg })
            }
        }
    }

    /// Records the answer of an executed command, for its further deliveries.
    pub fn finish(&mut self, key: CommandKey, answer: &CommandAnswer) {
        if self.executing.remove(&key) {
            self.remember(key, answer.code, &answer.msg);
        }
    }

    /// Forgets a command that is not executed after all: its next delivery counts as the first one.
    pub fn forget(&mut self, key: CommandKey) {
        self.executing.remove(&key);
    }

    /// The command with its values in their native form.
    fn checked(&self, command: &Command) -> Result<Command, (ResultCode, String)> {
        if self.devices.as_ref().is_some_and(|known| !known.contains(&command.cid)) {
            return Err((ResultCode::DEVICE_UNKNOWN, ResultCode::DEVICE_UNKNOWN.name().to_owned()));
        }
        if !self.check {
            return Ok(command.clone());
        }
        let native = |(id, value): &(String, DataPointValue)| -> Result<_, ValueError> {
            let point = self.product.commanded(id)?;
            Ok((point.id.to_string(), point.accept(value)?))
        };
        let points = command.points.iter().map(native).collect::<Result<_, _>>();
        match points {
            Ok(points) => Ok(Command { cid: command.cid.clone(), points }),
            Err(error) => Err((error.code, error.message)),
        }
    }

    fn remember(&mut self, key: CommandKey, code: ResultCode, msg: &str) {
        self.bytes += msg.len();
        if let Some((_, (_, forgotten))) = self.answers.insert(key, (code, msg.to_owned())) {
            self.bytes -= forgotten.len();
        }
        while self.bytes > REMEMBERED_BYTES
            && let Some((_, (_, forgotten))) = self.answers.pop_oldest()
        {
            self.bytes -= forgotten.len();
        }
    }
}

/// Answers a malformed command if it has a request id.
fn unreadable(refused: Refused) -> CommandAction {
    let why = refused.to_string();
    match refused.request_id.filter(|id| !id.is_empty()) {
        None => CommandAction::Ignore(why),
        Some(request_id) => {
            let code = refused.error.problem.code();
            CommandAction::Answer(
                request_id,
                CommandAnswer { cid: refused.cid.unwrap_or_default(), code, msg: why },
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(devices: Option<&[&str]>) -> ReceivedCommands {
        let devices = devices.map(|cids| cids.iter().map(|cid| (*cid).to_owned()).collect());
        ReceivedCommands::new(Product::smart_water_meter(), true, devices)
    }

    fn command(id: &str, param: &str) -> Vec<u8> {
        format!(r#"{{"t":1,"cid":"m1","request_id":"{id}","param":{param}}}"#).into_bytes()
    }

    fn code(order: &CommandAction) -> i64 {
        match order {
            CommandAction::Answer(_, answer) => answer.code.0,
            CommandAction::Execute(..) => 0,
            CommandAction::Repeated(_) | CommandAction::Ignore(_) => -1,
        }
    }

    #[test]
    fn the_model_is_checked_first() {
        let mut commands = commands(None);
        let cases = [
            (r#"{"id":"4","value":true}"#, 0),
            (r#"{"id":"4","value":"1"}"#, 0),
            (r#"{"id":"1","value":5}"#, 2002),
            (r#"{"id":"99","value":5}"#, 2002),
            (r#"{"id":"9","value":"ajar"}"#, 2002),
            (r#"{"id":"18","value":-1}"#, 1101),
            (r#"{"id":"18","value":"much"}"#, 1103),
            (r#"{"id":"18","value":null}"#, 1102),
            (r#"{"id":"18"}"#, 1100),
            (r#"{"value":1}"#, 1100),
        ];
        for (n, (param, expected)) in cases.into_iter().enumerate() {
            let order = commands.handle_delivery(&command(&format!("r{n}"), param));
            assert_eq!(code(&order), expected, "{param}: {order:?}");
        }
    }

    #[test]
    fn an_unknown_device_is_refused() {
        let mut commands = commands(Some(&["m2"]));
        assert_eq!(code(&commands.handle_delivery(&command("r", r#"{"id":"4","value":true}"#))), 2003);
    }

    fn executed(order: CommandAction) -> CommandKey {
        let CommandAction::Execute(key, _) = order else { panic!("{order:?}") };
        key
    }

    #[test]
    fn a_repeated_command_is_executed_once_and_answered_alike() {
        let mut commands = commands(None);
        let payload = command("r", r#"{"id":"4","value":true}"#);
        let key = executed(commands.handle_delivery(&payload));
        assert!(
            matches!(commands.handle_delivery(&payload), CommandAction::Repeated(repeated) if repeated == key)
        );
        let answer = CommandAnswer { cid: "m1".into(), code: ResultCode(500), msg: "stuck".into() };
        commands.finish(key, &answer);
        // A platform that sends it again may do so with the time of then.
        let again = String::from_utf8(payload).unwrap().replace(r#""t":1"#, r#""t":2"#);
        for payload in [again.as_bytes(), again.as_bytes()] {
            assert!(
                matches!(commands.handle_delivery(payload), CommandAction::Answer(_, again) if again == answer)
            );
        }
    }

    #[test]
    fn commands_that_share_a_request_id_are_each_executed() {
        let mut commands = commands(None);
        let of = |cid: &str, param: &str| {
            String::from_utf8(command("1", param)).unwrap().replace("m1", cid).into_bytes()
        };
        let payloads = [
            of("m1", r#"{"id":"18","value":10}"#),
            of("m2", r#"{"id":"18","value":10}"#),
            of("m1", r#"{"id":"18","value":11}"#),
            of("m2", r#"{"id":"4","value":false}"#),
            of("m1", r#"[{"id":"18","value":10},{"id":"4","value":false}]"#),
        ];
        let keys: Vec<_> =
            payloads.iter().map(|payload| executed(commands.handle_delivery(payload))).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), payloads.len());
        for (key, code) in keys.iter().zip(100..) {
            let answer = CommandAnswer { cid: "any".into(), code: ResultCode(code), msg: "done".into() };
            commands.finish(*key, &answer);
        }
        for (n, (payload, expected)) in payloads.iter().zip(100..).enumerate() {
            let order = commands.handle_delivery(payload);
            let CommandAction::Answer(request_id, answer) = order else { panic!("{order:?}") };
            let cid = if n == 1 || n == 3 { "m2" } else { "m1" };
            assert_eq!((request_id.as_str(), answer.cid.as_str(), answer.code.0), ("1", cid, expected));
        }
    }

    #[test]
    fn without_a_check_commands_pass_as_they_came() {
        let mut commands = ReceivedCommands::new(Product::smart_water_meter(), false, None);
        let order = commands.handle_delivery(&command("r", r#"{"id":"99","value":"ajar"}"#));
        let CommandAction::Execute(_, Envelope { body, .. }) = order else { panic!("{order:?}") };
        assert_eq!(body.points, [("99".to_owned(), DataPointValue::parse("\"ajar\"").unwrap())]);
    }

    #[test]
    fn what_is_remembered_has_an_end_and_what_is_executed_is_not_forgotten() {
        let mut commands = commands(None);
        let payload = |n: usize| command(&format!("r{n}"), r#"{"id":"4","value":true}"#);
        let answer = |msg: String| CommandAnswer { cid: "m1".into(), code: ResultCode(0), msg };
        let first = executed(commands.handle_delivery(&payload(0)));
        for n in 1..=REMEMBERED + 1 {
            let key = executed(commands.handle_delivery(&payload(n)));
            commands.finish(key, &answer("success".into()));
        }
        assert_eq!(commands.answers.len(), REMEMBERED);
        assert!(
            matches!(commands.handle_delivery(&payload(0)), CommandAction::Repeated(key) if key == first)
        );
        assert!(matches!(commands.handle_delivery(&payload(2)), CommandAction::Answer(..)));
        // The oldest answer is forgotten.
        let again = executed(commands.handle_delivery(&payload(1)));
        commands.finish(again, &answer("x".repeat(REMEMBERED_BYTES - 10)));
        assert!(commands.answers.len() <= 2 && commands.bytes <= REMEMBERED_BYTES, "{}", commands.bytes);
        commands.finish(first, &answer("x".repeat(REMEMBERED_BYTES + 1)));
        assert_eq!((commands.answers.len(), commands.bytes), (0, 0));
    }

    #[test]
    fn what_names_no_request_cannot_be_answered() {
        let mut commands = commands(None);
        assert!(matches!(commands.handle_delivery(b"{}"), CommandAction::Ignore(_)));
        assert!(matches!(commands.handle_delivery(b"\x1b[2J"), CommandAction::Ignore(_)));
    }
}
