//! What every call passes before it reaches its service, over gRPC, gRPC-Web and JSON alike.
//!
//! ```text
//! call ─▶ draining? ─▶ room? ─▶ deadline ─▶ service ─▶ reason for bare errors ─▶ measured, logged
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anabranch_runtime::{Clock, Deadline};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::admission::{Admission, Hold};
use super::deadline;
use super::methods::{Method, Methods};
use super::observe::{Call, CallMetrics};
use crate::errors::{self, Reason, ServiceError};

/// What the guard works with.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Every method there is.
    pub methods: Arc<Methods>,
    /// How much is taken at once.
    pub admission: Admission,
    /// What is measured.
    pub metrics: CallMetrics,
    /// The time a single call gets when its caller does not say.
    pub default_deadline: Duration,
    /// The time a single call gets at most, but for those of an operator.
    pub deadline_max: Duration,
    /// Cancelled when the server drains.
    pub draining: CancellationToken,
}

/// The guard, as a layer around the services.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let method = guard.methods.find(&path);
    let mut call = Call::arrived(
        guard.metrics.clone(),
        guard.clock.clone(),
        // Names that do not exist are one label together: callers must not be able to make metrics.
        method.map_or("_OTHER", |method| method.name),
        method.is_some_and(|method| method.health),
    );
    let Some(method) = method else {
        return refused(call, not_found(&guard.methods, &path));
    };
    let streams = method.streams;
    let (request, holds, deadline) = match guard.admit(request, method) {
        Ok(admitted) => admitted,
        Err(error) => return refused(call, error),
    };
    let answer = match deadline {
        Some((deadline, asked)) if !streams => match deadline.bound(&*guard.clock, next.run(request)).await {
            Some(answer) => answer,
            None => return refused(call, too_late(asked)),
        },
        _ => next.run(request).await,
    };
    let answer = dressed(answer, &path);
    note(&mut call, answer.headers());
    let (parts, inner) = answer.into_parts();
    let held = Held {
        inner,
        call,
        _holds: holds,
    };
    Response::from_parts(parts, Body::new(held))
}

type Admitted = (
    Request,
    (Option<OwnedSemaphorePermit>, Option<Hold>),
    Option<(Deadline, Duration)>,
);

impl Guard {
    fn admit(&self, mut request: Request, method: &Method) -> Result<Admitted, ServiceError> {
        let streams = method.streams;
        let longest = (!method.operates).then_some(self.deadline_max);
        if method.health {
            return Ok((request, (None, None), None));
        }
        if self.draining.is_cancelled() {
            let problem = "server is shutting down and takes no more requests";
            return Err(ServiceError::new(Reason::ServerDraining, problem));
        }
        let permit = self.admission.call()?;
        let asked = deadline::asked(request.headers())?;
        let time = match asked {
            // A stream lasts as long as its caller likes.
            Some(asked) if streams => Some((deadline::budget(asked), asked)),
            None if streams => None,
            asked => Some(deadline::granted(asked, self.default_deadline, longest)),
        };
        let deadline = time.map(|(budget, asked)| (Deadline::after(&*self.clock, budget), asked));
        if let Some((deadline, _)) = deadline {
            request.extensions_mut().insert(deadline);
        }
        if streams {
            // A stream's service bounds what it holds itself.
            return Ok((request, (Some(permit), None), deadline));
        }
        let (parts, body) = request.into_parts();
        let (body, hold) = self.admission.count(body);
        Ok((
            Request::from_parts(parts, body),
            (Some(permit), Some(hold)),
            deadline,
        ))
    }
}

fn not_found(methods: &Methods, path: &str) -> ServiceError {
    let name = path.trim_start_matches('/');
    let hint = errors::did_you_mean(name, methods.names());
    ServiceError::new(Reason::MethodNotFound, format!("no method `{name}`{hint}"))
        .with("method", name)
        .with("hint", hint)
}

fn too_late(asked: Duration) -> ServiceError {
    let timeout = format!("{}s", asked.as_secs_f64());
    ServiceError::new(
        Reason::DeadlineExceeded,
        format!("not finished within {timeout}; a write may have happened or not"),
    )
    .with("timeout", timeout)
}

fn refused(mut call: Call, error: ServiceError) -> Response {
    call.ended(error.reason.entry().code, Some(error.reason), &error.message);
    Status::from(error).into_http()
}

/// Gives an error of the transport a reason of ours.
fn dressed(answer: Response, path: &str) -> Response {
    let bare = answer.headers().contains_key("grpc-status")
        && !answer.headers().contains_key("grpc-status-details-bin");
    match Status::from_header_map(answer.headers()) {
        Some(status) if bare && status.code() != Code::Ok => errors::dress(status, path).into_http(),
        _ => answer,
    }
}

fn note(call: &mut Call, headers: &HeaderMap) {
    if let Some(status) = Status::from_header_map(headers) {
        call.ended(status.code(), errors::reason_of(&status), status.message());
    }
}

/// An answer on its way out: what its call holds is let go when it has left.
struct Held {
    inner: Body,
    call: Call,
    _holds: (Option<OwnedSemaphorePermit>, Option<Hold>),
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            note(&mut this.call, trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
