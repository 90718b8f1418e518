//! A strict reader of the OpenMetrics text format, as far as it is used: whatever a scraper might stumble
//! over fails the test.

use std::collections::{BTreeMap, BTreeSet};

use balsa::metrics::{Kind, Metric};

/// Labels, in the order of their names.
type Labels = BTreeMap<String, String>;

/// One text, read.
#[derive(Debug)]
pub(crate) struct Samples {
    series: BTreeMap<(String, Labels), f64>,
    families: BTreeSet<String>,
}

impl Samples {
    /// Reads a text; fails at the first thing that is wrong with it.
    pub(crate) fn parse(text: &str) -> Samples {
        let Some(lines) = text.strip_suffix("# EOF\n") else { panic!("no end: {text}") };
        let mut read = Samples { series: BTreeMap::new(), families: BTreeSet::new() };
        let mut family: Option<(Metric, String)> = None;
        let mut help = String::new();
        for line in lines.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').expect("a help text");
                assert!(words.len() > 10 && !words.contains('\\'), "{line}");
                help = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (stem, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(help, stem, "the help is just before the type: {line}");
                let metric = Metric::ALL
                    .iter()
                    .copied()
                    .find(|metric| metric.name() == format!("{stem}{}", metric.kind().suffix()));
                let metric = metric.unwrap_or_else(|| panic!("{stem} is not in the manual"));
                assert_eq!(kind, metric.kind().word(), "{line}");
                assert!(read.families.insert(stem.to_owned()), "{stem} comes twice");
                family = Some((metric, stem.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (stem, unit) = rest.split_once(' ').expect("a unit");
                assert!(matches!(unit, "seconds" | "bytes"), "{line}");
                let open = family.as_ref().expect("a family");
                assert!(open.1 == stem && stem.ends_with(&format!("_{unit}")), "{line}");
            } else {
                let (metric, stem) = family.as_ref().expect("a family before its samples");
                read.take(*metric, stem, line);
            }
        }
        read.check_histograms();
        read
    }

    fn take(&mut self, metric: Metric, stem: &str, line: &str) {
        let (name, labels, value) = sample(line);
        let suffix = name.strip_prefix(stem).unwrap_or_else(|| panic!("{line} is not of {stem}"));
        let fits: &[&str] = match metric.kind() {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Info => &["_info"],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
        };
        assert!(fits.contains(&suffix), "{line} is no {}", metric.kind().word());
        let mut expected: BTreeSet<&str> = metric.labels().iter().copied().collect();
        if suffix == "_bucket" {
            expected.insert("le");
        }
        let names: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{line}");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(self.series.insert((name, labels), value).is_none(), "twice: {line}");
    }

    /// Buckets only grow with their ends, and the last one holds everything.
    fn check_histograms(&self) {
        let mut histograms: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.series {
            if let Some(stem) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let le = match labels.remove("le").expect("an upper end").as_str() {
                    "+Inf" => f64::INFINITY,
                    number => number.parse().expect("a number"),
                };
                histograms.entry((stem.to_owned(), labels)).or_default().push((le, *value));
            }
        }
        for ((stem, labels), mut buckets) in histograms {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "{stem}: {buckets:?}");
            let last = buckets.last().expect("a bucket");
            assert_eq!(last.0, f64::INFINITY, "{stem}");
            let count = self.series[&(format!("{stem}_count"), labels.clone())];
            assert_eq!(last.1, count, "{stem}");
            assert!(self.series.contains_key(&(format!("{stem}_sum"), labels)), "{stem}");
        }
    }

    /// The value of a series, if it is there.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.series.get(&(name.to_owned(), labels.iter().map(owned).collect())).copied()
    }

    /// The value of a series that must be there.
    pub(crate) fn of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?} in {self:#?}"))
    }

    /// The value of a series without labels that must be there.
    pub(crate) fn one(&self, name: &str) -> f64 {
        self.of(name, &[])
    }

    /// The values of all series of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<f64> {
        let named = self.series.iter().filter(|((other, _), _)| other == name);
        named.map(|(_, value)| *value).collect()
    }

    /// Whether there is a value of this metric.
    pub(crate) fn has_family(&self, metric: Metric) -> bool {
        let stem = metric.name().strip_suffix(metric.kind().suffix());
        stem.is_some_and(|stem| self.families.contains(stem))
    }

    /// The names that are there, without the suffixes of their types.
    pub(crate) fn families(&self) -> &BTreeSet<String> {
        &self.families
    }
}

/// `name{label="value",...} number`, and nothing else on the line.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let (name, labels) = match series.split_once('{') {
        None => (series, Labels::new()),
        Some((name, rest)) => {
            let inner = rest.strip_suffix('}').unwrap_or_else(|| panic!("open: {line}"));
            let mut labels = Labels::new();
            for pair in inner.split(',') {
                let (label, value) = pair.split_once('=').expect("a label");
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                let value = value.unwrap_or_else(|| panic!("not quoted: {line}"));
                // Words, seats, methods, versions and numbers: nothing that would have to be escaped.
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
                assert!(!value.is_empty() && value.chars().all(plain), "{line}");
                let former = labels.insert(label.to_owned(), value.to_owned());
                assert!(former.is_none(), "a label twice: {line}");
            }
            (name, labels)
        }
    };
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    assert!(!name.is_empty() && name.chars().all(plain), "{line}");
    (name.to_owned(), labels, number.parse().unwrap_or_else(|_| panic!("no number: {line}")))
}
