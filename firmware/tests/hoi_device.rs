//! The command `hoi-device`, run as a process on the sample photos with the bundle that is part of the program.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::Value;
use serialport::{SerialPort, TTYPort};

/// `screen::HUMAN` and `screen::OBJECT` with 8 bits a channel.
const HUMAN: Rgb<u8> = Rgb([49, 202, 255]);
const OBJECT: Rgb<u8> = Rgb([255, 162, 33]);
/// The colour of errors in the status bar.
const BAD: Rgb<u8> = Rgb([255, 73, 82]);

fn photo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos").join(name)
}

fn device() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoi-device"));
    command.stdin(Stdio::null());
    command
}

/// The exit status, the JSON objects on standard output and the words on standard error.
fn outcome(output: &Output) -> (Option<i32>, Vec<Value>, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let objects = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), objects, String::from_utf8(output.stderr.clone()).unwrap())
}

/// A pseudo terminal: the reader's end, the device's own end (to be kept, so that the reader sees no hang-up) and its path.
fn pty() -> (TTYPort, TTYPort, String) {
    let (mut reader, device) = TTYPort::pair().unwrap();
    reader.set_timeout(Duration::from_secs(30)).unwrap();
    let path = device.name().unwrap();
    (reader, device, path)
}

fn screen(path: &Path) -> RgbImage {
    let picture = image::open(path).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (240, 240));
    picture
}

fn count(picture: &RgbImage, colour: Rgb<u8>) -> usize {
    picture.pixels().filter(|p| **p == colour).count()
}

#[test]
fn a_photo_gives_one_line_on_the_serial_port_and_a_screen() {
    let folder = tempfile::tempdir().unwrap();
    let png = folder.path().join("screen.png");
    let (reader, _device, port) = pty();
    let output = device()
        .args(["--source", &format!("file://{}", photo("ride_horse.jpg").display()), "--json"])
        .args(["--display", &format!("png://{}", png.display()), "--serial", &port])
        .output()
        .unwrap();
    let (code, printed, said) = outcome(&output);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("1 frames, 0 failed; serial: 1 lines sent, 0 dropped, 0 failed\n"), "{said}");

    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "\n", "the port begins with a line feed");
    line.clear();
    reader.read_line(&mut line).unwrap();
    let frame: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((printed.len(), &printed[0]), (1, &frame));
    reader.get_mut().set_timeout(Duration::from_millis(200)).unwrap();
    assert!(reader.read_line(&mut line).is_err(), "more than one line: {line}");

    assert_eq!(frame["schema"], "hoi.frame/1");
    assert_eq!((&frame["width"], &frame["height"], &frame["frame"]), (&640.into(), &426.into(), &0.into()));
    let first = &frame["triplets"][0];
    assert_eq!(first["object"]["class"], "horse");
    // The rider is above the middle of the horse.
    let middle = |edges: &Value| (edges[1].as_f64().unwrap() + edges[3].as_f64().unwrap()) / 2.0;
    assert!(middle(&first["human"]["box"]) < middle(&first["object"]["box"]), "{first}");

    let picture = screen(&png);
    // The boxes are 2 pixels wide and lie where the JSON says: 240 / 640 of the photo's pixels.
    for (edges, colour) in [(&first["human"]["box"], HUMAN), (&first["object"]["box"], OBJECT)] {
        let on_screen: Vec<f64> = (0..4).map(|i| edges[i].as_f64().unwrap() * 240.0 / 640.0).collect();
        let around = 2.0 * (on_screen[2] - on_screen[0] + on_screen[3] - on_screen[1]);
        let painted = count(&picture, colour) as f64;
        assert!(painted > around && painted < 4.0 * around, "{colour:?}: {painted} pixels, {around} around the box");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left beside the screen");
}

#[test]
fn nobody_in_the_picture_is_a_correct_empty_answer() {
    let folder = tempfile::tempdir().unwrap();
    // A plain relative path, and a relative file as the screen.
    fs::copy(photo("coffee.png"), folder.path().join("coffee.png")).unwrap();
    let output = device()
        .current_dir(&folder)
        .args(["--source", "coffee.png", "--display", "png://screen.png", "--json", "--board", "host"])
        .output()
        .unwrap();
    let (code, printed, said) = outcome(&output);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(printed.len(), 1);
    assert_eq!(printed[0]["triplets"], Value::Array(vec![]));
    assert_eq!(printed[0]["source"], "file://coffee.png");
    let picture = screen(&folder.path().join("screen.png"));
    assert_eq!((count(&picture, HUMAN), count(&picture, OBJECT)), (0, 0));
    // "nobody here" in white on the lower bar.
    let bar = image::imageops::crop_imm(&picture, 0, 194, 240, 46).to_image();
    assert!(count(&bar, Rgb([255, 255, 255])) > 100);
}

