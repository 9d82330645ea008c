//! An input as an object: its fields, borrowed, each given once.

use std::{borrow::Cow, collections::HashSet, hash::Hash};

use serde_json::value::RawValue;

use super::error::InputError;
use crate::json::{ObjectMembers, text_of};

/// A JSON object's entries, borrowed and in order.
pub(super) struct InputObject<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> InputObject<'a> {
    pub(super) fn parse(json: &'a str) -> Result<Self, InputError> {
        if !json.starts_with('{') {
            return Err(InputError {
                message: "the value must be a JSON object".into(),
                ..InputError::default()
            });
        }
        let ObjectMembers(members) = serde_json::from_str(json)
            .map_err(|why| InputError { message: why.to_string(), ..InputError::default() })?;
        #[cfg(test)]
        tests::WORK.with(|work| work.set(work.get() + json.len()));
        match first_repeated(members.iter().map(|(name, _)| &**name)) {
            Some(name) => Err(InputError::new(name, format!("duplicate field {name:?}"))),
            None => Ok(Self(members)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    pub(super) fn required_text(&self, name: &str) -> Result<Cow<'a, str>, InputError> {
        match self.optional_text(name)? {
            Some(text) if text.is_empty() => Err(InputError::new(name, format!("{name} is empty"))),
            Some(text) => Ok(text),
            None => Err(InputError::new(name, format!("{name} is missing"))),
        }
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<Cow<'a, str>>, InputError> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        match text_of(raw) {
            Some(text) => Ok(Some(text)),
            None => Err(InputError::new(name, format!("{name} must be a string"))),
        }
    }

    /// Refuses unknown fields, because a misspelt one would be ignored silently.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), InputError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_ref())) {
            None => Ok(()),
            Some((name, _)) => {
                let listed: Vec<_> = known.iter().filter(|name| **name != "op").copied().collect();
                Err(InputError::new(
                    name,
                    format!("{name} is no field of this input; its fields are {}", listed.join(", ")),
                ))
            }
        }
    }
}

/// The first name that there was before. Of a few names each is compared with those before it, of many none.
pub(super) fn first_repeated<N: Eq + Hash + Copy>(
    names: impl ExactSizeIterator<Item = N> + Clone,
) -> Option<N> {
    const FEW: usize = 16;
    let mut before = names.clone();
    if names.len() <= FEW {
        return names
            .enumerate()
            .find(|(n, name)| before.clone().take(*n).any(|other| other == *name))
            .map(|(_, name)| name);
    }
    let mut seen = HashSet::with_capacity(names.len());
    before.find(|name| !seen.insert(*name))
}

#[cfg(test)]
pub(super) mod tests {
    use std::{cell::Cell, hash::Hasher};

    use super::*;

    thread_local! {
        /// How many bytes this thread has read as objects.
        pub(crate) static WORK: Cell<usize> = const { Cell::new(0) };
        /// How often names were compared or hashed.
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// A name that counts how often it is looked at.
    #[derive(Clone, Copy, Debug)]
    struct Counting<'a>(&'a str);

    impl PartialEq for Counting<'_> {
        fn eq(&self, other: &Self) -> bool {
            LOOKS.with(|looks| looks.set(looks.get() + 1));
            self.0 == other.0
        }
    }

    impl Eq for Counting<'_> {}

    impl Hash for Counting<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            LOOKS.with(|looks| looks.set(looks.get() + 1));
            self.0.hash(state);
        }
    }

    /// How often the names of an object with so many keys are looked at.
    fn looks(keys: usize) -> usize {
        let names: Vec<_> = (0..keys).map(|n| format!("k{n:06}")).collect();
        LOOKS.set(0);
        assert!(first_repeated(names.iter().map(|name| Counting(name))).is_none());
        LOOKS.get()
    }

    #[test]
    fn ten_times_the_keys_are_ten_times_the_work() {
        for keys in [3, 16, 17, 1000] {
            let (few, many) = (looks(keys), looks(10 * keys));
            assert!(many <= 11 * few.max(17 * 8), "{keys} keys: {few}, ten times as many: {many}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_found_among_few_and_many() {
        for keys in [2, 15, 16, 17, 1000] {
            let names: Vec<_> = (0..keys).map(|n| format!("k{n}")).collect();
            let mut twice: Vec<_> = names.iter().map(String::as_str).collect();
            assert_eq!(first_repeated(twice.iter().copied()), None);
            twice.push("k1");
            assert_eq!(first_repeated(twice.into_iter()), Some("k1"), "{keys}");
        }
    }

    #[test]
    fn fields_are_found_by_name_and_unknown_ones_are_refused() {
        let json = r#"{"cid":"m\u00e91","id":1,"x":[1, 2]}"#;
        let object = InputObject::parse(json).unwrap();
        assert_eq!((object.get("x"), object.get("y")), (Some("[1, 2]"), None));
        assert_eq!(object.required_text("cid").unwrap(), "mé1");
        for (name, message) in
            [("y", "y is missing"), ("id", "id must be a string"), ("x", "x must be a string")]
        {
            let error = object.required_text(name).unwrap_err();
            assert_eq!((error.field.as_deref(), error.message.as_str()), (Some(name), message));
        }
        assert!(object.only(&["cid", "id", "x"]).is_ok());
        let error = object.only(&["op", "cid", "id"]).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("x"));
        assert!(error.message.ends_with("its fields are cid, id"), "{}", error.message);
    }

    #[test]
    fn other_values_repeated_fields_and_broken_text_are_no_objects() {
        for (json, part) in [
            ("[]", "must be a JSON object"),
            (r#"{"a":1,"\u0061":2}"#, "duplicate field \"a\""),
            (r#"{"a":}"#, "expected value"),
            (r#"{"a":1"#, "EOF"),
        ] {
            let Err(error) = InputObject::parse(json) else { panic!("{json}") };
            assert!(error.message.contains(part), "{json}: {}", error.message);
        }
    }
}
