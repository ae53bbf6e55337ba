//! Cameras behind programs: the real feed with programs that are scripts.

#![allow(clippy::unwrap_used)]

mod fakes;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fakes::{down, event, frame, install, jpeg, number_in, runs, wait_until};
use hoi_firmware::source::{Backoff, Event, SourceSettings, open};
use tempfile::TempDir;

const MS: Duration = Duration::from_millis(1);

/// A folder with the pictures `frames`, and settings that look for programs only in it.
fn place() -> (TempDir, SourceSettings) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("frames"), [jpeg(64, 48, 10), jpeg(64, 48, 200)].concat()).unwrap();
    let devices = folder.path().join("dev");
    fs::create_dir(&devices).unwrap();
    fs::write(devices.join("media0"), "").unwrap();
    let settings = SourceSettings {
        start: Duration::from_secs(30),
        stall: 300 * MS,
        backoff: Backoff { first: 10 * MS, most: 50 * MS, reset_after: Duration::from_secs(10) },
        programs: Some(folder.path().into()),
        devices,
        ..SourceSettings::default()
    };
    (folder, settings)
}

/// A script that writes its command line to `args`, its number to `pid`, and then does `then` with `$D` for the folder.
fn script(folder: &Path, then: &str) -> String {
    let path = "PATH=/usr/bin:/bin";
    format!("D={}\n{path}\nprintf '%s ' \"$@\" > $D/args\necho $$ > $D/pid\n{then}", folder.display())
}

fn args(folder: &Path) -> String {
    fs::read_to_string(folder.join("args")).unwrap().trim().to_owned()
}

#[test]
fn a_usb_camera_is_asked_for_size_rate_and_jpeg() {
    let (folder, settings) = place();
    install(folder.path(), "ffmpeg", &script(folder.path(), "cat $D/frames; exec sleep 600"));
    let mut feed = open("v4l2:///dev/null?size=1280x720&rate=30", &settings).unwrap();
    let taken = frame(&mut feed);
    assert_eq!((taken.index, taken.pixels.dimensions(), taken.source.as_str()), (0, (64, 48), feed.uri()));
    assert_eq!(
        args(folder.path()),
        "-nostdin -hide_banner -loglevel error -f v4l2 -input_format mjpeg -framerate 30 -video_size 1280x720 -i /dev/null \
         -map 0:v:0 -c:v copy -flush_packets 1 -f mjpeg pipe:1"
    );
}

#[test]
fn a_usb_camera_without_jpeg_is_read_raw() {
    let (folder, settings) = place();
    let then = "case \"$*\" in *mjpeg*) echo 'no such format' >&2; exit 1;; esac\n\
                printf 'P6\\n2 1\\n255\\nabcdef'; exec sleep 600";
    install(folder.path(), "ffmpeg", &script(folder.path(), then));
    let mut feed = open("v4l2:///dev/null", &settings).unwrap();
    match event(&mut feed) {
        Event::Frame(taken) => assert_eq!(taken.frame.unwrap().pixels.as_raw(), b"abcdef"),
        other => panic!("the other format is no outage: {other:?}"),
    }
    assert!(args(folder.path()).ends_with("-vsync passthrough -c:v ppm -flush_packets 1 -f image2pipe pipe:1"));
}

#[test]
fn a_ribbon_cable_camera_is_read_by_what_is_installed() {
    let (folder, settings) = place();
    let pictures = script(folder.path(), "cat $D/frames; exec sleep 600");
    // NVIDIA's source talks on standard output: it must not be taken for a picture.
    let chatty =
        script(folder.path(), "echo GST_ARGUS: Creating output stream; cat $D/frames >&3; echo more; exec sleep 600");
    let rpicam = "--camera 1 --width 1280 --height 720 --framerate 30 --codec mjpeg --timeout 0 --nopreview --verbose=0 --flush \
                  --output -";
    let argus = "-q nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! nvjpegenc ! \
                 fdsink fd=3";
    for (name, text, line) in
        [("gst-launch-1.0", &chatty, argus), ("libcamera-vid", &pictures, rpicam), ("rpicam-vid", &pictures, rpicam)]
    {
        install(folder.path(), name, text);
        let mut feed = open("csi://1?size=1280x720&rate=30", &settings).unwrap();
        assert_eq!(frame(&mut feed).pixels.dimensions(), (64, 48), "{name}");
        assert_eq!(args(folder.path()), line, "{name}");
    }
}

