use std::path::Path;

use image::{Rgb, RgbImage};

use super::images::Variety;
use super::*;

/// A histogram of these values.
fn of(values: &[f32]) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.add(values);
    histogram
}

#[test]
fn extremes_zeros_and_what_is_not_finite() {
    let h = of(&[-4.0, 0.0, 1.0, f32::INFINITY, f32::NAN, 2.0]);
    assert_eq!((h.min, h.max, h.zeros, h.non_finite, h.finite()), (-4.0, 2.0, 1, 2, 4));
    assert_eq!(h.width, 4.0 / BINS as f64);
    assert_eq!((h.bins[BINS - 1], h.bins[BINS / 2], h.bins[BINS / 4]), (1, 1, 1), "4 in the last bin, 2, 1");
    assert_eq!((of(&[]).largest(), of(&[0.0]).threshold(Method::Mse)), (0.0, 0.0));
    let nothing = of(&[f32::NEG_INFINITY; 5]);
    assert_eq!((nothing.non_finite, nothing.largest(), nothing.finite()), (5, 0.0, 0));
}

#[test]
fn the_width_doubles_and_nothing_is_lost() {
    let mut h = of(&[0.25, 1.0]);
    h.add(&[-3.5, 0.0]);
    assert_eq!((h.width, h.min, h.max, h.finite()), (4.0 / BINS as f64, -3.5, 1.0, 4));
    assert_eq!((h.bins[BINS / 16], h.bins[BINS / 4 - 1], h.bins[BINS * 7 / 8]), (1, 1, 1));
}

#[test]
fn channels() {
    let mut h = Histogram::default();
    h.add_tensor(&[1.0, 2.0, -5.0, 0.0, 3.0, 6.0, -1.0, f32::NAN], &[2, 2, 2]);
    assert_eq!((h.channel_means(), h.channel_max.clone()), (vec![3.0, -1.5], vec![6.0, 5.0]));
}

#[test]
fn thresholds_by_hand() {
    // 2048 bins of width 1; one value in the middle of each of the first 1000, and one far outside.
    let mut values: Vec<f32> = (0..1000).map(|i| i as f32 + 0.5).collect();
    values.push(2048.0);
    let h = of(&values);
    assert_eq!(h.width, 1.0);
    assert_eq!(h.threshold(Method::MinMax), 2048.0);
    assert_eq!(h.threshold(Method::Percentile { percent: 100.0 }), 2048.0);
    // 50 % of 1001 values are 501 values: the upper edge of bin 500.
    assert_eq!(h.threshold(Method::Percentile { percent: 50.0 }), 501.0);
    // Zeros count: 1001 of 2002 values are 0, so that 75 % reach as far as 501 others.
    let mut with_zeros = h.clone();
    with_zeros.zeros = 1001;
    assert_eq!(with_zeros.threshold(Method::Percentile { percent: 75.0 }), 501.0);
    assert_eq!(
        with_zeros.threshold(Method::Percentile { percent: 50.0 }),
        2048.0,
        "where all is 0, nothing is clipped"
    );
}

#[test]
fn mse_weighs_clipping_against_rounding() {
    // Uniform: rounding errors of 1000 values, step² / 12 each, against (2048 - t)² of the one outside. With step = t / 127:
    // d/dt (1000 t² / (12 * 127²) + (2048 - t)²) = 0 at t = 2048 / (1 + 1000 / (12 * 127²)) = 2037.5.
    let mut values: Vec<f32> = (0..1000).map(|i| i as f32 + 0.5).collect();
    values.push(2048.0);
    let t = of(&values).threshold(Method::Mse);
    assert!((2020.0..=2048.0).contains(&t), "{t}");
    // A million of them outweigh it: the optimum lies just above 1000.
    let mut heavy = of(&values);
    heavy.bins[..1000].fill(1_000_000);
    let t = heavy.threshold(Method::Mse);
    assert!((980.0..=1060.0).contains(&t), "{t}");
}

