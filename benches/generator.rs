//! Thousands of gateways: raw sockets in one thread, each with some reports in flight.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::event::epoll;
use tuyagw::tuya::Channel;

use crate::{
    traffic::{Inbox, PAYLOAD, Template, USERNAME, connect, report, topic, with_qos},
    wire::{puback, split_publish, subscribe},
};

/// One gateway with one device.
#[derive(Debug)]
struct Gateway {
    stream: TcpStream,
    inbox: Inbox,
    out: Vec<u8>,
    report: Template,
    next: u16,
}

/// The three topics that a gateway listens on.
fn downlinks(gateway: &str) -> Vec<String> {
    [Channel::SyncResponse, Channel::Command, Channel::ReportResponse].map(|c| topic(c, gateway)).to_vec()
}

/// Gateways that are connected and subscribed.
#[derive(Debug)]
pub struct Fleet {
    gateways: Vec<Gateway>,
    request: u64,
}

impl Fleet {
    /// Connects and subscribes `count` gateways, a hundred at a time: a stock broker's backlog is no longer.
    pub fn connect(port: u16, count: usize) -> Self {
        let numbers: Vec<_> = (0..count).collect();
        let gateways = numbers.chunks(100).flat_map(|numbers| {
            let gateways: Vec<_> = numbers.iter().map(|n| Gateway::connect(port, *n)).collect();
            gateways.into_iter().map(Gateway::connected)
        });
        Self { gateways: gateways.collect(), request: 0 }
    }

    /// Synchronises each gateway's device, whose cid is that of the reports.
    pub fn synchronise(&mut self) {
        let cid = cid();
        for (n, gateway) in self.gateways.iter_mut().enumerate() {
            let request = format!(
                "{{\"t\":1785000000,\"request_id\":\"sync-{n}\",\"param\":{{\"cid\":\"{cid}\",\"product_id\":\"p1\"}}}}"
            );
            let mut out = Vec::new();
            Template::new(&topic(Channel::Sync, &format!("gw{n}")), &request).write(&mut out, 1, 0);
            gateway.stream.write_all(&out).unwrap();
        }
        for gateway in &mut self.gateways {
            let mut answered = false;
            while !answered {
                assert!(gateway.inbox.fill(&mut gateway.stream).unwrap() > 0);
                while let Some((first, body)) = gateway.inbox.next() {
                    if first & 0xf0 == 0x30 {
                        let (_, id, payload) = split_publish(first, body);
                        assert_success(payload);
                        gateway.stream.write_all(&puback(id)).unwrap();
                        answered = true;
                    }
                }
            }
        }
    }

    /// Sends `count` reports with `window` in flight at each gateway; returns the time until all are answered.
    pub fn report(&mut self, count: usize, window: usize) -> Duration {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for (n, gateway) in self.gateways.iter().enumerate() {
            gateway.stream.set_nonblocking(true).unwrap();
            epoll::add(&poll, &gateway.stream, epoll::EventData::new_u64(n as u64), epoll::EventFlags::IN)
                .unwrap();
        }
        let start = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        for gateway in &mut self.gateways {
            for _ in 0..window.min(count - sent) {
                gateway.ask(&mut self.request);
                sent += 1;
            }
            gateway.flush();
        }
        let mut events = Vec::with_capacity(1024);
        while answered < count {
            events.clear();
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
            for event in &events {
                let gateway = &mut self.gateways[event.data.u64() as usize];
                let answers = gateway.hear();
                for _ in 0..answers.min(count - sent) {
                    gateway.ask(&mut self.request);
                    sent += 1;
                }
                answered += answers;
                gateway.flush();
            }
        }
        start.elapsed()
    }

    /// Sends reports one at a time from the first gateway; returns each round trip in microseconds.
    pub fn stop_and_wait(&mut self, count: usize) -> Vec<f64> {
        let gateway = &mut self.gateways[0];
        gateway.stream.set_nonblocking(false).unwrap();
        let trip = |_| {
            let start = Instant::now();
            gateway.ask(&mut self.request);
            gateway.flush();
            while gateway.hear() == 0 {}
            start.elapsed().as_secs_f64() * 1e6
        };
        (0..count).map(trip).collect()
    }
}

impl Gateway {
    fn connect(port: u16, n: usize) -> Self {
        let id = format!("gw{n}");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut hello = connect(&id, USERNAME).bytes();
        hello.extend(subscribe(1, &with_qos(&downlinks(&id))));
        stream.write_all(&hello).unwrap();
        let report = Template::new(&topic(Channel::Report, &id), &report("m1", PAYLOAD));
        Self { stream, inbox: Inbox::new(4096), out: Vec::new(), report, next: 1 }
    }

    /// Waits for CONNACK and SUBACK.
    fn connected(mut self) -> Self {
        let mut greeting = [0; 11];
        self.stream.read_exact(&mut greeting).unwrap();
        assert_eq!((greeting[3], &greeting[8..]), (0, &[1, 1, 1][..]), "a gateway is connected");
        self
    }

    fn ask(&mut self, request: &mut u64) {
        *request += 1;
        self.report.write(&mut self.out, self.next, *request);
        self.next = self.next.checked_add(1).unwrap_or(1);
    }

    /// Reads once, acknowledges the answers, and counts them.
    fn hear(&mut self) -> usize {
        match self.inbox.fill(&mut self.stream) {
            Ok(read) => assert!(read > 0, "the broker has closed the connection"),
            Err(why) if why.kind() == ErrorKind::WouldBlock => return 0,
            Err(why) => panic!("{why}"),
        }
        let mut answers = 0;
        while let Some((first, body)) = self.inbox.next() {
            if first & 0xf0 == 0x30 {
                let (_, id, payload) = split_publish(first, body);
                assert_success(payload);
                self.out.extend_from_slice(&puback(id));
                answers += 1;
            }
        }
        answers
    }

    fn flush(&mut self) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                // The rest is sent after the next answer.
                Err(why) if why.kind() == ErrorKind::WouldBlock => return,
                Err(why) => panic!("{why}"),
            }
        }
    }
}

/// The cid in the reports.
fn cid() -> String {
    let report = report("m1", PAYLOAD);
    let (_, rest) = report.split_once("\"cid\":\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

fn assert_success(payload: &[u8]) {
    let at = payload.windows(8).rposition(|window| window == b"\"code\":0");
    assert!(at.is_some(), "{}", String::from_utf8_lossy(payload));
}
