//! What a gateway makes of the commands that arrive: checks each against its devices and its product, has it
//! executed once, and answers its repeated deliveries alike.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    product::{Misfit, Product},
    protocol::{Channel, Command, CommandAnswer, DataPointValue, Downlink, Envelope, Refused, ResultCode},
};

/// How many answers are remembered for repeated deliveries.
const REMEMBERED: usize = 10_000;

/// What a delivery of a command asks for.
#[derive(Debug)]
pub enum Order {
    /// Execute it, then call [`Commands::executed`]. The values are in their native form.
    Execute(Envelope<Command>),
    /// Answer at once: it is refused, or has been executed before.
    Answer(String, CommandAnswer),
    /// It is being executed: this delivery is answered with the first one.
    Repeated(String),
    /// It cannot be answered; why, in words.
    Ignore(String),
}

/// The commands of one gateway.
#[derive(Debug)]
pub struct Commands {
    product: Product,
    check: bool,
    /// The devices that the gateway has; without a list every device is known.
    devices: Option<HashSet<String>>,
    /// What became of each request id: `None` while it is being executed.
    results: HashMap<String, Option<CommandAnswer>>,
    order: VecDeque<String>,
}

impl Commands {
    /// No command yet. With `check`, values are held against the product; `devices` lists the known devices.
    #[must_use]
    pub fn new(product: Product, check: bool, devices: Option<HashSet<String>>) -> Self {
        Self { product, check, devices, results: HashMap::new(), order: VecDeque::new() }
    }

    /// Takes one delivery of a command.
    pub fn hear(&mut self, payload: &[u8]) -> Order {
        let envelope = match Envelope::<Downlink>::decode(Channel::Command, payload) {
            Ok(envelope) => envelope,
            Err(refused) => return unreadable(refused),
        };
        let Downlink::Command(command) = envelope.body else {
            return Order::Ignore("not a command".into());
        };
        let request_id = envelope.request_id;
        match self.results.get(&request_id) {
            Some(Some(answer)) => return Order::Answer(request_id, answer.clone()),
            Some(None) => return Order::Repeated(request_id),
            None => {}
        }
        match self.checked(&command) {
            Ok(command) => {
                self.remember(&request_id, None);
                Order::Execute(Envelope { t: envelope.t, request_id, body: command })
            }
            Err((code, msg)) => {
                let answer = CommandAnswer { cid: command.cid, code, msg };
                self.remember(&request_id, Some(answer.clone()));
                Order::Answer(request_id, answer)
            }
        }
    }

    /// Notes what an executed command came to, for its further deliveries.
    pub fn executed(&mut self, request_id: &str, answer: &CommandAnswer) {
        if let Some(result) = self.results.get_mut(request_id) {
            *result = Some(answer.clone());
        }
    }

    /// Forgets a command that is not executed after all: its next delivery is as good as a first one.
    pub fn forget(&mut self, request_id: &str) {
        self.results.remove(request_id);
    }

    /// The command with its values in their native form.
    fn checked(&self, command: &Command) -> Result<Command, (ResultCode, String)> {
        if self.devices.as_ref().is_some_and(|known| !known.contains(&command.cid)) {
            return Err((ResultCode::DEVICE_UNKNOWN, ResultCode::DEVICE_UNKNOWN.name().to_owned()));
        }
        if !self.check {
            return Ok(command.clone());
        }
        let native = |(id, value): &(String, DataPointValue)| -> Result<_, Misfit> {
            let point = self.product.commanded(id)?;
            Ok((point.id.to_string(), point.accept(value)?))
        };
        let points = command.points.iter().map(native).collect::<Result<_, _>>();
        match points {
            Ok(points) => Ok(Command { cid: command.cid.clone(), points }),
            Err(misfit) => Err((misfit.code, misfit.message)),
        }
    }

    fn remember(&mut self, request_id: &str, answer: Option<CommandAnswer>) {
        self.results.insert(request_id.to_owned(), answer);
        self.order.push_back(request_id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
    }
}

/// A malformed command is answered where it says which command it is.
fn unreadable(refused: Refused) -> Order {
    let why = refused.to_string();
    match refused.request_id.filter(|id| !id.is_empty()) {
        None => Order::Ignore(why),
        Some(request_id) => {
            let code = refused.error.problem.code();
            Order::Answer(request_id, CommandAnswer { cid: refused.cid.unwrap_or_default(), code, msg: why })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(devices: Option<&[&str]>) -> Commands {
        let devices = devices.map(|cids| cids.iter().map(|cid| (*cid).to_owned()).collect());
        Commands::new(Product::smart_water_meter(), true, devices)
    }

    fn command(id: &str, param: &str) -> Vec<u8> {
        format!(r#"{{"t":1,"cid":"m1","request_id":"{id}","param":{param}}}"#).into_bytes()
    }

    fn code(order: &Order) -> i64 {
        match order {
            Order::Answer(_, answer) => answer.code.0,
            Order::Execute(_) => 0,
            Order::Repeated(_) | Order::Ignore(_) => -1,
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
            let order = commands.hear(&command(&format!("r{n}"), param));
            assert_eq!(code(&order), expected, "{param}: {order:?}");
        }
    }

    #[test]
    fn an_unknown_device_is_refused() {
        let mut commands = commands(Some(&["m2"]));
        assert_eq!(code(&commands.hear(&command("r", r#"{"id":"4","value":true}"#))), 2003);
    }

    #[test]
    fn a_repeated_command_is_executed_once_and_answered_alike() {
        let mut commands = commands(None);
        let payload = command("r", r#"{"id":"4","value":true}"#);
        assert!(matches!(commands.hear(&payload), Order::Execute(_)));
        assert!(matches!(commands.hear(&payload), Order::Repeated(_)));
        let answer = CommandAnswer { cid: "m1".into(), code: ResultCode(500), msg: "stuck".into() };
        commands.executed("r", &answer);
        assert!(matches!(commands.hear(&payload), Order::Answer(_, again) if again == answer));
    }

    #[test]
    fn without_a_check_commands_pass_as_they_came() {
        let mut commands = Commands::new(Product::smart_water_meter(), false, None);
        let order = commands.hear(&command("r", r#"{"id":"99","value":"ajar"}"#));
        let Order::Execute(Envelope { body, .. }) = order else { panic!("{order:?}") };
        assert_eq!(body.points, [("99".to_owned(), DataPointValue::parse("\"ajar\"").unwrap())]);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut commands = commands(None);
        let payload = |n: usize| command(&format!("r{n}"), r#"{"id":"4","value":true}"#);
        for n in 0..=REMEMBERED {
            assert!(matches!(commands.hear(&payload(n)), Order::Execute(_)));
        }
        assert_eq!((commands.results.len(), commands.order.len()), (REMEMBERED, REMEMBERED));
        assert!(matches!(commands.hear(&payload(1)), Order::Repeated(_)));
        // The oldest is forgotten.
        assert!(matches!(commands.hear(&payload(0)), Order::Execute(_)));
    }

    #[test]
    fn what_names_no_request_cannot_be_answered() {
        let mut commands = commands(None);
        assert!(matches!(commands.hear(b"{}"), Order::Ignore(_)));
        assert!(matches!(commands.hear(b"\x1b[2J"), Order::Ignore(_)));
    }
}
