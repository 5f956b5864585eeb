//! The scripts: a prelude that all share, and a file each. One that the server doesn't know (it restarted, or somebody
//! flushed them) is sent along with the next call.

use std::sync::LazyLock;

use redis::{Arg, Cmd};

/// What a script does where the server's memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// It is refused before it begins.
    Refused,
    /// It runs all the same: settling and trimming are what empties a full server.
    Runs,
}

/// A script on a partition.
#[derive(Debug)]
pub(super) struct Script {
    source: String,
    hash: String,
}

pub(super) static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/look.lua"), WhenFull::Runs));

impl Script {
    /// One that may move the partition's floor: `lua/floor.lua` says what its body finds besides.
    pub(super) fn on_floor(body: &str, when_full: WhenFull) -> Self {
        Self::new(&format!("{}\n{body}", include_str!("lua/floor.lua")), when_full)
    }

    /// One that records, or asks about what is recorded or waits: `lua/append.lua` and `lua/waiting.lua` say what its body
    /// finds besides.
    pub(super) fn recording(body: &str, when_full: WhenFull) -> Self {
        let (append, waiting) = (include_str!("lua/append.lua"), include_str!("lua/waiting.lua"));
        Self::on_floor(&format!("{append}\n{waiting}\n{body}"), when_full)
    }

    /// `body`: the body of a function, for which `lua/prelude.lua` says what it finds.
    pub(super) fn new(body: &str, when_full: WhenFull) -> Self {
        let flags = match when_full {
            WhenFull::Refused => "",
            WhenFull::Runs => " flags=allow-oom",
        };
        let prelude = include_str!("lua/prelude.lua");
        let source = format!("#!lua{flags}\n{prelude}\nlocal function main()\n{body}\nend\nreturn finish(main())\n");
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }

    /// One that runs without the prelude.
    pub(super) fn alone(source: &str, when_full: WhenFull) -> Self {
        let flags = match when_full {
            WhenFull::Refused => "",
            WhenFull::Runs => " flags=allow-oom",
        };
        let source = format!("#!lua{flags}\n{source}");
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }

    pub(super) fn load(&self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(&self.source);
        load
    }

    pub(super) fn call<'a>(&self, keys: impl ExactSizeIterator<Item = &'a String>) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        call
    }

    /// The same call for a server that doesn't know the script.
    pub(super) fn with_text(&self, call: &Cmd) -> Cmd {
        let mut with_text = redis::cmd("EVAL");
        with_text.arg(&self.source);
        for arg in call.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                with_text.arg(arg);
            }
        }
        with_text
    }
}
