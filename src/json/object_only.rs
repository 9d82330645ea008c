//! Structs that are read from objects only.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A struct that is read from an object. By itself serde reads one from an array too, by position.
#[derive(Clone, Copy, Debug)]
pub struct ObjectOnly<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOnly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = ObjectOnly<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ObjectOnly<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(ObjectOnly)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_refused_at_every_level() {
        #[derive(Debug, Deserialize)]
        struct Inner {
            a: i64,
        }
        #[derive(Debug, Deserialize)]
        struct Outer {
            inner: ObjectOnly<Inner>,
        }
        let read = |json| serde_json::from_str::<ObjectOnly<Outer>>(json);
        assert_eq!(read(r#"{"inner":{"a":1}}"#).unwrap().0.inner.0.a, 1);
        for json in [r#"{"inner":[1]}"#, r#"[{"a":1}]"#, "1"] {
            assert!(read(json).unwrap_err().to_string().contains("expected an object"), "{json}");
        }
    }
}