#[test]
fn what_is_missing_is_named_and_looked_for_again() {
    let (folder, settings) = place();
    let mut feed = open("csi://0", &settings).unwrap();
    let why = down(&mut feed);
    assert!(why.contains("apt install rpicam-apps") && why.contains("nvidia-l4t-gstreamer"), "{why}");
    install(folder.path(), "rpicam-vid", &script(folder.path(), "cat $D/frames; exec sleep 1"));
    frame(&mut feed);

    // Unplugged: the program dies, and then there is no device.
    fs::remove_file(settings.devices.join("media0")).unwrap();
    down(&mut feed);
    wait_until("the missing device is seen", || {
        feed.down().is_some_and(|why| why.contains("camera_auto_detect=1") && why.contains("no camera"))
    });
    fs::write(settings.devices.join("media0"), "").unwrap();
    frame(&mut feed);
    assert_eq!(feed.down(), None);

    let mut usb = open("v4l2:///dev/no-such-camera", &settings).unwrap();
    assert!(down(&mut usb).contains("/dev/no-such-camera: no such device"));
    let mut usb = open("v4l2:///dev/null", &settings).unwrap();
    assert!(down(&mut usb).contains("sudo apt install ffmpeg"));
}

#[test]
fn a_program_that_dies_gives_its_last_words_its_status_and_a_remedy() {
    let (folder, settings) = place();
    let dies = "echo first >&2; echo 'ERROR: *** no cameras available ***' >&2; exit 255";
    install(folder.path(), "rpicam-vid", &script(folder.path(), dies));
    let why = down(&mut open("csi://0", &settings).unwrap());
    assert!(why.starts_with("rpicam-vid ended with status 255: ERROR: *** no cameras available ***"), "{why}");
    assert!(why.contains("camera_auto_detect=1") && !why.contains("first"), "{why}");

    install(folder.path(), "rpicam-vid", &script(folder.path(), "cat $D/frames; head -c 300 $D/frames; kill -9 $$"));
    let why = down(&mut open("csi://0", &settings).unwrap());
    assert_eq!(why, "rpicam-vid ended within a picture by signal 9");
}

#[test]
fn a_password_is_in_the_command_line_and_nowhere_else() {
    let (folder, settings) = place();
    let dies = "for last do :; done; echo \"cannot reach rtsp://anna:secret@cam/live\" >&2; exit 1";
    install(folder.path(), "ffmpeg", &script(folder.path(), dies));
    let mut feed = open("rtsp://anna:secret@cam/live", &settings).unwrap();
    let why = down(&mut feed);
    assert_eq!(why, "ffmpeg ended with status 1: cannot reach rtsp://cam/live");
    assert_eq!(feed.uri(), "rtsp://cam/live");
    assert!(!format!("{feed:?}").contains("secret"));
    assert!(args(folder.path()).contains("-i rtsp://anna:secret@cam/live"));
}

#[test]
fn a_stalled_program_is_ended_with_all_its_processes_and_started_again() {
    let (folder, settings) = place();
    // Deaf to the polite signal, as is the process that it started.
    let deaf = "trap '' TERM; sleep 600 & echo $! > $D/pid2; cat $D/frames; echo thinking >&2; wait; sleep 600";
    install(folder.path(), "rpicam-vid", &script(folder.path(), deaf));
    let mut feed = open("csi://0", &settings).unwrap();
    frame(&mut feed);
    let pids = ["pid", "pid2"].map(|name| number_in(&folder.path().join(name)).unwrap());
    assert!(pids.iter().all(|&pid| runs(pid)));
    let why = down(&mut feed);
    assert_eq!(why, "no frame for 0.3 s; rpicam-vid: thinking");
    wait_until("the whole group is gone", || !pids.iter().any(|&pid| runs(pid)));
    frame(&mut feed);
    assert!(feed.counts().restarts >= 1);
}

#[test]
fn a_feed_that_is_let_go_leaves_no_process() {
    let (folder, settings) = place();
    install(folder.path(), "rpicam-vid", &script(folder.path(), "cat $D/frames; exec sleep 600"));
    let mut feed = open("csi://0", &settings).unwrap();
    frame(&mut feed);
    let pid = number_in(&folder.path().join("pid")).unwrap();
    assert!(runs(pid));
    let began = Instant::now();
    drop(feed);
    assert!(!Path::new(&format!("/proc/{pid}")).exists() && began.elapsed() < Duration::from_secs(3));
}

/// Not a test by itself: the process that the next test kills.
#[test]
#[ignore = "run by the test below"]
fn reads_a_camera_until_it_is_killed() {
    let folder = std::env::var_os("CAMERA_FOLDER").expect("the folder with the program");
    let devices = Path::new(&folder).join("dev");
    let settings = SourceSettings { programs: Some(folder), devices, ..SourceSettings::default() };
    let mut feed = open("csi://0", &settings).unwrap();
    loop {
        let _ = feed.next(Duration::from_secs(1));
    }
}

#[test]
fn a_killed_device_leaves_no_process() {
    let (folder, _settings) = place();
    install(folder.path(), "rpicam-vid", &script(folder.path(), "cat $D/frames; exec sleep 600"));
    let mut device = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reads_a_camera_until_it_is_killed", "--ignored"])
        .env("CAMERA_FOLDER", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = folder.path().join("pid");
    wait_until("the program starts", || number_in(&pid_file).is_some());
    let pid = number_in(&pid_file).unwrap();
    assert!(runs(pid));
    device.kill().unwrap();
    device.wait().unwrap();
    wait_until("the program ends with the device", || !runs(pid));
}
