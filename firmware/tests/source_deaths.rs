//! 500 random deaths of a camera: frames go on after each, every frame is counted, and nothing grows.

#![allow(clippy::unwrap_used)]

mod fakes;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fakes::{children, install, jpeg};
use hoi_firmware::source::{Backoff, Event, SourceSettings, Taken, open};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DEATHS: u64 = 500;
const MS: Duration = Duration::from_millis(1);

/// What the process holds: memory in KiB, threads, open files.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory_kib: u64,
    threads: u64,
    files: usize,
}

fn held() -> Held {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let files = fs::read_dir("/proc/self/fd").unwrap().count();
    Held { memory_kib: value("VmRSS:"), threads: value("Threads:"), files }
}

/// How the camera dies after its frames, as a shell script.
fn death(random: &mut ChaCha8Rng) -> &'static str {
    match random.random_range(0..20) {
        0..5 => "exit 3",
        5..9 => "kill -9 $$",
        9..12 => "exec sleep 600",
        12..14 => "printf 'garbage between pictures'; exit 0",
        14..16 => "head -c 200 $D/frames1; exit 1",
        16 => "sleep 600 & exit 4",
        17 => "trap '' TERM; sleep 600 & wait; sleep 600",
        18 => "exec >&-; sleep 600",
        _ => "while :; do echo flood; done >&2 & kill -15 $$",
    }
}

/// Writes the runs of the camera, one script each; returns how many frames each gives.
fn plan(folder: &Path, random: &mut ChaCha8Rng) -> Vec<u64> {
    for count in 1..=4 {
        // Less than a pipe holds: a run's frames come at once.
        fs::write(folder.join(format!("frames{count}")), jpeg(160, 120, 40 * count).repeat(count.into())).unwrap();
    }
    let mut frames = Vec::new();
    for run in 0..DEATHS {
        let count = random.random_range(0..=4);
        let shown = if count == 0 { String::new() } else { format!("cat $D/frames{count}\n") };
        // A run without a frame dies at once: the time to a first frame is longer than this test may take.
        let death = if count == 0 { "exit 1" } else { death(random) };
        fs::write(folder.join(format!("run{run}")), format!("{shown}{death}\n")).unwrap();
        frames.push(count);
    }
    // The last one is patience: nothing comes, and it is not yet given up when the test ends.
    fs::write(folder.join(format!("run{DEATHS}")), "exec sleep 600\n").unwrap();
    frames
}

#[test]
fn detection_outlives_500_random_deaths_of_its_camera() {
    let mut random = ChaCha8Rng::seed_from_u64(14);
    let folder = tempfile::tempdir().unwrap();
    let frames = plan(folder.path(), &mut random);
    fs::write(folder.path().join("next"), "0\n").unwrap();
    fs::write(folder.path().join("video0"), "").unwrap();
    let script = format!(
        "D={}\nPATH=/usr/bin:/bin\nread n < $D/next\necho $((n + 1)) > $D/next\n. $D/run$n",
        folder.path().display()
    );
    install(folder.path(), "rpicam-vid", &script);
    let settings = SourceSettings {
        start: Duration::from_secs(30),
        stall: 50 * MS,
        backoff: Backoff { first: MS, most: 4 * MS, reset_after: Duration::from_secs(10) },
        programs: Some(folder.path().into()),
        devices: folder.path().into(),
        ..SourceSettings::default()
    };

    let before = held();
    let began = Instant::now();
    let mut feed = open("csi://0", &settings).unwrap();
    let (mut taken, mut outages, mut early, mut most_children) = (0, 0, None, 0);
    let expected: u64 = frames.iter().sum();
    while feed.counts().restarts < DEATHS || feed.counts().read < expected {
        assert!(began.elapsed() < Duration::from_secs(150), "too slow: {:?}, expected {expected}", feed.counts());
        match feed.next(200 * MS) {
            Event::Frame(Taken { frame, .. }) => {
                assert_eq!(frame.unwrap().index, taken);
                taken += 1;
                // Now and then the model is slower than the camera.
                if random.random_bool(0.3) {
                    std::thread::sleep(random.random_range(0..15) * MS);
                }
            }
            Event::Down(why) => {
                assert!(!why.is_empty());
                outages += 1;
            }
            Event::Waiting => {}
            Event::Ended => panic!("a camera does not end"),
        }
        if early.is_none() && feed.counts().restarts >= DEATHS / 5 {
            early = Some(held());
        }
        most_children = most_children.max(if taken % 16 == 0 { children() } else { 0 });
    }
    while let Event::Frame(_) | Event::Down(_) = feed.next(MS) {
        taken = feed.counts().frames;
    }

    let counts = feed.counts();
    println!("{counts:?}, {outages} outages said, {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(counts.restarts, DEATHS);
    // Every frame of every run came, and is counted once.
    assert_eq!(counts.read, expected);
    assert_eq!((counts.frames, counts.frames + counts.dropped), (taken, counts.read));
    assert!(counts.dropped > 0 && outages > 100 && outages <= DEATHS, "{counts:?}, {outages} outages");

    let (early, late) = (early.unwrap(), held());
    println!(
        "before {before:?}, after 100 deaths {early:?}, after {DEATHS} {late:?}, at most {most_children} children"
    );
    assert!(late.memory_kib < early.memory_kib + 8 * 1024, "memory grew: {early:?}, {late:?}");
    assert_eq!(late.threads, before.threads + 1);
    // Two pipes, and what starting a program holds for a moment.
    assert!(late.files <= before.files + 8, "{before:?}, {late:?}");
    assert!(most_children <= 1, "{most_children} children at once");
    drop(feed);
    assert_eq!(children(), 0);
    let after = held();
    assert_eq!((after.threads, after.files), (before.threads, before.files));
}
