//! 500 serial readers that read, are slow, never read, vanish, or vanish and come back. Alone in its process, so that threads and open
//! files can be counted.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hoi_firmware::board::{Board, Host};
use hoi_firmware::serial::{Encoder, LineCounts, LineWriter, Message, Protocol, QUEUE_LINES, unpack};
use hoi_runtime::sink::{FRAME_SCHEMA, FrameRecord};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serialport::{SerialPort, TTYPort};

const WAVES: usize = 10;
const READERS: usize = 50;
/// Frames of a wave, and the time of one.
const FRAMES: usize = 150;
const TICK: Duration = Duration::from_millis(12);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Habit {
    Steady,
    /// Reads so many bytes a frame.
    Slow(usize),
    NeverReads,
    /// Pulls the plug after so many frames.
    Vanishes(usize),
    /// And plugs it in again so many frames later.
    ComesBack(usize, usize),
}

impl Habit {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..5) {
            0 => Self::Steady,
            1 => Self::Slow(random.random_range(1..40)),
            2 => Self::NeverReads,
            3 => Self::Vanishes(random.random_range(0..FRAMES)),
            _ => Self::ComesBack(random.random_range(0..50), random.random_range(1..40)),
        }
    }
}

/// A device's serial output and the reader at the other end.
struct Line {
    habit: Habit,
    path: PathBuf,
    reader: Option<TTYPort>,
    writer: LineWriter,
    encoder: Encoder,
    pushed: u64,
    read: Vec<u8>,
}

/// A new pseudo terminal under `path`, whose other end is returned. Like a real adapter it hangs up when that is closed.
fn plug_in(path: &Path) -> TTYPort {
    let (mut reader, device) = TTYPort::pair().unwrap();
    reader.set_timeout(Duration::ZERO).unwrap();
    fs::remove_file(path).ok();
    symlink(device.name().unwrap(), path).unwrap();
    reader
}

fn open(path: &Path, baud: u32) -> io::Result<Box<dyn hoi_firmware::board::SerialPort>> {
    Host.open_serial(path, baud).map_err(io::Error::other)
}

impl Line {
    fn new(path: PathBuf, habit: Habit, protocol: Protocol, random: &mut StdRng) -> Self {
        let baud = [115_200, 921_600, 4_000_000][random.random_range(0..3)];
        let reader = Some(plug_in(&path));
        let port = open(&path, baud).unwrap();
        let again = path.clone();
        let reopen = Box::new(move || open(&again, baud));
        let writer = LineWriter::start(Some(port), Some(reopen), protocol, baud, QUEUE_LINES).unwrap();
        Self { habit, path, reader, writer, encoder: Encoder::new(protocol), pushed: 0, read: Vec::new() }
    }

    /// What the reader does in frame number `tick`.
    fn turn(&mut self, tick: usize) {
        let take = match self.habit {
            Habit::Steady | Habit::ComesBack(..) | Habit::Vanishes(_) => 1 << 16,
            Habit::Slow(bytes) => bytes,
            Habit::NeverReads => 0,
        };
        match self.habit {
            Habit::Vanishes(at) | Habit::ComesBack(at, _) if at == tick => {
                self.reader = None;
                // Its device node goes with it: a number that is free is given to the next terminal.
                fs::remove_file(&self.path).unwrap();
                self.read.clear();
            }
            Habit::ComesBack(at, away) if at + away == tick => self.reader = Some(plug_in(&self.path)),
            _ => {}
        }
        if let Some(reader) = &mut self.reader {
            let mut bytes = vec![0; take];
            if let Ok(n) = reader.read(&mut bytes) {
                self.read.extend(&bytes[..n]);
            }
        }
    }

    /// Whole messages that the reader has; broken ones are an error where nothing was unplugged.
    fn received(&self) -> u64 {
        let delimiter = self.encoder.protocol().delimiter();
        let mut parts: Vec<&[u8]> = self.read.split(|byte| *byte == delimiter).collect();
        parts.pop();
        let whole = |part: &&[u8]| match self.encoder.protocol() {
            Protocol::Jsonl => serde_json::from_slice::<serde_json::Value>(part).is_ok(),
            Protocol::Frames => matches!(unpack(part), Ok((_, Message::Frame(_)))),
        };
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let (whole, broken): (Vec<&[u8]>, Vec<&[u8]>) = parts.partition(whole);
        let first = broken.first().map(|bytes| String::from_utf8_lossy(bytes));
        assert_eq!(first, None, "{:?}, {}: no message", self.habit, self.encoder.protocol());
        whole.len() as u64
    }
}

