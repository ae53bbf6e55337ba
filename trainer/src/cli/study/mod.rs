//! `hoi-train study`: a system's comparisons, from one command to its report in docs/results.

mod rmlr;
mod weakly;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::system::rmlr::read_result;

#[derive(Debug, Subcommand)]
pub(super) enum Study {
    /// Every row of RmLR's Table 2 on rendered scenes, over several seeds, and the measurements behind its Figures 1 and 4
    Rmlr(rmlr::RmlrStudy),
    /// Weakly-HOI's ablation and who uses an object, on rendered scenes over several seeds; and Stanford-40
    Weakly(weakly::WeaklyStudy),
}

impl Study {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Study::Rmlr(study) => study.run(),
            Study::Weakly(study) => study.run(),
        }
    }
}

/// A run to be made.
struct Job {
    name: String,
    folder: PathBuf,
    arguments: Vec<String>,
    /// It takes another run's weights: there is nothing to go on with.
    borrowed: bool,
}

/// Makes one run in a process of its own, unless its result is there.
fn make<T: DeserializeOwned>(job: &Job) -> anyhow::Result<T> {
    if let Some(done) = read_result(&job.folder)? {
        return Ok(done);
    }
    std::fs::create_dir_all(&job.folder).with_context(|| format!("cannot make the folder {}", job.folder.display()))?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let said = Command::new(program)
        .args(&job.arguments)
        .args((!job.borrowed && job.folder.join("checkpoint.json").exists()).then_some("--resume"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .with_context(|| format!("cannot start the run of {}", job.folder.display()))?;
    if !said.status.success() {
        bail!("the run of {} failed: {}", job.folder.display(), String::from_utf8_lossy(&said.stderr).trim());
    }
    read_result(&job.folder)?.with_context(|| format!("the run of {} left no result", job.folder.display()))
}

/// Makes all runs, `at_once` at a time, and tells of each. The first fills the caches that all others read, alone.
fn make_all<T: DeserializeOwned + Send>(
    jobs: &[Job],
    at_once: usize,
    tell: impl Fn(&Job, &T) -> String + Sync,
) -> anyhow::Result<Vec<(String, T)>> {
    let (first, rest) = jobs.split_first().context("nothing to run")?;
    let made = make(first)?;
    eprintln!("{}", tell(first, &made));
    let mut results = vec![(first.name.clone(), made)];
    let queue = Mutex::new(rest.iter().collect::<VecDeque<&Job>>());
    let done = Mutex::new(Vec::new());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.max(1))
            .map(|_| {
                scope.spawn(|| {
                    while let Some(job) = next() {
                        let result = make(job)?;
                        eprintln!("{}", tell(job, &result));
                        if let Ok(mut done) = done.lock() {
                            done.push((job.name.clone(), result));
                        }
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a run's thread stopped"))??;
        }
        anyhow::Ok(())
    })?;
    results.extend(done.into_inner().unwrap_or_default());
    Ok(results)
}

fn first_line_of(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processor and number of cores, for the report.
fn machine() -> String {
    let model = first_line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {model}")
}

/// How a detector was trained, by its own record.
fn detector_command(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("config.json")).ok()?;
    let record: Value = serde_json::from_slice(&text).ok()?;
    Some(record["training"]["command"].as_str()?.to_owned())
}

/// Options and their values as arguments.
fn options(list: &[(&str, String)]) -> Vec<String> {
    list.iter().flat_map(|(key, value)| [(*key).to_owned(), value.clone()]).collect()
}

/// A path as an argument.
fn path(p: &Path) -> String {
    p.to_string_lossy().into_owned()
}
