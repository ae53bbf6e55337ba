use std::fs;
use std::path::Path;

use hoi_runtime::vocabulary::Interaction;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageEncoder, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::system::weakly_hoi::InteractionTable;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

fn spec() -> VocabularySpec {
    VocabularySpec {
        human: "person".into(),
        objects: names(&["person", "bicycle", "couch", "cell phone", "sports ball"]),
        verbs: names(&["hold", "no_interaction", "ride", "sit_on", "talk_on", "wave"]),
        background_verb: Some("no_interaction".into()),
        valid: BTreeMap::from([
            ("bicycle".into(), names(&["hold", "no_interaction", "ride", "sit_on"])),
            ("couch".into(), names(&["sit_on"])),
            ("cell phone".into(), names(&["hold", "talk_on"])),
        ]),
        alone: names(&["wave"]),
    }
}

fn known() -> KnownInteractions {
    KnownInteractions::new(&Vocabulary::new(spec()).unwrap()).unwrap()
}

fn with_file(text: &[u8]) -> Result<KnownInteractions, KnownInteractionsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("more.txt");
    fs::write(&path, text).unwrap();
    known().with_vocabulary_file(&path)
}

/// A folder of photos; a picture is told from others by its shade.
struct Photos(TempDir);

impl Photos {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn folder(&self, name: &str) -> &Self {
        fs::create_dir_all(self.root().join(name)).unwrap();
        self
    }

    fn photo(&self, name: &str, shade: u8) -> &Self {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(24, 16, Rgb([shade, 90, 30])).save(path).unwrap();
        self
    }

