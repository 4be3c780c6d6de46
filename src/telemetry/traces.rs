//! Traces by OTLP over HTTP: one span an exchange, with its stages, below the caller's where the caller names it.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::TokioCurrentThread;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::str::FromStr;
use std::time::Duration;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// Time limit of an export.
const PATIENCE: Duration = Duration::from_secs(3);

/// The receiver of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The receiver, e.g. `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// The share of exchanges that are traced where the caller does not say, from 0 to 1.
    pub sample: f64,
}

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be exported to `{0}`: {1}")]
pub struct TracingError(String, String);

/// The exporter of traces. Spans wait in a bounded queue: a receiver that is down costs traces and nothing else.
#[derive(Debug)]
pub struct Tracing {
    provider: SdkTracerProvider,
}

impl Tracing {
    /// Starts to export.
    ///
    /// # Errors
    /// [`TracingError`] when the endpoint is no URL.
    pub fn start(traces: &Traces) -> Result<Self, TracingError> {
        // As for issuers' keys: no proxy of the environment, no redirect.
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        let client = client.build().map_err(|fault| TracingError(traces.endpoint.clone(), fault.to_string()))?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", traces.endpoint.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .with_http_client(client)
            .build()
            .map_err(|fault| TracingError(traces.endpoint.clone(), fault.to_string()))?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.sample)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter, TokioCurrentThread).build())
            .with_sampler(sampler)
            .with_resource(Resource::builder_empty().with_service_name("countersign").build())
            .build();
        Ok(Self { provider })
    }

    /// Exports what still waits, and stops. Blocks until then.
    pub fn stop(self) {
        let _ = self.provider.shutdown();
    }

    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let exchanges =
            |metadata: &Metadata<'_>| matches!(metadata.target(), "countersign::exchange" | "countersign::stage");
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("countersign"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(exchanges))
    }
}

/// The caller's span, from `traceparent` (W3C Trace Context §3.2). What is no such header is no span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(SpanContext);

impl FromStr for TraceParent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version @ "00", trace, span, flags] = parts[..] else { return Err(()) };
        let hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if !(hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
            return Err(());
        }
        let context = SpanContext::new(
            TraceId::from_hex(trace).map_err(drop)?,
            SpanId::from_hex(span).map_err(drop)?,
            TraceFlags::new(u8::from_str_radix(flags, 16).map_err(drop)? & 1),
            true,
            TraceState::NONE,
        );
        if context.is_valid() { Ok(Self(context)) } else { Err(()) }
    }
}

/// Makes `span` a child of the caller's.
pub fn adopt(span: &Span, parent: &TraceParent) {
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent.0.clone()));
}