#[test]
fn entropy_keeps_what_carries_the_distribution() {
    // What 128 levels tell exactly costs nothing: all values in the first 128 bins.
    let mut h = of(&[2048.0]);
    h.bins.fill(0);
    h.bins[..128].fill(10);
    assert_eq!(h.threshold(Method::Entropy), 128.0);
    // A long thin tail is clipped, though not all of it.
    for (i, n) in h.bins.iter_mut().enumerate() {
        *n = (1e6 * (-(i as f64) / 60.0).exp()) as u64;
    }
    let t = h.threshold(Method::Entropy);
    assert!((128.0..800.0).contains(&t), "{t}");
}

#[test]
fn scales_are_never_zero() {
    assert_eq!(scale(127.0), 1.0);
    assert_eq!([scale(0.0), scale(f32::MIN_POSITIVE)], [1.0 / 127.0; 2]);
}

#[test]
fn images_are_spread_over_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..10 {
        std::fs::write(folder.path().join(format!("{i}.jpg")), b"").unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), b"").unwrap();
    let names = |count| -> Vec<String> {
        let chosen = choose_images(folder.path(), count).unwrap();
        chosen.iter().map(|p| p.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(4), ["0", "2", "5", "7"]);
    assert_eq!(names(100).len(), 10);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(choose_images(empty.path(), 5), Err(CalibrateError::NoImages { .. })));
    assert!(matches!(choose_images(Path::new("/no/such/folder"), 5), Err(CalibrateError::Folder { .. })));
}

#[test]
fn alike_and_grey_images_are_noticed() {
    let plain = |colour| RgbImage::from_pixel(20, 30, Rgb(colour));
    let flags = |images: &[RgbImage]| {
        let mut variety = Variety::default();
        images.iter().for_each(|i| variety.add(i));
        (variety.all_alike, variety.all_grey)
    };
    assert_eq!(flags(&[plain([90, 90, 90]), plain([91, 90, 92])]), (true, true));
    assert_eq!(flags(&[plain([90, 90, 90]), plain([200, 200, 200])]), (false, true));
    assert_eq!(flags(&[plain([90, 10, 90]), plain([90, 11, 90])]), (true, false));
    assert_eq!(flags(&[plain([90, 90, 90]), plain([10, 200, 90])]), (false, false));
}

#[test]
fn statistics_survive_a_file_and_belong_to_their_graph() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.json");
    let mut h = of(&[0.1, -0.7, 0.0]);
    h.add_tensor(&[1.0, 2.0], &[1, 2, 1]);
    let tensors = BTreeMap::from([("t".to_owned(), h.clone())]);
    let files = ["a", "b", "c"].map(str::to_owned).to_vec();
    let statistics =
        Statistics { schema: STATISTICS_SCHEMA.into(), graph_sha256: "aa".into(), images: 3, files, tensors };
    statistics.write(&path).unwrap();
    let read = Statistics::read(&path, "aa").unwrap();
    assert_eq!(read.files, statistics.files);
    for method in [Method::MinMax, Method::Mse, Method::Entropy, Method::Percentile { percent: 99.0 }] {
        assert_eq!(read.tensors["t"].threshold(method), h.threshold(method), "{method}");
    }
    assert!(matches!(Statistics::read(&path, "bb"), Err(CalibrateError::OtherGraph { .. })));
    let older = folder.path().join("older.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&older, text.replace("\"files\":[\"a\",\"b\",\"c\"],", "")).unwrap();
    assert!(Statistics::read(&older, "aa").unwrap().files.is_empty(), "names came later");
    for (from, to) in [
        ("\"zeros\":1", "\"zeros\":-1"),
        ("hoi.calibration/1", "hoi.calibration/9"),
        ("\"max\":2.0", "\"max\":9.0"),
        ("\"a\",\"b\",", "\"a\","),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        let wrong = folder.path().join("w.json");
        std::fs::write(&wrong, text.replace(from, to)).unwrap();
        assert!(matches!(Statistics::read(&wrong, "aa"), Err(CalibrateError::Statistics { .. })), "{from}");
    }
}
