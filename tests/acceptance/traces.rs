//! One trace from a caller over the gateway to the bridge: the same id in both logs, and its steps at a collector.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, time::timeout};
use whatsapp_operator::platform::hex::hex;

use crate::{
    gateway::world,
    gateway_messages::{connected, until_primary},
    support::gateway::{ALL_VERBS, Rest, account, answered, until},
};

/// The lines of a log that are about this request and answered.
fn line<'a>(log: &'a str, part: &str) -> &'a str {
    log.lines()
        .find(|line| line.contains(part) && line.contains("answered"))
        .unwrap_or_else(|| panic!("no line with {part}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_in_the_logs_of_gateway_and_bridge() {
    let phone = "+15550480001";
    let world = world("traces").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    let send = async |trace: Option<&str>, id: &str| {
        let body = json!({"session_id": session, "recipient": "+15550480009", "message": "Hello"});
        let mut request = rest.request("POST", "/api/v1/messages/send/?wait=20").bearer_auth(&token).json(&body);
        request = request.header("x-request-id", id);
        if let Some(trace) = trace {
            request = request.header("traceparent", trace);
        }
        answered(request).await.data(200);
    };
    let field = |line: &str, name: &str| -> String {
        let line: Value = serde_json::from_str(line).unwrap();
        line[name].as_str().unwrap_or_else(|| panic!("{name}: {line}")).to_owned()
    };

    let id = "0af7651916cd43dd8448eb211c80319c";
    send(Some(&format!("00-{id}-b7ad6b7169203331-01")), "traced").await;
    let gateway = rest.program.log();
    let own = line(&gateway, "\"traced\"");
    assert_eq!(field(own, "trace"), id);
    let span = field(own, "span");
    assert_ne!(span, "b7ad6b7169203331", "a step of its own");
    // The bridge logs as text, and what was asked to be recorded at level info.
    let bridge = world.bridge.log();
    let theirs = line(&bridge, id);
    assert!(theirs.contains("INFO") && !theirs.contains(&span), "{theirs}");

    // Without one, or with one that cannot be read, a trace begins at the gateway.
    send(None, "untraced").await;
    send(Some(&format!("00-{id}-b7ad6b7169203331")), "unreadable").await;
    let (gateway, bridge) = (rest.program.log(), world.bridge.log());
    for request in ["untraced", "unreadable"] {
        let trace = field(line(&gateway, &format!("\"{request}\"")), "trace");
        assert!(trace.len() == 32 && trace != id, "{request}: {trace}");
        assert!(line(&bridge, &trace).contains("DEBUG"), "{request}");
    }
    world.nothing_leaked(&[phone, "+15550480009"]).await;
    rest.nothing_leaked(&world, &[phone, "+15550480009"], &[&token]).await;
}

/// A collector that keeps what it is sent.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    came: Arc<Notify>,
}

impl Collector {
    async fn start() -> Self {
        let (spans, came) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Notify>::default());
        let (kept, tell) = (Arc::clone(&spans), Arc::clone(&came));
        let take = async move |body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for group in request.resource_spans {
                let resource = group.resource.unwrap_or_default();
                let service = attribute(&resource.attributes, "service.name").unwrap();
                let of_one = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                kept.lock().unwrap().extend(of_one.map(|span| (service.clone(), span)));
            }
            tell.notify_one();
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, spans, came }
    }

    /// The spans of a trace, by service and name, once all of these are there.
    async fn trace(&self, id: &str, wanted: &[(&str, &str)]) -> BTreeMap<(String, String), Span> {
        loop {
            let found: BTreeMap<_, _> = {
                let spans = self.spans.lock().unwrap();
                let of_it = spans.iter().filter(|(_, span)| hex(&span.trace_id) == id);
                of_it.map(|(service, span)| ((service.clone(), span.name.clone()), span.clone())).collect()
            };
            if wanted.iter().all(|(service, name)| found.contains_key(&((*service).to_owned(), (*name).to_owned()))) {
                return found;
            }
            timeout(PATIENCE, self.came.notified()).await.unwrap_or_else(|_| panic!("of {id} came {:?}", found.keys()));
        }
    }
}

const GATEWAY: (&str, &str) = ("whatsapp-operator-gateway", "POST /api/v1/messages/send/");
const BRIDGE: (&str, &str) = ("whatsapp-bridge", "PUT /v1/sessions/{id}/messages/{message}");
const SENT: (&str, &str) = ("whatsapp-bridge", "send");

