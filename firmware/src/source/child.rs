//! A program that writes pictures to its standard output, as a child process.
//!
//! It has a process group of its own, which is ended as a whole: politely, then by force. It also ends when this program is killed: it is started
//! through `setpriv --pdeathsig` (util-linux), and a program that still writes is ended by its closed pipe.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hoi_runtime::source::ImageLimits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid};

use super::address::userinfo;
use super::program::CommandLine;
use super::stream::{Splitter, Step, Stream};
use super::words::LastWords;

/// How long a program may take to end by itself: after its standard output ended, and after it was asked to.
const GRACE: Duration = Duration::from_millis(300);

/// How long a killed program is waited for. One that hangs in a driver is [left behind](LeftBehind).
const REAP_WAIT: Duration = Duration::from_secs(2);

/// Bytes that are read at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Where util-linux has it; not looked for in `PATH`, which settings may replace.
const SETPRIV: [&str; 2] = ["/usr/bin/setpriv", "/bin/setpriv"];

/// A source's program that could not be ended, because it hangs in the kernel. No other is started beside it: they would pile up.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftBehind(Arc<Mutex<Option<Pid>>>);

impl LeftBehind {
    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        // A number is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the status of a program that has ended meanwhile; says that it has not.
    fn take(&self, name: &str) -> Result<(), String> {
        let mut left = self.lock();
        let Some(pid) = *left else { return Ok(()) };
        if matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None) | Err(rustix::io::Errno::INTR)) {
            return Err(format!(
                "{name} (process {pid}) hangs in a driver and cannot be ended; it is started again when it has gone. Unplug the \
                 camera, or restart the board"
            ));
        }
        *left = None;
        Ok(())
    }
}

/// The running program.
#[derive(Debug)]
pub(super) struct ChildStream {
    name: &'static str,
    process: process::Child,
    group: Pid,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    words: LastWords,
    splitter: Splitter,
    buffer: Box<[u8]>,
    /// What of the buffer is not yet split.
    waiting: std::ops::Range<usize>,
    status: Option<ExitStatus>,
    stopped: bool,
    left: LeftBehind,
}

/// What came of waiting for a program's output.
enum Filled {
    Bytes,
    Nothing,
    End,
}

impl ChildStream {
    /// Starts the program, unless one of `left` still hangs. It ends with the thread that starts it, at the latest.
    pub(super) fn start(line: &CommandLine, limits: &ImageLimits, left: &LeftBehind) -> Result<Self, String> {
        let name = line.name;
        left.take(name)?;
        let setpriv = SETPRIV.into_iter().map(Path::new).find(|path| path.is_file());
        let mut command = match setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&line.program);
                command
            }
            None => Command::new(&line.program),
        };
        command.args(&line.args).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        Ok(Self {
            name,
            group: Pid::from_child(&process),
            process,
            stdout,
            stderr,
            words: LastWords::hiding(line.args.iter().find_map(|arg| userinfo(arg.to_str()?)).map(str::to_owned)),
            splitter: Splitter::new(line.format, limits),
            buffer: vec![0; CHUNK].into_boxed_slice(),
            waiting: 0..0,
            status: None,
            stopped: false,
            left: left.clone(),
        })
    }

    /// Why a stalled program is given up.
    fn said(&self, what: String) -> String {
        match self.words.shown() {
            Some(words) => format!("{what}: {words}"),
            None => what,
        }
    }

    /// Waits for output until `deadline`, and listens to standard error meanwhile.
    fn fill(&mut self, deadline: Instant) -> io::Result<Filled> {
        loop {
            let Some(stdout) = &mut self.stdout else { return Ok(Filled::End) };
            let left = deadline.saturating_duration_since(Instant::now());
            let (output, error) = ready(Some(&*stdout), self.stderr.as_ref(), left)?;
            if error {
                hear(&mut self.stderr, &mut self.words);
            }
            if output {
                let read = match stdout.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read?,
                };
                self.waiting = 0..read;
                return Ok(if read == 0 { Filled::End } else { Filled::Bytes });
            }
            if left.is_zero() {
                return Ok(Filled::Nothing);
            }
        }
    }

    /// After the end of standard output: how the program ended, and its last words.
    fn end(&mut self) -> Step {
        let deadline = Instant::now() + GRACE;
        while !has_exited(self.group) && Instant::now() < deadline {
            if let Ok((_, true)) = ready(None, self.stderr.as_ref(), Duration::from_millis(5)) {
                hear(&mut self.stderr, &mut self.words);
            }
            if self.stderr.is_none() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        while let Ok((_, true)) = ready(None, self.stderr.as_ref(), Duration::ZERO) {
            hear(&mut self.stderr, &mut self.words);
            if Instant::now() > deadline + GRACE {
                break;
            }
        }
        self.stop();
        let name = self.name;
        let within = if self.splitter.is_within_picture() { " within a picture" } else { "" };
        match self.status {
            Some(status) if status.success() && within.is_empty() => Step::Ended,
            Some(status) => {
                let how = match (status.code(), status.signal()) {
                    (Some(code), _) => format!("with status {code}"),
                    (None, Some(signal)) => format!("by signal {signal}"),
                    (None, None) => "in an unknown way".to_owned(),
                };
                Step::Broken(self.said(format!("{name} ended{within} {how}")))
            }
            None => Step::Broken(self.said(format!("{name} closed its output and does not end"))),
        }
    }

    /// Ends the whole process group and takes the program's status. Doing it twice is doing it once.
    fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.stdout = None;
        if !has_exited(self.group) {
            // A group that is gone has nothing to be told.
            let _ = kill_process_group(self.group, Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while !has_exited(self.group) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
        }
        // Before the program is reaped: until then nobody else has the number of its group.
        let _ = kill_process_group(self.group, Signal::KILL);
        let deadline = Instant::now() + REAP_WAIT;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => self.status = Some(status),
                Ok(None) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                Ok(None) => *self.left.lock() = Some(Pid::from_child(&self.process)),
                Err(_) => {}
            }
            return;
        }
    }
}

