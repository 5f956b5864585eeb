//! The suite can fail: a bus that breaks one promise on purpose is found out, on both backends, by the invariant that it breaks.

use std::{env, process::Command};

/// Runs a case on a bus that breaks a promise, and demands that it fails so.
fn is_found(promise: &str, case: &str, invariant: &str) {
    for backend in ["redis", "sqlite"] {
        let histories = tempfile::tempdir().unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("{backend}::{case}"), "--nocapture"])
            .env("TURNPIKE_BROKEN", promise)
            .env("TURNPIKE_HISTORIES", histories.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{case} on {backend} finds nothing wrong with {promise}");
        let found = said.lines().any(|line| line.trim_start().starts_with(&format!("{invariant}: ")));
        assert!(found, "{case} on {backend} doesn't find {promise} by {invariant}:\n{said}");
    }
}

#[test]
fn who_acknowledges_before_the_effect_is_found() {
    is_found("ack-before-effect", "f1", "I1");
}

#[test]
fn who_acknowledges_before_an_endpoint_has_answered_is_found() {
    is_found("ack-before-effect", "c15", "I1");
}

#[test]
fn who_does_not_check_tokens_is_found() {
    is_found("token-unchecked", "f4", "I4");
}

#[test]
fn who_trims_what_groups_need_is_found() {
    is_found("trim-ignores-groups", "f22", "I3");
}

#[test]
fn who_drops_a_key_s_order_is_found() {
    is_found("key-order-dropped", "c2", "I5");
}

#[test]
fn a_cursor_that_skips_is_found() {
    is_found("cursor-skips", "c14", "I7");
}
