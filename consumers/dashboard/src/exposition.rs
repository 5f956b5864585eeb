//! Reading the Prometheus text format (version 0.0.4), as far as counters, gauges and histograms need it.

/// A line of it: a metric, its labels, and its value.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    pub name: &'a str,
    labels: Vec<(&'a str, String)>,
    pub value: f64,
}

impl Sample<'_> {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }
}

/// The samples of a scrape; lines that are none are passed over.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.trim(), value));
            rest = after;
        }
    }
    // A timestamp may follow.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// A label's value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a Help\n# TYPE a counter\na{route=\"x\",status_class=\"2xx\"} 12\nb 1.5 1700000000\n\
                    c{le=\"+Inf\"} +Inf\n\nd{text=\"a \\\"b\\\" \\\\ \\n}\",} 3e2\n";
        let read: Vec<Sample<'_>> = samples(text).collect();
        assert_eq!(read.len(), 4);
        assert_eq!((read[0].name, read[0].label("status_class"), read[0].value), ("a", Some("2xx"), 12.0));
        assert_eq!((read[1].name, read[1].value), ("b", 1.5));
        assert_eq!(read[2].value, f64::INFINITY);
        assert_eq!((read[3].label("text"), read[3].value), (Some("a \"b\" \\ \n}"), 300.0));
    }

    #[test]
    fn what_is_no_sample_is_passed_over() {
        for text in ["", "name", "name{", "name{a=\"b", "name{a=\"b\"}", "name{a} 1", "name x", "{} {} {}"] {
            assert!(samples(text).next().is_none_or(|sample| sample.name.is_empty()), "{text}");
        }
    }
}
