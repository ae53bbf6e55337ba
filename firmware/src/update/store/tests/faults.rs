//! Every single step on the disk fails, or is the last before the power goes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::*;
use crate::update::disk::Step;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// This step fails, the others do not.
    Fails,
    /// Nothing is done from this step on, and files that were not synced are cut.
    PowerGoes,
}

/// A disk with a fault at step `at`, the step that it hit, and the files that a power cut would harm.
#[derive(Default)]
struct Watched {
    count: usize,
    hit: Option<Step>,
    unsynced: BTreeSet<PathBuf>,
}

impl Watched {
    fn step(&mut self, step: &Step, at: usize, fault: Fault) -> io::Result<()> {
        let now = self.count;
        self.count += 1;
        if now == at {
            self.hit = Some(step.clone());
        }
        if now == at || (now > at && fault == Fault::PowerGoes) {
            return Err(io::Error::other("a fault of the test"));
        }
        match step {
            Step::Create(file) => drop(self.unsynced.insert(file.clone())),
            Step::Sync(file) => drop(self.unsynced.remove(file)),
            Step::Remove(path) => self.unsynced.retain(|file| !file.starts_with(path)),
            Step::Rename(from, to) => {
                let moved = |file: &PathBuf| {
                    file.strip_prefix(from).map_or_else(
                        |_| file.clone(),
                        |rest| if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) },
                    )
                };
                self.unsynced = self.unsynced.iter().map(moved).collect();
            }
            Step::CreateFolder(_) | Step::Write(_) => {}
        }
        Ok(())
    }
}

/// From version 1, confirmed, to version 2, confirmed; ends with the first error. Returns how far it came.
fn update(maker: &Maker, store: &mut Store, file: &Path) -> u32 {
    let installed = store.install(file, &maker.keys, Accept::Newer, &mut |_| Ok(())).is_ok();
    if !installed {
        return 0;
    }
    match store.start() {
        Ok(Some(_)) if store.confirm().is_ok() => 2,
        _ => 1,
    }
}

#[test]
fn every_step_of_an_update_may_fail_or_be_the_last() {
    let maker = Maker::new();
    let (one, two, three) = (maker.update("a", 1), maker.update("a", 2), maker.update("a", 3));
    let install = |store: &mut Store, file: &Path| {
        store.install(file, &maker.keys, Accept::Newer, &mut |_| Ok(())).unwrap();
        store.start().unwrap();
        store.confirm().unwrap();
    };
    let mut steps = 0;
    for fault in [Fault::Fails, Fault::PowerGoes] {
        let (mut at, mut old, mut new) = (0, 0, 0);
        loop {
            let folder = maker.path(&format!("store-{fault:?}-{at}"));
            install(&mut Store::open(&folder).unwrap(), &one);
            let watched = Arc::new(Mutex::new(Watched::default()));
            let theirs = Arc::clone(&watched);
            let disk = Disk {
                fault: Some(Box::new(move |step| theirs.lock().unwrap().step(step, at, fault))),
                ..Disk::default()
            };
            let came = match Store::open_on(&folder, disk) {
                Ok(mut store) => update(&maker, &mut store, &two),
                Err(error) => panic!("step {at}: {error}"),
            };
            let mut watched = watched.lock().unwrap();
            let Some(hit) = watched.hit.take() else {
                assert_eq!(came, 2);
                steps += at;
                break;
            };
            if fault == Fault::PowerGoes {
                for file in &watched.unsynced {
                    File::options().write(true).open(file).unwrap().set_len(1).unwrap();
                }
            }
            // The next start of the program, on a disk without faults.
            let mut store = Store::open(&folder).unwrap();
            let (_, version) = started(&mut store);
            let committed = hit == Step::Sync(folder.clone());
            match came {
                0 => assert!(version == 1 || committed || fault == Fault::PowerGoes, "{hit:?}: {version}"),
                _ => assert_eq!(version, 2, "{hit:?}"),
            }
            if version == 1 {
                old += 1
            } else {
                new += 1
            }
            store.confirm().unwrap();
            let previous = if version == 2 { vec!["a-1", "a-2"] } else { vec!["a-1"] };
            assert_eq!(content(&store), [previous, vec!["state.json"]].concat(), "{hit:?}");
            // And nothing stands in the way of the next update.
            install(&mut store, &three);
            assert_eq!(started(&mut store), ("a".into(), 3));
            fs::remove_dir_all(&folder).unwrap();
            at += 1;
        }
        assert!(old > 10 && new > 5, "{old} {new}");
    }
    println!("{steps} steps");
}

#[test]
fn every_step_of_making_a_store_may_be_the_last() {
    let maker = Maker::new();
    let one = maker.update("a", 1);
    for at in 0.. {
        let folder = maker.path(&format!("store-{at}"));
        let watched = Arc::new(Mutex::new(Watched::default()));
        let theirs = Arc::clone(&watched);
        let fault = Box::new(move |step: &Step| theirs.lock().unwrap().step(step, at, Fault::PowerGoes));
        if let Ok(mut store) = Store::open_on(&folder, Disk { fault: Some(fault), ..Disk::default() }) {
            let _ = store.install(&one, &maker.keys, Accept::Newer, &mut |_| Ok(()));
        }
        for file in &watched.lock().unwrap().unsynced {
            File::options().write(true).open(file).unwrap().set_len(0).unwrap();
        }
        let mut store = Store::open(&folder).unwrap();
        if let Some(first) = store.start().unwrap() {
            assert_eq!(first.installed.version, 1);
        } else {
            store.install(&one, &maker.keys, Accept::Newer, &mut |_| Ok(())).unwrap();
        }
        assert_eq!(started(&mut store), ("a".into(), 1));
        if watched.lock().unwrap().hit.is_none() {
            assert!(at > 15);
            break;
        }
    }
}
