//! The screens as they are drawn, compared with pictures that a person has looked at: `docs/images/screen-*.png`, and patterns of
//! `#` and `.` for the screen of one bit a pixel in `firmware/tests/screens`.
//!
//! After a change that is meant, `BLESS_SCREENS=1 cargo test -p hoi-firmware --release --test screens` writes them anew; look at
//! them before they are committed.
#![allow(clippy::unwrap_used)]

use std::env;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use embedded_graphics::pixelcolor::{Rgb565, RgbColor};
use hoi_firmware::display::Canvas;
use hoi_firmware::display::screen::{self, Scene, SceneTriplet, State};
use hoi_runtime::geometry::BBox;
use hoi_runtime::source::{ImageLimits, open_image};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{Rgb, RgbImage};

/// One step of the five bits that red and blue have, which decoding and scaling may differ by on other processors.
const STEP: u8 = 9;
/// How much larger the pixels of the small screen are in its picture.
const MAGNIFIED: u32 = 3;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn photo(name: &str) -> RgbImage {
    open_image(&folder("../tests/photos").join(name), &ImageLimits::default()).unwrap().pixels
}

fn triplet(human: [f32; 4], object: Option<[f32; 4]>, verb: &str, name: &str, score: f32) -> SceneTriplet {
    SceneTriplet {
        human: BBox::from(human),
        object: object.map(BBox::from),
        verb: verb.to_owned(),
        object_name: object.map(|_| name.to_owned()),
        score,
    }
}

fn drawn(width: u16, height: u16, scene: &Scene<'_>) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    screen::draw(&mut canvas, scene).unwrap();
    canvas
}

/// Compares a screen with `docs/images/NAME.png`, or writes it there. What differs is left beside the test for looking at.
fn compare(name: &str, seen: &RgbImage) {
    let reference = folder("../docs/images").join(format!("{name}.png"));
    if env::var_os("BLESS_SCREENS").is_some() {
        return save(&reference, seen);
    }
    let left = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    let expected = image::open(&reference).unwrap_or_else(|e| panic!("{}: {e}", reference.display())).to_rgb8();
    if expected.dimensions() != seen.dimensions() {
        save(&left, seen);
        panic!("{name}: {:?} pixels, {:?} expected: {}", seen.dimensions(), expected.dimensions(), left.display());
    }
    let differs = |a: &Rgb<u8>, b: &Rgb<u8>| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > STEP);
    let wrong: Vec<(u32, u32)> = seen
        .enumerate_pixels()
        .filter(|(x, y, pixel)| differs(pixel, expected.get_pixel(*x, *y)))
        .map(|(x, y, _)| (x, y))
        .collect();
    if let Some(&(x, y)) = wrong.first() {
        save(&left, seen);
        let edge = |of: fn(&(u32, u32)) -> u32| (wrong.iter().map(of).min(), wrong.iter().map(of).max());
        panic!(
            "{name}: {} pixels differ, x {:?}, y {:?}; the first at ({x}, {y}): {:?}, expected {:?}\nlook at {} and {}",
            wrong.len(),
            edge(|p| p.0),
            edge(|p| p.1),
            seen.get_pixel(x, y).0,
            expected.get_pixel(x, y).0,
            left.display(),
            reference.display()
        );
    }
}

fn save(path: &Path, picture: &RgbImage) {
    let file = BufWriter::new(File::create(path).unwrap());
    picture
        .write_with_encoder(PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive))
        .unwrap();
}

/// Compares the small screen with `firmware/tests/screens/NAME.txt`, or writes it there.
fn compare_pattern(name: &str, canvas: &Canvas) {
    let seen: String = canvas
        .pixels()
        .chunks(128)
        .flat_map(|row| {
            let dot = |c: &Rgb565| match *c {
                Rgb565::WHITE => '#',
                Rgb565::BLACK => '.',
                other => panic!("{name}: {other:?} is neither black nor white"),
            };
            row.iter().map(dot).chain(['\n']).collect::<Vec<char>>()
        })
        .collect();
    let reference = folder("tests/screens").join(format!("{name}.txt"));
    if env::var_os("BLESS_SCREENS").is_some() {
        return fs::write(reference, seen).unwrap();
    }
    let expected = fs::read_to_string(&reference).unwrap_or_else(|e| panic!("{}: {e}", reference.display()));
    for (y, (seen, expected)) in seen.lines().zip(expected.lines()).enumerate() {
        assert_eq!(seen, expected, "{name}: row {y} (above: seen, below: {})", reference.display());
    }
    assert_eq!(seen.lines().count(), expected.lines().count(), "{name}: rows");
}

