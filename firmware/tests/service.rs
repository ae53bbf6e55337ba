//! `hoi-device --config`: what a service manager, a person with an editor and a board with missing parts do to it.
#![allow(clippy::unwrap_used)]

mod running;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use running::{Device, SOON, lines};
use rustix::process::Signal;
use serde_json::Value;
use serialport::{SerialPort, TTYPort};

fn photo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos").join(name).canonicalize().unwrap()
}

/// A configuration that looks at one photo without end and prints what it sees.
fn write(path: &Path, photo: &Path, more: &str) {
    let text = format!(
        "schema = \"hoi.device/1\"\noutput.json = true\nboard.name = \"host\"\n[source]\nuri = \"file://{}\"\nrepeat = 0\n{more}",
        photo.display()
    );
    fs::write(path, text).unwrap();
}

#[test]
fn sighup_takes_over_what_changed_and_loses_no_frame() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    write(&config, &photo("ride_horse.jpg"), "");
    let mut device = Device::start(&config, |_| {});
    let mut next = 0;
    let mut frame = |device: &Device| {
        let frame = device.frame();
        assert_eq!(frame["frame"], next, "a frame is missing");
        next += 1;
        frame
    };
    for _ in 0..3 {
        assert!(frame(&device)["source"].as_str().unwrap().ends_with("ride_horse.jpg"));
    }
    // Another photo, and a least score that nothing reaches.
    write(&config, &photo("hug_dog.jpg"), "[model]\nmin_score = 1.0");
    device.signal(Signal::HUP);
    device.wait_for("configuration taken over");
    let start = Instant::now();
    while !frame(&device)["source"].as_str().unwrap().ends_with("hug_dog.jpg") {
        assert!(start.elapsed() < SOON);
    }
    assert_eq!(frame(&device)["triplets"], Value::Array(vec![]));

    // Another bundle is loaded beside: frames go on meanwhile.
    write(&config, &photo("hug_dog.jpg"), "[model]\nbundle = \"builtin:nano\"");
    device.signal(Signal::HUP);
    device.wait_for("bundle builtin:nano\n");
    // What was printed before is read first.
    while frame(&device)["triplets"] == Value::Array(vec![]) {
        assert!(start.elapsed() < SOON);
    }
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" frames, 0 failed"), "{said}");
}

#[test]
fn a_configuration_with_an_error_is_refused_on_log_serial_port_and_screen_and_the_old_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (config, screen) = (folder.path().join("device.toml"), folder.path().join("screen.png"));
    let (reader, _port_end, port) = pty();
    let parts = format!("[serial]\ndevice = \"{port}\"\n[display]\nuri = \"png://{}\"\n", screen.display());
    write(&config, &photo("ride_horse.jpg"), &parts);
    let mut device = Device::start(&config, |_| {});
    let serial = lines(reader, |line| serde_json::from_str::<Value>(&line).ok());
    device.frame();
    let png = format!("png://{}", screen.display());
    for (text, words) in [
        (parts.replace("device =", "buad = 9600\ndevice ="), "did you mean `serial.baud`?"),
        (parts.replace(&png, "st7788://spi0.0"), "st7788"),
        (format!("{parts}[model]\nbundle = \"/gone\""), "/gone"),
    ] {
        write(&config, &photo("ride_horse.jpg"), &text);
        device.signal(Signal::HUP);
        device.wait_for(words);
        let start = Instant::now();
        let refused = |line: Value| line["schema"] == "hoi.error/1" && line["error"].as_str().unwrap().contains(words);
        while !serial.recv_timeout(SOON).unwrap().is_some_and(refused) {
            assert!(start.elapsed() < SOON, "{words} did not reach the serial port");
        }
        device.log.clear();
        // Red on the screen, for some seconds.
        let start = Instant::now();
        while count_red(&screen) < 50 {
            assert!(start.elapsed() < SOON, "{words} is not on the screen");
            thread::sleep(Duration::from_millis(20));
        }
        assert_ne!(device.frame()["triplets"], Value::Array(vec![]));
    }
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
}

