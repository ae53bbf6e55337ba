//! Updates that are refused: the reason is said, nothing is left behind, and what was installed runs on.

use std::io::Write;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::update::UPDATE_SCHEMA;
use crate::update::disk::Step;

/// Name, kind and content.
type Entry<'a> = (&'a str, EntryType, Vec<u8>);

/// A tar whose entries are as given, headers unchecked.
fn tar(file: &Path, entries: &[(&str, EntryType, &[u8])]) {
    let mut tar = Builder::new(File::create(file).unwrap());
    for (name, kind, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if *kind != EntryType::Regular {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.finish().unwrap();
}

fn description(files: u64, bytes: u64) -> String {
    format!(r#"{{"schema": "{UPDATE_SCHEMA}", "name": "a", "version": 2, "files": {files}, "bytes": {bytes}}}"#)
}

/// The update is refused with `words`, and all is as before.
fn refused(maker: &Maker, store: &mut Store, file: &Path, words: &str) {
    let before = content(store);
    let mut health = |_: &Path| -> Result<(), String> { panic!("nothing of it is run") };
    let error = store.install(file, &maker.keys, Accept::Newer, &mut health).unwrap_err();
    let said = describe(&error);
    assert!(said.contains(words), "{said:?} does not say {words:?}");
    assert_eq!(content(store), before, "{said}");
    assert_eq!(started(store), ("a".into(), 1), "{said}");
}

#[test]
fn files_that_are_not_the_signed_ones() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    let update = maker.update("a", 2);
    let whole = fs::read(&update).unwrap();
    let signature = maker.path("a-2.hoi.minisig");
    let signed = fs::read_to_string(&signature).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let longer = [whole.as_slice(), &[0]].concat();
    for bytes in [&whole[..whole.len() / 2], &flipped, &longer, &[]] {
        fs::write(&update, bytes).unwrap();
        refused(&maker, &mut store, &update, "the signature is not of this file");
    }
    fs::write(&update, &whole).unwrap();
    // "Ed" in place of "ED" in base64: a signature of the file itself and not of its hash.
    let legacy = signed.replacen("\nRU", "\nRW", 1);
    assert_ne!(legacy, signed);
    let other = fs::read_to_string(maker.path("a-1.hoi.minisig")).unwrap();
    let comment = signed.replacen("trusted comment: ", "trusted comment: changed ", 2);
    let long = signed.clone() + &"x".repeat(5000);
    let cases = [
        ("", "not a signature"),
        ("four\nlines\nof\nnothing", "not a signature"),
        (&long, "not a signature"),
        (&legacy, "of the old kind"),
        (&other, "the signature is not of this file"),
        (&comment, "the signature is not of this file"),
    ];
    for (text, words) in cases {
        fs::write(&signature, text).unwrap();
        refused(&maker, &mut store, &update, words);
    }
    fs::remove_file(&signature).unwrap();
    refused(&maker, &mut store, &update, "a-2.hoi.minisig: no such file");
    let stranger = Maker::new();
    fs::copy(stranger.update("a", 2), &update).unwrap();
    fs::copy(stranger.path("a-2.hoi.minisig"), &signature).unwrap();
    refused(&maker, &mut store, &update, "none of the 1 that this device trusts");
    assert!(matches!(
        store.install(&update, &[], Accept::Newer, &mut |_| Ok(())),
        Err(UpdateError::UnknownKey { keys: 0, .. })
    ));
    refused(&maker, &mut store, maker.folder.path(), "an update is one file");
    refused(&maker, &mut store, Path::new("/dev/null"), "an update is one file");
    refused(&maker, &mut store, &maker.path("gone.hoi"), "cannot read");
}

#[test]
fn signed_files_that_are_no_update() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    let file = maker.path("bad.hoi");
    let (one, two) = (description(1, 1), description(2, 2));
    let (schema, unknown) = (one.replace("update/1", "update/9"), one.replace("\"files\"", "\"flies\""));
    let (many, huge) = (description(65, 1), description(1, 1 << 40));
    let name = one.replace("\"a\"", "\"../a\"");
    let long = format!("{one}{}", " ".repeat(5000));
    let update = |text: &str| ("update.json", EntryType::Regular, text.as_bytes().to_vec());
    let plain = |name: &'static str| (name, EntryType::Regular, b"x".to_vec());
    let of = |kind| ("link", kind, Vec::new());
    let cases: Vec<(Vec<Entry<'_>>, &str)> = vec![
        (vec![], "the first file is not update.json"),
        (vec![plain("manifest.json")], "the first file is not update.json"),
        (vec![update(&long)], "the first file is not update.json"),
        (vec![update("{")], "EOF"),
        (vec![update(&schema)], "hoi.update/9"),
        (vec![update(&unknown)], "unknown field `flies`"),
        (vec![update(&many)], "65 files; at most 64"),
        (vec![update(&huge)], "at most 1073741824"),
        (vec![update(&name)], "no name for an update"),
        (vec![update(&one), of(EntryType::Symlink)], "\"link\" is a Symlink"),
        (vec![update(&one), of(EntryType::Link)], "\"link\" is a Link"),
        (vec![update(&one), of(EntryType::Fifo)], "\"link\" is a Fifo"),
        (vec![update(&one), of(EntryType::Char)], "\"link\" is a Char"),
        (vec![update(&one), of(EntryType::Directory)], "\"link\" is a Directory"),
        (vec![update(&one), of(EntryType::GNULongName)], "plain files only"),
        (vec![update(&one), of(EntryType::XHeader)], "plain files only"),
        (vec![update(&one), plain("../../etc/cron.d/x")], "no plain name"),
        (vec![update(&one), plain("/etc/cron.d/x")], "no plain name"),
        (vec![update(&one), plain("a/./b")], "no plain name"),
        (vec![update(&one), plain(".hidden")], "no plain name"),
        (vec![update(&two), plain("x"), plain("x")], "is there twice"),
        (vec![update(&two), plain("x"), plain("x/y")], "cannot create"),
        (vec![update(&one), plain("x"), plain("y")], "more than the 1 files"),
        (vec![update(&one), ("x", EntryType::Regular, b"two".to_vec())], "more than the 1 files of 1 bytes"),
        (vec![update(&two), plain("x")], "update.json says 2"),
        (vec![update(&one), plain("x")], "manifest.json"),
    ];
    for (entries, words) in cases {
        let borrowed: Vec<_> = entries.iter().map(|(name, kind, bytes)| (*name, *kind, bytes.as_slice())).collect();
        tar(&file, &borrowed);
        maker.sign(&file);
        refused(&maker, &mut store, &file, words);
    }
    for bytes in [b"no tar at all".to_vec(), vec![b'x'; 2048]] {
        fs::write(&file, bytes).unwrap();
        maker.sign(&file);
        refused(&maker, &mut store, &file, "bad.hoi: ");
    }
    // A header that promises more than there is.
    tar(&file, &[("update.json", EntryType::Regular, one.as_bytes()), ("x", EntryType::Regular, b"x")]);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..1024 + 512]).unwrap();
    maker.sign(&file);
    refused(&maker, &mut store, &file, "bad.hoi: ");
}

