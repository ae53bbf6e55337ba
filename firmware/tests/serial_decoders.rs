//! The decoders in C and Python that come with the firmware, fed by the device's own encoder and writer over pseudo terminals, with a
//! cable between that loses and adds bytes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hoi_firmware::board::{Board, Host};
use hoi_firmware::serial::{
    CRC_16, DeviceState, Encoder, ErrorRecord, LineWriter, PacketError, Part, Protocol, QUEUE_LINES, StatusRecord,
    VERSION, unpack,
};
use hoi_runtime::sink::{FRAME_SCHEMA, FrameRecord, ObjectRecord, PersonRecord, TripletRecord};
use hoi_runtime::vocabulary::{Vocabulary, VocabularySpec};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serialport::{SerialPort, TTYPort};

const BAUD: u32 = 921_600;
const SOON: Duration = Duration::from_secs(20);

fn names() -> Vocabulary {
    Vocabulary::new(VocabularySpec {
        human: "person".into(),
        objects: vec!["person".into(), "cell phone".into()],
        verbs: (0..40).map(|i| format!("verb_{i}")).collect(),
        background_verb: None,
        valid: Default::default(),
        alone: Vec::new(),
    })
    .unwrap()
}

/// A frame in which verb number `frame` modulo 40 is done, with a telephone.
fn record(frame: u64) -> FrameRecord {
    let object = |class: &str| ObjectRecord { class: class.into(), bbox: [0.0, 1.0, 200.0, 256.0], score: 0.5 };
    FrameRecord {
        schema: FRAME_SCHEMA,
        source: "test".into(),
        frame,
        width: 640,
        height: 480,
        triplets: vec![TripletRecord {
            human: PersonRecord { bbox: [3.0, 0.0, 639.0, 480.0], score: 0.9 },
            verb: format!("verb_{}", frame % 40),
            object: (!frame.is_multiple_of(3)).then(|| object("cell phone")),
            score: 0.8,
            factors: None,
            product: None,
        }],
        detections: vec![object("person")],
        timings_ms: Default::default(),
    }
}

/// What a decoder prints of it.
fn printed(frame: u64, named: bool) -> [String; 2] {
    let name = |name: String, number: String| if named { name } else { number };
    let verb = name(format!("verb_{}", frame % 40), format!("verb#{}", frame % 40));
    let object = name(" cell phone".into(), " class#1".into()) + " 0,1,200,256";
    let object = if frame.is_multiple_of(3) { String::new() } else { object };
    [format!("frame {frame}: 640x480, 1 people, 0 left out"), format!("  0.80 {verb} 3,0,639,480{object}")]
}

fn decoders() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("decoders")
}

/// The commands that run the two decoders; the one in C is compiled into `folder`.
fn commands(folder: &Path) -> [Command; 2] {
    let program = folder.join("hoi_frames");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o"])
        .args([&program, &decoders().join("hoi_frames.c")])
        .status();
    assert!(compiled.expect("a C compiler (cc) is needed").success());
    let mut python = Command::new("python3");
    python.arg("-B").arg(decoders().join("hoi_frames.py"));
    [Command::new(program), python]
}

#[test]
fn the_decoders_are_short() {
    for name in ["hoi_frames.h", "hoi_frames.c", "hoi_frames.py"] {
        let lines = fs::read_to_string(decoders().join(name)).unwrap().lines().count();
        assert!(lines < 100, "{name}: {lines} lines");
    }
}

/// The device's writer, a cable that a test may damage, and a decoder at its other end.
struct Cable {
    writer: LineWriter,
    near: TTYPort,
    far: TTYPort,
    decoder: Child,
    printed: mpsc::Receiver<String>,
    /// The byte that the writer begins with has come.
    in_step: bool,
}

/// Both ends; copies are not inherited by a child, which would keep the terminal open.
fn pty() -> (TTYPort, TTYPort) {
    let (mut reader, device) = TTYPort::pair().unwrap();
    reader.set_timeout(SOON).unwrap();
    (reader.try_clone_native().unwrap(), device.try_clone_native().unwrap())
}

