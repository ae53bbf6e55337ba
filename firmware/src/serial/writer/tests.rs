use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc;

use serialport::{SerialPort as _, TTYPort};

use super::*;
use crate::board::{Board, Host, RaspberryPi};

const BAUD: u32 = 115_200;
const SOON: Duration = Duration::from_secs(20);

/// A pseudo terminal: the reader's end, the device's own end (kept open, so that the reader sees no hang-up), and the path.
fn pty() -> (TTYPort, TTYPort, String) {
    let (mut reader, device) = TTYPort::pair().unwrap();
    reader.set_timeout(SOON).unwrap();
    let path = device.name().unwrap();
    (reader, device, path)
}

fn boards() -> [Box<dyn Board>; 2] {
    [Box::new(Host), Box::new(RaspberryPi::assumed())]
}

fn start(port: Box<dyn SerialPort>, baud: u32, capacity: usize) -> io::Result<LineWriter> {
    LineWriter::start(Some(port), None, Protocol::Jsonl, baud, capacity)
}

fn push(writer: &LineWriter, line: &str) {
    writer.push(format!("{line}\n").into_bytes());
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < SOON, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_reader_gets_exactly_the_lines() {
    for board in boards() {
        let (reader, _device, path) = pty();
        let port = board.open_serial(Path::new(&path), BAUD).unwrap();
        let writer = start(port, BAUD, QUEUE_LINES).unwrap();
        let long = format!("{{\"long\": \"{}\"}}", "\u{e9}x".repeat(20_000));
        let lines = ["{\"a\": 1}", "", &long, "{\"b\": \"\\u0003\"}"];
        let expected = lines.map(str::to_owned);
        let reading = thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = move || {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                line
            };
            // What a program that was killed left half said ends here.
            assert_eq!(line(), "\n");
            expected.map(|_| line())
        });
        for line in lines {
            push(&writer, line);
        }
        assert_eq!(writer.close(SOON).0, LineCounts { sent: 4, dropped: 0, failed: 0 });
        assert_eq!(reading.join().unwrap(), lines.map(|l| format!("{l}\n")), "{}", board.name());
    }
}

#[test]
fn a_reader_that_never_reads_holds_nothing_up() {
    for board in boards() {
        let (_reader, _device, path) = pty();
        let port = board.open_serial(Path::new(&path), BAUD).unwrap();
        let writer = start(port, BAUD, QUEUE_LINES).unwrap();
        let line = "x".repeat(4000);
        let start = Instant::now();
        for _ in 0..2000 {
            push(&writer, &line);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(
            writer.time_to_send() <= Duration::from_secs_f64((QUEUE_LINES + 1) as f64 * 40_010.0 / f64::from(BAUD))
        );
        let start = Instant::now();
        let (counts, _) = writer.close(Duration::from_millis(200));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(counts.sent + counts.dropped, 2000, "{counts:?}");
        assert!(counts.dropped > 1900 && counts.failed == 0, "{counts:?}");
    }
}

#[test]
fn a_vanished_reader_is_counted_and_reported_once() {
    for board in boards() {
        let (reader, device, path) = pty();
        let port = board.open_serial(Path::new(&path), BAUD).unwrap();
        let writer = start(port, BAUD, QUEUE_LINES).unwrap();
        drop((reader, device));
        for failed in 1..=5 {
            push(&writer, "{}");
            wait_for("a failed line", || writer.counts().failed == failed);
            assert_eq!(writer.take_error().is_some(), failed == 1, "{}", board.name());
        }
        assert_eq!(writer.close(SOON).0, LineCounts { sent: 0, dropped: 0, failed: 5 });
    }
}

/// A port that does what a test tells it, call by call, and repeats what it was given. The byte that brings its reader into step at the
/// beginning it takes by itself.
struct Scripted {
    in_step: bool,
    orders: mpsc::Receiver<io::Result<usize>>,
    given: mpsc::Sender<Vec<u8>>,
}

impl SerialPort for Scripted {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.in_step, true) {
            assert_eq!(bytes, b"\n");
            return Ok(1);
        }
        self.given.send(bytes.to_vec()).ok();
        // A test that gives no order has a port that blocks.
        let order = self.orders.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(order.min(bytes.len()))
    }
}

fn scripted() -> (Box<Scripted>, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>) {
    let (order, orders) = mpsc::channel();
    let (given, seen) = mpsc::channel();
    (Box::new(Scripted { in_step: false, orders, given }), order, seen)
}

#[test]
fn a_full_queue_loses_its_oldest_line() {
    let (port, order, seen) = scripted();
    let writer = start(port, BAUD, 2).unwrap();
    push(&writer, "a");
    // `a` is with the port now, so the queue holds two of the next three.
    assert_eq!(seen.recv_timeout(SOON).unwrap(), b"a\n");
    for line in ["b", "c", "d"] {
        push(&writer, line);
    }
    assert_eq!(writer.counts().dropped, 1);
    for _ in 0..3 {
        order.send(Ok(99)).unwrap();
    }
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 3, dropped: 1, failed: 0 });
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"c\n", b"d\n"]);
}

