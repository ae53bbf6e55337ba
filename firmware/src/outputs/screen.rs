//! The screen of a run: a thread of its own draws the newest scene, so that no display holds up a frame.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hoi_runtime::geometry::BBox;
use image::RgbImage;

use crate::device::describe;
use crate::display::screen::{self, Scene, SceneTriplet, State};
use crate::display::{Canvas, Display, DisplayError};

/// How long a display that could not be opened is left alone at first; doubled each time, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A [`Scene`] that owns what it shows.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) state: State,
    pub(crate) picture: Option<RgbImage>,
    pub(crate) people: Vec<BBox>,
    pub(crate) triplets: Vec<SceneTriplet>,
    pub(crate) frame: Option<u64>,
    pub(crate) frame_ms: Option<f64>,
    pub(crate) dropped: u64,
    pub(crate) frames_per_second: Option<f32>,
    pub(crate) temperature: Option<f32>,
}

impl Shown {
    /// A screen without picture that shows only a state.
    pub(crate) fn of_state(state: State) -> Self {
        Self {
            state,
            picture: None,
            people: Vec::new(),
            triplets: Vec::new(),
            frame: None,
            frame_ms: None,
            dropped: 0,
            frames_per_second: None,
            temperature: None,
        }
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            state: self.state.clone(),
            picture: self.picture.as_ref(),
            people: &self.people,
            triplets: &self.triplets,
            frame: self.frame,
            frame_ms: self.frame_ms,
            dropped: self.dropped,
            frames_per_second: self.frames_per_second,
            temperature: self.temperature,
        }
    }
}

/// Opens the display, again and again where it has to be.
pub(crate) type OpenDisplay = Box<dyn FnMut() -> Result<Box<dyn Display>, DisplayError> + Send>;

#[derive(Default)]
struct Mailbox {
    /// The newest scene that was not drawn yet.
    newest: Option<Shown>,
    drawing: bool,
    /// Scenes that the display did not take.
    lost: u64,
    /// The first error of a row of failures, until it is taken.
    error: Option<String>,
    failing: bool,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    mailbox: Mutex<Mailbox>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        // The mailbox is whole between any two statements that hold the lock.
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A display and the thread that draws on it.
pub(crate) struct ScreenWriter {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ScreenWriter {
    /// Begins to draw. Where `display` is none yet, `open` is asked for it, and asked again with back-off where that fails.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(display: Option<Box<dyn Display>>, open: OpenDisplay) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("screen".to_owned()).spawn(move || draw(&theirs, display, open))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has a scene drawn, unless a newer one comes before its turn.
    pub(crate) fn show(&self, scene: Shown) {
        self.shared.lock().newest = Some(scene);
        self.shared.changed.notify_all();
    }

    /// The error that began the present row of failures, once.
    pub(crate) fn take_error(&self) -> Option<String> {
        self.shared.lock().error.take()
    }

