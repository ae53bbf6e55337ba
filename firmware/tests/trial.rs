//! An update of the store on trial in a running device: kept after good frames, taken back when its networks cannot be run.
#![allow(clippy::unwrap_used)]

mod running;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hoi_firmware::update::{Accept, Store, pack, read_key};
use hoi_runtime::bundle::{BundleParts, ModelBundle, write_bundle};
use running::Device;
use rustix::process::Signal;

/// A store with one update on trial in it: `nano`, or `nano` with what is no detector.
fn install(folder: &Path, sound: bool, version: u64) -> PathBuf {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = folder.join("minisign.pub");
    fs::write(&key, pair.pk.to_box().unwrap().to_string()).unwrap();
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    if !sound {
        parts.files.insert("detector.onnx".into(), b"no network".to_vec());
    }
    let (bundle, file, store) = (folder.join("bundle"), folder.join("nano.hoi"), folder.join("store"));
    write_bundle(&bundle, parts).unwrap();
    pack(&bundle, "nano", version, &file).unwrap();
    let signature = minisign::sign(None, &pair.sk, File::open(&file).unwrap(), None, None).unwrap();
    fs::write(folder.join("nano.hoi.minisig"), signature.to_string()).unwrap();
    // The health check that would refuse the broken one is left out: it stands for what shows only on the board.
    let keys = [read_key(&key).unwrap()];
    Store::open(&store).unwrap().install(&file, &keys, Accept::Newer, &mut |_| Ok(())).unwrap();
    store
}

/// A configuration that looks at one photo `photos` times, 0 for ever.
fn configuration(folder: &Path, store: &Path, photos: u32) -> PathBuf {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos/ride_horse.jpg").canonicalize().unwrap();
    let config = folder.join("device.toml");
    let text = format!(
        "schema = \"hoi.device/1\"\noutput.json = true\nboard.name = \"host\"\n[source]\nuri = \"{}\"\nrepeat = {photos}\n\
         [model]\nstore = \"{}\"\nconfirm_frames = 3\n",
        photo.display(),
        store.display()
    );
    fs::write(&config, text).unwrap();
    config
}

fn run(folder: &Path, store: &Path, photos: u32) -> (Output, String) {
    let config = configuration(folder, store, photos);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoi-device"));
    let output = command.arg("--config").arg(&config).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

fn frames(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("\"verb\":\"ride\"")).count()
}

#[test]
fn an_update_is_kept_after_as_many_good_frames_as_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let store = install(folder.path(), true, 7);
    // One frame too few: still on trial.
    let (output, said) = run(folder.path(), &store, 2);
    assert_eq!((output.status.code(), frames(&output)), (Some(0), 2), "{said}");
    assert!(said.contains("nano-7") && !said.contains("is kept"), "{said}");
    // A run that ends in good order before that counts neither for it nor against it.
    for _ in 0..4 {
        let (_, said) = run(folder.path(), &store, 2);
        assert!(said.contains("nano-7") && !said.contains("taken back"), "{said}");
    }
    let (output, said) = run(folder.path(), &store, 3);
    assert_eq!((output.status.code(), frames(&output)), (Some(0), 3), "{said}");
    assert!(said.contains("is kept"), "{said}");
    let status = Store::open(&store).unwrap().status().unwrap();
    assert_eq!((status.current.unwrap().version, status.trial), (7, None));
}

#[test]
fn an_update_whose_networks_cannot_be_run_is_taken_back_and_the_bundle_before_answers() {
    let folder = tempfile::tempdir().unwrap();
    let store = install(folder.path(), false, 8);
    let (output, said) = run(folder.path(), &store, 2);
    assert_eq!((output.status.code(), frames(&output)), (Some(0), 2), "{said}");
    assert!(said.contains("is rolled back") && said.contains("detector.onnx"), "{said}");
    assert!(said.contains("bundle builtin:"), "{said}");
    let status = Store::open(&store).unwrap().status().unwrap();
    assert_eq!((status.current, status.trial), (None, None));
    assert!(status.rolled_back.unwrap().why.contains("detector.onnx"));
}

#[test]
fn a_reload_takes_an_update_that_came_meanwhile_and_takes_it_back_where_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let store = install(folder.path(), true, 7);
    let mut device = Device::start(&configuration(folder.path(), &store, 0), |_| {});
    device.wait_for("update is kept");
    device.log.clear();
    install(folder.path(), true, 8);
    device.signal(Signal::HUP);
    device.wait_for("update is kept");
    assert!(device.log.contains("nano-8"), "{}", device.log);
    device.frame();
    install(folder.path(), false, 9);
    device.signal(Signal::HUP);
    device.wait_for("nano-9 is rolled back");
    device.log.clear();
    device.wait_for("nano-8");
    device.frame();
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
    let status = Store::open(&store).unwrap().status().unwrap();
    assert_eq!((status.current.unwrap().version, status.trial), (8, None));
}

#[test]
fn what_an_installer_refuses_is_said_by_the_running_device() {
    let folder = tempfile::tempdir().unwrap();
    let store = install(folder.path(), true, 7);
    let mut device = Device::start(&configuration(folder.path(), &store, 0), |_| {});
    device.wait_for("update is kept");
    // The same version once more.
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoi-device"));
    command.args(["update", "install"]).arg(folder.path().join("nano.hoi"));
    let output =
        command.arg("--key").arg(folder.path().join("minisign.pub")).arg("--store").arg(&store).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(refused.contains("7"), "{refused}");
    device.wait_for("nano.hoi is refused");
    let (code, said) = device.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_store_that_cannot_be_read_does_not_stop_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let store = install(folder.path(), true, 7);
    fs::write(store.join("state.json"), "{\"schema\": \"hoi.sto").unwrap();
    let (output, said) = run(folder.path(), &store, 2);
    assert_eq!((output.status.code(), frames(&output)), (Some(0), 2), "{said}");
    assert!(said.contains("updates are left aside") && said.contains("state.json"), "{said}");
    assert!(said.contains("bundle builtin:"), "{said}");
}