#[test]
fn frames_make_room_for_what_no_newer_message_replaces() {
    let (port, order, seen) = scripted();
    let writer = start(port, BAUD, 2).unwrap();
    push(&writer, "a");
    assert_eq!(seen.recv_timeout(SOON).unwrap(), b"a\n");
    writer.push_lasting(b"error\n".to_vec());
    for line in ["b", "c", "d"] {
        push(&writer, line);
    }
    for _ in 0..3 {
        order.send(Ok(99)).unwrap();
    }
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 3, dropped: 2, failed: 0 });
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"error\n".as_slice(), b"d\n"]);

    // Where nothing else waits the oldest of them goes.
    let (port, order, seen) = scripted();
    let writer = start(port, BAUD, 2).unwrap();
    push(&writer, "a");
    seen.recv_timeout(SOON).unwrap();
    for error in ["1\n", "2\n", "3\n"] {
        writer.push_lasting(error.as_bytes().to_vec());
    }
    for _ in 0..3 {
        order.send(Ok(99)).unwrap();
    }
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 3, dropped: 1, failed: 0 });
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"2\n", b"3\n"]);
}

#[test]
fn a_frame_finds_no_room_among_messages_that_nothing_replaces() {
    let (port, order, seen) = scripted();
    let writer = start(port, BAUD, 2).unwrap();
    push(&writer, "a");
    assert_eq!(seen.recv_timeout(SOON).unwrap(), b"a\n");
    assert!(writer.has_room());
    writer.push_lasting(b"1\n".to_vec());
    assert!(writer.has_room());
    writer.push_lasting(b"2\n".to_vec());
    assert!(!writer.has_room());
    push(&writer, "b");
    assert_eq!(writer.counts().dropped, 1);
    for _ in 0..3 {
        order.send(Ok(99)).unwrap();
    }
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 3, dropped: 1, failed: 0 });
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"1\n", b"2\n"]);
}

#[test]
fn after_a_line_that_broke_off_the_next_starts_anew() {
    let (port, order, seen) = scripted();
    let writer = start(port, BAUD, 9).unwrap();
    let broken = || Err(io::ErrorKind::BrokenPipe.into());
    for answer in [Ok(2), Ok(0), broken(), broken(), Ok(0), Ok(1), Ok(9), broken(), Ok(9)] {
        order.send(answer).unwrap();
    }
    push(&writer, "one");
    wait_for("line one", || writer.counts().failed == 1);
    assert!(writer.take_error().is_some());
    push(&writer, "two");
    wait_for("line two", || writer.counts().failed == 2);
    assert!(writer.take_error().is_none(), "one row of failures is reported once");
    push(&writer, "three");
    wait_for("line three", || writer.counts().sent == 1);
    push(&writer, "four");
    wait_for("line four", || writer.counts().failed == 3);
    assert!(writer.take_error().is_some(), "a new row of failures is reported");
    push(&writer, "five");
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 2, dropped: 0, failed: 3 });
    let given: Vec<String> = seen.try_iter().map(|b| String::from_utf8(b).unwrap()).collect();
    assert_eq!(given, ["one\n", "e\n", "e\n", "\n", "\n", "\n", "three\n", "four\n", "five\n"]);
}

#[test]
fn a_port_that_blocks_for_ever_is_left_behind() {
    let (port, order, seen) = scripted();
    let writer = start(port, BAUD, 9).unwrap();
    for _ in 0..4 {
        push(&writer, "line");
    }
    seen.recv_timeout(SOON).unwrap();
    let start = Instant::now();
    assert_eq!(writer.close(Duration::from_millis(50)).0, LineCounts { sent: 0, dropped: 4, failed: 0 });
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(order);
}

/// A port whose driver takes its time to close: until the other end of the channel has gone.
struct ClosesLate(mpsc::Receiver<()>);

impl SerialPort for ClosesLate {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
}

impl Drop for ClosesLate {
    fn drop(&mut self) {
        self.0.recv().ok();
    }
}

#[test]
fn a_port_that_takes_for_ever_to_close_is_left_behind() {
    let (open, held) = mpsc::channel();
    let writer = start(Box::new(ClosesLate(held)), BAUD, 9).unwrap();
    push(&writer, "line");
    let start = Instant::now();
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 1, dropped: 0, failed: 0 });
    assert!(start.elapsed() >= CLOSE_WAIT && start.elapsed() < SOON / 2, "{:?}", start.elapsed());
    drop(open);
}

#[test]
fn the_time_to_send_follows_the_speed() {
    let (port, _order, seen) = scripted();
    let writer = start(port, 1000, 9).unwrap();
    push(&writer, &"x".repeat(49));
    seen.recv_timeout(SOON).unwrap();
    push(&writer, &"x".repeat(49));
    assert_eq!(writer.time_to_send(), Duration::from_secs(1));
}