impl Cable {
    fn new(command: &mut Command) -> Self {
        let ((near, device), (far, theirs)) = (pty(), pty());
        let port = Host.open_serial(Path::new(&device.name().unwrap()), BAUD).unwrap();
        let writer = LineWriter::start(Some(port), None, Protocol::Frames, BAUD, QUEUE_LINES).unwrap();
        let mut decoder = command
            .args([&theirs.name().unwrap(), "115200"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, printed) = mpsc::channel();
        let output = BufReader::new(decoder.stdout.take().unwrap());
        thread::spawn(move || {
            // It keeps the decoder's end open until the decoder has opened it.
            let _theirs = theirs;
            for text in output.lines() {
                line.send(text.unwrap()).ok();
            }
        });
        Self { writer, near, far, decoder, printed, in_step: false }
    }

    /// What comes out at the near end of the cable when the device says `message`.
    fn near(&mut self, message: Vec<u8>) -> Vec<u8> {
        let first = usize::from(!std::mem::replace(&mut self.in_step, true));
        let mut bytes = vec![0; first + message.len()];
        self.writer.push(message);
        let read = self.near.read_exact(&mut bytes);
        assert!(read.is_ok(), "{read:?}: {:?}, {:?}", self.writer.counts(), self.writer.take_error());
        bytes.split_off(first)
    }

    fn far(&mut self, bytes: &[u8]) {
        self.far.write_all(bytes).unwrap();
    }

    fn whole(&mut self, message: Vec<u8>) {
        let bytes = self.near(message);
        self.far(&bytes);
    }

    fn expect(&self, frame: u64, named: bool) {
        for line in printed(frame, named) {
            assert_eq!(self.printed.recv_timeout(SOON).unwrap(), line);
        }
    }

    /// Unplugs the decoder; what it says at last.
    fn end(mut self) -> String {
        drop(self.far);
        let begun = Instant::now();
        while self.decoder.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < SOON, "the decoder does not notice that its port has gone");
            thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        self.decoder.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.printed.recv().is_err(), "more was printed");
        said
    }
}

#[test]
fn both_decoders_are_in_step_again_after_every_fault_and_count_it() {
    let folder = tempfile::tempdir().unwrap();
    for mut command in commands(folder.path()) {
        let mut cable = Cable::new(&mut command);
        let mut encoder = Encoder::new(Protocol::Frames);
        encoder.set_vocabulary(&names());
        let mut encode = |n: u64| encoder.encode_frame(&record(n)).unwrap();
        // It joins in the middle of a message, and knows no names yet.
        let late = cable.near(encode(1));
        cable.far(&late[late.len() / 2..]);
        cable.whole(encode(2));
        cable.expect(2, false);
        let mut messages = 1;
        let parts: Vec<Vec<u8>> = std::iter::from_fn(|| encoder.encode_vocabulary(Instant::now()).unwrap()).collect();
        assert!(parts.len() > 2);
        for part in parts {
            cable.whole(part);
            messages += 1;
        }
        let mut encode = |n: u64| encoder.encode_frame(&record(n)).unwrap();
        let (mut lost, mut damaged) = (0, 1);
        for n in (3..).step_by(10).take(4) {
            // Noise takes the message that follows it.
            let bytes = cable.near(encode(n));
            cable.far(b"\x01\x80noise");
            cable.far(&bytes);
            cable.whole(encode(n + 1));
            cable.expect(n + 1, true);
            // Half a message, and the byte that the writer sends before the next.
            let bytes = cable.near(encode(n + 2));
            cable.far(&bytes[..bytes.len() / 2]);
            cable.far(&[Protocol::Frames.delimiter()]);
            cable.whole(encode(n + 3));
            cable.expect(n + 3, true);
            // A byte lost on the way.
            let mut bytes = cable.near(encode(n + 4));
            bytes.remove(n as usize % (bytes.len() - 1));
            cable.far(&bytes);
            // The zero byte lost: two messages become one.
            let bytes = cable.near(encode(n + 5));
            cable.far(&bytes[..bytes.len() - 1]);
            cable.whole(encode(n + 6));
            // More than any packet has.
            cable.far(&vec![7; 2500]);
            cable.far(&[0, 0, 0]);
            // One that does not arrive at all.
            cable.near(encode(n + 7));
            cable.whole(encode(n + 8));
            cable.expect(n + 8, true);
            (messages, lost, damaged) = (messages + 3, lost + 6, damaged + 5);
        }
        // The device begins anew, with another bundle: its fourth message arrives.
        let mut encoder = Encoder::new(Protocol::Frames);
        let mut other = names().spec().clone();
        other.verbs.reverse();
        encoder.set_vocabulary(&Vocabulary::new(other).unwrap());
        for n in 100..103 {
            cable.near(encoder.encode_frame(&record(n)).unwrap());
        }
        let error = ErrorRecord { source: "", frame: 103, part: Part::Model, error: "no \u{e9}nergy" };
        cable.whole(encoder.encode_error(&error).unwrap());
        assert_eq!(cable.printed.recv_timeout(SOON).unwrap(), "error in frame 103, part 1: no \u{e9}nergy");
        let frame = FrameRecord { triplets: record(1).triplets, ..record(104) };
        cable.whole(encoder.encode_frame(&frame).unwrap());
        assert_eq!(cable.printed.recv_timeout(SOON).unwrap(), "frame 104: 640x480, 1 people, 0 left out");
        // Verb 38 of the other vocabulary, whose names are not known.
        let line = cable.printed.recv_timeout(SOON).unwrap();
        assert_eq!(line, "  0.80 verb#38 3,0,639,480 class#1 0,1,200,256");
        let mut status = StatusRecord {
            state: DeviceState::Ok,
            uptime_s: 400,
            frames: 3000,
            frames_per_s: 7.5,
            temperature_c: Some(-3.2),
            dropped_frames: 70_000,
            lost_messages: 2,
        };
        cable.whole(encoder.encode_status(&status).unwrap());
        let line = "status 1: 400 s, 3000 frames, 7.5/s, 70000 dropped, 2 lost";
        assert_eq!(cable.printed.recv_timeout(SOON).unwrap(), format!("{line}, -3 C"));
        status.temperature_c = None;
        cable.whole(encoder.encode_status(&status).unwrap());
        assert_eq!(cable.printed.recv_timeout(SOON).unwrap(), line);
        let (messages, lost) = (messages + 4, lost + 3);
        assert_eq!(cable.end(), format!("{messages} messages, {lost} lost, {damaged} damaged\n"));
    }
}

