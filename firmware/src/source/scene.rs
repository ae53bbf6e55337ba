//! Scenes without a camera: `test://`, `test://ride_horse?size=640x480&rate=15`.
//!
//! A photo through a window that wanders over it. What frame `n` shows depends on `n`, the scene and the size alone. Both photos are CC0
//! (`tests/photos/licenses.json`).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hoi_runtime::geometry::Size;
use image::imageops::{self, FilterType};
use image::{ImageFormat, RgbImage};

use super::address::{Options, nearest};
use super::live::{AtEnd, Camera};
use super::stream::{Picture, Step, Stream};
use super::{DEFAULT_RATE, DEFAULT_SIZE, OpenError, SourceSettings};

/// The photos, by the names of their scenes.
const PHOTOS: [(&str, &[u8]); 2] = [
    ("ride_horse", include_bytes!("../../../tests/photos/ride_horse.jpg")),
    ("ride_skateboard", include_bytes!("../../../tests/photos/ride_skateboard.jpg")),
];
const NAMES: [&str; 2] = [PHOTOS[0].0, PHOTOS[1].0];

/// Frames until the next photo, where no scene is named.
const FRAMES_A_PHOTO: u64 = 150;

/// How much larger than the window the photo is, at least.
const MARGIN: f64 = 1.1;

/// Frames of one way there and back, sideways and up and down.
const PERIODS: [f64; 2] = [120.0, 190.0];

/// The largest scene, in pixels.
const MOST_PIXELS: u64 = 4096 * 2160;

/// Photos scaled for a window.
#[derive(Debug)]
pub(super) struct Scene {
    window: Size,
    photos: Vec<RgbImage>,
}

impl Scene {
    fn new(name: Option<&str>, window: Size) -> Result<Self, String> {
        let wanted = PHOTOS.iter().filter(|(known, _)| name.is_none_or(|name| name == *known));
        let photos =
            wanted.map(|(name, bytes)| scaled(bytes, window).map_err(|error| format!("photo {name}: {error}")));
        Ok(Self { window, photos: photos.collect::<Result<_, _>>()? })
    }

    /// Frame `number`.
    pub(super) fn frame(&self, number: u64) -> RgbImage {
        let photo = &self.photos[(number / FRAMES_A_PHOTO % self.photos.len() as u64) as usize];
        let Size { width, height } = self.window;
        let offset = |room: u32, period: f64| {
            let turn = number as f64 / period * std::f64::consts::TAU;
            (f64::from(room) * (1.0 - turn.cos()) / 2.0).round() as u32
        };
        let (x, y) = (offset(photo.width() - width, PERIODS[0]), offset(photo.height() - height, PERIODS[1]));
        imageops::crop_imm(photo, x, y, width, height).to_image()
    }
}

fn scaled(jpeg: &[u8], window: Size) -> Result<RgbImage, image::ImageError> {
    let photo = image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg)?.into_rgb8();
    let ratio = |room: u32, side: u32| f64::from(room) * MARGIN / f64::from(side);
    let scale = ratio(window.width, photo.width()).max(ratio(window.height, photo.height()));
    let side = |side: u32, least: u32| ((f64::from(side) * scale).round() as u32).max(least);
    let (width, height) = (side(photo.width(), window.width), side(photo.height(), window.height));
    Ok(imageops::resize(&photo, width, height, FilterType::Triangle))
}

/// The camera of a scene.
#[derive(Debug)]
pub(super) struct SceneCamera {
    name: Option<&'static str>,
    size: Size,
    scene: Option<Arc<Scene>>,
    pace: Duration,
    /// The first frame that is not shown any more.
    end: Option<u64>,
    stall_after: Option<u64>,
    die_after: Option<u64>,
    /// The frame to go on with: those of earlier runs are over.
    next: Arc<std::sync::atomic::AtomicU64>,
}

impl SceneCamera {
    /// `rest` is what follows `test://`.
    pub(super) fn parse(uri: &str, rest: &str, settings: &SourceSettings) -> Result<Self, OpenError> {
        let (name, options) = rest.split_once('?').unwrap_or((rest, ""));
        let options = Options::parse(uri, options, &["size", "rate", "frames", "stall_after", "die_after"])?;
        let name = match NAMES.into_iter().find(|known| *known == name) {
            None if !name.is_empty() => {
                let hint = nearest(name, &NAMES).map_or_else(String::new, |name| format!(" (`{name}`?)"));
                let needed = format!("unknown scene `{name}`{hint}; none, or one of {},", NAMES.join(", "));
                return Err(OpenError::Address { uri: uri.to_owned(), needed });
            }
            name => name,
        };
        let any = 1..=u64::from(u32::MAX);
        let frames = options.number("frames", any.clone())?;
        Ok(Self {
            name,
            size: options.size("size", settings.limits.pixels.min(MOST_PIXELS))?.unwrap_or(DEFAULT_SIZE),
            scene: None,
            pace: Duration::from_secs(1) / options.rate()?.unwrap_or(DEFAULT_RATE) as u32,
            end: frames.map(|frames| frames * u64::from(settings.repeat)),
            stall_after: options.number("stall_after", any.clone())?,
            die_after: options.number("die_after", any)?,
            next: Arc::default(),
        })
    }
}

