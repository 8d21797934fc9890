//! How much this server takes at once: calls, and bytes of their requests.
//!
//! What is past either bound is turned away with SERVER_OVERLOADED before anything of it is decoded. Bytes
//! are counted as they arrive, because most gRPC calls do not say how long they are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::errors::{Reason, ServiceError};

/// The bounds. Clones share them.
#[derive(Clone, Debug)]
pub struct Admission {
    calls: Arc<Semaphore>,
    calls_max: usize,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl Admission {
    /// At most so many calls, and so many bytes of their requests.
    pub fn new(calls_max: usize, bytes_max: usize) -> Self {
        let calls_max = calls_max.min(Semaphore::MAX_PERMITS);
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            calls: Arc::new(Semaphore::new(calls_max)),
            calls_max,
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// A place for one call; it is taken until the permit is dropped.
    ///
    /// # Errors
    /// `SERVER_OVERLOADED`.
    pub fn call(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let full = |_| overloaded(self.calls_max, "calls");
        self.calls.clone().try_acquire_owned().map_err(full)
    }

    /// Calls under way.
    pub fn calls_in_flight(&self) -> usize {
        self.calls_max - self.calls.available_permits()
    }

    /// Bytes of requests under way.
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_max - self.bytes.available_permits()
    }

    /// A request body whose bytes count from their arrival until the returned hold is dropped.
    pub fn count(&self, body: Body) -> (Body, Hold) {
        let hold = Hold::default();
        let counted = Counted {
            inner: body,
            admission: self.clone(),
            hold: hold.clone(),
        };
        (Body::new(counted), hold)
    }
}

fn overloaded(limit: usize, what: &'static str) -> ServiceError {
    let problem = format!("server has {limit} {what} in flight and takes no more now");
    ServiceError::new(Reason::ServerOverloaded, problem)
        .with("limit", limit)
        .with("what", what)
}

/// Keeps the bytes of a request counted.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<std::sync::Mutex<Option<OwnedSemaphorePermit>>>);

impl Hold {
    fn add(&self, permit: OwnedSemaphorePermit) {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match held.as_mut() {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
    }
}

struct Counted {
    inner: Body,
    admission: Admission,
    hold: Hold,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(axum::BoxError::from)?;
        if let Some(data) = frame.data_ref() {
            let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
            match this.admission.bytes.clone().try_acquire_many_owned(bytes) {
                Ok(permit) => this.hold.add(permit),
                Err(_) => {
                    let error = overloaded(this.admission.bytes_max, "bytes of requests");
                    return Poll::Ready(Some(Err(Box::new(Status::from(error)))));
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn calls_past_the_bound_are_turned_away_until_one_ends() {
        let admission = Admission::new(1, 10);
        let first = admission.call().expect("room for one");
        let error = admission.call().expect_err("no room for two");
        assert_eq!(error.reason, Reason::ServerOverloaded);
        assert_eq!(admission.calls_in_flight(), 1);
        drop(first);
        assert!(admission.call().is_ok());
    }

    #[tokio::test]
    async fn bytes_count_from_arrival_until_the_hold_is_dropped() {
        let admission = Admission::new(1, 10);
        let (body, hold) = admission.count(Body::from("12345678"));
        assert_eq!(
            body.collect().await.expect("within the bound").to_bytes().len(),
            8
        );
        assert_eq!(admission.bytes_in_flight(), 8);

        let (body, _second) = admission.count(Body::from("12345678"));
        let error = body.collect().await.expect_err("past the bound");
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut status = None;
        while let Some(cause) = source {
            status = status.or(cause.downcast_ref::<Status>());
            source = cause.source();
        }
        let reason = status.and_then(crate::errors::reason_of);
        assert_eq!(reason, Some(Reason::ServerOverloaded));
        drop(hold);
        assert_eq!(admission.bytes_in_flight(), 0);
    }
}
