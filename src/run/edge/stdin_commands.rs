//! Commands that the emulator's user writes to stdin: read, checked, and given to the edge.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IsTerminal as _},
    mem,
    sync::Arc,
};

use crate::{
    edge::CommandRequest,
    error::Failure,
    gateway::Payload,
    io::{console::Console, fifo, input::InputStream, request_ids},
    net::server::Broker,
    request::{ParsedInput, Request, RequestKind, RequestParser, input::InputValue},
    run::{
        edge_handler::EdgeHandler,
        edge_output::{EdgeOutput, Noted},
    },
    tuya::product::{Product, ValueEncoding},
};

/// Commands from stdin.
pub struct StdinCommands {
    input: Option<InputStream<ParsedInput>>,
    /// Unsent commands.
    read: VecDeque<ParsedInput>,
    index: u64,
}

impl StdinCommands {
    /// Reads stdin, unless it is a terminal or belongs to PROGRAM.
    ///
    /// # Errors
    /// A stdin that cannot be read.
    pub fn new(product: Product, has_program: bool, console: Console) -> Result<Self, Failure> {
        let mut commands = Self { input: None, read: VecDeque::new(), index: 0 };
        if !has_program && !io::stdin().is_terminal() {
            let parser = RequestParser { product, check: true, encoding: ValueEncoding::Native };
            let take = move |input: InputValue<'_>, parsed: &mut Vec<ParsedInput>| {
                parser.parse(RequestKind::Command, input, parsed);
            };
            commands.input = Some(fifo::stdin(console)?.start(take)?);
        }
        Ok(commands)
    }

    /// Returns the next commands; never returns after the end of stdin. Cancel-safe.
    ///
    /// # Errors
    /// A stdin that cannot be read.
    pub async fn next(&mut self) -> Result<VecDeque<ParsedInput>, Failure> {
        while self.read.is_empty() {
            let Some(input) = &mut self.input else { return std::future::pending().await };
            match input.next().await? {
                Some(batch) => self.read = batch.into(),
                None => self.input = None,
            }
        }
        Ok(mem::take(&mut self.read))
    }

    /// Sends commands while there is room, and keeps the rest.
    pub fn send(
        &mut self,
        mut parsed: VecDeque<ParsedInput>,
        broker: &Broker<EdgeHandler>,
        output: &RefCell<EdgeOutput>,
    ) {
        while output.borrow().has_room_for_commands()
            && let Some(next) = parsed.pop_front()
        {
            self.send_one(next, broker, output);
        }
        self.read = parsed;
        output.borrow_mut().flush_now();
    }

    fn send_one(&mut self, parsed: ParsedInput, broker: &Broker<EdgeHandler>, output: &RefCell<EdgeOutput>) {
        let ParsedInput { line, text, request, .. } = parsed;
        let index = self.index;
        self.index += 1;
        match request {
            Err(invalid) => {
                let command = Noted {
                    line,
                    cid: invalid.cid.clone(),
                    id: invalid.id.clone(),
                    part: invalid.part.clone(),
                    request_id: "".into(),
                    input: text,
                };
                output.borrow_mut().invalid(index, &command, invalid.field.as_deref(), &invalid.message);
            }
            Ok(Request { gateway_id, t, request_id, part, payload: Payload::Command(command), .. }) => {
                let request_id = request_id.unwrap_or_else(request_ids::request_id);
                let noted = Noted {
                    line,
                    cid: Some(command.cid.clone()),
                    id: command.points.first().map(|(id, _)| id.clone()),
                    part,
                    request_id: Arc::clone(&request_id),
                    input: text,
                };
                output.borrow_mut().expect(index, noted);
                let request_id = request_id.as_ref().to_owned();
                let request = CommandRequest { token: index, gateway_id, t, request_id, command };
                broker.turn(|handler, now| handler.command(now, request));
            }
            Ok(Request { payload: Payload::Uplink(_), .. }) => {}
        }
    }
}
