use std::path::Path;

use hoi_runtime::geometry::BBox;

use super::folder::ReportFolder;
use super::report::TwoWays;
use super::tables::Table;
use super::times::Spread;
use super::*;

/// A box of 10 x 10 pixels at `x`.
fn square(x: f32) -> BBox {
    BBox::new(x, 0.0, x + 10.0, 10.0)
}

fn detection(class: &str, x: f32, score: f32) -> Sighting {
    Sighting { what: Kind::Object(class.to_owned()), boxes: vec![square(x)], score }
}

fn triplet(verb: &str, class: Option<&str>, boxes: &[f32], score: f32) -> Sighting {
    let what = Kind::Interaction(verb.to_owned(), class.map(str::to_owned));
    Sighting { what, boxes: boxes.iter().map(|&x| square(x)).collect(), score }
}

/// What one bundle finds, what the other finds, how many count, how many of these are missed, the best score of the other.
type Case = (&'static str, Vec<Sighting>, Vec<Sighting>, usize, usize, Option<f32>);

#[test]
fn detections_by_hand() {
    let scores = Thresholds::default().detections();
    let person = |x, score| detection("person", x, score);
    let cases: [Case; 12] = [
        ("the same", vec![person(0.0, 0.9)], vec![person(0.0, 0.9)], 1, 0, None),
        ("nothing on either side", vec![], vec![], 0, 0, None),
        ("nothing to look for", vec![], vec![person(0.0, 0.9)], 0, 0, None),
        ("nothing to find", vec![person(0.0, 0.9)], vec![], 1, 1, None),
        ("exactly at the score does not count", vec![person(0.0, 0.4)], vec![], 0, 0, None),
        ("between the scores does not count", vec![person(0.0, 0.35)], vec![], 0, 0, None),
        ("between the scores is a counterpart", vec![person(0.0, 0.41)], vec![person(0.0, 0.35)], 1, 0, None),
        ("exactly at the lower score is none", vec![person(0.0, 0.41)], vec![person(0.0, 0.3)], 1, 1, Some(0.3)),
        ("another class", vec![person(0.0, 0.9)], vec![detection("dog", 0.0, 0.9)], 1, 1, None),
        // 10 x 10 moved by 10/3: 66.7 in common of 133.3, an IoU of 0.5.
        ("a little under IoU 0.5", vec![person(0.0, 0.9)], vec![person(3.34, 0.9)], 1, 1, None),
        ("a little over IoU 0.5", vec![person(0.0, 0.9)], vec![person(3.32, 0.9)], 1, 0, None),
        ("NaN is no score", vec![person(0.0, f32::NAN), person(0.0, 0.9)], vec![person(0.0, f32::NAN)], 1, 1, None),
    ];
    for (name, findings, others, count, missed, other_score) in cases {
        let (counted, missing) = missing("a.jpg", &findings, &others, scores, 0.5);
        assert_eq!((counted, missing.len()), (count, missed), "{name}");
        assert_eq!(missing.first().and_then(|m| m.other_score), other_score, "{name}");
    }
}

#[test]
fn an_overlap_of_exactly_the_threshold_is_not_over_it() {
    // Half of the box in common, and nothing beside it: IoU 0.5 without rounding.
    let half = Sighting { boxes: vec![BBox::new(0.0, 0.0, 5.0, 10.0)], ..detection("person", 0.0, 0.9) };
    let whole = detection("person", 0.0, 0.9);
    let (whole, half) = ([whole], [half]);
    let missed = |iou| missing("a.jpg", &whole, &half, [0.4, 0.3], iou).1.len();
    assert_eq!((missed(0.5), missed(0.49)), (1, 0));
}

#[test]
fn two_findings_may_have_the_same_counterpart() {
    let twice = [detection("person", 0.0, 0.9), detection("person", 1.0, 0.8)];
    let once = [detection("person", 0.0, 0.9)];
    assert_eq!(missing("a.jpg", &twice, &once, [0.4, 0.3], 0.5), (2, vec![]));
    assert_eq!(missing("a.jpg", &once, &twice, [0.4, 0.3], 0.5), (1, vec![]));
}

#[test]
fn triplets_by_hand() {
    let ride = |boxes: &[f32], score| triplet("ride", Some("bicycle"), boxes, score);
    let cases = [
        ("the same", ride(&[0.0, 50.0], 0.9), ride(&[1.0, 51.0], 0.21), true),
        ("too low", ride(&[0.0, 50.0], 0.9), ride(&[0.0, 50.0], 0.19), false),
        ("another human", ride(&[0.0, 50.0], 0.9), ride(&[20.0, 50.0], 0.9), false),
        ("another object", ride(&[0.0, 50.0], 0.9), ride(&[0.0, 80.0], 0.9), false),
        ("another verb", ride(&[0.0, 50.0], 0.9), triplet("hold", Some("bicycle"), &[0.0, 50.0], 0.9), false),
        ("another class", ride(&[0.0, 50.0], 0.9), triplet("ride", Some("horse"), &[0.0, 50.0], 0.9), false),
        ("without an object", ride(&[0.0, 50.0], 0.9), triplet("ride", None, &[0.0], 0.9), false),
        ("alone", triplet("wave", None, &[0.0], 0.31), triplet("wave", None, &[0.0], 0.25), true),
    ];
    let scores = Thresholds::default().triplets();
    for (name, one, other, found) in cases {
        let (count, missed) = missing("a.jpg", std::slice::from_ref(&one), &[other], scores, 0.5);
        assert_eq!((count, missed.is_empty()), (1, found), "{name}");
        assert!(missed.iter().all(|m| m.what == one.what && m.boxes == one.boxes), "{name}");
    }
}

#[test]
fn both_ways_are_counted_apart() {
    let mut all = TwoWays::default();
    assert_eq!((all.a_in_b.share, all.b_in_a.share), (1.0, 1.0), "nothing found is nothing lost");
    let a = [detection("person", 0.0, 0.9), detection("dog", 50.0, 0.45), detection("cup", 90.0, 0.5)];
    let b = [detection("person", 0.0, 0.9), detection("dog", 50.0, 0.35), detection("cat", 90.0, 0.6)];
    let [lost, new] = all.add("1.jpg", [&a, &b], [0.4, 0.3], 0.5);
    assert_eq!((lost.len(), new.len()), (1, 1));
    assert_eq!(all.a_in_b, Share { count: 3, found: 2, share: 2.0 / 3.0 });
    // B's dog does not reach 0.4, so that it is not looked for.
    assert_eq!(all.b_in_a, Share { count: 2, found: 1, share: 0.5 });
    all.add("2.jpg", [&[detection("car", 0.0, 0.7)], &[]], [0.4, 0.3], 0.5);
    all.sort();
    let lost: Vec<String> = all.lost.iter().map(|m| format!("{} {} {}", m.image, m.what, m.score)).collect();
    assert_eq!(lost, ["2.jpg car 0.7", "1.jpg cup 0.5"]);
    assert_eq!((all.a_in_b.count, all.new.len()), (4, 1));
}

#[test]
fn thresholds_by_which_a_bundle_disagrees_with_itself() {
    let error = Thresholds { triplet_other_score: 0.31, ..Thresholds::default() }.check().unwrap_err();
    assert!(error.to_string().contains("triplets of one bundle count over 0.3"), "{error}");
    assert!(Thresholds { detection_other_score: 0.4, ..Thresholds::default() }.check().is_ok());
}

#[test]
fn thresholds_below_what_a_bundle_pairs() {
    let bundle = BundleSummary {
        folder: "somewhere".into(),
        name: "small".into(),
        version: "1".into(),
        precision: Default::default(),
        files: Default::default(),
        bytes: 0,
    };
    let pairing = |min_score| hoi_runtime::pairing::PairingSpec { min_score, ..Default::default() };
    let warning = |min_score| report::of_pairing(&bundle, &pairing(min_score), &Thresholds::default());
    assert_eq!(warning(0.3), None);
    let said = warning(0.35).unwrap().to_string();
    assert_eq!(said, "small pairs detections from 0.35 on; few of those between 0.3 and that are seen here");
}

#[test]
fn medians() {
    let of = |ms: &[f64]| Spread::new(ms.to_vec());
    assert_eq!(of(&[]), Spread { median_ms: 0.0, best_ms: 0.0 });
    assert_eq!(of(&[3.0]), Spread { median_ms: 3.0, best_ms: 3.0 });
    assert_eq!(of(&[5.0, 1.0, 2.0]), Spread { median_ms: 2.0, best_ms: 1.0 });
    assert_eq!(of(&[5.0, 1.0, 2.0, 4.0]), Spread { median_ms: 3.0, best_ms: 1.0 });
}

#[test]
fn the_three_forms_of_a_table() {
    let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect();
    let rows = vec![row(&["a|b.jpg", "<b>\"cup\"</b>", "0.5"]), row(&["c.jpg", "dog", "10.25"])];
    let table = Table { title: "Lost".into(), columns: vec!["picture", "what", "score"], rows, more: 3 };
    assert_eq!(
        table.to_string(),
        "Lost\n  picture  what          score\n  a|b.jpg  <b>\"cup\"</b>    0.5\n  c.jpg    dog           10.25\n  and 3 more\n"
    );
    let markdown = table.markdown();
    assert!(markdown.contains("| a\\|b.jpg | &lt;b>\"cup\"&lt;/b> | 0.5 |"), "{markdown}");
    assert!(markdown.contains("| --- | --- | ---: |"), "{markdown}");
    let html = table.html();
    assert!(html.contains("<td>&lt;b&gt;&quot;cup&quot;&lt;/b&gt;</td><td class=\"n\">0.5</td>"), "{html}");
    assert!(html.contains("<p>and 3 more</p>"), "{html}");
}

#[test]
fn pictures_that_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jpg", "b.jpg", "c.png", "notes.txt"] {
        std::fs::write(folder.path().join(name), b"").unwrap();
    }
    let list = folder.path().join("list");
    std::fs::write(&list, "b.jpg\r\n\nsome/where/c.png\ngone.jpg\n").unwrap();
    let listed = images::list(folder.path(), Some(&list)).unwrap();
    assert_eq!((listed.images, listed.left_out), (vec![folder.path().join("a.jpg")], 2));
    let warning = listed.warning.unwrap().to_string();
    assert!(warning.contains("1 of its 3 names") && warning.contains("`gone.jpg`"), "{warning}");

    std::fs::write(&list, "a.jpg\nb.jpg\nc.png\n").unwrap();
    let error = images::list(folder.path(), Some(&list)).unwrap_err().to_string();
    assert!(error.contains("all 3 pictures in it are left out"), "{error}");
    let error = images::list(folder.path(), Some(Path::new("no/list"))).unwrap_err().to_string();
    assert!(error.contains("no/list"), "{error}");
}

#[test]
fn a_report_folder_in_use_is_refused_and_a_dropped_one_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    drop(ReportFolder::new(&folder.path().join("report")).unwrap());
    assert_eq!(names(), 0);
    std::fs::write(folder.path().join("file"), b"").unwrap();
    for used in [folder.path().to_owned(), folder.path().join("file")] {
        let error = ReportFolder::new(&used).unwrap_err();
        assert!(matches!(error, BundlesError::ReportExists { .. }), "{error}");
    }
    let error = ReportFolder::new(&folder.path().join("none/report")).unwrap_err();
    assert!(error.to_string().contains("none/report"), "{error}");
    assert_eq!(names(), 1);
}
