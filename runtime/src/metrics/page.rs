//! What is answered at each path.

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use super::look::Look;
use super::sample::Sample;
use super::{Metrics, Settings};

/// The driver's loop comes round in milliseconds; one that does not for so long hangs.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// What the names of all metrics begin with.
const PREFIX: &str = "turnip";

/// All pages.
pub(super) struct Page {
    settings: Settings,
    metrics: Metrics,
    counters: Registry,
}

impl Page {
    pub(super) fn new(settings: Settings, metrics: Metrics) -> Self {
        let mut counters = registry(&settings);
        metrics.counters.register(&mut counters);
        Page { settings, metrics, counters }
    }

    /// The answer to a request.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Response<String> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "read only: GET or HEAD\n");
        }
        let respond: fn(&Page, Look) -> Response<String> = match path {
            "/metrics" => Page::metrics,
            "/healthz" => |_, _| plain(StatusCode::OK, "alive\n"),
            "/readyz" => |_, look| readiness(&look),
            _ => return plain(StatusCode::NOT_FOUND, "/metrics, /healthz and /readyz are here\n"),
        };
        match self.metrics.looks.ask(LOOK_WITHIN).await {
            Some(look) => respond(self, look),
            None => {
                let why = format!("the daemon's loop did not come round within {LOOK_WITHIN:?}\n");
                plain(StatusCode::SERVICE_UNAVAILABLE, why)
            }
        }
    }

    fn metrics(&self, look: Look) -> Response<String> {
        text(StatusCode::OK, prometheus_text::CONTENT_TYPE, self.text(look))
    }

    pub(super) fn text(&self, look: Look) -> String {
        let seen = match look {
            Look::Waiting => None,
            Look::Running(seen) => Some(seen),
        };
        let (settings, watched) = (self.settings.clone(), self.metrics.outside.get());
        let mut sample = registry(&settings);
        sample.register_collector(Box::new(Sample { settings, seen, watched }));
        let mut text = String::new();
        for registry in [&self.counters, &sample] {
            prometheus_text::encode(&mut text, registry).expect("a text takes all that is written");
        }
        text
    }
}

/// Every metric says of which cluster and node it is.
fn registry(settings: &Settings) -> Registry {
    let label = |name: &'static str, value: &str| (Cow::from(name), Cow::from(value.to_owned()));
    let cluster = label("cluster", settings.cluster.as_str());
    let node = label("node", settings.node.as_str());
    Registry::with_prefix_and_labels(PREFIX, [cluster, node].into_iter())
}

fn readiness(look: &Look) -> Response<String> {
    let missing = match look {
        Look::Waiting => vec!["waiting for etcd".to_owned()],
        Look::Running(seen) => seen.missing(),
    };
    if missing.is_empty() {
        return plain(StatusCode::OK, "ready\n");
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
}

fn plain(status: StatusCode, words: impl Into<String>) -> Response<String> {
    text(status, "text/plain; charset=utf-8", words.into())
}

fn text(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
