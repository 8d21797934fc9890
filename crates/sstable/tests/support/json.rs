//! Just enough JSON to compare: a number stays the text it was.

use std::iter::Peekable;
use std::str::CharIndices;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parser = Parser {
            text,
            chars: text.char_indices().peekable(),
        };
        let value = parser.value();
        parser.spaces();
        assert_eq!(parser.chars.next(), None, "more than one value in {text}");
        value
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(fields) => fields
                .iter()
                .find(|(field, _)| field == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Json> {
        let Self::Object(fields) = self else { return None };
        let at = fields.iter().position(|(field, _)| field == name)?;
        Some(fields.remove(at).1)
    }

    pub(crate) fn list(&self) -> &[Json] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn spaces(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.spaces();
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn value(&mut self) -> Json {
        self.spaces();
        let (start, first) = *self.chars.peek().expect("a value");
        match first {
            '{' => {
                self.chars.next();
                let mut fields = Vec::new();
                while !self.accept('}') {
                    let name = match self.value() {
                        Json::String(name) => name,
                        other => panic!("{other:?} is no name"),
                    };
                    assert!(self.accept(':'));
                    fields.push((name, self.value()));
                    self.accept(',');
                }
                Json::Object(fields)
            }
            '[' => {
                self.chars.next();
                let mut elements = Vec::new();
                while !self.accept(']') {
                    elements.push(self.value());
                    self.accept(',');
                }
                Json::List(elements)
            }
            '"' => {
                self.chars.next();
                let mut end = start + 1;
                while let Some((at, c)) = self.chars.next() {
                    end = at + 1;
                    match c {
                        '\\' => drop(self.chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                Json::String(serde_json::from_str(&self.text[start..end]).unwrap())
            }
            _ => {
                let mut end = start;
                while let Some((at, c)) = self
                    .chars
                    .next_if(|(_, c)| c.is_alphanumeric() || "+-.".contains(*c))
                {
                    end = at + c.len_utf8();
                }
                match &self.text[start..end] {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    number => Json::Number(number.to_owned()),
                }
            }
        }
    }
}
