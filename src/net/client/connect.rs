//! Which address of a broker's name is used: the first that answers, as RFC 8305 ("Happy Eyeballs") says. A name may
//! have an address that leads nowhere, most often one of IPv6 at a site that has none.

use std::{fmt::Write as _, future::Future, io, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

use super::address::BrokerAddress;
use crate::error::{Failure, FailureKind};

/// How long an address may be silent before the next one is dialled beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// An address that was dialled, and why that failed; `None` while it has not.
pub type Attempt = (SocketAddr, Option<io::Error>);

/// Connects to the first address of a name that answers; `attempts` takes those that were dialled. Cancel-safe.
pub async fn to(address: &BrokerAddress, attempts: &mut Vec<Attempt>) -> Result<TcpStream, Failure> {
    let unknown = |why: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Connection, format!("cannot find the host {:?}: {why}", address.host))
            .hint("Check the host's name in --broker")
    };
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let found = interleaved(found.map_err(|why| unknown(&why))?);
    if found.is_empty() {
        return Err(unknown(&"the name has no address"));
    }
    let connected = race(found, STAGGER, TcpStream::connect, attempts).await;
    connected.ok_or_else(|| unreachable(address, attempts))
}

/// How often a socket is dialled on which nobody listens yet.
const LOCAL_PAUSE: Duration = Duration::from_millis(20);

/// Connects to a Unix socket; waits while nothing listens there, because an agent may be starting. Cancel-safe.
pub async fn to_local(path: &Path) -> Result<UnixStream, Failure> {
    loop {
        match UnixStream::connect(path).await {
            Ok(connected) => return Ok(connected),
            Err(why) => match why.kind() {
                // A full backlog is told as "would block" (unix(7)).
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(LOCAL_PAUSE).await;
                }
                _ => {
                    let message = format!("the agent's socket {} cannot be used: {why}", path.display());
                    return Err(Failure::new(FailureKind::Connection, message));
                }
            },
        }
    }
}

/// The addresses with the families in turn, beginning with the first one's; each family keeps its order, which is the
/// resolver's preference (RFC 8305, section 4).
fn interleaved(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = Vec::new();
    for address in found {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    let Some(is_first) = seen.first().map(SocketAddr::is_ipv4) else { return seen };
    let (first, second): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|address| address.is_ipv4() == is_first);
    let mut second = second.into_iter();
    let mut all: Vec<_> =
        first.into_iter().flat_map(|address| [Some(address), second.next()]).flatten().collect();
    all.extend(second);
    all
}

/// Dials one address after the other, the next one once the last has failed or has been silent for `stagger`; the first
/// connection wins, and the other attempts are dropped.
async fn race<T: Send + 'static, F>(
    addresses: Vec<SocketAddr>,
    stagger: Duration,
    dial: impl Fn(SocketAddr) -> F,
    attempts: &mut Vec<Attempt>,
) -> Option<T>
where
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut waiting = addresses.into_iter();
    let mut racing = JoinSet::new();
    loop {
        if let Some(address) = waiting.next() {
            let attempt = dial(address);
            attempts.push((address, None));
            racing.spawn(async move { (address, attempt.await) });
        }
        tokio::select! {
            Some(ended) = racing.join_next() => match ended {
                Ok((_, Ok(connected))) => return Some(connected),
                Ok((address, Err(why))) => {
                    if let Some(attempt) = attempts.iter_mut().find(|(attempted, _)| *attempted == address) {
                        attempt.1 = Some(why);
                    }
                }
                // An attempt neither panics nor is it aborted before the end.
                Err(_) => {}
            },
            () = tokio::time::sleep(stagger), if waiting.len() > 0 => {}
            else => return None,
        }
    }
}

/// Why no address could be connected to.
fn unreachable(address: &BrokerAddress, attempts: &[Attempt]) -> Failure {
    let failure = |message: String| Failure::new(FailureKind::Connection, message);
    let is_refused = |attempt: &Attempt| {
        attempt.1.as_ref().is_some_and(|why| why.kind() == io::ErrorKind::ConnectionRefused)
    };
    if attempts.iter().all(is_refused) {
        let only: Vec<_> = attempts.iter().map(|(address, _)| (*address, None)).collect();
        return failure(format!("{address} refused the connection{}", tried(address, &only))).hint(
            "Is the edge running? Check the port (the edge's is 21883); `tuyagw edge` starts an emulator",
        );
    }
    match attempts {
        [(_, Some(why))] => failure(format!("cannot connect to {address}: {why}")),
        _ => failure(format!("cannot connect to {address}{}", tried(address, attempts))),
    }
}

