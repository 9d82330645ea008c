//! The members of an object, borrowed and in order.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of a JSON object in their order, repeated ones included. A key without escapes is borrowed.
#[derive(Debug)]
pub struct ObjectMembers<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for ObjectMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// serde borrows a text in a field with the attribute only.
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = ObjectMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectMembers<'de>, A::Error> {
                let mut members = Vec::with_capacity(4);
                while let Some((Key(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(ObjectMembers(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_their_text_and_their_repetitions() {
        let json = r#"{"b":1.10,"\u0061":[1, 2],"b":"é"}"#;
        let ObjectMembers(members) = serde_json::from_str(json).unwrap();
        let members: Vec<_> = members.iter().map(|(key, value)| (&**key, value.get())).collect();
        assert_eq!(members, [("b", "1.10"), ("a", "[1, 2]"), ("b", "\"é\"")]);
        let ObjectMembers(members) = serde_json::from_str(json).unwrap();
        assert!(matches!(members[..], [(Cow::Borrowed(_), _), (Cow::Owned(_), _), (Cow::Borrowed(_), _)]));
        assert!(serde_json::from_str::<ObjectMembers<'_>>("[]").is_err());
    }
}