    fn file(&self, name: &str, content: &[u8]) -> &Self {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Two interactions that nothing is wrong with.
    fn sound(&self) -> &Self {
        self.photo("hold bicycle/a.png", 1).photo("ride bicycle/a.png", 2)
    }

    fn read(&self) -> LabelledFolders {
        LabelledFolders::read(self.root(), &known()).unwrap()
    }

    fn summary(&self) -> FolderSummary {
        self.read().summary
    }
}

/// The photos' paths below the root and what they show.
fn shown(folders: &LabelledFolders, root: &Path) -> Vec<(String, Vec<String>)> {
    let name = |l: &ImageLabel| folders.interactions.iter().find(|i| i.label == *l).unwrap().name.clone();
    folders.photos.iter().map(|p| (relative(&p.path, root), p.labels.iter().map(name).collect())).collect()
}

#[test]
fn folder_names_are_interactions() {
    let known = known();
    for (folder, name) in [
        ("ride bicycle", "ride bicycle"),
        ("ride_bicycle", "ride bicycle"),
        ("Ride-Bicycle", "ride bicycle"),
        ("SIT ON   couch", "sit on couch"),
        ("sit_on couch", "sit on couch"),
        ("talk on cell_phone", "talk on cell phone"),
        ("Wave", "wave"),
    ] {
        assert_eq!(known.name(folder), Some(name), "{folder}");
    }
    for folder in ["ride", "bicycle", "ride couch", "wave bicycle", "ridebicycle", "ride bicycle 2", ""] {
        assert_eq!(known.name(folder), None, "{folder}");
    }
    assert_eq!(known.len(), 8);
    assert_eq!(
        known.names().collect::<Vec<_>>()[..4],
        ["hold bicycle", "no interaction bicycle", "ride bicycle", "sit on bicycle"]
    );
}

#[test]
fn unknown_names_get_suggestions_and_a_line_that_helps() {
    let known = known();
    assert_eq!(known.nearest("ride bicylce")[0], "ride bicycle");
    assert_eq!(known.nearest("bicycle riding")[0], "ride bicycle");
    assert_eq!(known.nearest("sit couch")[0], "sit on couch");
    assert!(known.nearest("zzzzzzzz").is_empty());
    // An object alone: what can be done with it.
    assert_eq!(known.nearest("Cell-Phone"), ["hold cell phone", "talk on cell phone"]);
    assert_eq!(known.nearest("bicycle").len(), 3);
    for (folder, line) in [
        ("Play Violin", "play_violin"),
        ("juggle sports-ball", "juggle sports ball"),
        ("look at cell phone", "look_at cell phone"),
        ("ride couch", "ride couch"),
    ] {
        assert_eq!(known.vocabulary_line(folder).as_deref(), Some(line), "{folder}");
        assert!(with_file(line.as_bytes()).unwrap().name(folder).is_some(), "`{line}` does not make {folder:?} known");
    }
    for folder in ["bicycle", "cell phone", "ride (bicycle)", "!", ""] {
        assert_eq!(known.vocabulary_line(folder), None, "{folder}");
    }
}

#[test]
fn a_vocabulary_file_adds_interactions() {
    let text = "\u{feff}# mine\n\nplay_violin  # no object\r\n  walk_with   Cell_Phone \nRide bicycle\nride couch\nwave bicycle\n";
    let known = with_file(text.as_bytes()).unwrap();
    assert_eq!(known.len(), 8 + 4, "`Ride bicycle` was known");
    for folder in ["play violin", "walk with cell phone", "ride bicycle", "ride couch", "wave", "wave bicycle"] {
        assert!(known.name(folder).is_some(), "{folder}");
    }
    assert_eq!(known.verbs[6..], ["play_violin", "walk_with"], "`Ride` and `wave` are verbs that were there");
}

#[test]
fn a_vocabulary_file_is_refused_with_its_line() {
    let error = |text: &[u8]| with_file(text).unwrap_err();
    let unknown = error(b"# one\nhold bicicle\n");
    assert!(
        matches!(&unknown, KnownInteractionsError::UnknownObject { line: 2, object, nearest, .. }
            if object == "bicicle" && nearest == &["bicycle"]),
        "{unknown}"
    );
    assert!(unknown.to_string().contains("more.txt, line 2: `bicicle`"), "{unknown}");
    for verb in ["walk/with", "caf\u{e9}!", "_", "\u{1b}[31m"] {
        let bad = error(format!("wave\n{verb} bicycle").as_bytes());
        assert!(matches!(&bad, KnownInteractionsError::Verb { line: 2, .. }), "{bad}");
        assert!(!bad.to_string().contains('\u{1b}'));
    }
    let twice = error(b"play_violin\nhold couch\n\nPlay-Violin\n");
    assert!(matches!(twice, KnownInteractionsError::Twice { line: 4, first: 1, .. }), "{twice}");
    // Known from the vocabulary is no error, once.
    let twice = error(b"ride bicycle\nride bicycle");
    assert!(matches!(twice, KnownInteractionsError::Twice { line: 2, first: 1, .. }), "{twice}");
    let same = error(b"wave\nride_bicycle\n");
    assert!(matches!(&same, KnownInteractionsError::SameFolderName { .. }), "{same}");
    assert!(same.to_string().contains("line 2") && same.to_string().contains("`ride bicycle`"), "{same}");
    for empty in ["", "\n\n", "# nothing\n  # here"] {
        assert!(matches!(error(empty.as_bytes()), KnownInteractionsError::Empty { .. }));
    }
    let binary = error(b"wave\nhold couch\nride \xff\xfe\n");
    assert!(matches!(binary, KnownInteractionsError::NotUtf8 { line: 3, .. }), "{binary}");
    let mut large = b"wave\n".to_vec();
    large.resize(VOCABULARY_FILE_LIMIT as usize, b'\n');
    assert!(with_file(&large).is_ok());
    large.push(b'\n');
    assert!(matches!(error(&large), KnownInteractionsError::TooLarge { .. }));
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("nowhere.txt")] {
        let error = known().with_vocabulary_file(&path).unwrap_err();
        assert!(matches!(&error, KnownInteractionsError::Read { path: named, .. } if *named == path), "{error}");
    }
}

