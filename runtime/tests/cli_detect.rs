//! `hoi detect` as a process: good pictures, bad ones, directories, shards.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos")
}

fn photo(name: &str) -> String {
    photos().join(name).display().to_string()
}

fn hoi(args: &[&str]) -> Output {
    // Another directory than the project's: the default bundle is part of the program.
    Command::new(env!("CARGO_BIN_EXE_hoi")).args(args).current_dir(std::env::temp_dir()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn score(v: &Value) -> f64 {
    v["score"].as_f64().unwrap()
}

#[test]
fn six_photos_say_what_they_show() {
    // What a person would say of each photo must stand among its first three triplets.
    let cases = [
        ("ride_skateboard.jpg", "skateboard", &["ride", "stand_on", "jump"][..]),
        ("ride_bicycles.jpg", "bicycle", &["ride", "sit_on", "straddle"]),
        ("ride_horse.jpg", "horse", &["ride", "race", "straddle"]),
        ("hug_dog.jpg", "dog", &["hug", "hold", "pet"]),
        ("carry_surfboard.jpg", "surfboard", &["carry", "hold"]),
        ("photograph_with_phone.jpg", "cell phone", &["hold", "text_on", "talk_on", "read"]),
    ];
    for (name, object, verbs) in cases {
        let output = hoi(&["detect", &photo(name), "--json", "--min-score", "0"]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let frame = &json_lines(&output)[0];
        let top: Vec<_> = frame["triplets"].as_array().unwrap().iter().take(3).collect();
        let said = top.iter().any(|t| t["object"]["class"] == object && verbs.iter().any(|v| t["verb"] == *v));
        assert!(said, "{name}: {top:?}");
    }
}

#[test]
fn the_json_is_a_frame() {
    let output = hoi(&["detect", &photo("ride_bicycles.jpg"), "--json", "--min-score", "0.05"]);
    let frame = &json_lines(&output)[0];
    assert_eq!(frame["schema"], "hoi.frame/1");
    assert_eq!((frame["width"].as_u64(), frame["height"].as_u64()), (Some(768), Some(640)));
    assert_eq!(frame["frame"], 0);
    assert!(frame["source"].as_str().unwrap().starts_with("file://"));
    for list in ["triplets", "detections"] {
        let scores: Vec<f64> = frame[list].as_array().unwrap().iter().map(score).collect();
        assert!(!scores.is_empty(), "{list}");
        assert!(scores.windows(2).all(|w| w[0] >= w[1]), "{list} by falling score");
        assert!(scores.iter().all(|s| (0.05..=1.0).contains(s)), "{list} cut by --min-score");
    }
    for t in frame["triplets"].as_array().unwrap() {
        assert_ne!(t["verb"], "no_interaction", "the background verb is never said");
        for b in [&t["human"]["box"], &t["object"]["box"]] {
            let b: Vec<f64> = b.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert!(0.0 <= b[0] && b[0] < b[2] && b[2] <= 768.0 && 0.0 <= b[1] && b[1] < b[3] && b[3] <= 640.0);
        }
    }
    for step in ["decode", "preprocess", "detector", "pairs", "head", "fusion", "total"] {
        assert!(frame["timings_ms"][step].as_f64().unwrap() >= 0.0, "{step}");
    }
}

#[test]
fn the_table_is_readable_and_the_picture_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("seen.png");
    let output = hoi(&["detect", &photo("ride_horse.jpg"), out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("640x426") && text.contains("person ride horse") && text.contains("detector"), "{text}");
    let (drawn, original) =
        (image::open(&out).unwrap().to_rgb8(), image::open(photo("ride_horse.jpg")).unwrap().to_rgb8());
    assert_eq!(drawn.dimensions(), original.dimensions());
    let changed = drawn.pixels().zip(original.pixels()).filter(|(a, b)| a != b).count();
    assert!(changed > 2000 && changed < 640 * 426 / 2, "{changed} pixels drawn");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the picture");
}

#[test]
fn controls_have_no_interaction() {
    let output = hoi(&["detect", &photo("coffee.png")]);
    assert!(output.status.success());
    assert!(stdout(&output).contains("no interaction (no person)"), "{}", stdout(&output));
    let output = hoi(&["detect", &photo("coffee.png"), "--json", "--min-score", "0.2"]);
    assert_eq!(json_lines(&output)[0]["triplets"], serde_json::json!([]));
}

/// A PNG that announces `width` x `height` pixels and holds almost none.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        png.extend((data.len() as u32).to_be_bytes());
        let body: Vec<u8> = kind.iter().chain(data).copied().collect();
        png.extend(&body);
        png.extend(crc32(&body).to_be_bytes());
    };
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    chunk(b"IHDR", &header);
    chunk(b"IDAT", &[0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01]);
    chunk(b"IEND", &[]);
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}

fn bad_pictures(folder: &Path) -> Vec<(&'static str, &'static str)> {
    let whole = fs::read(photos().join("ride_horse.jpg")).unwrap();
    fs::write(folder.join("b_text.jpg"), "this is not a picture").unwrap();
    fs::write(folder.join("c_truncated.jpg"), &whole[..400]).unwrap();
    fs::write(folder.join("cc_half.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("d_empty.png"), []).unwrap();
    fs::write(folder.join("e_huge.png"), png_header(60_000, 60_000)).unwrap();
    fs::write(folder.join("f_hollow.png"), png_header(64, 64)).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("g_pipe.jpg")).status().unwrap().success());
    vec![
        ("b_text.jpg", "not a JPEG, PNG, BMP or WebP picture"),
        ("c_truncated.jpg", "damaged or truncated"),
        ("cc_half.jpg", "damaged or truncated"),
        ("d_empty.png", "the file is empty"),
        ("e_huge.png", "60000x60000"),
        ("f_hollow.png", "damaged or truncated"),
        ("g_pipe.jpg", "not a regular file"),
        ("missing.jpg", "No such file"),
    ]
}

#[test]
fn bad_pictures_are_named_and_refused_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (name, reason) in bad_pictures(folder.path()) {
        let path = folder.path().join(name);
        // 1.5 GiB of address space: a 60000 x 60000 picture would need 10 GiB.
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 1500000; exec \"$0\" detect \"$1\"", env!("CARGO_BIN_EXE_hoi")])
            .arg(&path)
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(name) && text.contains(reason), "{name}: {text}");
        assert_eq!(text.lines().count(), 1, "one error, once: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_tiny_or_grey_picture_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = folder.path().join("tiny.png");
    image::RgbImage::new(1, 1).save(&tiny).unwrap();
    let output = hoi(&["detect", tiny.to_str().unwrap(), folder.path().join("out.png").to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("no interaction"));
    let grey = folder.path().join("grey.png");
    image::open(photo("ride_horse.jpg")).unwrap().to_luma16().save(&grey).unwrap();
    let output = hoi(&["detect", grey.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!json_lines(&output)[0]["detections"].as_array().unwrap().is_empty());
}

#[test]
fn a_directory_goes_on_past_bad_pictures_and_says_which_failed() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(photos().join("ride_horse.jpg"), folder.path().join("a.jpg")).unwrap();
    fs::copy(photos().join("hug_dog.jpg"), folder.path().join("z.JPG")).unwrap();
    fs::write(folder.path().join("notes.txt"), "left alone").unwrap();
    let bad = bad_pictures(folder.path()).len() - 1;
    let out = folder.path().join("out");
    let output = hoi(&["detect", folder.path().to_str().unwrap(), out.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let frames = json_lines(&output);
    assert_eq!(frames.len(), 2, "the good ones are done");
    assert!(frames[1]["source"].as_str().unwrap().ends_with("z.JPG"));
    let text = stderr(&output);
    assert!(text.contains(&format!("{} pictures, 2 done, {bad} failed", bad + 2)), "{text}");
    assert!(text.contains("failed: ") && text.contains("e_huge.png"), "{text}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
}

#[test]
fn shards_share_a_directory() {
    let all = ["1/3", "2/3", "3/3"].map(|shard| {
        let output = hoi(&["detect", photos().to_str().unwrap(), "--json", "--shard", shard]);
        assert!(output.status.success(), "{}", stderr(&output));
        json_lines(&output)
            .iter()
            .map(|f| (f["frame"].as_u64().unwrap(), f["source"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    });
    let mut frames: Vec<_> = all.concat();
    frames.sort();
    assert_eq!(all.map(|s| s.len()), [3, 3, 2]);
    let indices: Vec<u64> = frames.iter().map(|f| f.0).collect();
    assert_eq!(indices, (0..8).collect::<Vec<_>>(), "a frame's number is its place in the whole directory");
}

#[test]
fn wrong_command_lines_exit_with_2() {
    let horse = photo("ride_horse.jpg");
    let folder = photos();
    let cases: &[&[&str]] = &[
        &[],
        &["detect"],
        &["detect", &horse, "--min-score", "1.5"],
        &["detect", &horse, "--min-score", "nan"],
        &["detect", &horse, "--threads", "0"],
        &["detect", &horse, "--shard", "1/2"],
        &["detect", &horse, "out.tiff"],
        &["detect", &horse, "/tmp"],
        &["detect", folder.to_str().unwrap(), "--shard", "4/3"],
        &["detect", &horse, "--no-such-flag"],
    ];
    for args in cases {
        let output = hoi(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_input_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    fs::copy(photos().join("ride_horse.jpg"), &path).unwrap();
    let before = fs::read(&path).unwrap();
    for (input, output) in [(path.as_path(), path.as_path()), (folder.path(), folder.path())] {
        let output = hoi(&["detect", input.to_str().unwrap(), output.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("the input would be lost"));
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_empty_directory_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = hoi(&["detect", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("pictures in it"));
}
