//! Where a password is read from: a file of an option, an environment variable, or a file of the profile.

use std::path::PathBuf;

use crate::{error::Failure, tuya::Secret, wrapping::refuse_wrapped};

/// Where a password may come from, first to last.
pub struct PasswordSources<'a> {
    pub file: Option<PathBuf>,
    pub variable: &'a str,
    pub profile_file: Option<PathBuf>,
    pub option: &'a str,
}

/// Reads the password from the first source that is given; `None` if there is none, and it is to be derived.
///
/// # Errors
/// A file that cannot be read, or a password with a control character. No message repeats any of it.
pub fn password(sources: &PasswordSources<'_>) -> Result<Option<Secret>, Failure> {
    let from_file = |path: &PathBuf, option: &str| {
        let place = path.display();
        let unreadable = |why: String| Failure::io(format!("{option}: cannot read {place}: {why}"));
        let bytes = std::fs::read(path).map_err(|why| unreadable(why.to_string()))?;
        refuse_wrapped(&bytes, &format!("{option}: {place}"))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not text in UTF-8".into()))?;
        // The byte order mark and the line end that editors write are not part of the password.
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(Failure::invalid(format!("{option}: {place} holds no password")));
        }
        secret(text, &format!("{option}: {place}")).map(Some)
    };
    if let Some(path) = &sources.file {
        return from_file(path, sources.option);
    }
    match std::env::var(sources.variable) {
        Ok(password) if !password.is_empty() => return secret(&password, sources.variable).map(Some),
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(Failure::invalid(format!("{} is not valid UTF-8", sources.variable)));
        }
        _ => {}
    }
    sources.profile_file.as_ref().map_or(Ok(None), |path| from_file(path, "profile, password-file"))
}

/// Refuses a password with a control character; the message repeats nothing else of it.
fn secret(text: &str, place: &str) -> Result<Secret, Failure> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(Secret::new(text)),
        Some(control) => Err(Failure::invalid(format!(
            "{place}: the password must not contain the control character {control:?}"
        ))
        .hint("Write the password alone, on one line")),
    }
}
