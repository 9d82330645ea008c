//! The configuration file: named profiles whose keys are the connection options' names, and topic overrides.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    cli::values,
    error::Failure,
    tuya::{Channel, GatewayId, Topics},
    wrapping::refuse_wrapped,
};

/// The file for all users of the machine. TUYAGW_SYSTEM_CONFIG names another, for packages and tests.
const SYSTEM_FILE: &str = "/etc/tuyagw/config.toml";

/// The file: `default-profile`, `[profile.NAME]` tables, and a `[topics]` table for all of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    default_profile: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, Profile>,
    #[serde(default)]
    topics: BTreeMap<Channel, String>,
}

/// One profile: the values of connection options without flag and environment variable.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are the options' names")]
pub struct Profile {
    #[serde(default, deserialize_with = "broker")]
    pub broker: Option<String>,
    #[serde(default, deserialize_with = "gateway_id")]
    pub gateway_id: Option<String>,
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub tls_server_name: Option<String>,
    pub tls_insecure: Option<bool>,
    #[serde(default, deserialize_with = "qos")]
    pub qos: Option<u8>,
    #[serde(default, deserialize_with = "keep_alive")]
    pub keep_alive: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    #[serde(default, deserialize_with = "max_packet")]
    pub max_packet: Option<u32>,
    pub persistent: Option<bool>,
    pub early: Option<bool>,
    pub platform_username: Option<String>,
    pub platform_password_file: Option<PathBuf>,
    #[serde(default)]
    topics: BTreeMap<Channel, String>,
    /// The file, for messages about the profile.
    #[serde(skip)]
    path: PathBuf,
}

impl Profile {
    /// Reads the file and selects the profile.
    ///
    /// `file` is the path of `--config`; without one, the file in the user's configuration folder is read, or the system's if
    /// the user has none. `name` is the profile of `--profile`; without one, it is the file's `default-profile`.
    ///
    /// # Errors
    /// A given file that cannot be read, a file that is not valid, or a profile that it does not have.
    pub fn load(file: Option<&Path>, name: Option<&str>) -> Result<Self, Failure> {
        let candidates = file.map_or_else(default_paths, |file| vec![file.to_owned()]);
        let Some((path, text)) = read_first(&candidates, file.is_some())? else {
            return missing(name, &candidates);
        };
        let parsed: File = toml::from_str(&text).map_err(|why| unreadable(path, &text, &why))?;
        let Some(name) = name.or(parsed.default_profile.as_deref()) else {
            return Ok(Self { topics: parsed.topics, path: path.to_owned(), ..Self::default() });
        };
        let Some(profile) = parsed.profile.get(name) else {
            let known: Vec<_> = parsed.profile.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                format!("Add a table [profile.{name}] to it")
            } else {
                format!("Its profiles are: {}", known.join(", "))
            };
            return Err(Failure::invalid(format!("{} has no profile {name:?}", path.display())).hint(hint));
        };
        let mut profile = profile.clone();
        path.clone_into(&mut profile.path);
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut profile.password_file, &mut profile.ca_file, &mut profile.platform_password_file] {
            *file = file.take().map(|relative| folder.join(relative));
        }
        for (channel, template) in parsed.topics {
            profile.topics.entry(channel).or_insert(template);
        }
        Ok(profile)
    }

    /// Returns the file's path, as messages name it.
    #[must_use]
    pub fn file(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the file of the profile and the files that it names, with their keys.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let files = [
            ("password-file", self.password_file.as_ref()),
            ("ca-file", self.ca_file.as_ref()),
            ("platform-password-file", self.platform_password_file.as_ref()),
            ("the file", Some(&self.path).filter(|path| !path.as_os_str().is_empty())),
        ];
        files.into_iter().filter_map(|(key, path)| Some((key, path?.clone()))).collect()
    }

    /// Returns the topics with the profile's overrides.
    ///
    /// # Errors
    /// A template that is not valid.
    pub fn topics(&self) -> Result<Topics, Failure> {
        let mut topics = Topics::default();
        let path = self.path.display();
        for (channel, template) in &self.topics {
            topics
                .set(*channel, template)
                .map_err(|why| Failure::invalid(format!("{path}: topics: {}: {why}", channel.key())))?;
        }
        Ok(topics)
    }
}