    /// Waits at most `wait` until the newest scene is drawn, and stops. A display that blocks inside its driver is left behind.
    /// Returns how many scenes were lost.
    pub(crate) fn close(mut self, wait: Duration) -> u64 {
        let deadline = Instant::now() + wait;
        let mut mailbox = self.shared.lock();
        mailbox.closing = true;
        self.shared.changed.notify_all();
        while mailbox.newest.is_some() || mailbox.drawing {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                mailbox.lost += 1;
                return mailbox.lost;
            };
            mailbox = self.shared.changed.wait_timeout(mailbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = mailbox.lost;
        drop(mailbox);
        if let Some(thread) = self.thread.take() {
            // It has nothing left to do but to let the display go.
            let _ = thread.join();
        }
        lost
    }
}

impl Drop for ScreenWriter {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
    }
}

fn draw(shared: &Shared, mut display: Option<Box<dyn Display>>, mut open: OpenDisplay) {
    let mut canvas: Option<Canvas> = None;
    let mut wait = FIRST_WAIT;
    loop {
        let mut mailbox = shared.lock();
        let scene = loop {
            if let Some(scene) = mailbox.newest.take() {
                break scene;
            }
            if mailbox.closing {
                return;
            }
            mailbox = shared.changed.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
        };
        mailbox.drawing = true;
        drop(mailbox);
        let outcome = match &mut display {
            Some(display) => flush(display.as_mut(), &mut canvas, &scene),
            None => open().and_then(|opened| flush(display.insert(opened).as_mut(), &mut canvas, &scene)),
        };
        let mut mailbox = shared.lock();
        mailbox.drawing = false;
        match outcome {
            Ok(()) => {
                mailbox.failing = false;
                wait = FIRST_WAIT;
            }
            Err(error) => {
                mailbox.lost += 1;
                if !mailbox.failing {
                    mailbox.failing = true;
                    mailbox.error = Some(describe(&error));
                }
                if display.is_none() {
                    // The newest scene of that time is shown when it is over.
                    let until = Instant::now() + wait;
                    wait = (wait * 2).min(LONGEST_WAIT);
                    shared.changed.notify_all();
                    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                        && !mailbox.closing
                    {
                        mailbox = shared.changed.wait_timeout(mailbox, left).unwrap_or_else(PoisonError::into_inner).0;
                    }
                    if mailbox.closing {
                        mailbox.newest = None;
                    }
                }
            }
        }
        drop(mailbox);
        shared.changed.notify_all();
    }
}

fn flush(display: &mut dyn Display, canvas: &mut Option<Canvas>, scene: &Shown) -> Result<(), DisplayError> {
    let (width, height) = display.size();
    let canvas = canvas.get_or_insert_with(|| Canvas::new(width, height));
    let Ok(()) = screen::draw(canvas, &scene.scene());
    display.flush(canvas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    /// A display that says of each canvas whether it took it, as it is told.
    struct Scripted {
        orders: mpsc::Receiver<bool>,
        taken: mpsc::Sender<Canvas>,
    }

    impl Display for Scripted {
        fn size(&self) -> (u16, u16) {
            (64, 48)
        }

        fn flush(&mut self, canvas: &Canvas) -> Result<(), DisplayError> {
            self.taken.send(canvas.clone()).ok();
            match self.orders.recv() {
                Ok(true) => Ok(()),
                _ => Err(failure()),
            }
        }
    }

    fn failure() -> DisplayError {
        DisplayError::Write { path: PathBuf::from("screen.png"), source: io::Error::other("unplugged") }
    }

    fn scripted() -> (Box<Scripted>, mpsc::Sender<bool>, mpsc::Receiver<Canvas>) {
        let (order, orders) = mpsc::channel();
        let (taken, seen) = mpsc::channel();
        (Box::new(Scripted { orders, taken }), order, seen)
    }

    fn starting(what: &str) -> Shown {
        Shown::of_state(State::Starting(what.to_owned()))
    }

    #[test]
    fn a_display_that_blocks_holds_nothing_up_and_shows_the_newest_scene_then() {
        let (display, order, seen) = scripted();
        let writer = ScreenWriter::start(Some(display), Box::new(|| Err(failure()))).unwrap();
        writer.show(starting("one"));
        let first = seen.recv_timeout(SOON).unwrap();
        let start = Instant::now();
        for _ in 0..1000 {
            writer.show(starting("two"));
        }
        writer.show(starting("three"));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        order.send(true).unwrap();
        let last = seen.recv_timeout(SOON).unwrap();
        order.send(true).unwrap();
        assert_eq!(writer.close(SOON), 0);
        let mut expected = Canvas::new(64, 48);
        let Ok(()) = screen::draw(&mut expected, &starting("three").scene());
        assert_eq!(last, expected);
        assert_ne!(first, last);
        assert!(seen.try_recv().is_err(), "a scene between was drawn");
    }

    #[test]
    fn each_row_of_failures_is_said_once_and_every_loss_is_counted() {
        let (display, order, seen) = scripted();
        let writer = ScreenWriter::start(Some(display), Box::new(|| Err(failure()))).unwrap();
        let mut errors = 0;
        for takes in [false, false, true, false] {
            writer.show(starting("x"));
            seen.recv_timeout(SOON).unwrap();
            order.send(takes).unwrap();
            let start = Instant::now();
            while writer.shared.lock().drawing {
                assert!(start.elapsed() < SOON);
                thread::yield_now();
            }
            errors += u32::from(writer.take_error().is_some_and(|e| e.contains("unplugged")));
        }
        assert_eq!(errors, 2);
        assert_eq!(writer.close(SOON), 3);
    }

    #[test]
    fn a_display_that_is_plugged_in_later_is_opened_then() {
        let (display, order, seen) = scripted();
        let mut tries = [None, Some(display as Box<dyn Display>)].into_iter();
        let writer = ScreenWriter::start(None, Box::new(move || tries.next().flatten().ok_or_else(failure))).unwrap();
        writer.show(starting("one"));
        let start = Instant::now();
        while writer.take_error().is_none() {
            assert!(start.elapsed() < SOON);
            thread::yield_now();
        }
        writer.show(starting("two"));
        order.send(true).unwrap();
        seen.recv_timeout(SOON).unwrap();
        assert!(start.elapsed() >= FIRST_WAIT, "it was not left alone: {:?}", start.elapsed());
        assert_eq!(writer.close(SOON), 1);
    }

    #[test]
    fn a_display_that_blocks_for_ever_is_left_behind() {
        let (display, order, seen) = scripted();
        let writer = ScreenWriter::start(Some(display), Box::new(|| Err(failure()))).unwrap();
        writer.show(starting("one"));
        seen.recv_timeout(SOON).unwrap();
        let start = Instant::now();
        assert_eq!(writer.close(Duration::from_millis(50)), 1);
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(order);
    }
}