#[test]
fn a_slow_line_keeps_new_messages_out_of_the_driver() {
    let (port, order, seen) = scripted();
    // 100 bytes a second: a message of 20 bytes takes 0.2 s.
    let writer = start(port, 1000, 2).unwrap();
    for _ in 0..20 {
        order.send(Ok(99)).unwrap();
    }
    for i in 10..20 {
        push(&writer, &format!("message number {i}.."));
        if i == 10 {
            wait_for("the first message", || writer.counts().sent == 1);
        }
    }
    let begun = Instant::now();
    assert_eq!(writer.counts(), LineCounts { sent: 1, dropped: 7, failed: 0 });
    assert!(writer.time_to_send() > Duration::from_millis(450), "{:?}", writer.time_to_send());
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 3, dropped: 7, failed: 0 });
    assert!(begun.elapsed() > Duration::from_millis(250), "{:?}", begun.elapsed());
    let given: Vec<String> = seen.try_iter().map(|b| String::from_utf8(b).unwrap()).collect();
    assert_eq!(given, [10, 18, 19].map(|i| format!("message number {i}..\n")));
}

/// A port without a buffer: it takes bytes as its line sends them, at 1000 bits a second.
struct Unbuffered;

impl SerialPort for Unbuffered {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::sleep(line_time(bytes.len(), 1000));
        Ok(bytes.len())
    }
}

#[test]
fn a_line_that_was_waited_for_is_not_waited_for_twice() {
    let writer = start(Box::new(Unbuffered), 1000, 9).unwrap();
    push(&writer, "a message of 20 byt");
    wait_for("the message", || writer.counts().sent == 1);
    assert_eq!(writer.time_to_send(), Duration::ZERO);
}

/// A port that hands what it takes to a test, until its reader has gone.
struct Reported(mpsc::Sender<Vec<u8>>);

impl SerialPort for Reported {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }
}

#[test]
fn a_port_that_was_away_is_opened_again_ever_more_seldom() {
    let (opened, tries) = mpsc::channel();
    let (given, seen) = mpsc::channel();
    let mut answers = 0;
    let reopen: Reopen = Box::new(move || {
        opened.send(Instant::now()).unwrap();
        answers += 1;
        if answers < 3 { Err(io::ErrorKind::NotFound.into()) } else { Ok(Box::new(Reported(given.clone()))) }
    });
    let (gone, _) = mpsc::channel();
    let writer = LineWriter::start(Some(Box::new(Reported(gone))), Some(reopen), Protocol::Frames, BAUD, 9).unwrap();
    let start = Instant::now();
    let mut pushed = 0;
    while writer.counts().sent == 0 {
        writer.push(vec![7, 0]);
        pushed += 1;
        assert!(start.elapsed() < SOON);
        thread::sleep(Duration::from_millis(5));
    }
    let error = writer.take_error().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "the first error is the one that is said");
    let (counts, error) = writer.close(SOON);
    assert_eq!((counts.sent + counts.dropped + counts.failed, error.is_none()), (pushed, true));
    assert!(counts.failed > 20, "{counts:?}");
    let tries: Vec<Duration> = tries.try_iter().map(|at| at - start).collect();
    assert_eq!(tries.len(), 3);
    for (at, least) in tries.iter().zip([500, 1500, 3500]) {
        let least = Duration::from_millis(least);
        assert!(*at >= least && *at < least + Duration::from_millis(900), "{tries:?}");
    }
    // Whoever reads now is brought into step first.
    assert_eq!(seen.try_iter().take(2).collect::<Vec<_>>(), [vec![0], vec![7, 0]]);
}

#[test]
fn the_first_message_begins_with_what_brings_a_reader_into_step() {
    for protocol in [Protocol::Jsonl, Protocol::Frames] {
        let (given, seen) = mpsc::channel();
        let writer = LineWriter::start(Some(Box::new(Reported(given))), None, protocol, BAUD, 9).unwrap();
        let delimiter = protocol.delimiter();
        for byte in [b'a', b'b'] {
            writer.push(vec![byte, delimiter]);
        }
        assert_eq!(writer.close(SOON).0, LineCounts { sent: 2, dropped: 0, failed: 0 });
        let given: Vec<Vec<u8>> = seen.try_iter().collect();
        assert_eq!(given, [vec![delimiter], vec![b'a', delimiter], vec![b'b', delimiter]]);
    }
}

#[test]
fn a_port_that_is_not_there_yet_is_opened_with_the_first_message() {
    let (given, seen) = mpsc::channel();
    let reopen: Reopen = Box::new(move || Ok(Box::new(Reported(given.clone()))));
    let writer = LineWriter::start(None, Some(reopen), Protocol::Jsonl, BAUD, 9).unwrap();
    push(&writer, "a");
    assert_eq!(writer.close(SOON).0, LineCounts { sent: 1, dropped: 0, failed: 0 });
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"\n".to_vec(), b"a\n".to_vec()]);
    let writer = LineWriter::start(None, None, Protocol::Jsonl, BAUD, 9).unwrap();
    push(&writer, "a");
    let (counts, error) = writer.close(SOON);
    assert_eq!(counts, LineCounts { sent: 0, dropped: 0, failed: 1 });
    assert_eq!(error.unwrap().kind(), io::ErrorKind::NotConnected);
}
