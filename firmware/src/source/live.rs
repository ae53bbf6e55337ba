//! Sources that do not wait: a thread reads, a one-place mailbox holds the newest picture.
//!
//! The thread never waits for whoever takes the pictures: a picture that was not taken when the next one comes is dropped and counted. A
//! source that fails or stalls is ended and started again, each time later ([`Backoff`](super::Backoff)).

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::backoff::Delays;
use super::stream::{Picture, Step, Stream};
use super::{Backoff, FeedCounts};

/// How often the thread looks whether it is to stop.
const SLICE: Duration = Duration::from_millis(50);

/// How long the end of a feed waits for its thread, which ends the program that it reads from.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// What can be started, and started again.
pub(super) trait Camera: Send {
    /// Starts it, after a look at what it needs.
    ///
    /// # Errors
    /// Why it cannot be started, and what would help.
    fn start(&mut self) -> Result<Box<dyn Stream>, String>;

    /// What is added to `why` a run failed, where that is a known trouble with a known remedy.
    fn remedy(&self, _why: &str) -> Option<&'static str> {
        None
    }

    /// Told that a run failed before its first picture: whether there is another way, which is tried at once.
    fn try_another_way(&mut self) -> bool {
        false
    }

    /// What the end of a stream means.
    fn at_end(&mut self) -> AtEnd {
        AtEnd::Outage
    }

    /// Whether it is started again after a failure.
    fn restarts(&self) -> bool {
        true
    }
}

/// What the end of a stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// A camera does not end: it has failed.
    Outage,
    /// It is gone through once more.
    Again,
    /// There is no more.
    Over,
}

/// How patient the thread is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the start to the first picture.
    pub(super) start: Duration,
    /// Between two pictures.
    pub(super) stall: Duration,
    pub(super) backoff: Backoff,
}

/// What [`Live::take`] found.
#[derive(Debug)]
pub(super) enum Taking {
    Picture(Picture),
    Down(String),
    Waiting,
    Ended,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Picture>,
    /// Why the source is down, until it is said.
    unsaid: Option<String>,
    /// The newest picture came after what is unsaid.
    unsaid_is_older: bool,
    /// Why there are no pictures at present.
    down: Option<String>,
    read: u64,
    dropped: u64,
    restarts: u64,
    /// No more pictures will come.
    ended: bool,
    /// The thread is to stop.
    stop: bool,
    /// The thread has ended whatever it had started.
    finished: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `until` holds, at most `wait`.
    fn wait(&self, wait: Duration, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), wait, |state| !until(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn put(&self, picture: Picture) {
        let mut state = self.lock();
        state.read += 1;
        state.down = None;
        state.unsaid_is_older |= state.unsaid.is_some();
        if state.newest.replace(picture).is_some() {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn go_down(&self, why: String) {
        self.change(|state| {
            if state.down.is_none() {
                state.unsaid = Some(why.clone());
                state.unsaid_is_older = false;
            }
            state.down = Some(why);
        });
    }
}

/// Says that the thread is done, however it ends.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.change(|state| (state.ended, state.finished) = (true, true));
    }
}

/// The mailbox and the thread that fills it.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Live {
    pub(super) fn start(camera: Box<dyn Camera>, patience: Patience) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let finish = Finish(Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("source".to_owned())
            .spawn(move || keep_running(&finish.0, camera, patience))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What happened first of what was not yet taken; waits for it at most `wait`.
    pub(super) fn take(&self, wait: Duration) -> Taking {
        let something = |state: &State| state.newest.is_some() || state.unsaid.is_some() || state.ended;
        let mut state = self.shared.wait(wait, something);
        if state.newest.is_none() || state.unsaid_is_older {
            state.unsaid_is_older = false;
            if let Some(why) = state.unsaid.take() {
                return Taking::Down(why);
            }
        }
        match state.newest.take() {
            Some(picture) => Taking::Picture(picture),
            None if state.ended => Taking::Ended,
            None => Taking::Waiting,
        }
    }

    /// Why there are no pictures at present; `None` while they come.
    pub(super) fn down(&self) -> Option<String> {
        self.shared.lock().down.clone()
    }

    /// The counts so far; `frames` are those of the caller.
    pub(super) fn counts(&self, frames: u64) -> FeedCounts {
        let state = self.shared.lock();
        FeedCounts { frames, read: state.read, dropped: state.dropped, restarts: state.restarts }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.change(|state| state.stop = true);
        let finished = self.shared.wait(STOP_WAIT, |state| state.finished).finished;
        if let Some(thread) = self.thread.take().filter(|_| finished) {
            // A panic in it was printed; there is nothing left to do.
            let _ = thread.join();
        }
    }
}

/// How a run of a stream ended.
enum Outcome {
    Stopped,
    Ended,
    Broken(String),
}

fn keep_running(shared: &Shared, mut camera: Box<dyn Camera>, patience: Patience) {
    let mut delays = Delays::new(patience.backoff);
    loop {
        let (mut first_picture, mut stream_words) = (None, None);
        let outcome = match camera.start() {
            Ok(mut stream) => {
                let outcome = watch(shared, stream.as_mut(), &patience, &mut first_picture);
                stream_words = stream.last_words();
                outcome
            }
            Err(why) => Outcome::Broken(why),
        };
        let why = match outcome {
            Outcome::Stopped => return,
            Outcome::Broken(why) => why,
            Outcome::Ended => match camera.at_end() {
                AtEnd::Over => return,
                AtEnd::Again if first_picture.is_some() => continue,
                AtEnd::Again | AtEnd::Outage => match (stream_words, first_picture) {
                    (Some(words), _) => format!("it ended; {words}"),
                    (None, Some(_)) => "it ended".to_owned(),
                    (None, None) => "it ended without a frame".to_owned(),
                },
            },
        };
        if first_picture.is_none() && camera.try_another_way() {
            continue;
        }
        let why = match camera.remedy(&why) {
            Some(remedy) => format!("{why}. {remedy}"),
            None => why,
        };
        shared.go_down(why);
        if !camera.restarts() {
            return;
        }
        let good_for = first_picture.map_or(Duration::ZERO, |first: Instant| first.elapsed());
        if shared.wait(delays.after(good_for), |state| state.stop).stop {
            return;
        }
        shared.change(|state| state.restarts += 1);
    }
}

/// Puts the stream's pictures into the mailbox until it ends, fails or stalls, or the thread is to stop.
fn watch(shared: &Shared, stream: &mut dyn Stream, patience: &Patience, first: &mut Option<Instant>) -> Outcome {
    let mut patient_until = Instant::now() + patience.start;
    loop {
        match stream.read(patient_until.min(Instant::now() + SLICE)) {
            Step::Picture(picture) => {
                shared.put(picture);
                let now = Instant::now();
                first.get_or_insert(now);
                patient_until = now + patience.stall;
            }
            Step::Nothing if Instant::now() >= patient_until => {
                let (what, waited) = match first {
                    Some(_) => ("no frame", patience.stall),
                    None => ("no first frame", patience.start),
                };
                let words = stream.last_words().map_or_else(String::new, |words| format!("; {words}"));
                return Outcome::Broken(format!("{what} for {:.1} s{words}", waited.as_secs_f64()));
            }
            Step::Nothing => {}
            Step::Ended => return Outcome::Ended,
            Step::Broken(why) => return Outcome::Broken(why),
        }
        if shared.lock().stop {
            return Outcome::Stopped;
        }
    }
}

#[cfg(test)]
mod tests;
