//! CQL text as tokens.

/// A piece of CQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, number or plain name, as it was written.
    Word(String),
    /// A name that was in double quotes.
    Quoted(String),
    /// A string.
    Text(String),
    /// Any other character.
    Sign(char),
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is_word(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// All tokens but comments. What is not closed ends with the text.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        let next = after.chars().next();
        rest = match (first, next) {
            (space, _) if space.is_whitespace() => after,
            ('-', Some('-')) | ('/', Some('/')) => after.split_once('\n').map_or("", |(_, rest)| rest),
            ('/', Some('*')) => after
                .get(1..)
                .unwrap_or_default()
                .split_once("*/")
                .map_or("", |(_, rest)| rest),
            ('$', Some('$')) => {
                let after = after.get(1..).unwrap_or_default();
                let (string, rest) = after.split_once("$$").unwrap_or((after, ""));
                tokens.push(Token::Text(string.to_owned()));
                rest
            }
            ('"', _) => {
                let (name, rest) = quoted(after, '"');
                tokens.push(Token::Quoted(name));
                rest
            }
            ('\'', _) => {
                let (string, rest) = quoted(after, '\'');
                tokens.push(Token::Text(string));
                rest
            }
            (letter, _) if is_of_word(letter) => {
                let (word, rest) = rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
                tokens.push(Token::Word(word.to_owned()));
                rest
            }
            (sign, _) => {
                tokens.push(Token::Sign(sign));
                after
            }
        };
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What stands before the closing quote, of which two in a row are one inside; and what follows it.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut inside = String::new();
    let mut rest = text;
    while let Some((part, after)) = rest.split_once(quote) {
        inside.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => {
                inside.push(quote);
                rest = more;
            }
            None => return (inside, after),
        }
    }
    inside.push_str(rest);
    (inside, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_names_and_comments_hide_what_is_in_them() {
        let text = "a -- ; no\n\"B \"\"; c\" /* ; 'no */ 'it''s ; --' $$ ';' $$ // no ;\n1.5;";
        let expected = [
            Token::Word("a".into()),
            Token::Quoted("B \"; c".into()),
            Token::Text("it's ; --".into()),
            Token::Text(" ';' ".into()),
            Token::Word("1".into()),
            Token::Sign('.'),
            Token::Word("5".into()),
            Token::Sign(';'),
        ];
        assert_eq!(tokens(text), expected);
    }

    proptest! {
        #[test]
        fn any_text_has_tokens(text in "[-a/*$\"'; \u{e9}\u{6f22}\n]{0,40}") {
            let length: usize = tokens(&text).iter().map(|token| match token {
                Token::Word(text) | Token::Quoted(text) | Token::Text(text) => text.len(),
                Token::Sign(sign) => sign.len_utf8(),
            }).sum();
            prop_assert!(length <= text.len());
        }
    }
}
