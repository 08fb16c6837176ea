//! Counters as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::Write;

use crate::health::Health;
use crate::metrics::Snapshot;

/// The media type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Snapshot {
    /// All counters in Prometheus' text format 0.0.4: names begin with `webscale_`, units stand in them, and what has parts
    /// has a label for them (`webscale_connections_closed_total{cause="timeout"} 7`). Each line gets `labels` too, names and
    /// values: for one process of several, its number. What a name may consist of, the caller sees to (`[a-z_]+`); values
    /// are escaped.
    ///
    /// ```
    /// let text = webscale::Snapshot::default().prometheus(&[("pid", "4711")]);
    /// assert!(text.contains("webscale_connections{pid=\"4711\"} 0\n"));
    /// ```
    #[must_use]
    pub fn prometheus(&self, labels: &[(&str, &str)]) -> String {
        let mut page = Page::new(labels);
        page.connections(self);
        page.traffic(self);
        page.text
    }
}

/// The counters with the state of health.
pub(crate) fn page(metrics: &Snapshot, health: &Health, labels: &[(&str, &str)]) -> String {
    let mut page = Page::new(labels);
    let stuck = match health {
        Health::Stuck(threads) => threads.len() as u64,
        _ => 0,
    };
    page.gauge(
        "healthy",
        "1 where nothing is stuck, overloaded or shutting down.",
        health.is_healthy().into(),
    );
    page.gauge("stuck_threads", "Loops and workers that have been busy for too long.", stuck);
    page.connections(metrics);
    page.traffic(metrics);
    page.text
}

struct Page {
    text: String,
    /// What stands in every sample's braces.
    labels: String,
}

impl Page {
    fn new(labels: &[(&str, &str)]) -> Self {
        let labels: Vec<String> = labels.iter().map(|(name, value)| label(name, value)).collect();
        Self { text: String::with_capacity(8 * 1024), labels: labels.join(",") }
    }

    fn connections(&mut self, metrics: &Snapshot) {
        self.gauge("connections", "TCP connections that exist now.", metrics.connections);
        self.counter("connections_accepted", "TCP connections accepted.", metrics.accepted);
        self.counter("connections_begun", "TCP connections begun by this side.", metrics.connected);
        self.parts("connections_closed", "Connections that ended, by cause.", "cause", metrics.closes());
        let help = "Connections closed at accept, by the limit that was reached.";
        self.parts("connections_refused", help, "limit", metrics.refusals());
        let help = "Times that accepting was paused for want of descriptors.";
        self.counter("accept_pauses", help, metrics.accept_pauses);
        let help = "Times that accepting was paused because too much is held.";
        self.counter("memory_pauses", help, metrics.memory_pauses);
        let help = "TLS handshakes that resumed an earlier session.";
        self.counter("tls_sessions_resumed", help, metrics.resumed);
        let reloads =
            [("changed", metrics.certificate_reloads), ("refused", metrics.certificate_reloads_failed)];
        self.parts("certificate_reloads", "Certificates read again.", "result", reloads.into_iter());
        self.counter("handshakes_opened", "Opening handshakes that ended well.", metrics.opened);
        let help = "Opening handshakes answered with another status than 101.";
        self.parts("handshakes_rejected", help, "status", metrics.rejections());
        self.counter("http_requests", "Plain HTTP requests answered by the handler.", metrics.http);
        self.counter("handler_panics", "Panics of the handler that were caught.", metrics.panics);
    }

    fn traffic(&mut self, metrics: &Snapshot) {
        self.gauge("held_bytes", "Bytes held for clients now.", metrics.held_bytes);
        self.counter("received_bytes", "Bytes received from sockets, TLS included.", metrics.bytes_in);
        self.counter("sent_bytes", "Bytes that sockets took, TLS included.", metrics.bytes_out);
        self.counter("messages_received", "Messages given to the handler.", metrics.messages_in);
        self.counter("messages_sent", "Messages sent by handler and senders.", metrics.messages_out);
        let help = "Messages not sent: the peer did not read, or they were too long.";
        self.counter("messages_dropped", help, metrics.messages_dropped);
        let help = "Messages that were sent, and dropped for newer ones before the socket had them.";
        self.counter("messages_displaced", help, metrics.messages_displaced);
        self.counter("inflated_messages", "Messages that came compressed.", metrics.inflated_messages);
        let help = "Bytes of their payload as they came.";
        self.counter("inflated_compressed_bytes", help, metrics.inflated_from_bytes);
        let help = "Bytes of their payload as the handler got it.";
        self.counter("inflated_bytes", help, metrics.inflated_to_bytes);
        self.counter("deflated_messages", "Messages sent compressed.", metrics.deflated_messages);
        let help = "Bytes of their payload as the handler gave it.";
        self.counter("deflated_bytes", help, metrics.deflated_from_bytes);
        let help = "Bytes of their payload as they were sent.";
        self.counter("deflated_compressed_bytes", help, metrics.deflated_to_bytes);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        self.sample(&name, "", value);
    }