/// Pixels in the colour of errors.
fn count_red(screen: &Path) -> usize {
    let Ok(picture) = image::open(screen) else { return 0 };
    picture.to_rgb8().pixels().filter(|p| p.0 == [255, 73, 82]).count()
}

fn pty() -> (TTYPort, TTYPort, String) {
    let (mut reader, device) = TTYPort::pair().unwrap();
    reader.set_timeout(SOON).unwrap();
    let path = device.name().unwrap();
    (reader, device, path)
}

#[test]
fn parts_that_are_missing_at_the_start_are_taken_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = at("device.toml");
    let parts = format!(
        "[serial]\ndevice = \"{}\"\n[display]\nuri = \"png://{}\"\n",
        at("ttyUSB7").display(),
        at("later/screen.png").display()
    );
    write(&config, &photo("ride_horse.jpg"), &parts);
    let mut device = Device::start(&config, |_| {});
    device.wait_for("ttyUSB7");
    device.wait_for("later/screen.png");
    device.frame();
    // The adapter and the folder of the screen come.
    let (reader, _port_end, port) = pty();
    std::os::unix::fs::symlink(&port, at("ttyUSB7")).unwrap();
    fs::create_dir(at("later")).unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut line).unwrap();
    while !line.ends_with('\n') || !line.starts_with("{\"schema\":\"hoi.frame/1\"") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let start = Instant::now();
    while !at("later/screen.png").exists() {
        assert!(start.elapsed() < SOON, "no screen: {}", device.log);
        thread::sleep(Duration::from_millis(20));
    }
    // Frames without a line or a screen are counted, so the run is not clean.
    let (code, said) = device.stop();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("screens lost") && !said.contains(" 0 lines sent"), "{said}");
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    write(&config, &photo("ride_horse.jpg"), "");
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let device = Device::start(&config, |command| {
        command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "400000");
    });
    let hear = || {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut heard = Vec::new();
    while heard.iter().filter(|message: &&String| message.contains("WATCHDOG=1")).count() < 3 {
        heard.push(hear());
    }
    let position = |word: &str| heard.iter().position(|message| message.contains(word)).unwrap();
    assert!(position("READY=1") < position("WATCHDOG=1"), "{heard:?}");
    device.frame();

    // A process that stands still is not alive: nothing is heard until it goes on.
    device.signal(Signal::STOP);
    socket.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let mut bytes = [0; 4096];
    while socket.recv(&mut bytes).is_ok() {}
    socket.set_read_timeout(Some(SOON)).unwrap();
    device.signal(Signal::CONT);
    while !hear().contains("WATCHDOG=1") {}
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
    while !hear().contains("STOPPING=1") {}
}