#[test]
fn a_vocabulary_whose_names_clash_is_refused() {
    let mut clash = spec();
    clash.verbs.push("ride_bicycle".into());
    clash.alone.push("ride_bicycle".into());
    let error = KnownInteractions::new(&Vocabulary::new(clash).unwrap()).unwrap_err();
    assert!(
        matches!(&error, KnownInteractionsError::SameFolderName { folder, .. } if folder == "ride bicycle"),
        "{error}"
    );
}

#[test]
fn all_interactions_of_hico_det_have_names_of_their_own() {
    let bundle = hoi_runtime::bundle::ModelBundle::builtin().unwrap();
    let known = KnownInteractions::new(bundle.vocabulary()).unwrap();
    // HICO-DET's 600, 2 more verbs with an object of COCO's, 23 without an object.
    assert_eq!(known.len(), 625);
    let names: Vec<&str> = known.names().collect();
    assert!(names.iter().all(|name| known.name(name) == Some(name)));
    assert_eq!(known.nearest("riding a bicycle")[0], "ride bicycle");
    assert_eq!(known.nearest("talk on phone")[0], "talk on cell phone");
}

#[test]
fn photos_take_the_interaction_of_their_folder() {
    let photos = Photos::new();
    photos.photo("Wave/x.bmp", 1).photo("sit on couch/b.JPG", 2).photo("sit on couch/a.webp", 3);
    photos.photo("ride bicycle/2021/may/c.png", 4).photo("ride bicycle/d.jpeg", 5);
    let read = photos.read();
    let expected = [
        ("Wave/x.bmp", "wave"),
        ("ride bicycle/2021/may/c.png", "ride bicycle"),
        ("ride bicycle/d.jpeg", "ride bicycle"),
        ("sit on couch/a.webp", "sit on couch"),
        ("sit on couch/b.JPG", "sit on couch"),
    ];
    assert_eq!(shown(&read, photos.root()), expected.map(|(p, l)| (p.to_owned(), names(&[l]))));
    let counts: Vec<_> = read.interactions.iter().map(|i| (i.name.as_str(), i.photos)).collect();
    assert_eq!(counts, [("ride bicycle", 2), ("sit on couch", 2), ("wave", 1)]);
    let bytes = fs::read(photos.root().join("Wave/x.bmp")).unwrap();
    assert_eq!(read.photos[0].digest, hoi_runtime::bundle::sha256_hex(&bytes));
    assert_eq!(read.photos[0].size, Size::new(24, 16));

    let vocabulary = read.vocabulary();
    assert_eq!(vocabulary.spec().objects, spec().objects, "indices of the detector stay");
    assert_eq!(vocabulary.spec().verbs, ["ride", "sit_on", "wave"]);
    assert_eq!(vocabulary.spec().alone, ["wave"]);
    assert_eq!(vocabulary.background(), None);
    let [bicycle, couch] = ["bicycle", "couch"].map(|o| vocabulary.object(o).unwrap());
    let sit = vocabulary.verb("sit_on").unwrap();
    assert!(vocabulary.is_valid(Interaction { verb: sit, object: couch }));
    assert!(!vocabulary.is_valid(Interaction { verb: sit, object: bicycle }), "no photo shows it");
    let labels: Vec<ImageLabel> = read.interactions.iter().map(|i| i.label).collect();
    assert_eq!(labels, InteractionTable::of(vocabulary).entries(), "rows of the knowledge bank are in this order");

    let summary = FolderSummary { photos: 5, interactions: read.summary.interactions.clone(), ..Default::default() };
    assert_eq!(read.summary, summary, "nothing was left out");
    let text = "5 photos\ninteractions: 3\n  ride bicycle (2 photos)\n  sit on couch (2 photos)\n  wave (1 photo)";
    assert_eq!(read.summary.to_string(), text);
}