/// A packet whose sequence number and CRC are right, with `message` in it; there is no zero byte in any of it.
fn packet_of(message: &[u8]) -> Vec<u8> {
    let mut payload = [&[VERSION, 1, 1, 1, 1], message].concat();
    payload.extend(CRC_16.checksum(&payload).to_le_bytes());
    assert!(!payload.contains(&0) && payload.len() < 254);
    [&[payload.len() as u8 + 1], payload.as_slice(), &[0]].concat()
}

#[test]
fn a_message_whose_kind_breaks_off_is_damaged_for_both_decoders_and_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = Encoder::new(Protocol::Frames);
    encoder.set_vocabulary(&names());
    let mut bytes = encoder.encode_frame(&record(0)).unwrap();
    for message in [&[0x80][..], &[0xff, 0xff, 0xff]] {
        let packet = packet_of(message);
        assert!(matches!(unpack(&packet[..packet.len() - 1]), Err(PacketError::Message(_))));
        bytes.extend(packet);
    }
    bytes.extend(encoder.encode_frame(&record(1)).unwrap());
    let file = folder.path().join("line");
    fs::write(&file, bytes).unwrap();
    for mut command in commands(folder.path()) {
        let output = command.arg(&file).output().unwrap();
        let frames = [printed(0, false), printed(1, false)].concat().join("\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), frames, "{command:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "2 messages, 0 lost, 2 damaged\n", "{command:?}");
    }
}

#[test]
fn ten_thousand_random_faults_are_survived_alike() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(14);
    let mut encoder = Encoder::new(Protocol::Frames);
    encoder.set_vocabulary(&names());
    let mut bytes = Vec::new();
    for n in 0..5000 {
        let mut message = encoder.encode_frame(&record(n)).unwrap();
        for _ in 0..random.random_range(0..3) {
            let at = random.random_range(0..message.len());
            match random.random_range(0..6) {
                0 => drop(message.remove(at)),
                1 => message[at] = random.random(),
                2 => message.insert(at, random.random()),
                3 => message.truncate(at.max(1)),
                4 => message.extend((0..random.random_range(1..1500)).map(|_| random.random::<u8>())),
                _ => message[at] = 0,
            }
        }
        bytes.extend(message);
    }
    // What the device's own code makes of it.
    let (mut messages, mut lost, mut damaged, mut next, mut frames) = (0, 0, 0, 0, Vec::new());
    let mut packets: Vec<&[u8]> = bytes.split(|b| *b == 0).collect();
    packets.pop();
    for packet in packets.into_iter().filter(|packet| !packet.is_empty()) {
        let Some((sequence, _)) = unpack(packet).ok().filter(|_| packet.len() <= 1020) else {
            damaged += 1;
            continue;
        };
        lost += if messages == 0 { 0 } else { sequence - next };
        (next, messages) = (sequence + 1, messages + 1);
        frames.extend(printed(sequence.into(), false));
    }
    assert!(messages > 1500 && damaged > 2000, "{messages} messages, {damaged} damaged");
    let file = folder.path().join("line");
    fs::write(&file, bytes).unwrap();
    for mut command in commands(folder.path()) {
        let output = command.arg(&file).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let other = lines.lines().zip(&frames).find(|(line, frame)| line != frame);
        assert_eq!(other, None, "{command:?}");
        assert_eq!(lines.lines().count(), frames.len(), "{command:?}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!("{messages} messages, {lost} lost, {damaged} damaged\n")
        );
    }
}