/// The dialled addresses and their errors, for the end of a message; empty if the only one is the address that was asked
/// for.
pub fn tried(address: &BrokerAddress, attempts: &[Attempt]) -> String {
    let mut text = String::new();
    for (attempted, why) in attempts {
        let attempted = attempted.to_string();
        if attempts.len() == 1 && why.is_none() && attempted == address.to_string() {
            break;
        }
        let before = if text.is_empty() { " (tried " } else { ", " };
        let _ = match why {
            None => write!(text, "{before}{attempted}"),
            Some(why) => write!(text, "{before}{attempted}: {why}"),
        };
    }
    if text.is_empty() { text } else { text + ")" }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        pin::Pin,
        sync::{Arc, Mutex},
    };

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    type Attempted = Pin<Box<dyn Future<Output = io::Result<SocketAddr>> + Send>>;

    /// Races these addresses of port 1 to 9, of which those of port 1 never answer, those of port 2 refuse and the
    /// others connect; gives the winner, the order of dialling and what became of each.
    fn raced(texts: &[&str], stagger: Duration) -> (Option<SocketAddr>, Vec<SocketAddr>, Vec<Attempt>) {
        let dialled = Arc::new(Mutex::new(Vec::new()));
        let dial = |address: SocketAddr| -> Attempted {
            dialled.lock().unwrap().push(address);
            match address.port() {
                1 => Box::pin(pending()),
                2 => Box::pin(ready(Err(io::ErrorKind::ConnectionRefused.into()))),
                _ => Box::pin(ready(Ok(address))),
            }
        };
        let mut attempts = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let winner = runtime.block_on(race(addresses(texts), stagger, dial, &mut attempts));
        let order = dialled.lock().unwrap().clone();
        (winner, order, attempts)
    }

    #[test]
    fn families_take_turns_in_the_resolvers_order() {
        let interleave = |texts: &[&str]| interleaved(addresses(texts).into_iter());
        assert_eq!(
            interleave(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
        assert_eq!(
            interleave(&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]),
            addresses(&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(interleave(&["1.1.1.1:1", "2.2.2.2:1"]), addresses(&["1.1.1.1:1", "2.2.2.2:1"]));
        assert_eq!(interleave(&[]), []);
    }

    #[test]
    fn an_address_that_never_answers_does_not_keep_the_next_from_winning() {
        let all = ["1.1.1.1:1", "[::1]:1", "2.2.2.2:3"];
        let (winner, order, _) = raced(&all, Duration::from_millis(1));
        assert_eq!((winner, order), (Some(addresses(&all)[2]), addresses(&all)));
    }

    #[test]
    fn an_address_that_refuses_is_followed_at_once() {
        let all = ["1.1.1.1:2", "2.2.2.2:3", "3.3.3.3:3"];
        // The pause is never awaited: it would be longer than any test.
        let (winner, order, _) = raced(&all, Duration::from_hours(1));
        assert_eq!((winner, order), (Some(addresses(&all)[1]), addresses(&all[..2])));
    }

    #[test]
    fn a_failure_names_every_address_and_its_reason() {
        let address = BrokerAddress { host: "edge".into(), port: 2 };
        let (winner, _, attempts) = raced(&["[::1]:2", "1.1.1.1:2"], Duration::from_hours(1));
        assert_eq!(winner, None);
        let failure = unreachable(&address, &attempts);
        assert_eq!(failure.message, "edge:2 refused the connection (tried [::1]:2, 1.1.1.1:2)");
        let host_unreachable = io::Error::from(io::ErrorKind::HostUnreachable);
        let reason = host_unreachable.to_string();
        let attempts = vec![
            attempts.into_iter().next().unwrap(),
            (addresses(&["2.2.2.2:2"])[0], Some(host_unreachable)),
        ];
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            unreachable(&address, &attempts).message,
            format!("cannot connect to edge:2 (tried [::1]:2: {refused}, 2.2.2.2:2: {reason})")
        );
    }

    #[test]
    fn the_only_address_is_named_where_it_is_another_than_what_was_asked_for() {
        let attempts = [(addresses(&["1.1.1.1:2"])[0], None)];
        let text = |host: &str| tried(&BrokerAddress { host: host.into(), port: 2 }, &attempts);
        assert_eq!((text("edge").as_str(), text("1.1.1.1").as_str()), (" (tried 1.1.1.1:2)", ""));
    }
}
