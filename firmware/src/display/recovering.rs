//! A panel that may fail: it is initialised again, and gets only what changed.

use std::time::{Duration, Instant};

use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::{Canvas, Display, DisplayError};

/// Time that passes at least between two attempts to initialise a display that failed.
pub const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A display that is ready: it takes parts of a canvas.
pub(super) trait Panel: Send {
    /// Shows the part `area`, inside the canvas and not empty.
    ///
    /// # Errors
    /// Why it could not.
    fn show(&mut self, canvas: &Canvas, area: Rectangle) -> Result<(), String>;
}

/// Opens the devices of a panel, resets and initialises it.
pub(super) type Connect = Box<dyn FnMut() -> Result<Box<dyn Panel>, DisplayError> + Send>;

/// A panel, and the way back to it.
pub(super) struct Recovering {
    uri: String,
    connect: Connect,
    panel: Option<Box<dyn Panel>>,
    /// What the panel shows; `None` where that is not known.
    shown: Option<Canvas>,
    size: (u16, u16),
    failed: Option<Failure>,
    pause: Duration,
}

struct Failure {
    at: Instant,
    reason: String,
}

impl Recovering {
    /// A display of `size`, not initialised yet.
    pub(super) fn new(uri: &str, size: (u16, u16), connect: Connect) -> Self {
        let uri = uri.to_owned();
        Self { uri, connect, panel: None, shown: None, size, failed: None, pause: RETRY_PAUSE }
    }

    /// The same with another pause between two attempts.
    #[cfg(test)]
    pub(super) fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Initialises the panel, where it is not ready yet.
    fn ready(&mut self) -> Result<&mut dyn Panel, DisplayError> {
        if self.panel.is_none() {
            if let Some(Failure { at, reason }) = &self.failed
                && at.elapsed() < self.pause
            {
                return Err(DisplayError::Panel { uri: self.uri.clone(), reason: reason.clone() });
            }
            self.shown = None;
            match (self.connect)() {
                Ok(panel) => self.panel = Some(panel),
                Err(error) => {
                    let reason = match &error {
                        DisplayError::Panel { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    };
                    self.failed = Some(Failure { at: Instant::now(), reason });
                    return Err(error);
                }
            }
        }
        match &mut self.panel {
            Some(panel) => Ok(panel.as_mut()),
            None => Err(DisplayError::Panel { uri: self.uri.clone(), reason: "it is not open".to_owned() }),
        }
    }
}

impl Display for Recovering {
    fn size(&self) -> (u16, u16) {
        self.size
    }

    fn prepare(&mut self) -> Result<(), DisplayError> {
        self.ready().map(|_| ())
    }

