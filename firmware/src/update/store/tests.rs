mod faults;
mod refused;

use hoi_runtime::bundle::{BundleParts, write_bundle};
use tempfile::TempDir;

use super::super::pack;
use super::*;

/// Makes tiny bundles, which load and do not run, and signs updates of them.
struct Maker {
    folder: TempDir,
    pair: minisign::KeyPair,
    keys: [PublicKey; 1],
}

impl Maker {
    fn new() -> Self {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let keys = [PublicKey::decode(&pair.pk.to_box().unwrap().to_string()).unwrap()];
        Self { folder: tempfile::tempdir().unwrap(), pair, keys }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A signed update; its networks say its version.
    fn update(&self, name: &str, version: u64) -> PathBuf {
        let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
        for content in parts.files.values_mut() {
            *content = format!("{name} {version}").into_bytes();
        }
        let (bundle, file) = (self.path("bundle"), self.path(&format!("{name}-{version}.hoi")));
        write_bundle(&bundle, parts).unwrap();
        pack(&bundle, name, version, &file).unwrap();
        self.sign(&file);
        file
    }

    fn sign(&self, file: &Path) {
        let signature = minisign::sign(None, &self.pair.sk, File::open(file).unwrap(), None, None).unwrap();
        let mut beside = file.as_os_str().to_owned();
        beside.push(".minisig");
        fs::write(beside, signature.to_string()).unwrap();
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    /// Version `version` of `a` installs without a complaint.
    fn install(&self, store: &mut Store, version: u64) -> Installed {
        self.try_install(store, version, Accept::Newer).unwrap()
    }

    fn try_install(&self, store: &mut Store, version: u64, accept: Accept) -> Result<Installed, UpdateError> {
        store.install(&self.update("a", version), &self.keys, accept, &mut |_| Ok(()))
    }

    /// A store that runs version 1 of `a`, confirmed.
    fn store_with_one(&self) -> Store {
        let mut store = self.store();
        self.install(&mut store, 1);
        assert_eq!(started(&mut store), ("a".into(), 1));
        assert!(store.confirm().unwrap());
        store
    }
}

/// Name and version of what the store starts; the bundle's content is checked.
fn started(store: &mut Store) -> (String, u64) {
    let started = store.start().unwrap().expect("a bundle is installed");
    let Installed { name, version, folder } = started.installed;
    assert_eq!(started.folder, store.folder.join(folder));
    assert_eq!(started.bundle.file("detector.onnx"), Some(format!("{name} {version}").as_bytes()));
    (name, version)
}

/// What lies in a store's folder.
fn content(store: &Store) -> Vec<String> {
    let mut names = store.names().unwrap();
    names.retain(|name| name != STATE_LOCK && name != INSTALL_LOCK);
    names.sort();
    names
}

#[test]
fn a_bundle_that_is_never_confirmed_is_taken_back_after_three_starts() {
    let maker = Maker::new();
    let mut store = maker.store();
    assert!(store.start().unwrap().is_none());
    assert!(matches!(store.roll_back("why"), Err(UpdateError::NothingInstalled { .. })));
    drop(store);
    maker.store_with_one();
    maker.install(&mut maker.store(), 2);
    assert_eq!(maker.store().status().unwrap().trial, Some(0));
    for starts in 1..=TRIES {
        let mut store = maker.store();
        assert_eq!(started(&mut store), ("a".into(), 2));
        assert_eq!(store.status().unwrap().trial, Some(starts));
    }
    let mut store = maker.store();
    let back = store.start().unwrap().unwrap();
    assert_eq!((back.installed.version, back.on_trial), (1, false));
    assert_eq!(back.notice.unwrap(), "a 2 was taken back: started 3 times without being confirmed");
    let status = store.status().unwrap();
    assert_eq!(
        status.to_string(),
        "current: a 1\nprevious: none\ntaken back: a 2: started 3 times without being confirmed"
    );
    // It stays so, the same version does not come again by itself, and its folder goes.
    assert_eq!(maker.store().start().unwrap().unwrap().notice, None);
    assert!(matches!(maker.try_install(&mut store, 2, Accept::Newer), Err(UpdateError::TakenBack { version: 2, .. })));
    assert_eq!(content(&maker.store()), ["a-1", "state.json"]);
    maker.install(&mut store, 3);
    assert_eq!(started(&mut store), ("a".into(), 3));
    assert!(store.confirm().unwrap() && !store.confirm().unwrap());
    assert_eq!(content(&maker.store()), ["a-1", "a-3", "state.json"]);
    assert_eq!(store.roll_back("a person").unwrap().unwrap().version, 1);
    assert_eq!(store.roll_back("again").unwrap().unwrap().version, 1, "what this process does not run");
    assert_eq!(maker.store().roll_back("again").unwrap(), None);
    assert!(maker.store().start().unwrap().is_none());
}

#[test]
fn only_later_versions_come_by_themselves() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    maker.install(&mut store, 5);
    for version in [0, 1, 4, 5] {
        let error = maker.try_install(&mut store, version, Accept::Newer).unwrap_err();
        assert!(matches!(error, UpdateError::Older { installed: 5, .. }), "{error}");
        assert!(error.to_string().contains("--allow-older"), "{error}");
    }
    // The same version again lies beside the one that may be running.
    let again = maker.try_install(&mut store, 5, Accept::AnyVersion).unwrap();
    assert_eq!(again.folder, "a-5.2");
    // Another name has versions of its own; what was never confirmed is nothing to go back to.
    store.install(&maker.update("b", 1), &maker.keys, Accept::Newer, &mut |_| Ok(())).unwrap();
    assert_eq!(started(&mut store), ("b".into(), 1));
    assert_eq!(store.status().unwrap().previous.unwrap().folder, "a-1");
    assert_eq!(content(&store), ["a-1", "b-1", "state.json"]);
    let error = maker.try_install(&mut store, 1, Accept::Newer).unwrap_err();
    assert!(matches!(error, UpdateError::Older { installed: 1, .. }), "{error}");
    maker.try_install(&mut store, 0, Accept::AnyVersion).unwrap();
}

#[test]
fn what_runs_is_what_is_confirmed() {
    let maker = Maker::new();
    let mut device = maker.store_with_one();
    assert_eq!(started(&mut device), ("a".into(), 1));
    maker.install(&mut maker.store(), 2);
    // Good frames of version 1 say nothing about version 2, and its errors neither.
    assert!(!device.confirm().unwrap());
    assert_eq!(device.roll_back("too slow").unwrap().unwrap().version, 2);
    assert_eq!(maker.store().status().unwrap().trial, Some(0));
    assert_eq!(started(&mut device), ("a".into(), 2));
    assert!(device.confirm().unwrap());
}

#[test]
fn a_bundle_that_is_damaged_later_is_taken_back_at_the_next_start() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    maker.install(&mut store, 2);
    assert_eq!(started(&mut store), ("a".into(), 2));
    assert!(store.confirm().unwrap());
    fs::write(maker.path("store/a-2/detector.onnx"), "changed").unwrap();
    let back = maker.store().start().unwrap().unwrap();
    assert_eq!(back.installed.version, 1);
    let notice = back.notice.unwrap();
    assert!(notice.contains("a 2 was taken back") && notice.contains("detector.onnx"), "{notice}");
    // Nothing is left to go back to: the program's own bundle runs.
    fs::remove_dir_all(maker.path("store/a-1")).unwrap();
    assert!(maker.store().start().unwrap().is_none());
    assert!(maker.store().status().unwrap().rolled_back.unwrap().why.contains("manifest.json"));
}

