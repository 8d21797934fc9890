//! Types as Cassandra writes them in `Statistics.db`: its class names, with parameters in parentheses.

use crate::cql::{CqlType, Udt};

/// Deeper nesting than any table's; it bounds the stack.
const DEPTH_MAX: u32 = 64;
const PACKAGE: &str = "org.apache.cassandra.db.marshal.";

/// The type of this name; what is wrong with it, otherwise.
pub(crate) fn parse(text: &str) -> Result<CqlType, String> {
    let mut parser = Parser { rest: text };
    let parsed = parser.parse(0)?;
    parser.skip_spaces();
    match parser.rest {
        "" => Ok(parsed),
        rest => Err(format!("`{rest}` follows a type")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn parse(&mut self, depth: u32) -> Result<CqlType, String> {
        if depth > DEPTH_MAX {
            return Err(format!("types are nested deeper than {DEPTH_MAX}"));
        }
        let class = self.word();
        let name = class.strip_prefix(PACKAGE).unwrap_or(class);
        if let Some(simple) = simple(name) {
            return Ok(simple);
        }
        if !self.accept('(') {
            return Err(format!("type `{class}`"));
        }
        let one = |parser: &mut Self| parser.parse(depth + 1).map(Box::new);
        let parsed = match name {
            "ListType" => CqlType::List(one(self)?),
            "SetType" => CqlType::Set(one(self)?),
            "FrozenType" => CqlType::Frozen(one(self)?),
            "ReversedType" => CqlType::Reversed(one(self)?),
            "MapType" => {
                let key = one(self)?;
                self.expect(',')?;
                CqlType::Map(key, one(self)?)
            }
            "VectorType" => {
                let element = one(self)?;
                self.expect(',')?;
                let dimension = self.word();
                let parsed = dimension
                    .parse()
                    .map_err(|_| format!("`{dimension}` is no dimension"))?;
                CqlType::Vector(element, parsed)
            }
            "TupleType" => CqlType::Tuple(self.list(depth)?),
            "CompositeType" => CqlType::Composite(self.list(depth)?),
            "UserType" => CqlType::Udt(self.udt(depth)?),
            _ => return Err(format!("type `{class}`")),
        };
        self.expect(')')?;
        Ok(parsed)
    }

    fn list(&mut self, depth: u32) -> Result<Vec<CqlType>, String> {
        let mut types = vec![self.parse(depth + 1)?];
        while self.accept(',') {
            types.push(self.parse(depth + 1)?);
        }
        Ok(types)
    }

    /// `(keyspace,hex of the name,hex of a field's name:its type,…`
    fn udt(&mut self, depth: u32) -> Result<Udt, String> {
        let keyspace = self.word().to_owned();
        self.expect(',')?;
        let name = unhex(self.word())?;
        let mut fields = Vec::new();
        while self.accept(',') {
            let field = unhex(self.word())?;
            self.expect(':')?;
            fields.push((field, self.parse(depth + 1)?));
        }
        Ok(Udt {
            keyspace,
            name,
            fields,
        })
    }

    fn word(&mut self) -> &'a str {
        self.skip_spaces();
        let ends = |c: char| matches!(c, '(' | ')' | ',' | ':' | ' ');
        let (word, rest) = self
            .rest
            .split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.skip_spaces();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.accept(wanted) {
            true => Ok(()),
            false => Err(format!("`{wanted}` is wanted before `{}`", self.rest)),
        }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }
}

fn simple(name: &str) -> Option<CqlType> {
    Some(match name {
        "AsciiType" => CqlType::Ascii,
        "LongType" => CqlType::BigInt,
        "BytesType" => CqlType::Blob,
        "BooleanType" => CqlType::Boolean,
        "CounterColumnType" => CqlType::Counter,
        "SimpleDateType" => CqlType::Date,
        "DecimalType" => CqlType::Decimal,
        "DoubleType" => CqlType::Double,
        "DurationType" => CqlType::Duration,
        "EmptyType" => CqlType::Empty,
        "FloatType" => CqlType::Float,
        "InetAddressType" => CqlType::Inet,
        "Int32Type" => CqlType::Int,
        "ShortType" => CqlType::SmallInt,
        "UTF8Type" => CqlType::Text,
        "TimeType" => CqlType::Time,
        // `DateType` is what `timestamp` was before Cassandra 2.0.
        "TimestampType" | "DateType" => CqlType::Timestamp,
        "TimeUUIDType" => CqlType::TimeUuid,
        "ByteType" => CqlType::TinyInt,
        "UUIDType" | "LexicalUUIDType" => CqlType::Uuid,
        "IntegerType" => CqlType::VarInt,
        _ => return None,
    })
}

fn unhex(hex: &str) -> Result<String, String> {
    let bad = || format!("`{hex}` is no name in hexadecimal");
    let (pairs, odd) = hex.as_bytes().as_chunks::<2>();
    if !odd.is_empty() {
        return Err(bad());
    }
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_are_read() {
        let text = "org.apache.cassandra.db.marshal.MapType(org.apache.cassandra.db.marshal.UTF8Type,\
            org.apache.cassandra.db.marshal.FrozenType(org.apache.cassandra.db.marshal.VectorType(\
            org.apache.cassandra.db.marshal.FloatType , 3)))";
        assert_eq!(
            parse(text).unwrap().to_string(),
            "map<text, frozen<vector<float, 3>>>"
        );
        let text = "UserType(ks,6164,6161:Int32Type,6262:ReversedType(DurationType))";
        let CqlType::Udt(udt) = parse(text).unwrap() else {
            panic!("no udt")
        };
        assert_eq!(
            (udt.keyspace.as_str(), udt.name.as_str(), udt.fields.len()),
            ("ks", "ad", 2)
        );
    }

    #[test]
    fn what_is_no_type_is_named() {
        for text in [
            "",
            "X",
            "ListType",
            "ListType(",
            "ListType(X)",
            "MapType(Int32Type)",
            "Int32Type)",
        ] {
            parse(text).unwrap_err();
        }
        parse(&"FrozenType(".repeat(10_000)).unwrap_err();
    }
}
