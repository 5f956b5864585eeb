//! Child processes on a core of their own, and the CPU time they took.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// A process tree that ends with this handle.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` on one core.
    pub fn start(core: u8, program: &Path, arguments: &[&str], log: &Path) -> anyhow::Result<Self> {
        Self::start_with(core, program, arguments, log, &[])
    }

    /// The same with variables of its environment.
    pub fn start_with(
        core: u8,
        program: &Path,
        arguments: &[&str],
        log: &Path,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(log)?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("taskset {} can't start", program.display()))?;
        Ok(Self { child })
    }

    /// Ends the whole tree at once, as a machine that fails does.
    pub fn kill(&self) -> anyhow::Result<()> {
        let pids = self.tree()?.into_iter().map(|pid| pid.to_string());
        Command::new("kill").arg("-KILL").args(pids).status()?;
        Ok(())
    }

    /// CPU time of the process and its children, in microseconds, since they started.
    pub fn cpu_micros(&self) -> anyhow::Result<f64> {
        let ticks = self.tree()?.into_iter().map(cpu_ticks).sum::<anyhow::Result<u64>>()?;
        // USER_HZ is 100 on every Linux that Rust runs on.
        Ok(ticks as f64 * 10_000.0)
    }

    /// Memory of the process and its children, in KiB: their proportional set size.
    pub fn memory_kib(&self) -> anyhow::Result<f64> {
        let kib = |pid| -> anyhow::Result<f64> {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
            Ok(pss.trim().trim_end_matches(" kB").parse()?)
        };
        self.tree()?.into_iter().map(kib).sum()
    }

    /// The process and all below it.
    fn tree(&self) -> anyhow::Result<Vec<u32>> {
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = tree.get(at).copied() {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
                tree.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        Ok(tree)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's master ends its workers on SIGTERM; a SIGKILL would leave them.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold spaces; utime and stime are the 12th and 13th field behind it.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect()).unwrap_or_default();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    Ok(field(11) + field(12))
}

/// CPU time of this process, in microseconds, since it started.
pub fn own_cpu_micros() -> anyhow::Result<f64> {
    Ok(cpu_ticks(std::process::id())? as f64 * 10_000.0)
}

/// Waits until something listens on a port.
pub fn listening(port: u16, what: &str) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{what} doesn't listen on port {port}")
}

/// A port that nobody has now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