fn running<'a>(picture: Option<&'a RgbImage>, triplets: &'a [SceneTriplet]) -> Scene<'a> {
    Scene {
        picture,
        triplets,
        frame: Some(1204),
        frame_ms: Some(78.2),
        frames_per_second: Some(12.6),
        temperature: Some(52.4),
        ..Scene::of_state(State::Running)
    }
}

#[test]
fn the_square_panel_shows_a_rider() {
    let picture = photo("ride_horse.jpg");
    let (rider, horse) = ([233., 8., 372., 190.], [163., 65., 470., 381.]);
    let triplets = [
        triplet(rider, Some(horse), "ride", "horse", 0.94),
        triplet(rider, Some(horse), "race", "horse", 0.81),
        triplet(rider, Some(horse), "straddle", "horse", 0.77),
    ];
    compare("screen-240x240", &drawn(240, 240, &running(Some(&picture), &triplets)).to_rgb());
}

#[test]
fn the_wide_panel_shows_a_phone_and_long_words() {
    let picture = photo("photograph_with_phone.jpg");
    let (human, phone) = ([24., 85., 1024., 683.], [435., 256., 605., 384.]);
    let triplets = [
        triplet(human, Some(phone), "hold", "cell phone", 0.88),
        triplet(human, Some(phone), "have a long conversation about", "cell phone", 0.41),
        triplet(human, None, "photograph", "", 0.38),
    ];
    let scene = Scene { dropped: 17, ..running(Some(&picture), &triplets) };
    compare("screen-320x240", &drawn(320, 240, &scene).to_rgb());
}

#[test]
fn the_framebuffer_shows_two_people_with_their_bicycles() {
    let picture = photo("ride_bicycles.jpg");
    let right = ([315., 65., 644., 600.], [361., 302., 637., 640.]);
    let left = ([131., 126., 347., 571.], [131., 336., 334., 640.]);
    let triplets = [
        triplet(right.0, Some(right.1), "straddle", "bicycle", 0.88),
        triplet(right.0, Some(right.1), "sit on", "bicycle", 0.86),
        triplet(left.0, Some(left.1), "straddle", "bicycle", 0.82),
        triplet(right.0, Some(right.1), "ride", "bicycle", 0.82),
        triplet(right.0, Some(right.1), "hold", "bicycle", 0.81),
        triplet(left.0, Some(left.1), "sit on", "bicycle", 0.80),
    ];
    compare("screen-800x480", &drawn(800, 480, &running(Some(&picture), &triplets)).to_rgb());
}

#[test]
fn a_missing_camera_is_said_where_the_picture_would_be() {
    let words = "/dev/video0: no such device; tried again in 4 s. Plug the camera in, or choose another source: \
                 `ls /dev/video*` shows what there is";
    let state = State::NoCamera(words.to_owned());
    let scene = Scene { temperature: Some(47.9), dropped: 3, ..Scene::of_state(state) };
    compare("screen-240x240-no-camera", &drawn(240, 240, &scene).to_rgb());
    compare_pattern("no-camera", &drawn(128, 64, &scene));
    let state = State::Update("nano-8: 3.1 of 5.5 MiB checked".to_owned());
    compare("screen-800x480-update", &drawn(800, 480, &Scene::of_state(state)).to_rgb());
}

#[test]
fn the_small_screen_says_as_many_triplets_as_fit() {
    let anywhere = Some([0., 0., 9., 9.]);
    let triplets = [
        triplet([0., 0., 9., 9.], anywhere, "ride", "bicycle", 0.94),
        triplet([0., 0., 9., 9.], anywhere, "talk on", "cell phone", 0.88),
        triplet([0., 0., 9., 9.], anywhere, "have a conversation with", "person", 0.71),
        triplet([0., 0., 9., 9.], anywhere, "throw", "a leather sports ball", 0.62),
        triplet([0., 0., 9., 9.], None, "play violin", "", 0.55),
        triplet([0., 0., 9., 9.], anywhere, "sit on", "dining table", 0.5),
        triplet([0., 0., 9., 9.], anywhere, "never", "shown", 0.4),
    ];
    let canvas = drawn(128, 64, &running(None, &triplets));
    compare_pattern("running", &canvas);
    let pixels = canvas.to_rgb();
    let large = image::imageops::resize(&pixels, 128 * MAGNIFIED, 64 * MAGNIFIED, image::imageops::FilterType::Nearest);
    compare("screen-128x64", &large);
    compare_pattern("nobody", &drawn(128, 64, &running(None, &[])));
}
