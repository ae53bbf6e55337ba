use hoi_runtime::sink::{FRAME_SCHEMA, ObjectRecord, PersonRecord, TripletRecord};
use hoi_runtime::vocabulary::VocabularySpec;

use super::super::{DeviceState, PACKET_LIMIT, Part, PixelBox as Pixels, unpack};
use super::*;

fn names() -> Names {
    Names::new(VocabularySpec {
        human: "person".into(),
        objects: vec!["person".into(), "bicycle".into()],
        verbs: vec!["hold".into(), "ride".into()],
        background_verb: None,
        valid: Default::default(),
        alone: vec!["hold".into()],
    })
    .unwrap()
}

fn object(class: &str, bbox: [f64; 4]) -> ObjectRecord {
    ObjectRecord { class: class.into(), bbox, score: 0.5 }
}

fn triplet(verb: &str, object: Option<ObjectRecord>, score: f32) -> TripletRecord {
    let human = PersonRecord { bbox: [10.0, 20.4, 199.5, 470.0], score: 0.9 };
    TripletRecord { human, verb: verb.into(), object, score, factors: None, product: None }
}

/// The frame of the worked example in `docs/serial.md`.
fn record(triplets: Vec<TripletRecord>) -> FrameRecord {
    FrameRecord {
        schema: FRAME_SCHEMA,
        source: "file://a.jpg".into(),
        frame: 12,
        width: 640,
        height: 480,
        triplets,
        detections: vec![object("person", [10.0, 20.4, 199.5, 470.0]), object("bicycle", [0.0; 4])],
        timings_ms: Default::default(),
    }
}

fn ride() -> TripletRecord {
    triplet("ride", Some(object("bicycle", [30.0, 200.0, 380.0, 479.0])), 0.93)
}

fn encoder(protocol: Protocol) -> Encoder {
    let mut encoder = Encoder::new(protocol);
    encoder.set_vocabulary(&names());
    encoder
}

fn frame_of(packet: &[u8]) -> (u32, Frame) {
    assert!(packet.len() <= PACKET_LIMIT);
    let Ok((sequence, Message::Frame(frame))) = unpack(&packet[..packet.len() - 1]) else { panic!("no frame") };
    (sequence, frame)
}

#[test]
fn the_worked_example_of_the_manual_is_what_the_code_writes() {
    let manual = include_str!("../../../../docs/serial.md");
    let (_, example) = manual.split_once("```hex\n").unwrap();
    let (hex, _) = example.split_once("```").unwrap();
    let bytes: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mut encoder = encoder(Protocol::Frames);
    for _ in 0..7 {
        encoder.encode_frame(&record(Vec::new())).unwrap();
    }
    assert_eq!(encoder.encode_frame(&record(vec![ride()])).unwrap(), bytes);
    // What the manual says of it beside.
    let (sequence, frame) = frame_of(&bytes);
    let human: Pixels = [10, 20, 200, 470];
    assert_eq!((sequence, frame.frame, frame.people, frame.triplets[0].human), (7, 12, 1, human));
    assert!(manual.contains(&format!("{:#06x}", frame.vocabulary)));
}

#[test]
fn lines_of_json_are_the_documented_ones() {
    let mut encoder = encoder(Protocol::Jsonl);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let frame = record(vec![ride()]);
    assert_eq!(text(encoder.encode_frame(&frame).unwrap()), serde_json::to_string(&frame).unwrap() + "\n");
    assert!(encoder.encode_vocabulary(Instant::now()).unwrap().is_none());
    let error = ErrorRecord { source: "file://2.jpg", frame: 1, part: Part::Source, error: "no picture" };
    assert_eq!(
        text(encoder.encode_error(&error).unwrap()),
        "{\"schema\":\"hoi.error/1\",\"source\":\"file://2.jpg\",\"frame\":1,\"part\":\"source\",\"error\":\"no picture\"}\n"
    );
    assert_eq!(
        text(encoder.encode_status(&status()).unwrap()),
        "{\"schema\":\"hoi.status/1\",\"state\":\"source_error\",\"uptime_s\":90,\"frames\":700,\"frames_per_s\":8.25,\
         \"temperature_c\":51.5,\"dropped_frames\":3,\"lost_messages\":1}\n"
    );
}

