//! By when a call is to be answered.
//!
//! tonic's server reads `grpc-timeout` too, and answers CANCELLED when it has passed. Ours therefore comes a
//! little earlier, and answers DEADLINE_EXCEEDED while the client still listens.

use std::time::Duration;

use http::HeaderMap;

use crate::errors::{Reason, ServiceError};

/// The header, as gRPC defines it.
pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The time that a caller gives, if it says so.
///
/// # Errors
/// `INVALID_DEADLINE` when the header can not be read.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<Duration>, ServiceError> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    parse(text).map(Some).ok_or_else(|| {
        let problem =
            format!("grpc-timeout `{text}` can not be read: use 1 to 8 digits and one of H M S m u n");
        ServiceError::new(Reason::InvalidDeadline, problem).with("timeout", text)
    })
}

/// What is left of the time given, so that the answer still arrives in it.
pub(super) fn budget(asked: Duration) -> Duration {
    let travel = (asked / 20).clamp(Duration::from_millis(1), Duration::from_millis(50));
    asked.saturating_sub(travel)
}

fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit_at)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The time that a call gets, and the time that it asked for or has by default. `longest` bounds the first.
pub(super) fn granted(
    asked: Option<Duration>,
    default: Duration,
    longest: Option<Duration>,
) -> (Duration, Duration) {
    let (time, asked) = match asked {
        Some(asked) => (budget(asked), asked),
        None => (default, default),
    };
    (longest.map_or(time, |longest| time.min(longest)), asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "m", "1", "1x", "-1S", "123456789S", "1 S", "ü"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_answer_leaves_before_the_caller_stops_listening() {
        assert_eq!(budget(Duration::from_secs(10)), Duration::from_millis(9_950));
        assert_eq!(budget(Duration::from_millis(100)), Duration::from_millis(95));
        assert_eq!(budget(Duration::from_micros(1)), Duration::ZERO);
    }

    #[test]
    fn a_call_gets_what_it_asked_for_up_to_the_longest() {
        let seconds = Duration::from_secs;
        let (short, long) = (budget(seconds(5)), budget(seconds(600)));
        assert_eq!(
            granted(Some(seconds(5)), seconds(60), Some(seconds(60))),
            (short, seconds(5))
        );
        assert_eq!(
            granted(Some(seconds(600)), seconds(60), Some(seconds(60))),
            (seconds(60), seconds(600))
        );
        assert_eq!(
            granted(None, seconds(60), Some(seconds(10))),
            (seconds(10), seconds(60))
        );
        // An operator's call.
        assert_eq!(
            granted(Some(seconds(600)), seconds(60), None),
            (long, seconds(600))
        );
    }
}
