//! Metrics that name what a case breaks: they must move, in this process or in a child's.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use verify::{contract::Stage, history::What, load::Witness};

/// What must move.
#[derive(Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) on: &'static [&'static str],
    /// Its name, and what its labels must be: `turnpike_bus_gap_total reason=reset`.
    pub(crate) name: &'static str,
    /// So far it moves in a case in which nothing breaks.
    pub(crate) anyway: f64,
}

/// Metrics, as they were when a case began.
pub(crate) struct Watch(Vec<(Metric, f64)>);

impl Watch {
    pub(crate) fn begin(metrics: impl Iterator<Item = Metric>, stage: &Stage) -> Self {
        Self(metrics.map(|metric| (metric, read(metric.name, stage) + metric.anyway)).collect())
    }

    /// Writes down how far they moved.
    pub(crate) fn end(self, stage: &Stage) {
        for (metric, before) in self.0 {
            write(stage, metric.name, before, read(metric.name, stage));
        }
    }
}

/// What a child's metrics say when it ends: there was nothing before.
pub(crate) fn tell(stage: &Stage, backend: &str) {
    let faults = super::faults();
    let Some(fault) = faults.iter().find(|fault| fault.case.name == stage.case()) else { return };
    for metric in fault.metrics(backend) {
        write(stage, metric.name, metric.anyway, read(metric.name, stage));
    }
}

/// Has the bus tell its gauges now, and writes down one that must be more than it was.
pub(crate) async fn gauge(witness: &Witness, stage: &Stage, name: &str, before: f64) -> f64 {
    let reported = tokio::time::timeout(Duration::from_millis(500), witness.bus.report(CancellationToken::new()));
    _ = reported.await;
    let value = read(name, stage);
    write(stage, name, before, value);
    value
}

fn write(stage: &Stage, of: &str, before: f64, after: f64) {
    stage.history.write(What::Metric { of: of.to_owned(), before, after });
}

/// What a metric of the case says in this process.
pub(crate) fn read(metric: &str, stage: &Stage) -> f64 {
    sum(&telemetry::render(), metric, stage)
}

/// The sum of a metric's samples. Those of a queue or a group count where it is the case's own: another case may run in the
/// same process.
fn sum(text: &str, metric: &str, stage: &Stage) -> f64 {
    let mut words = metric.split(' ');
    let name = words.next().unwrap_or_default();
    let wanted: Vec<String> =
        words.filter_map(|word| word.split_once('=')).map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let queue = stage.queue().unwrap();
    let group = stage.group("", bus::Mode::Parallel).unwrap().name;
    let sample = |line: &str| {
        let (sample, value) = line.rsplit_once(' ')?;
        let labels = sample.strip_prefix(name)?;
        let is = |start: char| labels.is_empty() || labels.starts_with(start);
        let own = |label: &str, value: &str| !labels.contains(&format!("{label}=\"")) || labels.contains(value);
        let fits = is('{')
            && wanted.iter().all(|label| labels.contains(label.as_str()))
            && own("queue", &format!("queue=\"{queue}"))
            && own("group", &format!("group=\"{group}"));
        if fits { value.parse::<f64>().ok() } else { None }
    };
    text.lines().filter_map(sample).sum()
}

#[test]
fn a_metric_is_read_by_its_name_and_its_labels() {
    let stage = Stage::new("F9", verify::History::new(), 1, 1);
    let text = "# TYPE turnpike_a_total counter\n\
                turnpike_a_total{queue=\"F9-1\",result=\"due\"} 2\n\
                turnpike_a_total{queue=\"F9-1\",result=\"failed\"} 3\n\
                turnpike_a_total{queue=\"F8-1\",result=\"due\"} 5\n\
                turnpike_a_total{group=\"F9-1-keyed\",result=\"due\"} 7\n\
                turnpike_a_total_more{queue=\"F9-1\"} 11\n\
                turnpike_b 13";
    for (metric, value) in [
        ("turnpike_a_total", 12.0),
        ("turnpike_a_total result=due", 9.0),
        ("turnpike_a_total result=none", 0.0),
        ("turnpike_b", 13.0),
    ] {
        assert_eq!(sum(text, metric, &stage), value, "{metric}");
    }
}