fn status() -> StatusRecord {
    StatusRecord {
        state: DeviceState::SourceError,
        uptime_s: 90,
        frames: 700,
        frames_per_s: 8.25,
        temperature_c: Some(51.5),
        dropped_frames: 3,
        lost_messages: 1,
    }
}

#[test]
fn errors_and_states_are_packets_with_numbers_that_rise() {
    let mut encoder = Encoder::new(Protocol::Frames);
    let long = "\u{e9}".repeat(400);
    let read = |packet: Vec<u8>| unpack(&packet[..packet.len() - 1]).unwrap();
    let error = ErrorRecord { source: "x", frame: 5, part: Part::Model, error: &long };
    let (sequence, message) = read(encoder.encode_error(&error).unwrap());
    let Message::Error(Error { frame: 5, part: 1, text }) = message else { panic!("{message:?}") };
    assert_eq!((sequence, text), (0, "\u{e9}".repeat(98) + "..."));
    let expected = Status {
        state: 2,
        uptime_s: 90,
        frames: 700,
        frames_per_10s: 83,
        dropped_frames: 3,
        lost_messages: 1,
        temperature_c: Some(52),
    };
    assert_eq!(read(encoder.encode_status(&status()).unwrap()), (1, Message::Status(expected.clone())));
    let unknown = StatusRecord { temperature_c: Some(f32::NAN), frames_per_s: f32::INFINITY, ..status() };
    let expected = Status { temperature_c: None, frames_per_10s: u16::MAX, ..expected };
    assert_eq!(read(encoder.encode_status(&unknown).unwrap()), (2, Message::Status(expected)));
}

#[test]
fn a_frame_that_is_too_long_loses_its_lowest_scores_and_says_how_many() {
    let mut encoder = encoder(Protocol::Frames);
    for count in [0, 1, 40, 60, 3000] {
        let triplets = (0..count).map(|i| TripletRecord { score: 1.0 - i as f32 / 3000.0, ..ride() }).collect();
        let packet = encoder.encode_frame(&record(triplets)).unwrap();
        let (_, frame) = frame_of(&packet);
        assert_eq!(frame.triplets.len() + usize::from(frame.left_out), count);
        assert!(frame.triplets.is_sorted_by(|a, b| a.score >= b.score));
        assert!(count < 41 || packet.len() > PACKET_LIMIT - 25, "{count}: {} bytes", packet.len());
        assert_eq!(frame.left_out == 0, count <= 40, "{count}");
    }
}

#[test]
fn what_the_vocabulary_lacks_is_left_out_and_counted() {
    let mut encoder = encoder(Protocol::Frames);
    let triplets = vec![
        triplet("fly", Some(object("bicycle", [0.0; 4])), 0.9),
        triplet("hold", None, 0.8),
        triplet("hold", Some(object("kite", [0.0; 4])), 0.7),
        triplet("ride", Some(object("bicycle", [-3.0, f64::NAN, 70_000.0, 1.4])), 2.0),
    ];
    let (_, frame) = frame_of(&encoder.encode_frame(&record(triplets)).unwrap());
    assert_eq!((frame.left_out, frame.triplets.len()), (2, 2));
    assert_eq!((frame.triplets[0].verb, frame.triplets[0].object), (0, None));
    let last = frame.triplets[1];
    assert_eq!((last.score, last.object.unwrap().bbox), (255, [0, 0, u16::MAX, 1]));

    let mut without = Encoder::new(Protocol::Frames);
    let (_, frame) = frame_of(&without.encode_frame(&record(vec![ride()])).unwrap());
    assert_eq!((frame.left_out, frame.people, frame.vocabulary), (1, 0, 0));
    assert!(without.encode_vocabulary(Instant::now()).unwrap().is_none());
}
