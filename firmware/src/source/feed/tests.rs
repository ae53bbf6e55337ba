use std::fs;

use image::RgbImage;

use super::*;

fn refused(uri: &str) -> OpenError {
    open(uri, &SourceSettings::default()).err().unwrap()
}

#[test]
fn what_no_source_is_named_by_is_refused_as_usage_with_what_would_be_right() {
    for (uri, says) in [
        ("v4l://dev/video0", "`v4l2`?"),
        ("foo://x", "file, v4l2, csi, rtsp, http, https and test"),
        ("file://", "file://photo.jpg"),
        ("", "file://photo.jpg"),
        ("file://?realtime=1", "file://photo.jpg"),
        ("photo.jpg?realtime=1", "has none"),
        ("video.mp4?realtim=1", "`realtime`?"),
        ("video.mp4?realtime=2", "from 0 to 1"),
        ("v4l2://video0", "v4l2:///dev/video0"),
        ("csi://front", "csi://0"),
        ("rtsp://", "rtsp://192.168.1.20/stream"),
        ("test://ride_hose", "`ride_horse`?"),
    ] {
        let error = refused(uri);
        assert!(error.is_usage() && error.to_string().contains(says), "{uri}: {error}");
    }
    let error = refused("ftp://anna:secret@cam/x").to_string();
    assert!(error.contains("ftp://cam/x"), "{error}");
    for uri in [
        "ftp://anna:secret@cam/x",
        "rtsp:/anna:secret@cam/x",
        "rtps:/anna:secret@cam/?to=http://x",
        "anna:secret@cam/x",
        "rtsp://anna:12/secret@cam/x",
        "rtsp://anna:12#secret@cam/x",
        "rtsp://anna:12?secret@cam/x#transport=tcp",
    ] {
        let error = refused(uri);
        assert!(error.is_usage() && !error.to_string().contains("secret"), "{uri}: {error}");
    }
}

#[test]
fn pictures_end_and_are_not_live() {
    let folder = tempfile::tempdir().unwrap();
    // A name with a question mark is a name.
    let path = folder.path().join("what?=.png");
    RgbImage::new(3, 2).save(&path).unwrap();
    let settings = SourceSettings { repeat: 2, ..SourceSettings::default() };
    let mut feed = open(&format!("file://{}", path.display()), &settings).unwrap();
    assert!(!feed.is_live() && feed.uri().ends_with("what?=.png"));
    for index in 0..2 {
        let Event::Frame(taken) = feed.next(Duration::ZERO) else { panic!("a frame is due") };
        assert_eq!(taken.frame.unwrap().index, index);
    }
    assert!(matches!(feed.next(Duration::ZERO), Event::Ended));
    assert_eq!(feed.counts(), FeedCounts { frames: 2, read: 2, dropped: 0, restarts: 0 });
}

#[test]
fn a_video_without_ffmpeg_is_no_usage_and_names_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SourceSettings { programs: Some(folder.path().into()), ..SourceSettings::default() };
    let error = open("video.MP4", &settings).err().unwrap();
    assert!(!error.is_usage() && error.to_string().contains("sudo apt install ffmpeg"), "{error}");
}

#[test]
fn a_scene_is_live_numbered_as_taken_and_ends() {
    let settings = SourceSettings { repeat: 3, ..SourceSettings::default() };
    let mut feed = open("test://ride_horse?size=64x48&rate=200&frames=10", &settings).unwrap();
    assert!(feed.is_live());
    let mut frames = 0;
    loop {
        match feed.next(Duration::from_secs(10)) {
            Event::Frame(Taken { source, frame }) => {
                let frame = frame.unwrap();
                assert_eq!((frame.index, frame.pixels.dimensions()), (frames, (64, 48)));
                assert!(source.starts_with("test://ride_horse"));
                frames += 1;
            }
            Event::Ended => break,
            other => panic!("{other:?}"),
        }
    }
    let counts = feed.counts();
    assert_eq!((counts.frames, counts.read, counts.frames + counts.dropped), (frames, 30, 30));
}

#[test]
fn a_probe_says_the_size_or_why_there_is_no_frame() {
    let settings = SourceSettings { stall: Duration::from_millis(50), ..SourceSettings::default() };
    let wait = Duration::from_secs(10);
    let said = probe("test://?size=64x48&rate=100", &settings, wait).unwrap();
    assert!(said.starts_with("64x48, first frame after ") && said.ends_with(" ms"), "{said}");
    assert!(probe("nowhere://", &settings, wait).unwrap_err().contains("unknown scheme"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.jpg");
    fs::write(&path, "no picture").unwrap();
    assert!(probe(path.to_str().unwrap(), &settings, wait).unwrap_err().contains("not a JPEG"));
    let missing = probe("v4l2:///dev/no-such-camera", &settings, wait).unwrap_err();
    assert!(missing.contains("no such device") || missing.contains("apt install"), "{missing}");
}
