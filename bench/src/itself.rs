//! The gateway against itself: what many routes cost, and what traces do.

use anyhow::Context as _;

use crate::{
    Run,
    peers::{Contestant, Field, GATEWAY},
    statistics::median,
    wrk,
};

pub fn run(run: &Run, field: &Field) -> anyhow::Result<()> {
    println!("\nthe gateway against itself, CPU µs a request, median of {} rounds of {} s\n", run.rounds, run.seconds);
    let few = field.setting.gateway("few-routes", &with_routes(10), &[])?;
    let many = field.setting.gateway("many-routes", &with_routes(10_000), &[])?;
    compare(run, "10,000 routes : 10", (&many, "/made/9999/7"), (&few, "/made/9/7"), 1.05)?;
    drop((few, many));
    let collector = format!("http://127.0.0.1:{}", field.setting.grpc);
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()), ("OTEL_TRACES_SAMPLER_ARG", "0.01")];
    let traced = field.setting.gateway("traced", GATEWAY, &traced)?;
    let untraced = field.setting.gateway("untraced", GATEWAY, &[])?;
    compare(run, "traces at 1 % : off", (&traced, "/plain"), (&untraced, "/plain"), 1.03)
}

/// The measured configuration with routes beside, each to an answer of its own.
fn with_routes(count: usize) -> String {
    let mut text = GATEWAY.to_owned();
    for number in 0..count {
        text.push_str(&format!(
            "  - {{ match: {{ path: '/made/{number}/{{id}}', method: GET }}, respond: {{ status: 204 }} }}\n"
        ));
    }
    text
}

fn compare(
    run: &Run,
    name: &str,
    one: (&Contestant, &str),
    other: (&Contestant, &str),
    goal: f64,
) -> anyhow::Result<()> {
    let figure = |(contestant, path): (&Contestant, &str)| -> anyhow::Result<f64> {
        let before = contestant.process.cpu_micros()?;
        let url = format!("http://127.0.0.1:{}{path}", contestant.http);
        let report = wrk::run(&url, &[], run.connections, run.seconds).context(contestant.name)?;
        anyhow::ensure!(report.broken == 0 && report.refused == 0, "{}: wrong answers: {report:?}", contestant.name);
        Ok((contestant.process.cpu_micros()? - before) / report.requests as f64)
    };
    // To warm up.
    figure(one)?;
    figure(other)?;
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for round in 0..run.rounds {
        if round % 2 == 0 {
            ones.push(figure(one)?);
            others.push(figure(other)?);
        } else {
            others.push(figure(other)?);
            ones.push(figure(one)?);
        }
    }
    let ratio = median(ones.iter().zip(&others).map(|(one, other)| one / other));
    let met = if ratio <= goal { "met" } else { "missed" };
    let (one, other) = (median(ones.into_iter()), median(others.into_iter()));
    println!("{name:<22} {one:>6.1} {other:>6.1}   ratio {ratio:.3}  goal {goal:.2} {met}");
    Ok(())
}
