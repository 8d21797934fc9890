//! Cuts the text of a query into tokens.

use super::QueryError;

/// What a query is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: a keyword, a key or a value.
    Bare(String),
    /// Text between quotes: a key or a value, never a keyword.
    Quoted(String),
    /// `(`, `)`, `,` or an operator.
    Sign(&'static str),
}

/// A token and the byte that it starts at.
pub(super) type Placed = (usize, Token);

/// Longer signs before the ones they start with.
const SIGNS: [&str; 10] = ["!=", "^=", "<=", ">=", "=", "<", ">", "(", ")", ","];

/// Whether a character may be in a bare word.
pub(super) fn is_bare(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"()=!<>^,\"'\\".contains(c)
}

/// Every token of a query.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, QueryError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let token = if c == '"' || c == '\'' {
            let (quoted, after) = quoted(text, at, c)?;
            at = after;
            Token::Quoted(quoted)
        } else if let Some(sign) = SIGNS.iter().find(|sign| text[at..].starts_with(**sign)) {
            at += sign.len();
            Token::Sign(sign)
        } else if is_bare(c) {
            let rest = &text[at..];
            let length = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
            at += length;
            Token::Bare(rest[..length].to_owned())
        } else {
            return Err(QueryError::at(
                text,
                at,
                format!("`{c}` means nothing here; a value that holds it is quoted"),
            ));
        };
        tokens.push((start, token));
    }
    Ok(tokens)
}

/// The text between quotes, and the byte after them.
fn quoted(text: &str, start: usize, quote: char) -> Result<(String, usize), QueryError> {
    let mut value = String::new();
    let mut chars = text[start + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((value, start + 1 + offset + 1)),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some(escaped @ ('\\' | '"' | '\'')) => value.push(escaped),
                _ => {
                    return Err(QueryError::at(
                        text,
                        start + 1 + offset,
                        r#"after `\` comes one of `\ " ' n t r`"#,
                    ));
                }
            },
            c => value.push(c),
        }
    }
    Err(QueryError::at(text, start, "this quote is never closed"))
}
