//! The bus, judged: the contract and the faults, on both backends.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod cases;
mod lab;

/// A test of each case and backend.
macro_rules! cases {
    ($($backend:ident: $($name:ident)+;)+) => { $(mod $backend { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::passes(stringify!($name), stringify!($backend)).await;
        }
    )+ })+ };
}

cases! {
    redis: c1 c2 c3 c4 c5 c6 c7 c8 c9 c10 c11 c11_receipt c12 c13 c14 c14_gap c14_flush c15 c15_gone c16 c17 c18_reject c18_drop
        c18_abandoned c19 f1 f1_receipt f2 f3 f4 f4_paused f5_always f5_everysec f5_none f6_redis f7_flush f7_keys f7_later
        f7_view f7_scripts f8 f8_delayed f9 f9_client f9_webhook f10 f11 f11_socket f12 f12_abort f13 f14_memory f14_disk f15
        f16 f18 f19_killed f19_paused f19_flush f20 f22 f25 f25_due f26 i10;
    sqlite: c1 c2 c3 c4 c5 c6 c7 c8 c9 c10 c11 c11_receipt c12 c13 c14 c14_gap c15 c15_gone c16 c17 c18_reject c18_drop
        c18_abandoned c19 f1 f2 f3 f4 f4_paused f6_sqlite f9_client f9_webhook f11_socket f12 f12_abort f13 f14_disk f15 f16
        f18 f19_killed f20 f22 f23 f24_commit f24_copy f25 f25_due f26 i10;
}

/// Each case is a test of each backend that it is for.
#[test]
fn every_case_is_run() {
    let tests = include_str!("main.rs");
    for name in cases::names(false) {
        let is_there = tests.split_whitespace().any(|word| word.trim_end_matches(';') == test_name(name));
        assert!(is_there, "{name} has no test");
    }
}

#[tokio::test]
#[ignore = "what cases start as a process of its own"]
async fn a_process_that_is_killed() {
    assert!(lab::act().await, "it is run by cases");
}

/// The name of a case's test.
fn test_name(case: &str) -> String {
    case.to_lowercase().replace('-', "_")
}

/// Runs the case of a test and demands that nothing is wrong.
async fn passes(test: &str, backend: &str) {
    let name = cases::names(false)
        .into_iter()
        .find(|name| test_name(name) == test)
        .unwrap_or_else(|| panic!("no case {test}"));
    let seed = std::env::var("TURNPIKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let ran = cases::run(name, backend, seed, 1).await.expect("a case for this backend");
    if !ran.is_good() {
        let path = cases::keep(&ran);
        let violations: Vec<String> = ran.violations.iter().take(20).map(ToString::to_string).collect();
        panic!(
            "{name} on {backend}, seed {seed}: {:?}, {} violations; the history is {}\n{}",
            ran.failed,
            ran.violations.len(),
            path.display(),
            violations.join("\n")
        );
    }
}
