//! The command `hoi-device` as a service that runs while a test goes on.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// More than anything here takes.
pub const SOON: Duration = Duration::from_secs(60);

/// A running device: what it prints, line by line, and what it says.
pub struct Device {
    child: Child,
    /// Frames that were printed and not read yet.
    pub printed: mpsc::Receiver<Value>,
    said: mpsc::Receiver<String>,
    /// Everything said so far.
    pub log: String,
}

impl Device {
    pub fn start(config: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hoi-device"));
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let printed = lines(child.stdout.take().unwrap(), |line| serde_json::from_str(&line).unwrap());
        let said = lines(child.stderr.take().unwrap(), |line| line);
        Self { child, printed, said, log: String::new() }
    }

    pub fn frame(&self) -> Value {
        self.printed
            .recv_timeout(SOON)
            .unwrap_or_else(|_| panic!("no frame; {:?}", self.said.try_iter().collect::<Vec<_>>()))
    }

    /// Waits until `words` are said.
    pub fn wait_for(&mut self, words: &str) {
        let start = Instant::now();
        while !self.log.contains(words) {
            let line = self.said.recv_timeout(SOON.saturating_sub(start.elapsed()));
            let line = line.unwrap_or_else(|_| panic!("`{words}` was not said: {}", self.log));
            self.log.push_str(&line);
            self.log.push('\n');
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it as a service manager does; returns the exit status and all that was said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let code = self.child.wait().unwrap().code();
        let rest: Vec<String> = self.said.iter().collect();
        (code, self.log.clone() + &rest.join("\n"))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // It has ended where the test came to its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `from` says, line by line, from a thread of its own.
pub fn lines<T: Send + 'static>(
    from: impl Read + Send + 'static,
    make: impl Fn(String) -> T + Send + 'static,
) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if line.ok().and_then(|line| sender.send(make(line)).ok()).is_none() {
                break;
            }
        }
    });
    receiver
}
