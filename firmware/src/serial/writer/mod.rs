//! A queue of messages, the thread that writes them, and the port that comes and goes.
//!
//! [`LineWriter::push`] puts a message into a bounded queue and returns at once; a thread of its own feeds the port. A reader that is
//! too slow costs the oldest messages, a reader that has gone costs those that could not be written; both are counted. The first
//! message, and the next one after a message that broke off, begins with the protocol's delimiter, so that a reader that skips what it
//! cannot read is in step.
//!
//! The thread writes no faster than the line runs: otherwise seconds of old messages would wait in the driver of a slow one, where
//! nothing drops them.

mod port;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use port::Port;
pub use port::{REOPEN_FIRST, REOPEN_LAST, Reopen};

use super::Protocol;
use crate::board::SerialPort;

/// How long a port may wait for room in one call.
pub const SEND_WAIT: Duration = Duration::from_millis(100);

/// Messages that wait at most; what a frame says is old after that many more.
pub const QUEUE_LINES: usize = 8;

/// Bits on the wire for a byte: start, 8 data, stop.
const BITS_A_BYTE: f64 = 10.0;

/// How much of a line's time may lie ready in the driver, so that the line never falls dry between two messages.
const AHEAD: Duration = Duration::from_millis(20);

/// How long a port may take to close at the end; the driver of a tty can wait half a minute there for what its line has not sent.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// What became of the messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Handed to the port, whole.
    pub sent: u64,
    /// Thrown away because the line is slower than the frames, or not taken before the end.
    pub dropped: u64,
    /// Lost to write errors, or because the port was away.
    pub failed: u64,
}

struct Queued {
    message: Vec<u8>,
    /// No newer message replaces it.
    lasting: bool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// Length of the message that the thread holds.
    in_flight: Option<usize>,
    counts: LineCounts,
    /// When the line has sent what the port took.
    busy_until: Option<Instant>,
    /// The last message failed.
    failing: bool,
    /// The first error of a row of failures, until it is taken.
    error: Option<io::Error>,
    /// No more messages will come.
    closing: bool,
    /// What is still there was given up.
    abandoned: bool,
    /// The thread has closed the port.
    finished: bool,
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

    fn abandoned(&self) -> bool {
        self.lock().abandoned
    }
}

/// Says that the port is closed, however the thread ends.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.lock().finished = true;
        self.0.changed.notify_all();
    }
}

/// A queue of messages and the thread that writes them.
pub struct LineWriter {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    capacity: usize,
    baud: u32,
}

impl LineWriter {
    /// Starts writing messages of `protocol` to `port`, whose line runs at `baud` bits a second; at most `capacity` messages (at
    /// least 1) wait.
    ///
    /// With `reopen` a port that gives errors is closed and opened again, after [`REOPEN_FIRST`] and then ever more seldom, down
    /// to every [`REOPEN_LAST`]; meanwhile messages fail. `port` may then be `None`: not there yet. Without `reopen` the next
    /// message tries the same port.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        port: Option<Box<dyn SerialPort>>,
        reopen: Option<Reopen>,
        protocol: Protocol,
        baud: u32,
        capacity: usize,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let finish = Finish(Arc::clone(&shared));
        let baud = baud.max(1);
        let port = Port::new(port, reopen, protocol.delimiter());
        let thread =
            thread::Builder::new().name("serial".to_owned()).spawn(move || write_messages(&finish.0, port, baud))?;
        Ok(Self { shared, thread: Some(thread), capacity: capacity.max(1), baud })
    }

    /// Queues `message`, which ends with the protocol's delimiter and which a newer one replaces: a frame. Never waits for the port:
    /// where the queue is full the oldest such message is dropped, which is this one where only lasting ones wait.
    pub fn push(&self, message: Vec<u8>) {
        self.queue(Queued { message, lasting: false });
    }

    /// As [`push`](Self::push), a message that no other replaces: an error, a state, a part of the vocabulary. It is dropped only where
    /// nothing else waits.
    pub fn push_lasting(&self, message: Vec<u8>) {
        self.queue(Queued { message, lasting: true });
    }

    /// Whether a message that is pushed now costs none of those that wait.
    pub fn has_room(&self) -> bool {
        self.shared.lock().queue.len() < self.capacity
    }

    fn queue(&self, queued: Queued) {
        let mut state = self.shared.lock();
        while state.queue.len() >= self.capacity {
            state.counts.dropped += 1;
            match state.queue.iter().position(|waiting| !waiting.lasting) {
                Some(oldest_frame) => state.queue.remove(oldest_frame),
                None if queued.lasting => state.queue.pop_front(),
                None => return,
            };
        }
        state.queue.push_back(queued);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// What became of the messages that have left the queue.
    pub fn counts(&self) -> LineCounts {
        self.shared.lock().counts
    }

    /// The error that began the present row of failures, once; `None` until messages have been written again and fail anew.
    pub fn take_error(&self) -> Option<io::Error> {
        self.shared.lock().error.take()
    }

    /// How long the line needs for what is waiting, at its speed.
    pub fn time_to_send(&self) -> Duration {
        let state = self.shared.lock();
        let bytes: usize =
            state.queue.iter().map(|queued| queued.message.len()).sum::<usize>() + state.in_flight.unwrap_or(0);
        let begun = state.busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        line_time(bytes, self.baud) + begun
    }

    /// Waits at most `wait` until all messages are written and stops. Messages that were not taken by then are dropped; a port that
    /// blocks inside its driver, or takes longer than half a second to close, is left behind. Returns the final counts, which add up to the messages pushed, and an error that
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
        self.shared.changed.notify_all();
        // Where all was written it has nothing left to do but to close the port.
        let patience = if unsent == 0 { CLOSE_WAIT } else { Duration::ZERO };
        let closed = self.shared.changed.wait_timeout_while(state, patience, |state| !state.finished);
        let finished = closed.unwrap_or_else(PoisonError::into_inner).0.finished;
        if let Some(thread) = self.thread.take().filter(|_| finished) {
            // A panic in it is counted as nothing: what it left unwritten was counted above.
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

/// How long a line of `baud` bits a second needs for `bytes`.
fn line_time(bytes: usize, baud: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 * BITS_A_BYTE / f64::from(baud))
}

fn write_messages(shared: &Shared, mut port: Port, baud: u32) {
    while let Some(message) = take(shared) {
        let before = Instant::now();
        let outcome = port.write(&message, || shared.abandoned());
        let now = Instant::now();
        let mut state = shared.lock();
        if state.abandoned {
            return;
        }
        state.in_flight = None;
        match outcome {
            Ok(()) => {
                state.counts.sent += 1;
                state.failing = false;
                // A port that waits for its line has sent by now what it waited for.
                let begun = state.busy_until.map_or(before, |until| until.max(before));
                state.busy_until = Some((begun + line_time(message.len(), baud)).max(now));
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

/// The oldest message as soon as the line has time for it; `None` when there is none and none will come.
fn take(shared: &Shared) -> Option<Vec<u8>> {
    let mut state = shared.lock();
    loop {
        let until_free = state
            .busy_until
            .and_then(|until| until.checked_duration_since(Instant::now() + AHEAD))
            .filter(|wait| !wait.is_zero());
        state = match until_free {
            _ if state.queue.is_empty() && state.closing => return None,
            Some(wait) if !state.queue.is_empty() => {
                shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            }
            _ => match state.queue.pop_front() {
                Some(Queued { message, .. }) => {
                    state.in_flight = Some(message.len());
                    return Some(message);
                }
                None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            },
        };
    }
}

#[cfg(test)]
mod tests;