impl Camera for SceneCamera {
    fn start(&mut self) -> Result<Box<dyn Stream>, String> {
        let scene = match &self.scene {
            Some(scene) => Arc::clone(scene),
            None => Arc::clone(self.scene.insert(Arc::new(Scene::new(self.name, self.size)?))),
        };
        Ok(Box::new(SceneStream {
            scene,
            pace: self.pace,
            due: Instant::now(),
            end: self.end,
            stall_after: self.stall_after,
            die_after: self.die_after,
            shown: 0,
            next: Arc::clone(&self.next),
        }))
    }

    fn at_end(&mut self) -> AtEnd {
        AtEnd::Over
    }
}

/// One run of a scene.
struct SceneStream {
    scene: Arc<Scene>,
    pace: Duration,
    due: Instant,
    end: Option<u64>,
    stall_after: Option<u64>,
    die_after: Option<u64>,
    /// Frames of this run.
    shown: u64,
    next: Arc<std::sync::atomic::AtomicU64>,
}

impl Stream for SceneStream {
    fn read(&mut self, deadline: Instant) -> Step {
        use std::sync::atomic::Ordering::Relaxed;

        let number = self.next.load(Relaxed);
        if self.end.is_some_and(|end| number >= end) {
            return Step::Ended;
        }
        if self.die_after.is_some_and(|most| self.shown >= most) {
            return Step::Broken(format!("it died after {} frames, as die_after asks for", self.shown));
        }
        let due =
            if self.stall_after.is_some_and(|most| self.shown >= most) { deadline } else { self.due.min(deadline) };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if due == deadline {
            return Step::Nothing;
        }
        let now = Instant::now();
        // Frames that could not be drawn in time are not made up for.
        self.due = (self.due + self.pace).max(now);
        self.shown += 1;
        self.next.store(number + 1, Relaxed);
        Step::Picture(Picture::Pixels(self.scene.frame(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(rest: &str) -> Result<SceneCamera, OpenError> {
        SceneCamera::parse(&format!("test://{rest}"), rest, &SourceSettings::default())
    }

    #[test]
    fn a_frame_depends_on_its_number_alone_and_the_window_moves() {
        let scene = Scene::new(Some("ride_horse"), Size::new(160, 120)).unwrap();
        let again = Scene::new(Some("ride_horse"), Size::new(160, 120)).unwrap();
        assert_eq!(scene.frame(7), again.frame(7));
        assert_eq!(scene.frame(7).dimensions(), (160, 120));
        assert_ne!(scene.frame(7), scene.frame(37));
        let both = Scene::new(None, Size::new(160, 120)).unwrap();
        assert_eq!(both.frame(7), scene.frame(7));
        assert_ne!(both.frame(FRAMES_A_PHOTO), scene.frame(FRAMES_A_PHOTO));
        assert_eq!(both.frame(2 * FRAMES_A_PHOTO + 1).dimensions(), (160, 120));
    }

    #[test]
    fn windows_of_any_shape_are_filled() {
        for (width, height) in [(16, 1000), (1000, 16), (641, 479)] {
            let scene = Scene::new(None, Size::new(width, height)).unwrap();
            for number in [0, 60, 95, 310] {
                assert_eq!(scene.frame(number).dimensions(), (width, height));
            }
        }
    }

    #[test]
    fn uris_by_hand() {
        assert_eq!(camera("").unwrap().name, None);
        let full = camera("ride_horse?size=320x240&rate=30&frames=9&stall_after=1&die_after=2").unwrap();
        assert_eq!((full.name, full.size, full.end), (Some("ride_horse"), Size::new(320, 240), Some(9)));
        let error = camera("ride_hrse").unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("`ride_horse`?"), "{error}");
        assert!(camera("?frame=3").unwrap_err().to_string().contains("`frames`?"));
        assert!(camera("?frames=0").is_err() && camera("?size=8000x8000").is_err());
    }

    #[test]
    fn the_end_the_death_and_the_stall_come_when_they_are_asked_for() {
        let soon = || Instant::now() + Duration::from_millis(100);
        let frames = |camera: &mut SceneCamera| {
            let mut stream = camera.start().unwrap();
            let mut shown = 0;
            loop {
                match stream.read(soon()) {
                    Step::Picture(_) => shown += 1,
                    last => return (shown, last),
                }
            }
        };
        let mut dying = camera("?size=16x16&rate=200&die_after=2&frames=5").unwrap();
        assert!(matches!(frames(&mut dying), (2, Step::Broken(_))));
        assert!(matches!(frames(&mut dying), (2, Step::Broken(_))));
        assert!(matches!(frames(&mut dying), (1, Step::Ended)), "earlier runs count");
        assert!(matches!(frames(&mut camera("?size=16x16&rate=200&stall_after=3").unwrap()), (3, Step::Nothing)));
    }
}
