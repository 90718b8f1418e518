//! The samples of a metrics text, for `-o json`: what our own nodes write (OpenMetrics), also those of a
//! later version. A line that is none is left out.

use std::collections::BTreeMap;

/// One line of the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// With the suffix of its type.
    pub(crate) name: String,
    /// `counter`, `gauge`, `histogram`, `info`; of a later version perhaps another word.
    pub(crate) kind: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Every sample, in the text's order.
pub(crate) fn samples(text: &str) -> Vec<Sample> {
    let mut kind = String::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            kind = declared.rsplit(' ').next().unwrap_or_default().to_owned();
        } else if !line.starts_with('#')
            && let Some((name, labels, value)) = sample(line)
        {
            samples.push(Sample { name, kind: kind.clone(), labels, value });
        }
    }
    samples
}

/// `name{label="value",...} number`, perhaps with a time or an exemplar behind it.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            labels.insert(label.to_owned(), value);
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), labels, value))
}

/// A label's value up to its quote, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "# HELP balsa_term x {y} 1\n# TYPE balsa_term gauge\nbalsa_term 7\n\
            # TYPE a counter\na_total{b=\"c\",d=\"e \\\"}\\\\\\n\"} 1.5 # {t=\"u\"} 2\n\
            # TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nbroken{a=\"\nno number\n# EOF\n";
        let seen = samples(text);
        let shown: Vec<_> = seen.iter().map(|s| (&*s.name, &*s.kind, s.value)).collect();
        assert_eq!(
            shown,
            [
                ("balsa_term", "gauge", 7.0),
                ("a_total", "counter", 1.5),
                ("h_bucket", "histogram", 2.0)
            ]
        );
        assert_eq!(seen[1].labels["d"], "e \"}\\\n");
        assert_eq!(seen[2].labels["le"], "+Inf");
    }
}
