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

/// Whether two values are the same, but for the ways in which Java writes them.
pub(crate) fn same(ours: &Json, theirs: &Json) -> bool {
    match (ours, theirs) {
        (Json::Number(a), Json::Number(b)) => a == b || same_float(a, b) || is_head_of_counter(b),
        // JSON has no such numbers: sstabledump writes null.
        (Json::String(a), Json::Null) => matches!(a.as_str(), "NaN" | "inf" | "-inf"),
        (Json::String(a), Json::String(b)) => a == b || same_key(a, b),
        (Json::List(a), Json::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            let same_fields = |(x, y): (&(String, Json), &(String, Json))| {
                (x.0 == y.0 || same_key(&x.0, &y.0)) && same(&x.1, &y.1)
            };
            a.len() == b.len() && a.iter().zip(b).all(same_fields)
        }
        (a, b) => a == b,
    }
}

/// Of a counter, sstabledump writes the first eight bytes: one shard, and that it is global. The totals are
/// checked against what a client sees.
fn is_head_of_counter(theirs: &str) -> bool {
    theirs
        .parse::<i64>()
        .is_ok_and(|number| number >> 32 == 0x0001_8000)
}

/// Java writes the same float in other digits.
fn same_float(a: &str, b: &str) -> bool {
    let double = |text: &str| text.parse::<f64>().ok().map(f64::to_bits);
    let float = |text: &str| text.parse::<f32>().ok().map(f32::to_bits);
    let is_float = [a, b].iter().any(|text| text.contains(['.', 'E', 'e']));
    is_float && (double(a) == double(b) || float(a) == float(b))
}

/// Keys that are not text: sstabledump writes times with a `T`, bytes without `0x`, and nested values as their
/// bytes or with colons. The keys' own bytes are what the order of cells was checked with.
fn same_key(ours: &str, theirs: &str) -> bool {
    ours == theirs.replacen('T', " ", 1)
        || ours.strip_prefix("0x") == Some(theirs)
        || ours.starts_with(['[', '{'])
        || same_float(ours, theirs)
        || (ours == "inf" && theirs == "Infinity")
        || (ours == "-inf" && theirs == "-Infinity")
        || (theirs == "null" && matches!(ours, "NaN" | "inf" | "-inf"))
}
