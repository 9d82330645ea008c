//! How deep JSON is nested, without reading it.

/// The deepest nesting that is accepted. Readers of JSON refuse a few hundred levels, or overflow; no message needs this many.
pub const DEEPEST: usize = 100;

/// Where JSON is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep {
    /// The position of the first bracket beyond the limit.
    pub at: usize,
    /// The end of the member before, in the outermost object or array: its comma, or the opening bracket.
    pub before: usize,
}

/// Finds the first place that is nested deeper than [`DEEPEST`] levels; the rest is not read. The result for text that is
/// not JSON is unspecified.
#[must_use]
pub fn too_deep(json: &[u8]) -> Option<TooDeep> {
    // Most payloads have fewer brackets in all, and counting them is cheap.
    let brackets = |part: &[u8]| part.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    let mut count = 0;
    if json.chunks(255).all(|part| {
        count += usize::from(brackets(part));
        count <= DEEPEST
    }) {
        return None;
    }
    let (mut depth, mut before, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                if depth == 0 {
                    before = at;
                }
                depth += 1;
                if depth > DEEPEST {
                    return Some(TooDeep { at, before });
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            b',' if depth == 1 && !in_string => before = at,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn the_first_bracket_too_many_is_found_with_its_member() {
        assert_eq!(too_deep(nested(DEEPEST).as_bytes()), None);
        assert_eq!(too_deep(nested(DEEPEST + 1).as_bytes()), Some(TooDeep { at: DEEPEST, before: 0 }));
        let object =
            format!(r#"{{"a":"[[[","b":[{}],"c":{},"d":{}}}"#, "[],".repeat(300), nested(99), nested(100));
        let before = object.find(r#","d""#).unwrap();
        let at = object.find(r#""d":"#).unwrap() + 4 + DEEPEST - 1;
        assert_eq!(too_deep(object.as_bytes()), Some(TooDeep { at, before }));
        assert_eq!(too_deep("[],".repeat(1000).as_bytes()), None);
        assert_eq!(too_deep(format!("\"\\\"{}\"", "[".repeat(1000)).as_bytes()), None);
    }
}