#[test]
fn a_configuration_that_cannot_be_read_is_status_2_and_says_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    for (text, words) in [
        (None, "hoi-device config"),
        (Some("schema = \"hoi.device/9\""), "hoi.device/9"),
        (Some("schema = \"hoi.device/1\"\n[sorce]\nuri = \"x\""), "did you mean `source`?"),
        (Some("schema = \"hoi.device/1\"\n[source]\nuri = \"foo://x\""), "foo"),
    ] {
        if let Some(text) = text {
            fs::write(&config, text).unwrap();
        }
        let output = Command::new(env!("CARGO_BIN_EXE_hoi-device")).arg("--config").arg(&config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_damaged_configuration_at_the_start_is_said_and_the_last_one_that_worked_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = (folder.path().join("device.toml"), folder.path().join("state"));
    fs::create_dir(&state).unwrap();
    let (reader, _port_end, port) = pty();
    write(&config, &photo("ride_horse.jpg"), &format!("[serial]\ndevice = \"{port}\"\n"));
    let start = || {
        Device::start(&config, |command| {
            command.env("STATE_DIRECTORY", &state);
        })
    };
    let device = start();
    device.frame();
    assert_eq!(device.stop().0, Some(0));
    fs::write(&config, "schema = \"hoi.device/1\"\n[source]\nuri = \"file://").unwrap();
    let serial = lines(reader, |line| serde_json::from_str::<Value>(&line).ok());
    let device = start();
    device.frame();
    let refused = |line: Value| line["error"].as_str().is_some_and(|error| error.contains("line 3"));
    let start = Instant::now();
    while !serial.recv_timeout(SOON).unwrap().is_some_and(refused) {
        assert!(start.elapsed() < SOON, "it did not reach the serial port");
    }
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the last configuration that worked goes on"), "{said}");
}

#[test]
fn a_camera_that_dies_again_and_again_is_started_again_and_detection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    let text = "schema = \"hoi.device/1\"\noutput.json = true\nboard.name = \"host\"\n[source]\n\
                uri = \"test://ride_horse?rate=10&die_after=3\"\n";
    fs::write(&config, text).unwrap();
    let mut device = Device::start(&config, |_| {});
    for death in 1..=4 {
        let frame = device.frame();
        assert!(frame["triplets"].to_string().contains("\"ride\""), "after {death} deaths: {frame}");
        device.wait_for("hoi-device: source test://ride_horse");
        device.log.clear();
        // What it gave before it died is read, so that the next frame is one of the next life.
        while device.printed.try_recv().is_ok() {}
    }
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
    let restarts: u64 = said.split("started again ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(restarts >= 3, "{said}");
}

#[test]
fn a_bundle_that_is_half_copied_is_said_and_the_program_s_own_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (config, bundle) = (folder.path().join("device.toml"), folder.path().join("half"));
    fs::create_dir(&bundle).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano");
    for entry in fs::read_dir(&shipped).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), bundle.join(entry.file_name())).unwrap();
    }
    let whole = fs::read(shipped.join("detector.onnx")).unwrap();
    fs::write(bundle.join("detector.onnx"), &whole[..whole.len() / 2]).unwrap();
    let (reader, _port_end, port) = pty();
    let parts = format!("[serial]\ndevice = \"{port}\"\n[model]\nbundle = \"{}\"\n", bundle.display());
    write(&config, &photo("ride_horse.jpg"), &parts);
    let serial = lines(reader, |line| serde_json::from_str::<Value>(&line).ok());
    let device = Device::start(&config, |_| {});
    assert_ne!(device.frame()["triplets"], Value::Array(vec![]));
    let refused = |line: Value| line["error"].as_str().is_some_and(|error| error.contains("detector.onnx"));
    let start = Instant::now();
    while !serial.recv_timeout(SOON).unwrap().is_some_and(refused) {
        assert!(start.elapsed() < SOON, "it did not reach the serial port");
    }
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the bundle of the program answers") && said.contains("bundle builtin:"), "{said}");
}

#[test]
fn a_folder_that_goes_is_not_asked_for_without_pause() {
    let folder = tempfile::tempdir().unwrap();
    let (config, gone) = (folder.path().join("device.toml"), folder.path().join("photo.jpg"));
    write(&config, &gone, "");
    let mut device = Device::start(&config, |_| {});
    device.wait_for("photo.jpg");
    thread::sleep(Duration::from_secs(2));
    fs::copy(photo("ride_horse.jpg"), &gone).unwrap();
    let frame = device.frame()["frame"].as_u64().unwrap();
    assert!(frame < 20, "{frame} failures in some seconds");
    device.stop();
}

#[test]
fn the_printed_configuration_is_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_hoi-device")).arg("config").output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    fs::write(&config, &output.stdout).unwrap();
    hoi_firmware::config::Config::read(&config).unwrap();
}

#[test]
fn check_says_a_line_for_each_part_and_fails_with_any_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("device.toml");
    write(&config, &photo("ride_horse.jpg"), "");
    let check = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_hoi-device")).arg("check").arg("--config").arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    for line in ["ok    board", "ok    model", "ok    camera", "-     display", "-     serial"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let json = Command::new(env!("CARGO_BIN_EXE_hoi-device"))
        .args(["check", "--json", "--source"])
        .arg(photo("hug_dog.jpg"))
        .output()
        .unwrap();
    let findings: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(
        findings.iter().any(|finding| finding["part"] == "camera" && finding["verdict"] == "works"),
        "{findings:?}"
    );
    write(&config, &folder.path().join("gone.jpg"), "");
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAIL  camera") && said.contains("gone.jpg"), "{said}");
}
