//! Which request from outside a piece of work belongs to, across processes: W3C trace context (`traceparent`,
//! <https://www.w3.org/TR/trace-context/>). It is passed on and logged, and its steps can be sent to a collector ([`export`]).

pub mod export;

use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::{KeyValue, SpanId, TraceFlags, TraceId};

/// The header that carries it.
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Trace;
}

/// One step (span) of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: TraceId,
    span: SpanId,
    /// The step that it is a part of.
    parent: SpanId,
    sampled: bool,
}

impl Trace {
    /// A trace that begins here.
    pub fn begin() -> Self {
        // All zeros would mean none.
        let id = fastrand::u128(1..);
        Self { id: id.into(), span: new_span(), parent: SpanId::INVALID, sampled: export::samples(id) }
    }

    /// What the caller says it belongs to, if that can be read. A later version begins as version 00 does.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
    }

    /// The same of the header's text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let fits = hex(version, 2) && hex(id, 32) && hex(span, 16) && hex(flags, 2);
        if !fits || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let (id, span) = (TraceId::from_hex(id).ok()?, SpanId::from_hex(span).ok()?);
        if id == TraceId::INVALID || span == SpanId::INVALID {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        Some(Self { id, span, parent: SpanId::INVALID, sampled: flags.is_sampled() })
    }

    /// The next step of the same trace, a part of this one.
    #[must_use]
    pub fn step(&self) -> Self {
        Self { span: new_span(), parent: self.span, ..*self }
    }

    /// The trace's id, the same in all processes.
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// This step's own id.
    pub fn span(&self) -> String {
        self.span.to_string()
    }

    /// Whether the process that began it wants it recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// Whether its steps are sent to a collector.
    pub fn is_sent(&self) -> bool {
        self.sampled && export::is_on()
    }

    /// As the header says it.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.id, self.span, u8::from(self.sampled))
    }
}

fn new_span() -> SpanId {
    fastrand::u64(1..).into()
}

/// A step that is over, as a collector gets it.
#[derive(Debug)]
pub struct Over {
    /// Which step.
    pub trace: Trace,
    /// What was done, from a small set of names: a method and a route, for instance.
    pub name: String,
    /// Whether it was the answer to a request of another process.
    pub answers: bool,
    /// When it began. It ends now.
    pub began: SystemTime,
    /// Whether it failed for want of something on our side.
    pub failed: bool,
    /// More about it; nothing that is secret or personal.
    pub attributes: Vec<KeyValue>,
}

impl Over {
    /// The answer to a request, which took so long, named as in OpenTelemetry's semantic conventions.
    pub fn answer(trace: Trace, took: Duration, method: &str, route: &str, status: u16) -> Self {
        let now = SystemTime::now();
        Self {
            trace,
            name: format!("{method} {route}"),
            answers: true,
            began: now.checked_sub(took).unwrap_or(now),
            failed: status >= 500,
            attributes: vec![
                KeyValue::new("http.request.method", method.to_owned()),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("http.response.status_code", i64::from(status)),
            ],
        }
    }
}

/// Does `work` as a part of this step, if there is one.
pub async fn within<T>(trace: Option<Trace>, work: impl Future<Output = T>) -> T {
    match trace {
        Some(trace) => CURRENT.scope(trace, work).await,
        None => work.await,
    }
}

/// The step that this task's work is a part of.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(|trace| *trace).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Trace> {
        Trace::of(&[(TRACEPARENT, text)].iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect())
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_is_passed_on_under_its_id_with_a_step_of_its_own() {
        let trace = of(GOOD).unwrap();
        assert_eq!(trace.header(), GOOD);
        let step = trace.step();
        assert_eq!((step.id().as_str(), step.is_sampled()), ("0af7651916cd43dd8448eb211c80319c", true));
        assert_ne!(step.span(), trace.span());
        assert_eq!(step.parent, trace.span);
        let own = Trace::begin();
        assert_eq!(of(&own.header()), Some(own));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(of(&GOOD.replacen("00", "01", 1)).is_some(), "a later version");
    }

    #[tokio::test]
    async fn work_knows_its_step() {
        assert_eq!(current(), None);
        let trace = Trace::begin();
        assert_eq!(within(Some(trace), async { current() }).await, Some(trace));
        assert_eq!(within(None, async { current() }).await, None);
        assert_eq!(current(), None);
    }
}