    /// A counter told apart by a label.
    fn parts<'a>(&mut self, name: &str, help: &str, by: &str, parts: impl Iterator<Item = (&'a str, u64)>) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        for (part, value) in parts {
            self.sample(&name, &label(by, part), value);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP webscale_{name} {help}\n# TYPE webscale_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, own: &str, value: u64) {
        let separator = if own.is_empty() || self.labels.is_empty() { "" } else { "," };
        let labels = format!("{own}{separator}{}", self.labels);
        let _ = match labels.as_str() {
            "" => writeln!(self.text, "webscale_{name} {value}"),
            labels => writeln!(self.text, "webscale_{name}{{{labels}}} {value}"),
        };
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::close::CloseKind;
    use crate::health::{ServerThread, Stuck};
    use crate::metrics::Metrics;

    /// Values by what stands before them; panics where the format is broken.
    fn parse(text: &str) -> HashMap<String, u64> {
        let (mut samples, mut families, mut announced) = (HashMap::new(), HashSet::new(), None);
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("words");
                assert!(words.len() > 5 && families.insert(name.to_owned()), "{line}");
                announced = Some((name, None));
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(announced, Some((name, None)), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                announced = Some((name, Some(kind)));
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let name = series.split_once('{').map_or(series, |(name, _)| name);
                assert!(announced.is_some_and(|(of, kind)| of == name && kind.is_some()), "{line}");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                assert!(samples.insert(series.to_owned(), value.parse().expect(line)).is_none(), "{line}");
            }
        }
        samples
    }

    #[test]
    fn every_counter_is_there_once_under_its_own_value() {
        // Each field another value, whatever fields there are.
        let metrics = Metrics::default();
        metrics.accepted.add(1000);
        metrics.count_close(CloseKind::Timeout);
        let mut snapshot = Snapshot::default();
        snapshot.add(&metrics);
        let debug = format!("{snapshot:?}");
        let samples = parse(&snapshot.prometheus(&[]));
        // What Debug shows of plain fields, less the two sums that stand by their parts.
        let fields = debug.matches(": ").count() - debug.matches("[").count();
        let plain =
            samples.keys().filter(|series| !series.contains('{') || series.contains("result=")).count();
        assert_eq!(plain, fields - 2, "a counter of Snapshot stands in no line of this file: {debug}");
        assert_eq!(samples["webscale_connections"], 999);
        assert_eq!(samples["webscale_connections_accepted_total"], 1000);
        assert_eq!(samples["webscale_connections_closed_total{cause=\"timeout\"}"], 1);
        let causes = samples.keys().filter(|series| series.contains("closed_total{cause=")).count();
        assert_eq!(causes, CloseKind::COUNT);
    }

    #[test]
    fn labels_stand_in_every_sample_and_are_escaped() {
        let text = Snapshot::default().prometheus(&[("pid", "7"), ("place", "a\"b\\c\nd")]);
        let common = "pid=\"7\",place=\"a\\\"b\\\\c\\nd\"}";
        let samples = parse(&text);
        assert!(samples.keys().all(|series| series.ends_with(common)), "{text}");
        assert!(samples.contains_key(&format!("webscale_connections_closed_total{{cause=\"peer\",{common}")));
    }

    #[test]
    fn health_stands_beside_the_counters() {
        let lasting = std::time::Duration::from_secs(9);
        let one = Stuck { thread: ServerThread::Worker(1), lasting, connection: None };
        let red = parse(&page(&Snapshot::default(), &Health::Stuck(vec![one.clone(), one]), &[]));
        assert_eq!((red["webscale_healthy"], red["webscale_stuck_threads"]), (0, 2));
        let green = parse(&page(&Snapshot::default(), &Health::Healthy, &[]));
        assert_eq!((green["webscale_healthy"], green["webscale_stuck_threads"]), (1, 0));
    }
}
