//! Random values of a type, as CQL.

use std::fmt::Write;

use anabranch_sstable::CqlType;

use super::dice::Dice;
use super::types::SCALARS;

/// A value for a column: now and then one that is longer than a chunk, and one of no bytes where that is wanted.
pub(crate) fn of_column(dice: &mut Dice, cql_type: &CqlType, with_empty: bool) -> String {
    match cql_type {
        CqlType::Text if dice.chance(0.02) => quoted(&"long and plain ".repeat(dice.below(5_000))),
        CqlType::Blob if dice.chance(0.02) => {
            let length = dice.below(40_000);
            hex(&dice.blob(length))
        }
        scalar if with_empty && SCALARS.contains(scalar) && dice.chance(0.1) => match scalar {
            CqlType::Blob => "0x".to_owned(),
            other => format!("blob_as_{other}(0x)"),
        },
        other => of(dice, other),
    }
}

/// A value.
pub(crate) fn of(dice: &mut Dice, cql_type: &CqlType) -> String {
    match cql_type {
        CqlType::Frozen(inner) | CqlType::Reversed(inner) => of(dice, inner),
        CqlType::List(element) => {
            let elements = several(dice, |dice| of(dice, element));
            format!("[{}]", elements.join(", "))
        }
        CqlType::Set(element) => {
            let elements = several(dice, |dice| of(dice, element));
            format!("{{{}}}", elements.join(", "))
        }
        CqlType::Map(key, value) => {
            let entries = several(dice, |dice| format!("{}: {}", of(dice, key), of(dice, value)));
            format!("{{{}}}", entries.join(", "))
        }
        CqlType::Tuple(parts) => {
            let part = |part| match dice.chance(0.25) {
                true => "null".to_owned(),
                false => of(dice, part),
            };
            let parts: Vec<String> = parts.iter().map(part).collect();
            format!("({})", parts.join(", "))
        }
        CqlType::Udt(udt) => {
            let fields = dice.some(&udt.fields, 0.8);
            let fields = fields
                .iter()
                .map(|(name, part)| format!("{name}: {}", of(dice, part)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        CqlType::Vector(element, dimension) => {
            let elements: Vec<String> = (0..*dimension).map(|_| of(dice, element)).collect();
            format!("[{}]", elements.join(", "))
        }
        scalar => of_scalar(dice, scalar),
    }
}

fn several(dice: &mut Dice, mut make: impl FnMut(&mut Dice) -> String) -> Vec<String> {
    (0..*dice.pick(&[0, 1, 2, 4])).map(|_| make(dice)).collect()
}

fn of_scalar(dice: &mut Dice, scalar: &CqlType) -> String {
    match scalar {
        CqlType::Ascii => text(dice, "abcXYZ 0189'\"\\", &[0, 1, 5, 40]),
        CqlType::Text => text(dice, "aé漢😀'\"\\\n\t\u{1}\u{7f} z{}[]", &[0, 1, 3, 30]),
        CqlType::TinyInt => integer(dice, 7),
        CqlType::SmallInt => integer(dice, 15),
        CqlType::Int => integer(dice, 31),
        CqlType::BigInt | CqlType::Counter => integer(dice, 63),
        CqlType::VarInt => match dice.chance(0.5) {
            true => dice
                .pick(&["0", "127", "128", "-128", "-129", "-1", "255"])
                .to_string(),
            false => dice.between(-(10_i128.pow(37)), 10_i128.pow(37)).to_string(),
        },
        CqlType::Decimal => {
            let digits = match dice.chance(0.5) {
                true => *dice.pick(&[0, 1, -5, 100]),
                false => dice.between(-(10_i128.pow(25)), 10_i128.pow(25)),
            };
            format!("{digits}e{}", dice.pick(&[0, -1, -3, -7, -20, 3, 12]))
        }
        CqlType::Float | CqlType::Double => match dice.chance(0.4) {
            true => format!(
                "{}.{}",
                dice.between(-1_000_000, 1_000_000),
                dice.below(1_000_000)
            ),
            false => {
                let special = [
                    "0",
                    "-0.0",
                    "1.5",
                    "-2.25e-3",
                    "1e10",
                    "1e-30",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                ];
                dice.pick(&special).to_string()
            }
        },
        CqlType::Boolean => dice.pick(&["true", "false"]).to_string(),
        CqlType::Blob => {
            let length = *dice.pick(&[0, 1, 7, 200]);
            hex(&dice.blob(length))
        }
        CqlType::Uuid => {
            let version = *dice.pick(&[1, 4, 4, 7]);
            uuid(dice, version)
        }
        CqlType::TimeUuid => uuid(dice, 1),
        CqlType::Timestamp => match dice.chance(0.3) {
            true => dice.pick(&["0", "-1", "1700000000123"]).to_string(),
            false => dice.between(-62_000_000_000_000, 200_000_000_000_000).to_string(),
        },
        CqlType::Date => match dice.chance(0.1) {
            // Days, the epoch in the middle of what 32 bits hold.
            true => dice.pick(&["0", "2147483648", "4294967295"]).to_string(),
            false => {
                let (year, month, day) = (1 + dice.below(9_999), 1 + dice.below(12), 1 + dice.below(28));
                format!("'{year:04}-{month:02}-{day:02}'")
            }
        },
        CqlType::Time => {
            let (hour, minute, second) = (dice.below(24), dice.below(60), dice.below(60));
            let fraction = dice.pick(&["0", "000000001", "123456789"]);
            format!("'{hour:02}:{minute:02}:{second:02}.{fraction}'")
        }
        CqlType::Inet => match dice.chance(0.5) {
            true => format!("'{}'", std::net::Ipv4Addr::from(dice.bytes::<4>())),
            false => {
                let groups = (0..8).map(|_| match dice.chance(0.5) {
                    true => "0".to_owned(),
                    false => format!("{:x}", dice.below(65_536)),
                });
                format!("'{}'", groups.collect::<Vec<_>>().join(":"))
            }
        },
        CqlType::Duration => {
            let days = dice.below(10_000);
            let lengths = [
                "0d",
                "1y2mo",
                "3d",
                "14mo3d5h6m7s8ms9us10ns",
                "1ns",
                "90m",
                &format!("{days}d"),
            ];
            format!("{}{}", dice.pick(&["", "-"]), dice.pick(&lengths))
        }
        other => unreachable!("{other} has no literals"),
    }
}

fn integer(dice: &mut Dice, bits: u32) -> String {
    let power = 1_i128 << bits;
    match dice.chance(0.5) {
        true => dice.pick(&[0, 1, -1, power - 1, -power]).to_string(),
        false => dice.between(-power, power - 1).to_string(),
    }
}

fn text(dice: &mut Dice, alphabet: &str, lengths: &[usize]) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let length = *dice.pick(lengths);
    quoted(&(0..length).map(|_| *dice.pick(&alphabet)).collect::<String>())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn uuid(dice: &mut Dice, version: u8) -> String {
    let mut bytes = dice.bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    uuid::Uuid::from_bytes(bytes).to_string()
}
