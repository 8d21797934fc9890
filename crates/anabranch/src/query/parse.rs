//! Reads tokens as a query, by recursive descent.

use anabranch_proto::timeseries::v1::search_query::Query;
use anabranch_proto::timeseries::v1::{
    BooleanQuery, EqualsQuery, ExistsQuery, PrefixQuery, RangeBound, RangeQuery, SearchQuery,
    TimeSeriesIdsQuery, boolean_query::Operator,
};
use base64::Engine as _;
use bytes::Bytes;

use super::QueryError;
use super::lex::{Placed, Token, tokens};

/// Deepest nesting read. The server allows less; this only keeps the stack.
const DEPTH_MAX: usize = 64;

/// Reads the text form.
pub(super) fn query(text: &str) -> Result<SearchQuery, QueryError> {
    let mut parser = Parser {
        text,
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    if parser.tokens.is_empty() {
        return Err(parser.wrong("the query is empty; leave --query out to find every event"));
    }
    let query = parser.or()?;
    match parser.peek() {
        None => Ok(query),
        Some(Token::Sign(")")) => Err(parser.wrong("this `)` closes nothing")),
        Some(_) => Err(parser.wrong("expected AND, OR or the end of the query")),
    }
}

pub(super) fn boolean(operator: Operator, search_query: Vec<SearchQuery>) -> SearchQuery {
    of(Query::BooleanQuery(BooleanQuery {
        operator: operator.into(),
        search_query,
    }))
}

pub(super) fn of(query: Query) -> SearchQuery {
    SearchQuery { query: Some(query) }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<SearchQuery, QueryError> {
        let mut parts = vec![self.and()?];
        while self.take_word("or") {
            parts.push(self.and()?);
        }
        Ok(joined(Operator::Or, parts))
    }

    fn and(&mut self) -> Result<SearchQuery, QueryError> {
        let mut parts = vec![self.not()?];
        while self.take_word("and") {
            parts.push(self.not()?);
        }
        Ok(joined(Operator::And, parts))
    }

    fn not(&mut self) -> Result<SearchQuery, QueryError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("the query is nested too deeply"));
        }
        let query = if self.take_word("not") {
            boolean(Operator::Not, vec![self.not()?])
        } else if self.take_sign("(") {
            let inner = self.or()?;
            self.expect_sign(")", "to close the `(`")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(query)
    }

    fn condition(&mut self) -> Result<SearchQuery, QueryError> {
        if self.is_word("exists")
            && self
                .tokens
                .get(self.next + 1)
                .is_some_and(|t| t.1 == Token::Sign("("))
        {
            self.next += 2;
            let event_item_key = self.text_of("a key")?;
            self.expect_sign(")", "to close `exists(`")?;
            return Ok(of(Query::Exists(ExistsQuery { event_item_key })));
        }
        if self.take_word("id") {
            return self.ids();
        }
        if ["and", "or", "in"].iter().any(|word| self.is_word(word)) {
            return Err(self.wrong("expected a condition; a key of this name is quoted"));
        }
        let key = self.text_of("a key, `id`, `exists(`, NOT or `(`")?;
        self.compare(key)
    }

    fn ids(&mut self) -> Result<SearchQuery, QueryError> {
        let ids = |ids| of(Query::TimeSeriesIds(TimeSeriesIdsQuery { ids }));
        if self.take_sign("=") {
            return Ok(ids(vec![self.text_of("an id")?]));
        }
        if self.take_sign("!=") {
            let one = ids(vec![self.text_of("an id")?]);
            return Ok(boolean(Operator::Not, vec![one]));
        }
        if self.take_word("in") {
            return Ok(ids(self.list(|parser| parser.text_of("an id"))?));
        }
        Err(self.wrong("after `id` comes `=`, `!=` or IN; an item key of that name is quoted: \"id\""))
    }

    fn compare(&mut self, event_item_key: String) -> Result<SearchQuery, QueryError> {
        let equals = |event_item_key, event_item_value| {
            of(Query::Equals(EqualsQuery {
                event_item_key,
                event_item_value,
            }))
        };
        if self.take_word("in") {
            let values = self.list(Self::value)?;
            let parts = values
                .into_iter()
                .map(|value| equals(event_item_key.clone(), value));
            return Ok(joined(Operator::Or, parts.collect()));
        }
        let operators = "expected one of = != ^= < <= > >= IN";
        let Some(Token::Sign(sign)) = self.peek() else {
            return Err(self.wrong(operators));
        };
        let sign = *sign;
        match sign {
            "=" | "!=" | "^=" => {
                self.next += 1;
                let value = self.value()?;
                Ok(match sign {
                    "=" => equals(event_item_key, value),
                    "!=" => boolean(Operator::Not, vec![equals(event_item_key, value)]),
                    _ => of(Query::Prefix(PrefixQuery {
                        event_item_key,
                        event_item_value: value,
                    })),
                })
            }
            "<" | "<=" | ">" | ">=" => self.range(event_item_key),
            _ => Err(self.wrong(operators)),
        }
    }

    /// One bound, or both: `added >= 10 < 20`.
    fn range(&mut self, event_item_key: String) -> Result<SearchQuery, QueryError> {
        let mut range = RangeQuery {
            event_item_key,
            ..RangeQuery::default()
        };
        while let Some(Token::Sign(sign @ ("<" | "<=" | ">" | ">="))) = self.peek() {
            let sign = *sign;
            let side = if sign.starts_with('>') {
                &mut range.lower_bound
            } else {
                &mut range.upper_bound
            };
            if side.is_some() {
                return Err(self.wrong("this side of the range is bounded already"));
            }
            self.next += 1;
            *side = Some(RangeBound {
                event_item_value: self.value()?,
                inclusive: sign.ends_with('='),
            });
        }
        Ok(of(Query::Range(range)))
    }

    fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        self.expect_sign("(", "after IN")?;
        let mut values = vec![one(self)?];
        while self.take_sign(",") {
            values.push(one(self)?);
        }
        self.expect_sign(")", "or `,` in the list")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<Bytes, QueryError> {
        if self.is_word("base64")
            && self
                .tokens
                .get(self.next + 1)
                .is_some_and(|t| t.1 == Token::Sign("("))
        {
            self.next += 2;
            let at = self.place();
            let text = self.text_of("base64 text")?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| QueryError::at(self.text, at, format!("not base64: {error}")))?;
            self.expect_sign(")", "to close `base64(`")?;
            return Ok(bytes.into());
        }
        if ["and", "or", "not", "in"].iter().any(|word| self.is_word(word)) {
            return Err(self.wrong("expected a value; a value that is also a word of the language is quoted"));
        }
        self.text_of("a value").map(Bytes::from)
    }

    fn text_of(&mut self, what: &str) -> Result<String, QueryError> {
        match self.tokens.get(self.next) {
            Some((_, Token::Bare(text) | Token::Quoted(text))) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.wrong(format!("expected {what}"))),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Bare(bare)) if bare.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(there)) if *there == sign);
        self.next += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &str, why: &str) -> Result<(), QueryError> {
        if self.take_sign(sign) {
            return Ok(());
        }
        Err(self.wrong(format!("expected `{sign}` {why}")))
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at)
    }

    fn wrong(&self, problem: impl Into<String>) -> QueryError {
        QueryError::at(self.text, self.place(), problem)
    }
}

/// Several conditions under an operator; a single one is itself.
fn joined(operator: Operator, mut parts: Vec<SearchQuery>) -> SearchQuery {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    boolean(operator, parts)
}
