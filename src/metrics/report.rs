//! One reading of everything, and its text.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::meter::{BOUNDS_US, Distribution};
use super::table::{Kind, Metric};

/// The media type of [`Report::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Seconds, or a share of one.
    Real(f64),
    /// Of a histogram.
    Distribution(Box<Distribution>),
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Whole(u64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl From<Distribution> for Value {
    fn from(value: Distribution) -> Value {
        Value::Distribution(Box::new(value))
    }
}

/// Values of labels, in the order in which the table names them.
type Labels = Vec<String>;

/// One reading, in the table's order. What is not known is not there.
#[derive(Clone, Debug, Default)]
pub struct Report {
    samples: BTreeMap<Metric, Vec<(Labels, Value)>>,
}

impl Report {
    /// Adds a value without labels.
    pub fn add(&mut self, metric: Metric, value: impl Into<Value>) {
        self.labelled(metric, &[], value);
    }

    /// Adds a value under the labels that the table names, in that order.
    ///
    /// # Panics
    /// If they are not as many, or the same series is there already: a scraper would refuse all of it.
    pub fn labelled(&mut self, metric: Metric, labels: &[&str], value: impl Into<Value>) {
        assert_eq!(labels.len(), metric.labels().len(), "labels of {}", metric.name());
        let labels: Labels = labels.iter().map(|&value| value.to_owned()).collect();
        let series = self.samples.entry(metric).or_default();
        assert!(series.iter().all(|(other, _)| *other != labels), "{} twice", metric.name());
        series.push((labels, value.into()));
    }

    /// Whether there is a value of this metric.
    #[must_use]
    pub fn has(&self, metric: Metric) -> bool {
        self.samples.contains_key(&metric)
    }

    /// The text that is scraped, in the OpenMetrics format.
    #[must_use]
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::with_capacity(16 << 10);
        match text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(fmt::Error) => unreachable!("a string takes whatever is written to it"),
        }
    }
}

impl Collector for Report {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, series) in &self.samples {
            let (stem, unit) = stem(*metric);
            let kind = match metric.kind() {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut family = encoder.encode_descriptor(stem, metric.help(), unit.as_ref(), kind)?;
            for (values, value) in series {
                let labels: Vec<(&str, &str)> = metric
                    .labels()
                    .iter()
                    .copied()
                    .zip(values.iter().map(String::as_str))
                    .collect();
                if metric.kind() == Kind::Info {
                    family.encode_info(&labels)?;
                } else if labels.is_empty() {
                    sample(&mut family, metric.kind(), value)?;
                } else {
                    sample(&mut family.encode_family(&labels)?, metric.kind(), value)?;
                }
            }
        }
        Ok(())
    }
}

/// The name as the library wants it: without the suffix of its type, and without the unit, which it puts
/// back.
fn stem(metric: Metric) -> (&'static str, Option<Unit>) {
    let name = metric.name();
    let name = name.strip_suffix(metric.kind().suffix()).unwrap_or(name);
    if let Some(stem) = name.strip_suffix("_seconds") {
        (stem, Some(Unit::Seconds))
    } else if let Some(stem) = name.strip_suffix("_bytes") {
        (stem, Some(Unit::Bytes))
    } else {
        (name, None)
    }
}

fn sample(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(count)) => {
            encoder.encode_counter::<NoLabelSet, u64, f64>(count, None)
        }
        (Kind::Counter, Value::Real(sum)) => {
            encoder.encode_counter::<NoLabelSet, f64, f64>(sum, None)
        }
        (Kind::Histogram, Value::Distribution(read)) => {
            let ends = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(read.buckets).collect();
            encoder.encode_histogram::<NoLabelSet>(read.sum, read.count(), &buckets, None)
        }
        (_, Value::Whole(value)) => encoder.encode_gauge(value),
        (_, Value::Real(value)) => encoder.encode_gauge(value),
        (_, Value::Distribution(_)) => unreachable!("only histograms have one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;
    use std::time::Duration;

    #[test]
    fn the_text_is_what_the_format_says() {
        let mut report = Report::default();
        report.labelled(Metric::BuildInfo, &["1.2.3"], 1);
        report.add(Metric::Term, 7);
        report.add(Metric::ProposalsCommitted, 3);
        report.labelled(Metric::Refused, &["plaintext"], 2);
        report.labelled(Metric::Refused, &["expired"], 0);
        report.add(Metric::CpuSeconds, 1.5);
        let syncs = Histogram::default();
        syncs.observe(Duration::from_millis(3));
        syncs.observe(Duration::from_secs(30));
        report.add(Metric::WalFsync, syncs.read());
        let text = report.text();
        for line in [
            "# TYPE balsa_build info",
            "balsa_build_info{version=\"1.2.3\"} 1",
            "# TYPE balsa_term gauge",
            "balsa_term 7",
            "# TYPE balsa_proposals_committed counter",
            "balsa_proposals_committed_total 3",
            "balsa_refused_total{reason=\"plaintext\"} 2",
            "balsa_refused_total{reason=\"expired\"} 0",
            "# TYPE process_cpu_seconds counter",
            "# UNIT process_cpu_seconds seconds",
            "process_cpu_seconds_total 1.5",
            "# TYPE balsa_wal_fsync_duration_seconds histogram",
            "balsa_wal_fsync_duration_seconds_sum 30.003",
            "balsa_wal_fsync_duration_seconds_count 2",
            "balsa_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 0",
            "balsa_wal_fsync_duration_seconds_bucket{le=\"0.005\"} 1",
            "balsa_wal_fsync_duration_seconds_bucket{le=\"10.0\"} 1",
            "balsa_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    #[should_panic(expected = "balsa_term twice")]
    fn a_series_is_there_once() {
        let mut report = Report::default();
        report.add(Metric::Term, 1);
        report.add(Metric::Term, 2);
    }
}
