//! Traces, for an OpenTelemetry collector: what requests, passes and calls to the key store took, and how they ended. Until
//! [`begin`] they are off, and all that each of them costs is to see that.
//!
//! Spans have ids of keys and requests, names of our own objects, and words of bounded sets, and nothing else: nothing that
//! was in a request, no Secret's name, no access key's id. The log knows nothing of them.

use std::{borrow::Cow, future::Future, sync::OnceLock};

use futures::future::Either;
use opentelemetry::{
    Context,
    context::{FutureExt, WithContext},
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracer};

pub use opentelemetry::KeyValue;

/// What makes spans, once there is somebody to send them to.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The header that says which span of the caller a request is a part of (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Has spans made from now on. They can't be turned off any more. A second call changes nothing.
pub fn begin(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// Something that takes its time. It ends at the latest when it and everything [`within`] it is dropped.
#[derive(Clone, Debug)]
pub struct Span(Context);

impl Span {
    /// A span of this name in the one that this is called within. None: traces are off.
    pub fn begin<N: Into<Cow<'static, str>>>(name: impl FnOnce() -> N) -> Option<Self> {
        TRACER.get().map(|tracer| Self::under(tracer, name().into(), SpanKind::Internal, &Context::current()))
    }

    /// The span of a request, with the value of its header `traceparent` if there is one: the caller's span, which is its
    /// parent, and may say that it is not to be sent. None: traces are off.
    pub fn of_request<'h>(name: &'static str, header: impl FnOnce(&'static str) -> Option<&'h str>) -> Option<Self> {
        let tracer = TRACER.get()?;
        // Not `tracestate`: any text of the caller's would be sent on.
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Caller(header(TRACEPARENT)));
        Some(Self::under(tracer, name.into(), SpanKind::Server, &parent))
    }

    fn under(tracer: &SdkTracer, name: Cow<'static, str>, kind: SpanKind, parent: &Context) -> Self {
        let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        Self(parent.with_span(span))
    }

    /// Gives it another name, now that more is known.
    pub fn rename(&self, name: impl Into<Cow<'static, str>>) {
        self.0.span().update_name(name);
    }

    /// Says more about it.
    pub fn describe(&self, attributes: impl IntoIterator<Item = KeyValue>) {
        self.0.span().set_attributes(attributes);
    }

    /// Ends it. `failed`: something here is wrong, or elsewhere but at the caller's.
    pub fn end(self, result: &'static str, failed: bool) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("cmk.result", result));
        if failed {
            span.set_status(Status::error(result));
        }
        span.end();
    }
}

/// The caller's side of a trace, as its header has it.
struct Caller<'h>(Option<&'h str>);

impl Extractor for Caller<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.map(|_| TRACEPARENT).into_iter().collect()
    }
}

/// The same work, as a part of this span: what it begins is in it.
pub fn within<F: Future>(span: Option<&Span>, work: F) -> Either<F, WithContext<F>> {
    match span {
        None => Either::Left(work),
        Some(span) => Either::Right(work.with_context(span.0.clone())),
    }
}
