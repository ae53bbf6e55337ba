//! A process that installs one bundle after the other is killed 1,000 times. Whatever it was doing, the next start has a whole bundle.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hoi_firmware::update::{Accept, PublicKey, Store, pack, read_key};
use hoi_runtime::bundle::{BundleParts, ModelBundle, write_bundle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 1000;

/// In the environment of the process that is killed: the folder with the updates and the store.
const FOLDER: &str = "HOI_TEST_UPDATES";

fn update(folder: &Path, version: u64) -> PathBuf {
    folder.join(format!("a-{version}.hoi"))
}

fn key(folder: &Path) -> PublicKey {
    read_key(&folder.join("minisign.pub")).unwrap()
}

/// Two small bundles, which load, as signed updates.
fn make_updates(folder: &Path) {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    fs::write(folder.join("minisign.pub"), pair.pk.to_box().unwrap().to_string()).unwrap();
    for version in [1, 2] {
        let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
        for (name, content) in &mut parts.files {
            *content = format!("{name} of version {version}\n").repeat(200).into_bytes();
        }
        write_bundle(&folder.join("bundle"), parts).unwrap();
        let file = update(folder, version);
        pack(&folder.join("bundle"), "a", version, &file).unwrap();
        let signature = minisign::sign(None, &pair.sk, File::open(&file).unwrap(), None, None).unwrap();
        fs::write(file.with_extension("hoi.minisig"), signature.to_string()).unwrap();
    }
}

/// One update, its start and its confirmation.
fn go_to(folder: &Path, store: &mut Store, version: u64) {
    let mut health = |staging: &Path| ModelBundle::load(staging).map(drop).map_err(|error| error.to_string());
    store.install(&update(folder, version), &[key(folder)], Accept::AnyVersion, &mut health).unwrap();
    assert_eq!(store.start().unwrap().unwrap().installed.version, version);
    assert!(store.confirm().unwrap());
}

/// Not a test of its own: what the killed process does.
#[test]
fn updates_back_and_forth_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let mut store = Store::open(&folder.join("store")).unwrap();
    eprintln!("begins");
    // The other one first: it then depends on no measured time that both are seen.
    let current = store.status().unwrap().current.unwrap().version;
    for version in [3 - current, current].into_iter().cycle() {
        go_to(&folder, &mut store, version);
    }
}

#[test]
fn a_thousand_kills_leave_the_old_or_the_new_bundle() {
    if std::env::var_os(FOLDER).is_some() {
        return;
    }
    // In memory where there is such a disk: what a kill leaves does not depend on it, and syncing a real one takes long.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let folder = folder.path();
    make_updates(folder);
    let path = folder.join("store");
    let mut store = Store::open(&path).unwrap();
    go_to(folder, &mut store, 1);
    let timing = Instant::now();
    for version in [2, 1, 2, 1] {
        go_to(folder, &mut store, version);
    }
    let longest = timing.elapsed() / 2;
    let mut random = StdRng::seed_from_u64(1000);
    let (mut runs, mut slowest, mut interrupted) = ([0, 0], Duration::ZERO, 0);
    let begun = Instant::now();
    for _ in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "updates_back_and_forth_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        // Some are killed before they begin, while they clean up after the one before.
        if random.random_bool(0.9) {
            said.read_line(&mut line).unwrap();
            assert_eq!(line, "begins\n");
        }
        thread::sleep(longest.mul_f64(random.random()));
        child.kill().unwrap();
        child.wait().unwrap();
        said.read_to_string(&mut line).unwrap();
        assert!(["", "begins\n"].contains(&line.as_str()), "it ended by itself: {line}");
        interrupted += usize::from(path.join(".staging").exists());

        let start = Instant::now();
        let mut store = Store::open(&path).unwrap();
        let started = store.start().unwrap().unwrap();
        slowest = slowest.max(start.elapsed());
        assert_eq!(started.notice, None);
        let version = started.installed.version;
        let network = format!("detector.onnx of version {version}\n").repeat(200);
        assert_eq!(started.bundle.file("detector.onnx"), Some(network.as_bytes()));
        runs[version as usize - 1] += 1;
        // What an interrupted update leaves does not add up: two bundles, the state and two locks.
        let left = fs::read_dir(&path).unwrap().count();
        assert!(left <= 5, "{left} files and folders");
        store.confirm().unwrap();
    }
    println!("{runs:?} started, {interrupted} while unpacking, slowest {slowest:?}, {:?} in all", begun.elapsed());
    assert!(runs.iter().all(|n| *n > KILLS / 10), "{runs:?}");
    assert!(interrupted > KILLS / 20, "{interrupted}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
