//! Videos and network cameras, read by the real ffmpeg.

#![allow(clippy::unwrap_used)]

mod cameras;
mod fakes;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cameras::mjpeg::{self, Behaviour};
use cameras::rtsp;
use fakes::{down, event, ffmpeg, frame, jpeg};
use hoi_firmware::source::{Backoff, Event, Feed, FeedCounts, SourceSettings, Taken, open, probe};
use hoi_runtime::source::{ImageLimits, SourceError};

const MS: Duration = Duration::from_millis(1);

fn settings() -> SourceSettings {
    SourceSettings {
        start: Duration::from_secs(30),
        stall: 1_500 * MS,
        backoff: Backoff { first: 50 * MS, most: 200 * MS, reset_after: Duration::from_secs(10) },
        ..SourceSettings::default()
    }
}

/// A video of `frames` frames, 64x48, 10 a second.
fn video(folder: &Path, name: &str, frames: u32) -> PathBuf {
    let (path, frames) = (folder.join(name), frames.to_string());
    let codec = if name.ends_with("webm") { "libvpx" } else { "mjpeg" };
    let pattern = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10", "-frames:v", &frames];
    ffmpeg(&[&pattern[..], &["-pix_fmt", "yuvj420p", "-c:v", codec, path.to_str().unwrap()]].concat());
    path
}

/// All frames of a feed that ends: their numbers, and what could not be read.
fn all(feed: &mut Feed) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    loop {
        match event(feed) {
            Event::Frame(Taken { frame: Ok(frame), .. }) => {
                assert_eq!(frame.pixels.dimensions(), (64, 48));
                numbers.push(frame.index);
            }
            Event::Frame(Taken { frame: Err(error), .. }) => errors.push(error.to_string()),
            Event::Down(why) => errors.push(why),
            Event::Ended => return (numbers, errors),
            Event::Waiting => {}
        }
    }
}

#[test]
fn every_frame_of_a_video_is_taken_however_slowly_as_often_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.avi", "b.mkv", "c.mov", "d.mp4", "e.webm", "f.mjpeg"] {
        let path = video(folder.path(), name, 12);
        let settings = SourceSettings { repeat: 2, ..settings() };
        let mut feed = open(&format!("file://{}", path.display()), &settings).unwrap();
        assert!(!feed.is_live());
        frame(&mut feed);
        std::thread::sleep(200 * MS);
        let (numbers, errors) = all(&mut feed);
        assert!(errors.is_empty(), "{name}: {errors:?}");
        assert_eq!(numbers, (1..24).collect::<Vec<u64>>(), "{name}");
        assert_eq!(feed.counts(), FeedCounts { frames: 24, read: 24, ..FeedCounts::default() });
    }
}

#[test]
fn a_video_in_real_time_is_live_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = video(folder.path(), "a.avi", 10);
    let mut feed = open(&format!("file://{}?realtime=1", path.display()), &settings()).unwrap();
    assert!(feed.is_live());
    let began = Instant::now();
    frame(&mut feed);
    std::thread::sleep(500 * MS);
    let (numbers, errors) = all(&mut feed);
    assert!(errors.is_empty() && !numbers.is_empty(), "{errors:?}");
    assert!(began.elapsed() > 600 * MS, "10 frames take 1 s");
    let counts = feed.counts();
    assert_eq!((counts.read, counts.frames + counts.dropped), (10, 10));
    assert!(counts.dropped > 0);
}

#[test]
fn a_video_that_cannot_be_read_is_one_error_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(video(folder.path(), "a.mov", 10)).unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("half.mov"), &whole[..whole.len() / 2]).unwrap();
    fs::write(path("text.mp4"), "no video at all").unwrap();
    fs::write(path("empty.mkv"), "").unwrap();
    // A playlist that would lead elsewhere.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let playlist = format!("#EXTM3U\n#EXTINF:1,\nhttp://{}/a.ts\n", elsewhere.local_addr().unwrap());
    fs::write(path("list.mp4"), playlist).unwrap();
    for name in ["half.mov", "text.mp4", "empty.mkv", "list.mp4", "missing.mp4"] {
        let settings = SourceSettings { repeat: 3, ..settings() };
        let mut feed = open(path(name).to_str().unwrap(), &settings).unwrap();
        let (numbers, errors) = all(&mut feed);
        assert!(numbers.is_empty() && errors.len() == 1 && errors[0].contains(name), "{name}: {numbers:?} {errors:?}");
        let live = open(&format!("{}?realtime=1", path(name).display()), &settings);
        let (_, errors) = all(&mut live.unwrap());
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
    }
    assert!(elsewhere.accept().is_err(), "the playlist was followed");
}

#[test]
fn a_video_over_the_limit_is_refused_before_it_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = video(folder.path(), "a.avi", 3);
    let limits = ImageLimits { pixels: 1_000, ..ImageLimits::default() };
    let (numbers, errors) = all(&mut open(path.to_str().unwrap(), &SourceSettings { limits, ..settings() }).unwrap());
    assert!(numbers.is_empty() && errors.len() == 1, "{numbers:?} {errors:?}");
}

