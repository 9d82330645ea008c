//! The service manager that started this program, if one did: systemd, or one that speaks its protocol. sd_notify(3) describes
//! the messages, sd_watchdog_enabled(3) and sd_listen_fds(3) the variables.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram, UnixListener},
    },
    process,
    time::Duration,
};

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};

use crate::{error::Failure, text::visible};

/// The variables that are meant for this process only. Programs that it starts must not inherit them: they could report the
/// state of this service in its name, and would look for sockets that they do not have.
pub const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How long a message waits for a service manager that does not read. The event loop stands still meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// The bytes of a status text. systemd ignores a message above 4096 bytes.
const LONGEST_STATUS: usize = 1024;

/// Tells the service manager the state of this service. Without one, all methods do nothing.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<NotifySocket>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// Finds the service manager in the environment.
    ///
    /// # Errors
    /// A NOTIFY_SOCKET that is no address: the service manager would wait in vain.
    pub fn from_env() -> Result<Self, Failure> {
        let text = |name| env::var(name).ok();
        let watchdog = watchdog_interval(
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
            process::id(),
        );
        Self::new(env::var_os("NOTIFY_SOCKET"), watchdog)
    }

    fn new(address: Option<OsString>, watchdog: Option<Duration>) -> Result<Self, Failure> {
        let Some(address) = address.filter(|address| !address.is_empty()) else { return Ok(Self::default()) };
        let unusable = |why: io::Error| {
            Failure::invalid(format!("NOTIFY_SOCKET {}: {why}", visible(&address.to_string_lossy())))
        };
        let socket = UnixDatagram::unbound().map_err(unusable)?;
        socket.set_write_timeout(Some(LONGEST_WAIT)).map_err(unusable)?;
        let address = socket_address(&address).map_err(unusable)?;
        Ok(Self { socket: Some(NotifySocket { socket, address }), watchdog })
    }

    /// Says that the service is ready, after its start and after each reload.
    ///
    /// # Errors
    /// A service manager that cannot be reached. The service can go on, so the caller warns; the same holds for the other
    /// messages.
    pub fn ready(&self) -> Result<(), Failure> {
        self.notify("READY=1")
    }

    /// Says in a line what the service does, for `systemctl status`.
    ///
    /// # Errors
    /// As of [`ready`](Self::ready).
    pub fn status(&self, text: &str) -> Result<(), Failure> {
        // A line break would begin another assignment, and the text may be of the edge.
        let text = visible(text);
        self.notify(&format!("STATUS={}", &text[..text.floor_char_boundary(LONGEST_STATUS)]))
    }

    /// Says that a reload has begun; [`ready`](Self::ready) ends it. A unit of `Type=notify-reload` asks for the time, which
    /// systemd compares with that of its SIGHUP.
    ///
    /// # Errors
    /// As of [`ready`](Self::ready).
    pub fn reloading(&self) -> Result<(), Failure> {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"))
    }

    /// Says that the service has begun to end.
    ///
    /// # Errors
    /// As of [`ready`](Self::ready).
    pub fn stopping(&self) -> Result<(), Failure> {
        self.notify("STOPPING=1")
    }

    /// Returns how often to call [`feed_watchdog`](Self::feed_watchdog): half the time after which the service manager kills a
    /// service that is silent. `None` if it does not watch.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says that the event loop runs. Only the loop itself may say so: a timer of its own would hide that the loop hangs.
    ///
    /// # Errors
    /// As of [`ready`](Self::ready).
    pub fn feed_watchdog(&self) -> Result<(), Failure> {
        self.notify("WATCHDOG=1")
    }

    fn notify(&self, message: &str) -> Result<(), Failure> {
        let Some(NotifySocket { socket, address }) = &self.socket else { return Ok(()) };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => Ok(()),
            Err(why) => Err(Failure::io(format!("cannot notify the service manager: {why}"))),
        }
    }
}

/// Takes the listening socket that the service manager opened for this process (`LISTEN_FDS`); `None` if it opened none. Call
/// it before other threads start, because it removes variables from the environment.
///
/// # Errors
/// More than one socket, or one that is no Unix stream socket.
pub fn activated_socket() -> Result<Option<UnixListener>, Failure> {
    // The crate takes sockets without LISTEN_PID as well, which a parent may have got for itself.
    if !env::var("LISTEN_PID").is_ok_and(|id| id.parse() == Ok(process::id())) {
        return Ok(None);
    }
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => Ok(None),
        1 => passed.take_unix_listener(0).map_err(|why| {
            Failure::invalid(format!("the socket that the service manager passed: {why}"))
                .hint("ListenStream= of the .socket unit must be a path")
        }),
        count => Err(Failure::invalid(format!("the service manager passed {count} sockets, expected one"))
            .hint("Write one ListenStream= in the .socket unit")),
    }
}

/// Returns half of the time of WATCHDOG_USEC, if it is meant for the process `own`.
fn watchdog_interval(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    let is_own = process.is_none_or(|id| id.parse() == Ok(own));
    let microseconds = microseconds?.parse::<u64>().ok().filter(|time| is_own && *time > 0)?;
    Some(Duration::from_micros(microseconds.div_ceil(2)))
}

/// Reads an address of NOTIFY_SOCKET: a path, or `@` and the name of an abstract socket.
fn socket_address(text: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = text.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    if text.as_bytes().starts_with(b"/") {
        SocketAddr::from_pathname(text)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a path that begins with / or @"))
    }
}

#[cfg(test)]
mod tests;
