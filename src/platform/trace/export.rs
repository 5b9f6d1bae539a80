//! Steps of traces to an OpenTelemetry collector: OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Steps wait in a queue of limited size and go out together from a thread of their own: a collector that is slow or away costs
//! steps, never a request. Read from the environment, as everywhere, are `OTEL_SDK_DISABLED`, `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME` and `OTEL_BSP_*`.

use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use clap::Args;
use opentelemetry::{
    InstrumentationScope, Key, SpanId,
    trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState},
};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _},
};
use thiserror::Error;

use super::Over;

/// How long one attempt to hand steps over may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long the last ones may take, when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// Where a collector takes traces, below its address (OTLP/HTTP, "Default URLs").
const PATH: &str = "/v1/traces";

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Where steps go.
#[derive(Args, Clone, Debug)]
pub struct Export {
    /// OpenTelemetry collector to send traces to, by OTLP over HTTP, for example <http://collector:4318>; none when not given
    // Checked in `start`: the command line's own errors repeat a value, and this one may hold a password.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// A collector that cannot be used.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The address.
    #[error("--otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT): {0}")]
    Address(&'static str),
    /// Another setting of the environment.
    #[error("--otlp-endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
}

struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    share: f64,
}

/// Has steps sent from here on, if a collector was given. `service` is what collectors know the process by; of the traces that begin
/// here, `share` (0 to 1) are sent.
///
/// # Errors
/// When the address or the environment's settings make no sense. Nothing is connected to yet.
pub fn start(service: &'static str, export: &Export, share: f64) -> Result<(), ExportError> {
    let Some(endpoint) = export.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok(());
    };
    check(endpoint).map_err(ExportError::Address)?;
    if env::var("OTEL_SDK_DISABLED").is_ok_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
        return Ok(());
    }
    let url = format!("{}{PATH}", endpoint.trim_end_matches('/'));
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(url).with_timeout(ATTEMPT).build()?;
    let mut processor = BatchSpanProcessor::builder(Telling { exporter, away: AtomicBool::new(false) }).build();
    processor.set_resource(&resource(service));
    let scope = InstrumentationScope::builder(service).with_version(env!("CARGO_PKG_VERSION")).build();
    // Started twice, the first one stays.
    let _ = EXPORTER.set(Exporter { processor, scope, share });
    tracing::info!(endpoint, "traces are sent to a collector");
    Ok(())
}

/// What collectors learn of the process. A name that the environment gives, in either of two variables, stays.
fn resource(service: &'static str) -> Resource {
    let found = Resource::builder().build();
    match found.get(&Key::from_static_str("service.name")) {
        Some(name) if !name.as_str().starts_with("unknown_service") => found,
        _ => Resource::builder().with_service_name(service).build(),
    }
}

/// Whether steps are sent.
pub(super) fn is_on() -> bool {
    EXPORTER.get().is_some()
}

/// Whether a trace that begins here with this id is one of those that are sent.
pub(super) fn samples(id: u128) -> bool {
    EXPORTER.get().is_some_and(|exporter| is_among(exporter.share, id))
}

/// By the id, as OpenTelemetry's own samplers do, whose lower bits are random.
#[allow(clippy::cast_precision_loss)] // one in 2^53 does not matter
fn is_among(share: f64, id: u128) -> bool {
    share >= 1.0 || ((id & u128::from(u64::MAX)) as f64 / u64::MAX as f64) < share
}

/// Has a step sent that is over now, if its trace is.
pub fn record(over: Over) {
    let Over { trace, name, answers, began, failed, attributes } = over;
    let Some(exporter) = EXPORTER.get().filter(|_| trace.is_sent()) else { return };
    exporter.processor.on_end(SpanData {
        span_context: SpanContext::new(trace.id, trace.span, TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: trace.parent,
        parent_span_is_remote: answers && trace.parent != SpanId::INVALID,
        span_kind: if answers { SpanKind::Server } else { SpanKind::Internal },
        name: name.into(),
        start_time: began,
        end_time: SystemTime::now().max(began),
        attributes,
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: if failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: exporter.scope.clone(),
    });
}

/// Sends what still waits. Blocks for two seconds at most.
pub fn stop() {
    if let Some(exporter) = EXPORTER.get() {
        let _ = exporter.processor.shutdown_with_timeout(LAST);
    }
}

/// Says in the log when a collector is away, and when it is there again.
#[derive(Debug)]
struct Telling {
    exporter: opentelemetry_otlp::SpanExporter,
    away: AtomicBool,
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let steps = batch.len();
        let result = self.exporter.export(batch).await;
        let was_away = self.away.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_away => {
                tracing::warn!(%error, steps, "the collector takes no traces; what it does not take is lost");
            }
            Ok(()) if was_away => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// An address as `http://HOST:PORT`; or nothing, as templates do. It is logged, so nothing secret may be in it.
fn check(endpoint: &str) -> Result<(), &'static str> {
    let url =
        reqwest::Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or("it must be an http:// or https:// URL such as http://collector:4318")?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("it must have no user, password or query; give them as headers in OTEL_EXPORTER_OTLP_HEADERS");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check, is_among};

    #[test]
    fn bad_addresses_are_refused_with_what_would_do() {
        for good in ["http://collector:4318", "https://collector.example/otlp/"] {
            assert_eq!(check(good), Ok(()));
        }
        for bad in ["collector:4318", "grpc://collector:4317", "http://"] {
            assert!(check(bad).unwrap_err().contains("http://collector:4318"), "{bad}");
        }
        for bad in ["https://a:secret@collector", "https://secret@collector", "https://collector/?key=secret"] {
            let said = check(bad).unwrap_err();
            assert!(said.contains("OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("secret"), "{bad}: {said}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_sent() {
        let sent = |share: f64| (0..4000).filter(|_| is_among(share, fastrand::u128(1..))).count();
        assert_eq!((sent(0.0), sent(1.0)), (0, 4000));
        assert!((800..1200).contains(&sent(0.25)), "about a quarter");
    }
}