#[test]
fn a_bundle_that_does_not_load_or_run() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    let update = maker.update("a", 2);
    // One byte of a network changed before it was signed.
    let mut bytes = fs::read(&update).unwrap();
    let at = bytes.windows(3).position(|three| three == b"a 2").unwrap();
    bytes[at] = b'b';
    fs::write(&update, bytes).unwrap();
    maker.sign(&update);
    refused(&maker, &mut store, &update, "sha256");
    let three = maker.update("a", 3);
    let mut seen = None;
    let mut ill = |folder: &Path| {
        seen = Some(ModelBundle::load(folder).unwrap());
        Err("the detector has no output".to_owned())
    };
    let error = store.install(&three, &maker.keys, Accept::Newer, &mut ill).unwrap_err();
    assert_eq!(error.to_string(), "a 3 does not run here: the detector has no output");
    assert_eq!(seen.unwrap().file("detector.onnx"), Some(b"a 3".as_slice()));
    assert_eq!(content(&store), ["a-1", "state.json"]);
    assert_eq!(started(&mut store), ("a".into(), 1));
}

#[test]
fn a_file_that_changes_after_the_first_look_is_not_installed() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    let update = maker.update("a", 2);
    let open = update.clone();
    let mut changed = false;
    store.disk.fault = Some(Box::new(move |step| {
        if matches!(step, Step::CreateFolder(_)) && !changed {
            changed = true;
            // Behind the end of the archive, where no reader of tars looks.
            File::options().append(true).open(&open)?.write_all(b"more")?;
        }
        Ok(())
    }));
    refused(&maker, &mut store, &update, "the signature is not of this file");
}

#[test]
fn a_disk_that_is_full_is_said_before_it_is_written() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    store.disk.free = Some(40_000);
    refused(&maker, &mut store, &maker.update("a", 2), "needs 1 MiB and has 1 MiB free");
    store.disk.free = Some(0);
    refused(&maker, &mut store, &maker.update("a", 2), "disk full: ");
    store.disk.free = None;
    // And one that others fill meanwhile.
    store.disk.fault = Some(Box::new(|step| match step {
        Step::Write(file) if file.ends_with("interaction.onnx") => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }));
    refused(&maker, &mut store, &maker.update("a", 2), "cannot write");
    store.disk.fault = None;
    maker.install(&mut store, 2);
}

fn read_only() -> Disk {
    Disk { fault: Some(Box::new(|_| Err(io::ErrorKind::ReadOnlyFilesystem.into()))), ..Disk::default() }
}

#[test]
fn a_disk_that_is_read_only_runs_what_is_confirmed() {
    let maker = Maker::new();
    maker.store_with_one();
    let folder = maker.path("store");
    let mut store = Store::open_on(&folder, read_only()).unwrap();
    refused(&maker, &mut store, &maker.update("a", 2), "read-only filesystem");
    let _ = maker.install(&mut maker.store(), 2);
    // A trial that cannot be counted would have no end.
    let mut store = Store::open_on(&folder, read_only()).unwrap();
    let safe = store.start().unwrap().unwrap();
    assert_eq!((safe.installed.version, safe.on_trial), (1, false));
    assert!(safe.notice.unwrap().contains("read-only"));
    assert!(matches!(store.roll_back("why").unwrap(), Some(Installed { version: 2, .. })));
    assert_eq!(started(&mut maker.store()), ("a".into(), 2));
}