#[test]
fn two_updates_at_once_are_one_and_a_refusal() {
    let maker = Maker::new();
    let mut store = maker.store_with_one();
    let two = maker.update("a", 2);
    let three = maker.update("a", 3);
    let mut other = maker.store();
    let installed = store.install(&two, &maker.keys, Accept::Newer, &mut |staging| {
        let error = other.install(&three, &maker.keys, Accept::Newer, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, UpdateError::Busy { .. }), "{error}");
        // Nor does one that opens the store meanwhile, or asks and starts, disturb it.
        let mut third = maker.store();
        assert_eq!(started(&mut third), ("a".into(), 1));
        assert!(!third.confirm().unwrap() && staging.join("manifest.json").is_file());
        Ok(())
    });
    assert_eq!(installed.unwrap().version, 2);
    other.install(&three, &maker.keys, Accept::Newer, &mut |_| Ok(())).unwrap();
}

#[test]
fn a_folder_that_holds_something_else_is_left_alone() {
    let maker = Maker::new();
    let photos = maker.path("photos");
    fs::create_dir_all(photos.join("berlin-2024")).unwrap();
    let error = Store::open(&photos).err().unwrap();
    assert!(matches!(error, UpdateError::NotAStore { .. }), "{error}");
    assert!(photos.join("berlin-2024").is_dir());
    fs::write(maker.path("file"), "x").unwrap();
    let error = Store::open(&maker.path("file")).err().unwrap();
    assert!(matches!(error, UpdateError::Io { what: "create", .. }), "{error}");
}

#[test]
fn what_root_installs_belongs_to_the_owner_of_the_store() {
    use std::os::unix::fs::{MetadataExt, chown};

    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give files away");
        return;
    }
    const SERVICE: u32 = 65_534;
    let maker = Maker::new();
    // Where the store is missing, it is the owner of the folder above who counts.
    let state = maker.path("state");
    fs::create_dir(&state).unwrap();
    chown(&state, Some(SERVICE), Some(SERVICE)).unwrap();
    let mut store = Store::open(&state.join("bundles")).unwrap();
    for version in [1, 2] {
        maker.install(&mut store, version);
        store.start().unwrap();
        store.confirm().unwrap();
    }
    let mut folders = vec![state];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().uid(), SERVICE, "{}", entry.path().display());
            seen += 1;
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    // The store, its state and locks, and two bundles with their files.
    assert!(seen > 8, "{seen}");
}