impl Stream for ChildStream {
    fn read(&mut self, deadline: Instant) -> Step {
        loop {
            while !self.waiting.is_empty() {
                match self.splitter.push(&self.buffer[self.waiting.clone()]) {
                    Ok((taken, picture)) => {
                        self.waiting.start += taken;
                        if let Some(picture) = picture {
                            return Step::Picture(picture);
                        }
                    }
                    Err(why) => return Step::Broken(self.said(format!("{}: {why}", self.name))),
                }
            }
            match self.fill(deadline) {
                Ok(Filled::Bytes) if Instant::now() < deadline => {}
                Ok(Filled::Bytes | Filled::Nothing) => return Step::Nothing,
                Ok(Filled::End) => return self.end(),
                Err(error) => return Step::Broken(format!("cannot read from {}: {error}", self.name)),
            }
        }
    }

    fn last_words(&self) -> Option<String> {
        self.words.shown().map(|words| format!("{}: {words}", self.name))
    }
}

impl Drop for ChildStream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Which of the two can be read, or is at its end, within `wait`.
fn ready(stdout: Option<&ChildStdout>, stderr: Option<&ChildStderr>, wait: Duration) -> io::Result<(bool, bool)> {
    let mut fds = Vec::with_capacity(2);
    fds.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    fds.extend(stderr.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let timeout = Timespec::try_from(wait).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut found = fds.iter().map(|fd| !fd.revents().is_empty());
    let output = stdout.is_some() && found.next().unwrap_or(false);
    let error = stderr.is_some() && found.next().unwrap_or(false);
    Ok((output, error))
}

/// Reads once from standard error, which can be read; closes it at its end.
fn hear(stderr: &mut Option<ChildStderr>, words: &mut LastWords) {
    let mut bytes = [0; 1024];
    match stderr.as_mut().map(|pipe| pipe.read(&mut bytes)) {
        Some(Ok(read @ 1..)) => words.push(&bytes[..read]),
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
        _ => *stderr = None,
    }
}

/// Whether the program, which is not reaped, has ended.
fn has_exited(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustix::process::kill_process;

    use super::super::stream::Format;
    use super::*;

    #[test]
    fn a_program_that_cannot_be_ended_is_given_up_once_and_none_is_started_beside_it() {
        let args = vec!["600".into()];
        let line = CommandLine { name: "sleep", program: PathBuf::from("sleep"), args, format: Format::Ppm };
        let (limits, left) = (ImageLimits::default(), LeftBehind::default());
        let mut hanging = ChildStream::start(&line, &limits, &left).unwrap();
        let pid = hanging.group;
        // No signal reaches it, as in a driver: its group is one that nobody is in.
        hanging.group = Pid::from_raw(i32::MAX).unwrap();
        hanging.stdout = None;
        let why = hanging.read(Instant::now());
        assert!(matches!(&why, Step::Broken(why) if why.contains("does not end")), "{why:?}");
        let begun = Instant::now();
        drop(hanging);
        assert!(begun.elapsed() < REAP_WAIT / 2, "{:?}", begun.elapsed());

        for _ in 0..3 {
            let why = ChildStream::start(&line, &limits, &left).unwrap_err();
            assert!(why.contains(&format!("sleep (process {pid}) hangs")), "{why}");
        }
        kill_process(pid, Signal::KILL).unwrap();
        let begun = Instant::now();
        let again = loop {
            match ChildStream::start(&line, &limits, &left) {
                Ok(again) => break again,
                Err(why) => assert!(begun.elapsed() < Duration::from_secs(20), "{why}"),
            }
            thread::sleep(Duration::from_millis(2));
        };
        // Reaped, not merely dead.
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        drop(again);
        assert!(left.take("sleep").is_ok());
    }
}
