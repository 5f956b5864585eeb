//! What the system tells of itself in numbers: in Prometheus's own words, by its own tools, and under the names that rules,
//! boards and the documentation use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{FleetOptions, Options, Prometheus, System, promtool};
use serde_json::{Value, json};

#[tokio::test]
async fn a_real_prometheus_scrapes_what_promtool_finds_no_fault_with() {
    let system = System::start(Options::default()).await;
    let prometheus = Prometheus::start(&[system.env("DEMO_OPS_URL").to_owned()]).await;
    walk(&system).await;

    let text = String::from_utf8(system.ops().get("/metrics").await.expect(200).body.to_vec()).unwrap();
    promtool(&["check", "metrics"], &text).unwrap_or_else(|complaint| panic!("{complaint}"));
    let documented = documented();
    let unknown: Vec<_> = families(&text).into_iter().filter(|name| !documented.contains(name)).collect();
    assert!(unknown.is_empty(), "docs/observability.md says nothing of {unknown:?}");

    testkit::eventually("Prometheus has scraped the orders", Duration::from_secs(30), || async {
        let up = prometheus.query("up").await;
        assert!(up.len() <= 1, "{up:?}");
        let placed = prometheus.query("sum(turnpike_order_placed_total)").await;
        let seen = up.first().is_some_and(|up| up.value == 1.0) && placed.first().is_some_and(|sum| sum.value >= 1.0);
        seen.then_some(())
    })
    .await;
    for (expression, least) in [
        ("sum(turnpike_gateway_requests_total{route=~\"POST .*\"})", 2.0),
        ("count(turnpike_bus_group_lag)", 4.0),
        ("sum(turnpike_bus_handling_seconds_count{group=\"logger\"})", 1.0),
        ("process_resident_memory_bytes", 1_000_000.0),
    ] {
        testkit::eventually(expression, Duration::from_secs(30), || async {
            prometheus.query(expression).await.first().is_some_and(|sample| sample.value >= least).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_every_process() {
    let (redis, postgres) = tokio::join!(testkit::redis(), testkit::postgres());
    let mut system = System::start_fleet(&FleetOptions::new(&redis.url(), &postgres.url())).await;
    let targets = system.fleet().ops_urls();
    let prometheus = Prometheus::start(&targets).await;
    walk(&system).await;
    for (expression, least) in [
        ("sum(up)", targets.len() as f64),
        ("count(process_resident_memory_bytes)", targets.len() as f64),
        ("sum(turnpike_order_placed_total)", 1.0),
        ("count(count by (group) (turnpike_bus_group_lag))", 4.0),
        ("sum(turnpike_redis_round_trip_seconds_count)", 1.0),
        ("min(turnpike_gateway_shared_reachable)", 1.0),
    ] {
        testkit::eventually(expression, Duration::from_secs(60), || async {
            prometheus.query(expression).await.first().is_some_and(|sample| sample.value >= least).then_some(())
        })
        .await;
    }
}

/// Makes every role do something that is counted.
async fn walk(system: &System) {
    let customer = system.customer("counted@example.com").await;
    customer.get("/products").await.expect(200);
    testkit::eventually("the cart knows the teapot", Duration::from_secs(20), || async {
        let added = customer.post("/cart/add", json!({"productId": "teapot", "quantity": 1})).await;
        (added.status == 200).then_some(())
    })
    .await;
    let order = customer.with("prefer", "wait=5").post("/order/place", json!({})).await.expect(201).json();
    let order = system.settled(&customer, order["id"].as_str().unwrap()).await;
    assert_eq!(order["status"], "confirmed");
}

#[test]
fn prometheus_accepts_its_configuration_and_the_rules_do_what_they_say() {
    let file = |name: &str| root().join("deploy/prometheus").join(name).display().to_string();
    for arguments in [
        ["check", "config", &file("prometheus.yaml")],
        ["check", "rules", &file("rules.yaml")],
        ["test", "rules", &file("rules_test.yaml")],
    ] {
        promtool(&arguments, "").unwrap_or_else(|complaint| panic!("promtool {}: {complaint}", arguments.join(" ")));
    }
}

#[test]
fn every_alert_is_tested_and_says_what_to_do() {
    let rules = rules();
    let tests = fs::read_to_string(root().join("deploy/prometheus/rules_test.yaml")).unwrap();
    let guide = fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let mut faults = Vec::new();
    for rule in &rules {
        let Some(alert) = rule["alert"].as_str() else { continue };
        for annotation in ["summary", "description", "runbook_url"] {
            if rule["annotations"][annotation].as_str().is_none_or(str::is_empty) {
                faults.push(format!("{alert} has no {annotation}"));
            }
        }
        if !["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap_or_default()) {
            faults.push(format!("{alert}: severity is page or ticket"));
        }
        let anchor = alert.to_lowercase();
        if !rule["annotations"]["runbook_url"].as_str().unwrap_or_default().ends_with(&format!("#{anchor}")) {
            faults.push(format!("{alert}: its runbook is not #{anchor}"));
        }
        if !guide.lines().any(|line| line == format!("### {alert}")) {
            faults.push(format!("docs/observability.md has no part on {alert}"));
        }
        if !tests.contains(&format!("alertname: {alert}\n")) {
            faults.push(format!("{alert} has no test in rules_test.yaml"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn rules_and_boards_name_only_metrics_that_exist() {
    let mut expressions: Vec<(String, String)> = Vec::new();
    let mut recorded = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap().to_owned();
        recorded.extend(rule["record"].as_str().map(str::to_owned));
        expressions.push((name, rule["expr"].as_str().unwrap().to_owned()));
    }
    for path in boards() {
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let before = expressions.len();
        strings(&board, &mut |key, text| {
            if ["expr", "query", "definition"].contains(&key) {
                expressions.push((path.display().to_string(), text.to_owned()));
            }
        });
        assert!(expressions.len() > before + 4, "{} shows nothing", path.display());
    }
    let known = in_code();
    let mut faults = Vec::new();
    for (place, expression) in &expressions {
        for word in expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')) {
            let is_metric = word.starts_with("turnpike_") || word.starts_with("process_") || word.contains(':');
            if is_metric && !recorded.contains(word) && !known.contains(word) && !is_range(word) {
                faults.push(format!("{place}: {word}"));
            }
        }
    }
    assert!(faults.is_empty(), "no such metric:\n{}", faults.join("\n"));
}

#[test]
fn the_documentation_names_only_metrics_that_exist() {
    let known = in_code();
    let unknown: Vec<_> = documented().into_iter().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "docs/observability.md makes these up: {unknown:?}");
}

#[test]
fn the_compose_file_has_every_role_and_what_it_stands_on() {
    let compose: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("deploy/compose.yaml")).unwrap()).unwrap();
    let services = compose["services"].as_object().unwrap();
    let roles = [
        "gateway",
        "broker",
        "product",
        "review",
        "customer",
        "cart",
        "order",
        "invoice",
        "logger",
        "dashboard",
        "notifier",
    ];
    for role in roles {
        let command = services.get(role).unwrap_or_else(|| panic!("no {role}"))["command"].as_array().unwrap();
        assert_eq!(command[0], role);
    }
    for service in ["redis", "postgres", "jaeger", "prometheus", "grafana"] {
        assert!(services.contains_key(service), "no {service}");
    }
    // What a service is made after, and mounts, must be there.
    for (name, service) in services {
        for dependency in service["depends_on"].as_object().into_iter().flat_map(|dependencies| dependencies.keys()) {
            assert!(services.contains_key(dependency), "{name} depends on {dependency}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let is_there = match source.strip_prefix("./") {
                Some(path) => root().join("deploy").join(path).exists(),
                None => compose["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(is_there, "{name}: {source} isn't there");
        }
    }
    // Prometheus scrapes each of them.
    let prometheus = fs::read_to_string(root().join("deploy/prometheus/prometheus.yaml")).unwrap();
    for role in roles {
        assert!(prometheus.contains(&format!("{role}:9900")), "Prometheus doesn't scrape {role}");
    }
}

/// Every rule of `rules.yaml`.
fn rules() -> Vec<Value> {
    let text = fs::read_to_string(root().join("deploy/prometheus/rules.yaml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
}

fn boards() -> Vec<PathBuf> {
    let folder = root().join("deploy/grafana/dashboards");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let boards: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    assert!(boards.len() >= 3, "{boards:?}");
    boards
}

/// Names of metrics as scraped, from where they are written: each crate's `metrics.rs`, and the process's own.
fn in_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![root()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", "tests", ".git", "node_modules"].contains(&name) {
                open.push(path);
            } else if name == "metrics.rs" || path.ends_with("telemetry/src/process.rs") {
                let text = fs::read_to_string(&path).unwrap();
                names.extend(text.split('"').filter(|word| is_name(word)).map(str::to_owned));
            }
        }
    }
    assert!(names.len() > 30, "{names:?}");
    let scraped = |name: &String| ["", "_total", "_bucket", "_sum", "_count"].map(|end| format!("{name}{end}"));
    names.iter().flat_map(scraped).chain(["target_info".to_owned()]).collect()
}

fn is_name(word: &str) -> bool {
    let prefixed = word.starts_with("turnpike_") || word.starts_with("process_");
    prefixed && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The first column of the tables of metrics in the documentation.
fn documented() -> BTreeSet<String> {
    let guide = fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let names: BTreeSet<_> =
        rows.map(|(name, _)| name.to_owned()).filter(|name| is_name(name) || name == "target_info").collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

/// The names of a page's families.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned()).collect()
}

/// `[5m:30s]` of a subquery.
fn is_range(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

fn strings(value: &Value, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            for (key, value) in fields {
                if let Value::String(text) = value {
                    found(key, text);
                }
                strings(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        _ => {}
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