fn http(behaviours: Vec<Behaviour>) -> Feed {
    let port = mjpeg::serve(behaviours);
    let settings = SourceSettings { start: Duration::from_secs(10), ..settings() };
    open(&format!("http://anna:secret@127.0.0.1:{port}/video"), &settings).unwrap()
}

#[test]
fn an_http_camera_that_stalls_or_hangs_up_is_taken_again() {
    let picture = jpeg(64, 48, 50);
    let mut feed = http(vec![
        Behaviour::Stall(picture.clone(), 10),
        Behaviour::Hang(picture.clone(), 10),
        Behaviour::Refuse("503 Service Unavailable"),
        Behaviour::Garbage,
        Behaviour::Pictures(vec![picture]),
    ]);
    let taken = frame(&mut feed);
    assert_eq!(taken.pixels.dimensions(), (64, 48));
    assert!(taken.source.starts_with("http://127.0.0.1:"), "{}", taken.source);
    let why = down(&mut feed);
    assert!(why.contains("no frame for 1.5 s"), "{why}");
    frame(&mut feed);
    let why = down(&mut feed);
    assert!(!why.contains("secret"), "{why}");
    frame(&mut feed);
    let counts = feed.counts();
    assert!(counts.restarts >= 3 && counts.frames + counts.dropped <= counts.read, "{counts:?}");
}

#[test]
fn a_truncated_picture_and_one_over_the_limit_are_errors_among_good_ones() {
    let good = jpeg(64, 48, 50);
    let truncated = good[..good.len() - 40].to_vec();
    let large = {
        // The size in the frame header, which follows its marker, its length and the precision.
        let mut bytes = good.clone();
        let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 5;
        bytes[at..at + 4].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
        bytes
    };
    let mut pictures = vec![good.clone(); 30];
    // A truncated picture is known for one when the next one starts: a whole one right behind it would take its place at once.
    pictures.extend(vec![truncated; 4]);
    pictures.extend([good.clone(), large]);
    let mut feed = http(vec![Behaviour::Pictures(pictures)]);
    let (mut good, mut damaged, mut large) = (0, 0, 0);
    let began = Instant::now();
    while damaged < 2 || large < 2 || good < 60 {
        assert!(began.elapsed() < Duration::from_secs(60), "{good} good, {damaged} damaged, {large} large");
        match event(&mut feed) {
            Event::Frame(Taken { frame: Ok(_), .. }) => good += 1,
            Event::Frame(Taken { frame: Err(SourceError::Damaged { .. }), .. }) => damaged += 1,
            Event::Frame(Taken { frame: Err(error @ SourceError::TooManyPixels { .. }), .. }) => {
                assert!(error.to_string().contains("20000x20000"), "{error}");
                large += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(feed.counts().restarts, 0);
}

#[test]
fn an_http_camera_that_is_not_there_says_so() {
    let why = down(&mut http(vec![Behaviour::Refuse("404 Not Found")]));
    assert!(why.contains("ffmpeg ended with status 1") && why.contains("404"), "{why}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let why = probe(&format!("http://a:secret@127.0.0.1:{port}/"), &settings(), Duration::from_secs(30)).unwrap_err();
    assert!(why.contains("refused") && !why.contains("secret"), "{why}");
    let quick = SourceSettings { start: 1_000 * MS, ..settings() };
    let port = mjpeg::serve(vec![Behaviour::Garbage]);
    let why = probe(&format!("http://127.0.0.1:{port}/"), &quick, Duration::from_secs(30)).unwrap_err();
    assert!(why.contains("MJPEG"), "{why}");
}

/// Thirty seconds as a transport stream.
fn transport_stream() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ts");
    let pattern = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-t", "30"];
    let codec =
        ["-c:v", "mpeg2video", "-b:v", "200k", "-g", "5", "-muxdelay", "0", "-f", "mpegts", path.to_str().unwrap()];
    ffmpeg(&[&pattern[..], &codec].concat());
    fs::read(path).unwrap()
}

#[test]
fn an_rtsp_camera_is_decoded_scaled_and_taken_again_after_a_stall() {
    let port = rtsp::serve(transport_stream(), None);
    let mut feed = open(&format!("rtsp://127.0.0.1:{port}/live#size=160x120"), &settings()).unwrap();
    assert_eq!(frame(&mut feed).pixels.dimensions(), (160, 120));
    let why = down(&mut feed);
    assert!(why.contains("no frame for 1.5 s"), "{why}");
    assert_eq!(frame(&mut feed).pixels.dimensions(), (160, 120));
    assert!(feed.counts().restarts >= 1);
}

#[test]
fn an_rtsp_camera_gets_its_password_and_nobody_else_does() {
    // anna:secret in base 64.
    let port = rtsp::serve(transport_stream(), Some("YW5uYTpzZWNyZXQ="));
    let taken = frame(&mut open(&format!("rtsp://anna:secret@127.0.0.1:{port}/live"), &settings()).unwrap());
    assert_eq!((taken.pixels.dimensions(), taken.source), ((320, 240), format!("rtsp://127.0.0.1:{port}/live")));
    let why = down(&mut open(&format!("rtsp://anna:wrong@127.0.0.1:{port}/live"), &settings()).unwrap());
    assert!(why.contains("401") && why.contains("rtsp://user:password@") && !why.contains("wrong"), "{why}");
}