fn record(frame: u64) -> FrameRecord {
    FrameRecord {
        schema: FRAME_SCHEMA,
        source: "camera ".repeat(20),
        frame,
        width: 640,
        height: 480,
        triplets: Vec::new(),
        detections: Vec::new(),
        timings_ms: Default::default(),
    }
}

/// Entries of a folder of `/proc/self`: `task` or `fd`.
fn count(folder: &str) -> usize {
    fs::read_dir(Path::new("/proc/self").join(folder)).unwrap().count()
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn five_hundred_readers_hold_nothing_up_and_every_message_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(500);
    let begun = Instant::now();
    let before = (count("task"), count("fd"));
    let (mut memory, mut total, mut slowest) = (Vec::new(), LineCounts::default(), Duration::ZERO);
    let mut came_back = 0;
    for wave in 0..WAVES {
        let mut lines: Vec<Line> = (0..READERS)
            .map(|i| {
                let protocol = if i % 2 == 0 { Protocol::Frames } else { Protocol::Jsonl };
                let habit = Habit::random(&mut random);
                Line::new(folder.path().join(format!("{wave}-{i}")), habit, protocol, &mut random)
            })
            .collect();
        assert!(count("task") >= before.0 + READERS);
        for tick in 0..FRAMES {
            let start = Instant::now();
            for line in &mut lines {
                let message = line.encoder.encode_frame(&record(tick as u64)).unwrap();
                let pushing = Instant::now();
                line.writer.push(message);
                slowest = slowest.max(pushing.elapsed());
                line.pushed += 1;
            }
            lines.iter_mut().for_each(|line| line.turn(tick));
            thread::sleep(TICK.saturating_sub(start.elapsed()));
        }
        memory.push(resident());
        // Who reads is given the time to read all.
        let waiting = Instant::now();
        while waiting.elapsed() < Duration::from_secs(20)
            && lines.iter().any(|line| {
                line.habit == Habit::Steady && line.writer.counts().sent + line.writer.counts().dropped < line.pushed
            })
        {
            lines.iter_mut().for_each(|line| line.turn(FRAMES));
            thread::sleep(Duration::from_millis(2));
        }
        for mut line in lines {
            line.turn(FRAMES);
            let (habit, pushed) = (line.habit, line.pushed);
            let last = line.writer.counts();
            let received = line.received();
            let (counts, _) = line.writer.close(Duration::from_millis(5));
            let LineCounts { sent, dropped, failed } = counts;
            assert_eq!(sent + dropped + failed, pushed, "{habit:?}: {counts:?}");
            match habit {
                Habit::Steady => assert_eq!((received, failed), (last.sent, 0), "{counts:?}"),
                Habit::Slow(_) => assert!(received <= sent + 1 && failed == 0, "{habit:?}: {counts:?}, {received}"),
                Habit::NeverReads => assert_eq!((received, failed), (0, 0), "{counts:?}"),
                Habit::Vanishes(_) => assert!(received <= sent, "{habit:?}: {counts:?}, {received}"),
                Habit::ComesBack(..) => {
                    assert!(failed > 0, "{habit:?}: {counts:?}");
                    came_back += u64::from(received > 0);
                }
            }
            total.sent += sent;
            total.dropped += dropped;
            total.failed += failed;
        }
        let waiting = Instant::now();
        while (count("task"), count("fd")) != before {
            assert!(waiting.elapsed() < Duration::from_secs(5), "{:?}, {before:?}", (count("task"), count("fd")));
            thread::sleep(Duration::from_millis(5));
        }
    }
    println!("{total:?}, {came_back} came back, slowest push {slowest:?}, {memory:?} KiB, {:?}", begun.elapsed());
    assert_eq!(total.sent + total.dropped + total.failed, (WAVES * READERS * FRAMES) as u64);
    assert!(
        total.sent > 10_000 && total.dropped > 1000 && total.failed > 1000 && came_back > 50,
        "{total:?}, {came_back}"
    );
    // Never as long as a frame; what it takes is the scheduler's doing.
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(memory[WAVES - 1] < memory[0] + 16 * 1024, "{memory:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