    fn flush(&mut self, canvas: &Canvas) -> Result<(), DisplayError> {
        let size = canvas.size();
        if (size.width, size.height) != (self.size.0.into(), self.size.1.into()) {
            return Err(DisplayError::CanvasSize {
                uri: self.uri.clone(),
                display: self.size,
                canvas: (size.width, size.height),
            });
        }
        self.ready()?;
        let areas = match &self.shown {
            Some(shown) => canvas.changes_since(shown),
            None => vec![canvas.bounding_box()],
        };
        let panel = self.ready()?;
        let outcome = areas.into_iter().try_for_each(|area| panel.show(canvas, area));
        match outcome {
            Ok(()) => {
                self.failed = None;
                match &mut self.shown {
                    Some(shown) => shown.clone_from(canvas),
                    None => self.shown = Some(canvas.clone()),
                }
                Ok(())
            }
            Err(reason) => {
                // What arrived is not known: the panel is closed, reset and drawn whole the next time.
                (self.panel, self.shown) = (None, None);
                self.failed = Some(Failure { at: Instant::now(), reason: reason.clone() });
                Err(DisplayError::Panel { uri: self.uri.clone(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::pixelcolor::Rgb565;
    use std::sync::{Arc, Mutex};

    /// What a panel was told, and what it does next.
    #[derive(Default)]
    struct Log {
        connects: usize,
        areas: Vec<Rectangle>,
        refuse_connect: bool,
        refuse_show: bool,
    }

    struct Logged(Arc<Mutex<Log>>);

    impl Panel for Logged {
        fn show(&mut self, _: &Canvas, area: Rectangle) -> Result<(), String> {
            let mut log = self.0.lock().unwrap();
            if log.refuse_show {
                return Err("unplugged".to_owned());
            }
            log.areas.push(area);
            Ok(())
        }
    }

    fn display(pause: Duration) -> (Recovering, Arc<Mutex<Log>>) {
        let log = Arc::new(Mutex::new(Log::default()));
        let theirs = Arc::clone(&log);
        let connect = move || -> Result<Box<dyn Panel>, DisplayError> {
            let mut log = theirs.lock().unwrap();
            log.connects += 1;
            if log.refuse_connect {
                return Err(DisplayError::Panel { uri: "x://".to_owned(), reason: "no such device".to_owned() });
            }
            Ok(Box::new(Logged(Arc::clone(&theirs))))
        };
        (Recovering::new("x://", (8, 6), Box::new(connect)).with_pause(pause), log)
    }

    fn area(x: i32, y: i32, width: u32, height: u32) -> Rectangle {
        Rectangle::new(Point::new(x, y), Size::new(width, height))
    }

    #[test]
    fn only_what_changed_is_sent() {
        let (mut display, log) = display(Duration::ZERO);
        let mut canvas = Canvas::new(8, 6);
        display.flush(&canvas).unwrap();
        display.flush(&canvas).unwrap();
        canvas.fill_solid(&area(2, 1, 3, 2), Rgb565::RED).unwrap();
        canvas.fill_solid(&area(7, 5, 1, 1), Rgb565::RED).unwrap();
        display.flush(&canvas).unwrap();
        let log = log.lock().unwrap();
        assert_eq!(log.areas, [area(0, 0, 8, 6), area(2, 1, 3, 2), area(7, 5, 1, 1)]);
        assert_eq!(log.connects, 1);
    }

    #[test]
    fn a_failure_is_followed_by_a_new_beginning_and_the_whole_picture() {
        let (mut display, log) = display(Duration::ZERO);
        let mut canvas = Canvas::new(8, 6);
        display.flush(&canvas).unwrap();
        log.lock().unwrap().refuse_show = true;
        canvas.fill_solid(&area(0, 0, 1, 1), Rgb565::RED).unwrap();
        let error = display.flush(&canvas).unwrap_err();
        assert_eq!(error.to_string(), "display x://: unplugged; it is initialised again with one of the next frames");
        log.lock().unwrap().refuse_show = false;
        display.flush(&canvas).unwrap();
        let log = log.lock().unwrap();
        assert_eq!((log.connects, log.areas.as_slice()), (2, [area(0, 0, 8, 6); 2].as_slice()));
    }

    #[test]
    fn a_missing_display_is_looked_for_not_more_often_than_the_pause() {
        let (mut display, log) = display(Duration::from_secs(3600));
        log.lock().unwrap().refuse_connect = true;
        let canvas = Canvas::new(8, 6);
        for _ in 0..5 {
            let error = display.flush(&canvas).unwrap_err();
            assert!(error.to_string().contains("no such device"), "{error}");
        }
        assert_eq!(log.lock().unwrap().connects, 1);
        let (mut display, log) = self::display(Duration::ZERO);
        log.lock().unwrap().refuse_connect = true;
        for _ in 0..5 {
            display.flush(&canvas).unwrap_err();
        }
        assert_eq!(log.lock().unwrap().connects, 5);
    }

    #[test]
    fn a_canvas_of_another_size_is_an_error() {
        let (mut display, log) = display(Duration::ZERO);
        let error = display.flush(&Canvas::new(6, 8)).unwrap_err();
        assert!(matches!(error, DisplayError::CanvasSize { display: (8, 6), canvas: (6, 8), .. }), "{error}");
        assert_eq!(log.lock().unwrap().connects, 0);
    }
}
