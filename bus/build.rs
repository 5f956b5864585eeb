//! A build that breaks one promise on purpose, to prove that the suite notices (`verify/broken`): TURNPIKE_BROKEN names it.

use std::env;

const PROMISES: [&str; 4] = ["ack-before-effect", "token-unchecked", "trim-ignores-groups", "key-order-dropped"];

fn main() {
    println!("cargo::rerun-if-env-changed=TURNPIKE_BROKEN");
    println!("cargo::rustc-check-cfg=cfg(broken, values(\"{}\"))", PROMISES.join("\", \""));
    let Ok(broken) = env::var("TURNPIKE_BROKEN") else { return };
    assert!(PROMISES.contains(&broken.as_str()), "TURNPIKE_BROKEN: none of {PROMISES:?}");
    // Whatever is shipped keeps its promises.
    assert_eq!(env::var("PROFILE").as_deref(), Ok("debug"), "TURNPIKE_BROKEN: a broken bus is for tests alone");
    println!("cargo::rustc-cfg=broken=\"{broken}\"");
}
