//! `turnpike bus seek`.

use bus::{Sought, Start};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    args::{Seek, Target},
    client::Client,
    screen::Screen,
};

pub async fn run(
    client: &Client,
    Seek { group, to, dry_run }: Seek,
    screen: &Screen,
    json: bool,
) -> anyhow::Result<()> {
    let sought = client.seek(&group, start(to), dry_run).await?;
    let Sought { again, skipped, leases } = sought;
    if json {
        return Ok(screen.json(&json!({"again": again, "skipped": skipped, "leases": leases, "dry_run": dry_run}))?);
    }
    let would = if dry_run { "would be " } else { "" };
    screen.line(format!("{group} {would}moved: {}", told(sought)))?;
    if dry_run && sought != Sought::default() {
        screen.line("nothing was changed: say it again without --dry-run")?;
    }
    Ok(())
}

fn told(Sought { again, skipped, leases }: Sought) -> String {
    let count = |number: u64, what: &str, so: &str| {
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {what}{plural} {so}"))
    };
    let parts = [
        count(again, "event", "to be handled again"),
        count(skipped, "event", "passed over"),
        count(leases, "lease", "lost"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "it is there already".to_owned() } else { parts.join(", ") }
}

fn start(to: Target) -> Start {
    match to {
        Target::Earliest => Start::Earliest,
        Target::Latest => Start::Latest,
        Target::Position(position) => Start::Position(position),
        Target::Time(time) => Start::Time(time),
        Target::Ago(ago) => Start::Time(OffsetDateTime::now_utc() - ago),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_move_does_is_told_in_words() {
        assert_eq!(told(Sought::default()), "it is there already");
        let sought = Sought { again: 1, skipped: 0, leases: 2 };
        assert_eq!(told(sought), "1 event to be handled again, 2 leases lost");
    }
}
