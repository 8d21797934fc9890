//! What a client complains of: the first time, and not again with every attempt to connect.

use std::sync::{Mutex, PoisonError};

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use tracing::{debug, warn};

/// What was complained of since it last worked.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Vec<RDKafkaErrorCode>>);

impl Complaints {
    /// The client says that something is wrong.
    pub(super) fn hear(&self, who: &'static str, error: &ClientError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        if self.is_new(code) {
            warn!(%error, reason, "{who}");
        } else {
            debug!(%error, reason, "{who}");
        }
    }

    /// It works.
    pub(super) fn settled(&self) {
        self.heard().clear();
    }

    fn is_new(&self, code: RDKafkaErrorCode) -> bool {
        let mut heard = self.heard();
        let new = !heard.contains(&code);
        if new {
            heard.push(code);
        }
        new
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Vec<RDKafkaErrorCode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_new_once_until_it_works_again() {
        let complaints = Complaints::default();
        assert!(complaints.is_new(RDKafkaErrorCode::AllBrokersDown));
        assert!(!complaints.is_new(RDKafkaErrorCode::AllBrokersDown));
        assert!(complaints.is_new(RDKafkaErrorCode::BrokerTransportFailure));
        complaints.settled();
        assert!(complaints.is_new(RDKafkaErrorCode::AllBrokersDown));
    }
}
