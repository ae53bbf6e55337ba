//! What sources are tested with: programs that are shell scripts, pictures, and a look at processes.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hoi_firmware::source::{Event, Feed, Taken};
use hoi_runtime::source::Frame;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// Writes the shell script `script` as the program `name` of `folder`. A program of its own writes it: a file that a thread of this
/// process holds open for writing can be handed to a child that another thread starts, and then cannot be run.
pub fn install(folder: &Path, name: &str, script: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(folder.join(name))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    install.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

/// A JPEG of one colour.
pub fn jpeg(width: u32, height: u32, red: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = RgbImage::from_pixel(width, height, Rgb([red, 90, 90]));
    JpegEncoder::new(&mut bytes).encode_image(&picture).unwrap();
    bytes
}

/// The next event that is not [`Event::Waiting`].
pub fn event(feed: &mut Feed) -> Event {
    let began = Instant::now();
    loop {
        match feed.next(Duration::from_millis(200)) {
            Event::Waiting => assert!(began.elapsed() < Duration::from_secs(60), "the source says nothing"),
            event => return event,
        }
    }
}

/// The next frame; outages are passed over.
pub fn frame(feed: &mut Feed) -> Frame {
    loop {
        match event(feed) {
            Event::Frame(Taken { frame, .. }) => return frame.unwrap(),
            Event::Down(_) => {}
            other => panic!("a frame is due: {other:?}"),
        }
    }
}

/// Why the source is down next; frames are passed over.
pub fn down(feed: &mut Feed) -> String {
    loop {
        match event(feed) {
            Event::Down(why) => return why,
            Event::Frame(_) => {}
            other => panic!("an outage is due: {other:?}"),
        }
    }
}

/// Waits until `holds`, and fails with `what` if that takes long.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The number in a file that a script wrote.
pub fn number_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a process runs: one that has ended and that nobody has looked at does not.
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Children of this process, ended ones that were not looked at included.
pub fn children() -> usize {
    let parent = std::process::id().to_string();
    let of_ours = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        (rest.split(' ').nth(1) == Some(parent.as_str())).then_some(())
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| of_ours(entry.ok()?)).count()
}

/// `ffmpeg` with `args`; it must be there.
pub fn ffmpeg(args: &[&str]) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"])
        .args(args)
        .status()
        .expect("these tests need ffmpeg: sudo apt install ffmpeg");
    assert!(status.success(), "ffmpeg {args:?}");
}