#[test]
fn the_background_verb_stays_one() {
    let photos = Photos::new();
    photos.photo("no interaction bicycle/a.png", 1).photo("ride bicycle/b.png", 2);
    let read = photos.read();
    assert_eq!(read.vocabulary().background(), read.vocabulary().verb("no_interaction"));
    assert!(read.vocabulary().background().is_some());
}

#[test]
fn vocabulary_file_and_folders_together() {
    let known = with_file(b"play_violin\njuggle sports ball\n").unwrap();
    let photos = Photos::new();
    photos.sound().photo("Play Violin/v.png", 7).photo("juggle sports ball/j.png", 8);
    let read = LabelledFolders::read(photos.root(), &known).unwrap();
    let names: Vec<_> = read.interactions.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["hold bicycle", "ride bicycle", "juggle sports ball", "play violin"]);
    assert_eq!(read.vocabulary().spec().verbs, ["hold", "ride", "play_violin", "juggle"]);
    assert_eq!(read.vocabulary().alone(), &[Verb(2)]);
}

#[test]
fn unknown_folders_are_named_with_suggestions() {
    let photos = Photos::new();
    photos.sound().photo("ride bicylce/a.png", 3).file("ride bicylce/sub/b.jpg", b"unopened").folder("bicycle");
    let summary = photos.summary();
    assert_eq!(summary.unknown_folders.len(), 2);
    let [object, typo] = &summary.unknown_folders[..] else { panic!("two folders") };
    assert_eq!((typo.folder.as_str(), typo.pictures, typo.nearest[0].as_str()), ("ride bicylce", 2, "ride bicycle"));
    assert_eq!(typo.vocabulary_line.as_deref(), Some("ride_bicylce"));
    assert_eq!((object.pictures, object.vocabulary_line.as_deref()), (0, None));
    assert!(summary.unreadable.is_empty(), "what is left out anyway is not opened");
    assert_eq!(summary.photos, 2);
    let text = summary.to_string();
    assert!(text.contains(r#""ride bicylce" (2 pictures): nearest: "ride bicycle""#), "{text}");
    assert!(text.contains("the line `ride_bicylce` in a vocabulary file"), "{text}");
}

#[test]
fn folders_without_photos_and_unreadable_pictures_are_named() {
    let photos = Photos::new();
    photos.sound().folder("sit on couch").file("wave/notes.txt", b"-").file("wave/.DS_Store", b"-");
    photos.file("hold cell phone/broken.jpg", b"no picture").file("hold cell phone/none.png", b"");
    let whole = fs::read(photos.photo("ride bicycle/cut.jpg", 9).root().join("ride bicycle/cut.jpg")).unwrap();
    photos.file("ride bicycle/cut.jpg", &whole[..whole.len() - 20]);
    let summary = photos.summary();
    let empty = |folder: &str, unreadable| EmptyFolder { folder: folder.into(), unreadable };
    assert_eq!(summary.empty_folders, [empty("hold cell phone", 2), empty("sit on couch", 0), empty("wave", 0)]);
    let unreadable: Vec<_> = summary.unreadable.iter().map(|u| u.path.as_str()).collect();
    assert_eq!(unreadable, ["hold cell phone/broken.jpg", "hold cell phone/none.png", "ride bicycle/cut.jpg"]);
    assert_eq!(summary.unreadable[0].reason, "not a JPEG, PNG, BMP or WebP picture");
    assert_eq!(summary.unreadable[1].reason, "the file is empty");
    assert!(summary.unreadable[2].reason.contains("damaged or truncated"), "{}", summary.unreadable[2].reason);
    assert_eq!((summary.photos, summary.not_pictures, summary.hidden), (2, 1, 1));
    let text = summary.to_string();
    assert!(text.contains("\"hold cell phone\" (2 pictures that cannot be read)"), "{text}");
    assert!(text.contains("\"ride bicycle/cut.jpg\": damaged"), "{text}");
}

#[test]
fn a_photo_in_two_folders_has_both_labels() {
    let photos = Photos::new();
    photos.sound().photo("sit on bicycle/z.png", 2).photo("sit on bicycle/own.png", 3);
    let read = photos.read();
    let expected = [
        ("hold bicycle/a.png", names(&["hold bicycle"])),
        ("ride bicycle/a.png", names(&["ride bicycle", "sit on bicycle"])),
        ("sit on bicycle/own.png", names(&["sit on bicycle"])),
    ];
    assert_eq!(shown(&read, photos.root()), expected.map(|(p, l)| (p.to_owned(), l)));
    let paths = names(&["ride bicycle/a.png", "sit on bicycle/z.png"]);
    let shared = SharedPhoto { paths, interactions: names(&["ride bicycle", "sit on bicycle"]) };
    assert_eq!(read.summary.shared, [shared]);
    assert!(read.summary.duplicates.is_empty());
    assert_eq!(read.summary.photos, 3);
    assert_eq!(read.interactions.iter().map(|i| i.photos).collect::<Vec<_>>(), [1, 1, 2]);
}

#[test]
fn a_photo_twice_in_a_folder_counts_once() {
    let photos = Photos::new();
    photos.sound().photo("ride bicycle/b.png", 2).photo("ride bicycle/sub/c.png", 2);
    let read = photos.read();
    let copy = |path: &str| DuplicatePhoto { path: path.into(), kept: "ride bicycle/a.png".into() };
    assert_eq!(read.summary.duplicates, [copy("ride bicycle/b.png"), copy("ride bicycle/sub/c.png")]);
    assert!(read.summary.shared.is_empty());
    assert_eq!(read.photos.len(), 2);
    assert_eq!(read.interactions[1].photos, 1);
}

#[test]
fn folders_that_mean_the_same_are_put_together() {
    let photos = Photos::new();
    photos.sound().photo("Ride_Bicycle/b.png", 3).photo("Ride_Bicycle/copy.png", 2).folder("ride-bicycle");
    let read = photos.read();
    let folders = names(&["Ride_Bicycle", "ride bicycle", "ride-bicycle"]);
    assert_eq!(read.summary.merged, [MergedFolders { interaction: "ride bicycle".into(), folders }]);
    assert_eq!(read.summary.empty_folders, [EmptyFolder { folder: "ride-bicycle".into(), unreadable: 0 }]);
    assert_eq!(read.interactions[1].photos, 2);
    assert_eq!(read.summary.duplicates.len(), 1, "equal photos of both are copies");
    assert!(read.summary.to_string().contains(r#"ride bicycle from "Ride_Bicycle", "ride bicycle", "ride-bicycle""#));
}

#[test]
fn pictures_beside_the_folders_have_no_label() {
    let photos = Photos::new();
    photos.sound().photo("loose.png", 3).photo("other.jpg", 4).file("readme.md", b"-").file(".hidden", b"-");
    let summary = photos.summary();
    assert_eq!((summary.pictures_in_root, summary.not_pictures, summary.hidden, summary.photos), (2, 1, 1, 2));
    let text = summary.to_string();
    assert!(text.ends_with("left out, pictures beside the folders, which have no label: 2\nleft out, files that are no pictures: 1\nleft out, hidden files and folders: 1"), "{text}");
}

#[cfg(unix)]
#[test]
fn links_that_lead_back_are_not_followed() {
    use std::os::unix::fs::symlink;
    let photos = Photos::new();
    photos.sound().photo("ride bicycle/sub/b.png", 3);
    let elsewhere = Photos::new();
    elsewhere.photo("c.png", 4).photo("d.png", 5);
    let root = photos.root();
    symlink(root, root.join("ride bicycle/all")).unwrap();
    symlink(root.join("ride bicycle"), root.join("ride bicycle/sub/up")).unwrap();
    symlink("/", root.join("ride bicycle/everything")).unwrap();
    symlink(elsewhere.root(), root.join("ride bicycle/more")).unwrap();
    symlink(elsewhere.root(), root.join("ride bicycle/once more")).unwrap();
    symlink(elsewhere.root().join("d.png"), root.join("hold bicycle/e.png")).unwrap();
    symlink(root.join("nowhere"), root.join("hold bicycle/f.png")).unwrap();
    symlink(root, root.join("wave")).unwrap();
    let read = photos.read();
    let paths: Vec<_> = shown(&read, root).into_iter().map(|p| p.0).collect();
    let expected = [
        "hold bicycle/a.png",
        "hold bicycle/e.png",
        "ride bicycle/a.png",
        "ride bicycle/more/c.png",
        "ride bicycle/sub/b.png",
    ];
    assert_eq!(paths, expected, "d.png is e.png");
    let mut links = read.summary.links_not_followed.clone();
    links.sort();
    let expected =
        ["ride bicycle/all", "ride bicycle/everything", "ride bicycle/once more", "ride bicycle/sub/up", "wave"];
    assert_eq!(links, expected);
    assert_eq!(read.summary.unreadable.iter().map(|u| u.path.as_str()).collect::<Vec<_>>(), ["hold bicycle/f.png"]);
    assert_eq!(read.summary.shared.len(), 1);
}

#[test]
fn sizes_are_upright() {
    let photos = Photos::new();
    photos.sound();
    // One entry: orientation (0x0112), a short, 6: turned by 90 degrees.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    encoder.write_image(RgbImage::new(24, 16).as_raw(), 24, 16, image::ExtendedColorType::Rgb8).unwrap();
    photos.file("wave/turned.jpg", &bytes);
    assert_eq!(photos.read().photos[2].size, Size::new(16, 24));
}

#[test]
fn only_what_leaves_nothing_is_an_error() {
    let photos = Photos::new();
    let read = |path: &Path| LabelledFolders::read(path, &known()).unwrap_err();
    let none = read(photos.root());
    assert!(matches!(&none, LabelledFoldersError::TooFew { found: 0, .. }), "{none}");
    assert!(none.to_string().contains("0 interactions with photos, at least 2"), "{none}");
    photos.photo("ride bicycle/a.png", 1).photo("ride bicylce/b.png", 2).file("wave/broken.png", b"x");
    let one = read(photos.root());
    let LabelledFoldersError::TooFew { found: 1, summary, .. } = &one else { panic!("{one}") };
    assert_eq!((summary.photos, summary.unknown_folders.len(), summary.unreadable.len()), (1, 1, 1));
    let text = one.to_string();
    for said in ["1 interaction with photos", "ride bicycle (1 photo)", "ride bicylce", "wave/broken.png"] {
        assert!(text.contains(said), "{text} does not say {said}");
    }
    let missing = photos.root().join("nowhere");
    assert!(matches!(read(&missing), LabelledFoldersError::Read { path, .. } if path == missing));
    let file = photos.root().join("ride bicycle/a.png");
    assert!(matches!(read(&file), LabelledFoldersError::NotAFolder { path } if path == file));
}

#[test]
fn ten_of_a_kind_are_shown_and_all_are_serialised() {
    let photos = Photos::new();
    photos.sound();
    for i in 0..13 {
        photos.folder(&format!("mystery {i:02}"));
    }
    photos.file("wave/line\nbreak.png", b"x");
    let summary = photos.summary();
    let text = summary.to_string();
    assert!(text.contains("no known interaction: 13\n"), "{text}");
    assert!(
        text.contains("\"mystery 09\"") && !text.contains("\"mystery 10\"") && text.contains("\n  and 3 more"),
        "{text}"
    );
    assert!(text.contains(r#""wave/line\nbreak.png": not a"#), "{text}");
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["unknown_folders"].as_array().unwrap().len(), 13);
    assert_eq!(json["unknown_folders"][12]["vocabulary_line"], "mystery_12");
    assert_eq!(json["interactions"][1], serde_json::json!({"interaction": "ride bicycle", "photos": 1}));
}