/// Steps go out every five seconds at the latest.
const PATIENCE: Duration = Duration::from_secs(60);

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match found {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_one_trace_from_the_gateway_over_the_bridge_to_the_ack() {
    let phone = "+15550480011";
    let collector = Collector::start().await;
    let mut world = world("traces-exported").await;
    world.bridge.stop();
    world.bridge.add(["--otlp-endpoint", &collector.url]);
    world.restart_bridge().await;
    // Of those that begin here, none; of those that a caller began, all that the caller wants.
    let mut rest = Rest::start(&world, &["--otlp-endpoint", &collector.url, "--otlp-share", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    let ids = [
        "0af7651916cd43dd8448eb211c803101",
        "0af7651916cd43dd8448eb211c803102",
        "0af7651916cd43dd8448eb211c803103",
        "0af7651916cd43dd8448eb211c803104",
    ];
    let send = async |flags: &str, id: &str, recipient: &str| {
        let body = json!({"session_id": session, "recipient": recipient, "message": "Hello"});
        let request = rest.request("POST", "/api/v1/messages/send/?wait=20").bearer_auth(&token).json(&body);
        answered(request.header("traceparent", format!("00-{id}-b7ad6b7169203331-{flags}"))).await
    };
    send("00", ids[0], "+15550480019").await.data(200);
    send("01", ids[1], "nobody").await.refused(422, "Invalid");
    let message = send("01", ids[2], "+15550480019").await.data(200)["id"].as_str().unwrap().to_owned();

    let spans = collector.trace(ids[2], &[GATEWAY, BRIDGE, SENT]).await;
    let of = |(service, name): (&str, &str)| &spans[&(service.to_owned(), name.to_owned())];
    let (gateway, bridge, sent) = (of(GATEWAY), of(BRIDGE), of(SENT));
    assert_eq!(hex(&gateway.parent_span_id), "b7ad6b7169203331");
    assert_eq!((&bridge.parent_span_id, &sent.parent_span_id), (&gateway.span_id, &bridge.span_id));
    assert_eq!(
        (gateway.kind, bridge.kind, sent.kind),
        (SpanKind::Server.into(), SpanKind::Server.into(), SpanKind::Internal.into())
    );
    assert!(spans.values().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    assert_eq!(attribute(&gateway.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert!(message.ends_with(&attribute(&sent.attributes, "messaging.message.id").unwrap()), "{message}");
    assert_eq!(attribute(&sent.attributes, "whatsapp.message.state").as_deref(), Some("Sent"));
    let refused = collector.trace(ids[1], &[GATEWAY]).await;
    let refused = refused.values().next().unwrap();
    assert_eq!(attribute(&refused.attributes, "error.type").as_deref(), Some("Invalid"));

    // Whoever shows no good token does not decide what is sent.
    let stranger = format!("00-{}5-b7ad6b7169203331-01", &ids[0][..31]);
    let request = rest.request("GET", "/api/v1/sessions/list/").bearer_auth("nobody's").header("traceparent", stranger);
    answered(request).await.refused(401, "Unauthorized");

    // What still waits goes out when they end; and what nobody wanted never came.
    send("01", ids[3], "+15550480019").await.data(200);
    rest.program.stop();
    world.bridge.stop();
    collector.trace(ids[3], &[GATEWAY, BRIDGE, SENT]).await;
    let spans = collector.spans.lock().unwrap().clone();
    let sent: BTreeSet<String> = spans.iter().map(|(_, span)| hex(&span.trace_id)).collect();
    let wanted = [ids[1], ids[2], ids[3]];
    assert_eq!(sent, wanted.map(str::to_owned).into());
    let all = format!("{spans:?}");
    for secret in [&phone[1..], "15550480019", "nobody", "Hello", &token, "system:serviceaccount"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_steps_and_nothing_else() {
    let world = world("traces-away").await;
    // Nothing listens there.
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rest = Rest::start(&world, &["--otlp-endpoint", &format!("http://{nowhere}")]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    rest.call(&token, "GET", "/api/v1/sessions/list/", Value::Null).await.data(200);
    let said = || rest.program.log().contains("the collector takes no traces");
    until("the log says that the collector is away", async || said()).await;
    rest.call(&token, "GET", "/api/v1/sessions/list/", Value::Null).await.data(200);
}
