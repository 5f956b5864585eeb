//! The contract against an instance of one's own.

use crate::{Report, Site, contract::CASES};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of cases; none: all of them.
    pub only: Vec<String>,
    /// How often each.
    pub repeat: u64,
    /// What is left to chance; each run has another, one higher.
    pub seed: u64,
    /// How much is published: 1 takes seconds a case.
    pub scale: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: Vec::new(), repeat: 1, seed: 1, scale: 1 }
    }
}

/// Runs the cases of the contract, one after the other, on a site that is for this alone: a scratch namespace, a file
/// of its own. Real time passes, seconds a case; nothing is killed. Whoever made the site cleans it up.
pub async fn live(site: &dyn Site, options: &Options) -> Report {
    let mut report = Report::default();
    for case in CASES {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == case.case.name) {
            continue;
        }
        for run in 0..options.repeat {
            report.add(&case.run(site, options.seed + run, options.scale).await);
        }
    }
    report
}