#[test]
fn bad_pictures_in_a_folder_do_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    fs::copy(photo("ride_horse.jpg"), pictures.join("1.jpg")).unwrap();
    fs::write(pictures.join("2.jpg"), "no picture").unwrap();
    let whole = fs::read(photo("hug_dog.jpg")).unwrap();
    fs::write(pictures.join("3.jpg"), &whole[..whole.len() / 3]).unwrap();
    RgbImage::new(1, 1).save(pictures.join("4.png")).unwrap();
    let (reader, _device, port) = pty();
    let output = device().arg("--source").arg(&pictures).args(["--json", "--serial", &port]).output().unwrap();
    let (code, printed, said) = outcome(&output);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.ends_with("4 frames, 2 failed; serial: 4 lines sent, 0 dropped, 0 failed\n"), "{said}");
    for name in ["2.jpg", "3.jpg"] {
        assert_eq!(said.matches(name).count(), 1, "{said}");
    }
    let numbers: Vec<&Value> = printed.iter().map(|frame| &frame["frame"]).collect();
    assert_eq!(numbers, [0, 3]);
    let lines: Vec<Value> =
        BufReader::new(reader).lines().skip(1).take(4).map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
    let schemas: Vec<&Value> = lines.iter().map(|line| &line["schema"]).collect();
    assert_eq!(schemas, ["hoi.frame/1", "hoi.error/1", "hoi.error/1", "hoi.frame/1"]);
    assert_eq!((&lines[1]["frame"], &lines[1]["part"]), (&1.into(), &"source".into()));
    assert!(lines[1]["error"].as_str().unwrap().contains("2.jpg"));
}

#[test]
fn what_cannot_begin_says_why_once_and_on_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let png = folder.path().join("screen.png");
    let (bundle, file) = (folder.path().join("bundle"), folder.path().join("file"));
    fs::create_dir(&bundle).unwrap();
    fs::write(&file, "x").unwrap();
    let (horse, gone) = (photo("ride_horse.jpg"), folder.path().join("gone.jpg"));
    let cases: [(&Path, &[&str], &str); 5] = [
        (&gone, &[], "gone.jpg"),
        (&file, &[], "not a JPEG, PNG, BMP or WebP"),
        (&bundle, &[], "no .jpg"),
        (&horse, &["--bundle", bundle.to_str().unwrap()], "manifest.json"),
        (&horse, &["--serial", "/dev/ttyNONE7"], "enable_uart=1"),
    ];
    for (source, more, words) in cases {
        fs::remove_file(&png).ok();
        let display = format!("png://{}", png.display());
        let output = device().arg("--source").arg(source).args(["--display", &display]).args(more).output().unwrap();
        let (code, _, said) = outcome(&output);
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.matches(words).count(), 1, "{said}");
        assert!(count(&screen(&png), BAD) > 100, "{said}");
    }
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let horse = photo("ride_horse.jpg");
    let horse = horse.to_str().unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["--source", horse], "--display, --serial or --json"),
        (&["--json"], "--source"),
        (&["--json", "--source", "test://?colour=blue"], "colour"),
        (&["--json", "--source", "foo://x"], "unknown scheme `foo`"),
        (&["--source", horse, "--display", "st7789://spi0"], "spi0.0"),
        (&["--json", "--source", horse, "--min-score", "1.5"], "a number from 0 to 1"),
        (&["--json", "--source", horse, "--board", "orin"], "raspberry_pi, jetson"),
        (&["--json", "--source", horse, "--repeat", "0"], "--repeat"),
    ];
    for (args, words) in cases {
        let (code, printed, said) = outcome(&device().args(args).output().unwrap());
        assert_eq!((code, printed.len()), (Some(2), 0), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_camera_that_is_not_there_ends_a_run_of_the_command_line() {
    let output = device().args(["--json", "--source", "v4l2:///dev/video77"]).output().unwrap();
    let (code, printed, said) = outcome(&output);
    assert_eq!((code, printed.len()), (Some(1), 0), "{said}");
    assert!(said.contains("/dev/video77") && said.contains("0 frames, 1 failed"), "{said}");
}

#[test]
fn a_board_that_this_machine_is_not_is_refused() {
    if rppal::system::DeviceInfo::new().is_ok() {
        println!("skipped: this machine is a Raspberry Pi");
        return;
    }
    let output = device().args(["--json", "--board", "raspberry_pi", "--source"]).arg(photo("hug_dog.jpg")).output();
    let (code, printed, said) = outcome(&output.unwrap());
    assert_eq!((code, printed.len()), (Some(1), 0));
    assert!(said.contains("no raspberry_pi") && said.contains("--board host"), "{said}");
}

/// Numbers of the summary line: frames, failed, lines sent, dropped, failed.
fn summary(said: &str) -> Vec<u64> {
    let last = said.lines().last().unwrap();
    last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[test]
fn a_reader_that_never_reads_does_not_stop_the_run() {
    let (_reader, _device, port) = pty();
    // A low least score makes long lines, a fast line a short wait at the end.
    let args = ["--repeat", "40", "--min-score", "0", "--baud", "4000000", "--serial", &port, "--source"];
    let output = device().args(args).arg(photo("ride_bicycles.jpg")).output().unwrap();
    let (code, _, said) = outcome(&output);
    assert_eq!(code, Some(0), "{said}");
    let [frames, failed, sent, dropped, lost] = summary(&said)[..] else { panic!("{said}") };
    assert_eq!((frames, failed, sent + dropped, lost), (40, 0, 40, 0), "{said}");
    assert!(dropped > 0, "{said}");
}

#[test]
fn a_closed_standard_output_ends_a_run_that_has_no_other_output() {
    let mut child = device()
        .args(["--json", "--repeat", "1000000", "--source"])
        .arg(photo("ride_horse.jpg"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"schema\":\"hoi.frame/1\""), "{line}");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
}
