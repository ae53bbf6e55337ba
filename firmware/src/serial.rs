//! JSON lines on a serial port, which never hold up detection.
//!
//! [`LineWriter::push`] puts a line into a bounded queue and returns at once; a thread of its own feeds the port. A reader that is
//! too slow costs the oldest lines, a reader that has gone costs the lines that could not be written; both are counted, and
//! after a line that broke off the next one begins with a line feed, so that a reader that skips what is no JSON is in step again.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::board::SerialPort;

/// How long a port may wait for room in one call.
pub const SEND_WAIT: Duration = Duration::from_millis(100);

/// Lines that wait at most; what a frame says is old after that many more.
pub const QUEUE_LINES: usize = 8;

/// Bits on the wire for a byte: start, 8 data, stop.
const BITS_A_BYTE: f64 = 10.0;

/// What became of the lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Handed to the port, whole.
    pub sent: u64,
    /// Thrown away because the line is slower than the frames, or not taken before the end.
    pub dropped: u64,
    /// Lost to write errors.
    pub failed: u64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    /// Length of the line that the thread holds.
    in_flight: Option<usize>,
    counts: LineCounts,
    /// The last line failed.
    failing: bool,
    /// The first error of a row of failures, until it is taken.
    error: Option<io::Error>,
    /// No more lines will come.
    closing: bool,
    /// What is still there was given up.
    abandoned: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue of lines and the thread that writes them.
pub struct LineWriter {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    capacity: usize,
    baud: u32,
}

impl LineWriter {
    /// Starts writing to `port`, whose line runs at `baud` bits a second; at most `capacity` lines (at least 1) wait.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(port: Box<dyn SerialPort>, baud: u32, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("serial".to_owned()).spawn(move || write_lines(&theirs, port))?;
        Ok(Self { shared, thread: Some(thread), capacity: capacity.max(1), baud: baud.max(1) })
    }

    /// Queues `line` (without its line feed). Never waits for the port: where the queue is full the oldest line is dropped.
    pub fn push(&self, line: &str) {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let mut state = self.shared.lock();
        while state.queue.len() >= self.capacity {
            state.queue.pop_front();
            state.counts.dropped += 1;
        }
        state.queue.push_back(bytes);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// What became of the lines that have left the queue.
    pub fn counts(&self) -> LineCounts {
        self.shared.lock().counts
    }

    /// The error that began the present row of failures, once; `None` until lines have been written again and fail anew.
    pub fn take_error(&self) -> Option<io::Error> {
        self.shared.lock().error.take()
    }

    /// How long the line needs for what is waiting, at its speed.
    pub fn time_to_send(&self) -> Duration {
        let state = self.shared.lock();
        let bytes: usize = state.queue.iter().map(Vec::len).sum::<usize>() + state.in_flight.unwrap_or(0);
        Duration::from_secs_f64(bytes as f64 * BITS_A_BYTE / f64::from(self.baud))
    }

    /// Waits at most `wait` until all lines are written and stops. Lines that were not taken by then are dropped; a port that
    /// blocks inside its driver is left behind. Returns the final counts, which add up to the lines pushed, and an error that
    /// was not taken before.
    pub fn close(mut self, wait: Duration) -> (LineCounts, Option<io::Error>) {
        let counts = self.stop(wait);
        (counts, self.take_error())
    }

    fn stop(&mut self, wait: Duration) -> LineCounts {
        let deadline = Instant::now() + wait;
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        while !(state.queue.is_empty() && state.in_flight.is_none()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let unsent = state.queue.len() + usize::from(state.in_flight.is_some());
        state.counts.dropped += unsent as u64;
        state.queue.clear();
        state.in_flight = None;
        state.abandoned = true;
        let counts = state.counts;
        drop(state);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take().filter(|_| unsent == 0) {
            // It has nothing left to do but to close the port. A panic in it is counted as nothing: all lines were written.
            let _ = thread.join();
        }
        counts
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop(Duration::ZERO);
        }
    }
}

fn write_lines(shared: &Shared, mut port: Box<dyn SerialPort>) {
    let mut broken_off = false;
    loop {
        let mut state = shared.lock();
        let line = loop {
            if let Some(line) = state.queue.pop_front() {
                break line;
            }
            if state.closing {
                return;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.in_flight = Some(line.len());
        drop(state);

        let outcome = write_line(shared, port.as_mut(), &line, &mut broken_off);
        let mut state = shared.lock();
        if state.abandoned {
            return;
        }
        state.in_flight = None;
        match outcome {
            Ok(()) => {
                state.counts.sent += 1;
                state.failing = false;
            }
            Err(error) => {
                state.counts.failed += 1;
                if !state.failing {
                    state.failing = true;
                    state.error = Some(error);
                }
            }
        }
        drop(state);
        shared.changed.notify_all();
    }
}

/// Writes one line, however long the reader takes, unless the writer is given up meanwhile.
fn write_line(shared: &Shared, port: &mut dyn SerialPort, line: &[u8], broken_off: &mut bool) -> io::Result<()> {
    let mut rest = line;
    while *broken_off {
        if port.send(b"\n")? == 1 {
            *broken_off = false;
        } else if shared.lock().abandoned {
            return Ok(());
        }
    }
    while !rest.is_empty() {
        let sent = port.send(rest).inspect_err(|_| *broken_off = rest.len() < line.len())?;
        rest = &rest[sent.min(rest.len())..];
        if sent == 0 && shared.lock().abandoned {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
