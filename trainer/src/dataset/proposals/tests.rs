use std::fs;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pipeline::{FrameResult, Timings};
use hoi_runtime::sink::FrameRecord;
use hoi_runtime::source::Frame;
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary, VocabularySpec};

use super::*;

fn vocabulary() -> Vocabulary {
    Vocabulary::new(VocabularySpec {
        human: "person".into(),
        objects: vec!["person".into(), "cell phone".into()],
        verbs: vec!["hold".into()],
        background_verb: None,
        valid: Default::default(),
        alone: vec![],
    })
    .unwrap()
}

fn read(text: &str) -> Result<ProposalFile, ProposalError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.jsonl");
    fs::write(&path, text).unwrap();
    ProposalFile::read(&path, &vocabulary())
}

/// A line of the short form for each of the names.
fn lines(images: &[&str]) -> ProposalFile {
    let line = |image: &&str| serde_json::json!({"image": image, "detections": []}).to_string();
    read(&images.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap()
}

fn detection(class: u16, bbox: [f32; 4], score: f32) -> Detection {
    Detection { bbox: BBox::from(bbox), class: ObjectClass(class), score }
}

#[test]
fn both_forms_are_read() {
    let detections = vec![detection(1, [1.5, 2.0, 30.25, 40.0], 0.25), detection(0, [-3.0, 0.0, 70.0, 48.0], 0.5)];
    let result = FrameResult {
        size: Size::new(64, 48),
        triplets: vec![],
        detections: detections.clone(),
        timings: Timings::default(),
    };
    let source = "file:///photos/hold cup/a b.jpg".to_owned();
    let frame = Frame { pixels: image::RgbImage::new(64, 48), source, index: 0, decode_ms: 1.0 };
    let record = FrameRecord::new(&frame, &result, &vocabulary(), 0.0);
    let written = serde_json::to_string(&record).unwrap();
    let short = r#"{"image":"b.jpg","detections":[{"class":"person","box":[0,0,9,9],"score":1},{"class":"violin","box":[0,0,9,9],"score":0.1},
        {"class":"violin","box":[0,0,1,1],"score":0}],"detector":"mine"}"#
        .replace('\n', " ");
    let file = read(&format!("{written}\n\r\n{short}")).unwrap();
    let first = PictureProposals {
        image: "/photos/hold cup/a b.jpg".into(),
        line: 1,
        size: Some(Size::new(64, 48)),
        detections: detections.clone(),
    };
    let second = PictureProposals {
        image: "b.jpg".into(),
        line: 3,
        size: None,
        detections: vec![detection(0, [0.0, 0.0, 9.0, 9.0], 1.0)],
    };
    assert_eq!(file.pictures(), [first, second]);
    assert_eq!(file.unknown_classes(), &BTreeMap::from([("violin".to_owned(), 2)]));

    let cut = file.detections_in(&file.pictures()[0], Size::new(64, 48)).unwrap();
    assert_eq!(cut, [detections[0].clone(), detection(0, [0.0, 0.0, 64.0, 48.0], 0.5)]);
    let error = file.detections_in(&file.pictures()[0], Size::new(48, 64)).unwrap_err();
    assert!(matches!(error, ProposalError::OtherSize { line: 1, .. }), "{error}");
    assert!(error.to_string().contains("64x48") && error.to_string().contains("48x64"), "{error}");
    assert_eq!(file.detections_in(&file.pictures()[1], Size::new(5, 5)).unwrap()[0].bbox, BBox::new(0., 0., 5., 5.));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let good = r#"{"image":"ok.jpg","detections":[]}"#;
    let error = |line: &str| read(&format!("{good}\n\n{line}\n")).unwrap_err();
    let with = |rest: &str| format!(r#"{{"image":"a.jpg","detections":[{{"class":"person",{rest}}}]}}"#);
    for bbox in ["[9,0,3,9]", "[0,9,9,3]", "[0,0,1e39,9]", "[0,0,9,-1e300]"] {
        let error = error(&with(&format!(r#""box":{bbox},"score":0.5"#)));
        assert!(matches!(error, ProposalError::Box { line: 3, detection: 1, .. }), "{bbox}: {error}");
    }
    assert!(read(&with(r#""box":[3,3,3,9],"score":0.5"#)).is_ok(), "without an area, but not inverted");
    for score in ["1.01", "-0.1", "1e30"] {
        let error = error(&with(&format!(r#""box":[0,0,3,9],"score":{score}"#)));
        assert!(matches!(error, ProposalError::Score { line: 3, detection: 1, .. }), "{score}: {error}");
        assert!(error.to_string().contains("found.jsonl, line 3, detection 1"), "{error}");
    }
    for (line, said) in [
        ("not json", "one JSON object a line"),
        (r#"{"image":"a.jpg""#, "one JSON object a line"),
        (&with(r#""box":[0,0,3],"score":0.5"#), "column"),
        (&with(r#""box":[0,0,NaN,3],"score":0.5"#), "NaN"),
        (&with(r#""box":[0,0,3,3]"#), "missing field `score`"),
        (r#"{"image":"a.jpg"}"#, "missing field `detections`"),
        (r#"{"detections":[]}"#, "`image`"),
        (r#"{"image":"a.jpg","source":"file://a.jpg","detections":[]}"#, "`image` alone"),
        (r#"{"source":"file://a.jpg","detections":[]}"#, "`schema`"),
        (r#"{"schema":"hoi.frame/2","source":"file://a.jpg","detections":[]}"#, "`hoi.frame/2`"),
        (r#"{"schema":"hoi.frame/1","source":"csi://0","detections":[]}"#, "`csi://0`"),
        (r#"{"image":"/","detections":[]}"#, "names no file"),
    ] {
        let error = error(line);
        assert!(matches!(error, ProposalError::Line { line: 3, .. }), "{line}: {error}");
        assert!(error.to_string().contains(said), "{line}: {error}");
    }
    let twice = error(r#"{"image":"./ok.jpg","detections":[]}"#);
    assert!(matches!(twice, ProposalError::Twice { line: 3, first: 1, .. }), "{twice}");
    assert!(matches!(read("\n \n").unwrap_err(), ProposalError::Empty { .. }));
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.jsonl");
    let error = ProposalFile::read(&missing, &vocabulary()).unwrap_err();
    assert!(matches!(&error, ProposalError::Read { path, .. } if *path == missing), "{error}");
}

#[test]
fn the_longest_common_tail_wins() {
    let file = lines(&["a.jpg", "ride bicycle/a.jpg", "/other/root/hold cup/a.jpg", "b.jpg"]);
    let line = |picture: &str| file.find(Path::new(picture)).unwrap().map(|p| p.line);
    assert_eq!(line("photos/ride bicycle/a.jpg"), Some(2));
    assert_eq!(line("/data/hold cup/a.jpg"), Some(3));
    assert_eq!(line("./b.jpg"), Some(4));
    assert_eq!(line("photos/c.jpg"), None);
    assert_eq!(line("photos/xa.jpg"), None, "names are compared whole");
    let error = file.find(Path::new("photos/walk dog/a.jpg")).unwrap_err();
    assert!(matches!(&error, ProposalError::TwoLines { first_line: 1, second_line: 2, .. }), "{error}");
    assert!(error.to_string().contains("`ride bicycle/a.jpg` on line 2"), "{error}");
}

#[test]
fn a_line_goes_to_the_picture_that_it_fits_best() {
    let lines_of = |file: &ProposalFile, pictures: &[&str]| -> Vec<Option<usize>> {
        file.find_all(pictures).unwrap().into_iter().map(|p| p.map(|p| p.line)).collect()
    };
    let file = lines(&["ride bicycle/a.jpg", "hold cup/a.jpg"]);
    assert_eq!(
        lines_of(&file, &["p/walk dog/a.jpg", "p/hold cup/a.jpg", "p/ride bicycle/a.jpg"]),
        [None, Some(2), Some(1)]
    );
    // One is left over on both sides.
    assert_eq!(lines_of(&file, &["p/walk dog/a.jpg", "p/hold cup/a.jpg"]), [Some(1), Some(2)]);
    assert_eq!(lines_of(&file, &[]), []);

    let file = lines(&["a.jpg"]);
    let pictures = [PathBuf::from("p/ride bicycle/a.jpg"), PathBuf::from("p/hold cup/a.jpg")];
    let error = file.find_all(&pictures).unwrap_err();
    let ProposalError::TwoPictures { line: 1, first, second, .. } = &error else { panic!("{error}") };
    assert_eq!([first, second], [&pictures[0], &pictures[1]]);
}
