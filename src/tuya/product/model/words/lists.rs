//! Finds sentences, lists and units in prose.

/// Returns the text up to the end of its sentence.
pub(super) fn sentence(text: &str) -> &str {
    let is_end = |(at, c): &(usize, char)| match c {
        '。' => true,
        '.' => text[at + 1..].chars().next().is_none_or(char::is_whitespace),
        _ => false,
    };
    let end = text.char_indices().find(is_end).map_or(text.len(), |(at, _)| at);
    text[..end].trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '，' | '；'))
}

/// Returns the text up to the end of a list: of its sentence, or of the last line with a bullet.
pub(super) fn list(text: &str) -> &str {
    let mut end = 0;
    loop {
        end += sentence(&text[end..]).len();
        let behind = text[end..].trim_start_matches(['.', '。', ' ', '\r']);
        if !behind.starts_with('\n') || !behind.trim_start().starts_with(['-', '•', '*']) {
            return &text[..end];
        }
        end = text.len() - behind.len() + 1;
    }
}

/// Returns the length of a unit: up to a comma, a semicolon, or the end of the line or sentence.
pub(super) fn unit_length(text: &str) -> usize {
    let text = sentence(text);
    text.find([',', ';', '，', '；', '\n']).unwrap_or(text.len())
}

/// The symbol of `second (s)`.
pub(super) fn symbol(unit: &str) -> &str {
    let Some((name, rest)) = unit.split_once('(') else { return unit };
    let (name, inner) = (name.trim(), rest.trim_end_matches(')').trim());
    if inner.is_empty() || (!name.is_empty() && name.len() <= inner.len()) { name } else { inner }
}

/// Returns the text after `include` or `are`, which begin a list without a colon.
pub(super) fn after_include(list: &str) -> Option<&str> {
    let lower = list.to_ascii_lowercase();
    let word = ["include", "includes", "including"].into_iter().rfind(|word| lower.starts_with(word))?;
    let rest = &list[word.len()..];
    rest.starts_with(|c: char| c.is_whitespace() || c == ':').then(|| rest.trim_start_matches([' ', ':']))
}

/// Returns the members of a list: `a, b, and c`, `include a and b`, `a/b/c`, or one a line with its meaning.
pub(super) fn words(list: &str) -> Vec<String> {
    let list = after_include(list).unwrap_or(list);
    let parts = list.split([',', ';', '、', '，', '；', '\n']);
    let parts = parts.flat_map(|part| part.split(" and ")).flat_map(|part| part.split(" or "));
    let mut words: Vec<String> = parts.map(word).filter(|word| !word.is_empty()).collect();
    if let [only] = &words[..]
        && only.contains(['/', '|'])
    {
        words = only.split(['/', '|']).map(word).filter(|word| !word.is_empty()).collect();
    }
    words
}

fn word(part: &str) -> String {
    let mut part = part.trim();
    for begins in ["and ", "or ", "- ", "• ", "* "] {
        part = part.strip_prefix(begins).unwrap_or(part).trim_start();
    }
    // A value may be followed by its meaning.
    part = part.split_once([':', '：', '(']).map_or(part, |(value, _)| value);
    let quotes = |c: char| {
        c.is_whitespace() || matches!(c, '.' | '`' | '"' | '\'' | '“' | '”' | '‘' | '’' | '。' | '…')
    };
    part.trim_matches(quotes).to_owned()
}
