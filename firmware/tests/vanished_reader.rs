//! A serial reader that goes away while the command `hoi-device` runs. It is alone in its process: a child that another test starts
//! at the wrong moment would inherit the pseudo terminal and keep it open.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serialport::{SerialPort, TTYPort};

#[test]
fn a_reader_that_vanishes_does_not_stop_the_run() {
    // Copies are not inherited by the child; what `pair` gives would be, and is closed here.
    let (mut reader, port_end, port) = {
        let (reader, port_end) = TTYPort::pair().unwrap();
        (reader.try_clone_native().unwrap(), port_end.try_clone_native().unwrap(), port_end.name().unwrap())
    };
    reader.set_timeout(Duration::from_secs(30)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hoi-device"))
        .args(["--repeat", "20", "--serial", &port, "--source"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos/ride_horse.jpg"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    reader.read_exact(&mut first).unwrap();
    drop((reader, port_end));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    let numbers: Vec<u64> = last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [frames, failed, sent, dropped, lost] = numbers[..] else { panic!("{said}") };
    assert_eq!((frames, failed, sent + dropped + lost), (20, 0, 20), "{said}");
    assert!(lost > 0, "{said}");
    assert_eq!(said.matches("detection goes on").count(), 1, "{said}");
}