/// Reads the first file that exists; `is_required` says that one must.
fn read_first(paths: &[PathBuf], is_required: bool) -> Result<Option<(&Path, Arc<str>)>, Failure> {
    for path in paths {
        match read(path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(why) if why.kind() == io::ErrorKind::NotFound && !is_required => {}
            Err(why) => {
                return Err(why
                    .downcast::<Failure>()
                    .unwrap_or_else(|why| Failure::io(format!("cannot read {}: {why}", path.display()))));
            }
        }
    }
    Ok(None)
}

/// Reads the file. A subcommand may read it more than once, so the text of a pipe is kept: its bytes can be read only once.
fn read(path: &Path) -> io::Result<Arc<str>> {
    static PIPES: Mutex<BTreeMap<PathBuf, Arc<str>>> = Mutex::new(BTreeMap::new());
    let mut pipes = PIPES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = pipes.get(path) {
        return Ok(Arc::clone(text));
    }
    let mut file = fs::File::open(path)?;
    let is_pipe = !file.metadata()?.is_file();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    refuse_wrapped(&bytes, &path.display().to_string()).map_err(io::Error::other)?;
    let text = String::from_utf8(bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    let text: Arc<str> = text.into();
    if is_pipe {
        pipes.insert(path.to_owned(), Arc::clone(&text));
    }
    Ok(text)
}

fn broker<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let url = String::deserialize(deserializer)?;
    match values::parse_url(&url) {
        Ok(_) => Ok(Some(url)),
        Err(why) => Err(D::Error::custom(why.message.replacen("--broker", "broker", 1))),
    }
}

fn gateway_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let id = String::deserialize(deserializer)?;
    GatewayId::new(id.clone()).map_err(D::Error::custom)?;
    Ok(Some(id))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::duration(&text).map(Some).map_err(D::Error::custom)
}

fn keep_alive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::keep_alive(&text).map(Some).map_err(D::Error::custom)
}

fn qos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    match u8::deserialize(deserializer)? {
        qos @ 0..=2 => Ok(Some(qos)),
        other => Err(D::Error::custom(format!("qos: expected 0, 1 or 2; got {other}"))),
    }
}

fn max_packet<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let bytes = u32::deserialize(deserializer)?;
    if values::MAX_PACKET.contains(&i64::from(bytes)) {
        Ok(Some(bytes))
    } else {
        Err(D::Error::custom(format!("max-packet: expected 1024 to 268435455 bytes; got {bytes}")))
    }
}

fn missing(name: Option<&str>, candidates: &[PathBuf]) -> Result<Profile, Failure> {
    let Some(name) = name else { return Ok(Profile::default()) };
    let paths: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    let absent = match &paths[..] {
        [path] => format!("{path} does not exist"),
        paths => format!("{} do not exist", paths.join(" and ")),
    };
    Err(Failure::invalid(format!("profile {name:?} cannot be used: {absent}")).hint(
        "Write [profile.NAME] tables to $XDG_CONFIG_HOME/tuyagw/config.toml, or name a file with --config",
    ))
}

/// Returns a message with place and reason only: toml's own message shows the line, which may hold a password.
fn unreadable(path: &Path, text: &str, why: &toml::de::Error) -> Failure {
    let before = why.span().and_then(|span| text.as_bytes().get(..span.start)).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    // Only topics are variants.
    let reason = why.message().replace("unknown variant", "unknown topic");
    let failure = Failure::invalid(format!("{}, line {line}: {reason}", path.display()));
    if why.message().contains("unknown field `password`")
        || why.message().contains("unknown field `platform-password`")
    {
        failure.hint("This file holds no passwords: write the password to a file with mode 0600, and name it in password-file")
    } else {
        failure
    }
}

/// Returns the files of which the first that exists is read: the user's, then the system's.
fn default_paths() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let user = folder.map(|folder| folder.join("tuyagw").join("config.toml"));
    let system = variable("TUYAGW_SYSTEM_CONFIG").unwrap_or_else(|| PathBuf::from(SYSTEM_FILE));
    user.into_iter().chain([system]).collect()
}
