//! The bundle that a run answers with: chosen, loaded beside the frame loop, tried, kept or rolled back.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;

use super::DeviceError;
use crate::config::ModelConfig;
use crate::update::{Started, Store};

/// How long the end of a run waits until a decision about an update is written.
const DECISION_WAIT: Duration = Duration::from_secs(5);

/// A pipeline with what stands behind it.
pub(super) struct Model {
    pub(super) pipeline: HoiPipeline,
    /// Folder or name of the bundle.
    pub(super) origin: PathBuf,
    trial: Trial,
}

/// Whether an update has to show that it is good.
enum Trial {
    /// It has not, or not any more.
    None,
    /// It still has to answer `left` frames without an error.
    Running { store: Store, left: u32 },
    /// The store writes down what was decided; the frame loop does not wait for a disk.
    Deciding(mpsc::Receiver<Verdict>),
}

/// What became of an update on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has answered often enough and is kept.
    Kept,
    /// It has answered often enough, and that could not be written down: at the next start it is on trial again.
    NotWritten(String),
    /// It failed and the bundle before it is the current one again, or the reason why not.
    RolledBack(Result<(), String>),
}

impl Model {
    /// Loads the bundle that `config` names. An update whose networks cannot be made ready is rolled back, and the bundle before it is
    /// loaded; where the store cannot be used at all, the bundle of the configuration answers. `said` is told of both.
    pub(super) fn load(config: &ModelConfig, said: &mut dyn FnMut(String)) -> Result<Self, DeviceError> {
        if !config.store.is_empty() {
            match Self::of_store(config, said) {
                Ok(Some(model)) => return Ok(model),
                Ok(None) => {}
                Err(error) => said(format!("updates are left aside: {}", super::describe(&error))),
            }
        }
        Self::of_bundle(config, &config.bundle)
    }

    /// As [`load`](Self::load) for a device that shall answer whatever lies in its folders: where the bundle of the configuration cannot be
    /// loaded, that of the program answers.
    pub(super) fn load_or_builtin(config: &ModelConfig, said: &mut dyn FnMut(String)) -> Result<Self, DeviceError> {
        Self::load(config, said).or_else(|error| {
            if config.bundle.is_empty() {
                return Err(error);
            }
            said(format!("{}; the bundle of the program answers", super::describe(&error)));
            Self::of_bundle(config, "")
        })
    }

    /// The bundle in a folder, or the fastest of the program's own where none is named.
    fn of_bundle(config: &ModelConfig, bundle: &str) -> Result<Self, DeviceError> {
        let bundle = match bundle {
            "" => ModelBundle::fastest_builtin()?,
            folder => ModelBundle::load(Path::new(folder))?,
        };
        let pipeline = Self::ready(config, &bundle)?;
        Ok(Self { pipeline, origin: bundle.origin().to_owned(), trial: Trial::None })
    }

    /// The current bundle of the store, or the one before where it cannot be made ready; `None` where none is left.
    fn of_store(config: &ModelConfig, said: &mut dyn FnMut(String)) -> Result<Option<Self>, DeviceError> {
        let mut store = Store::open(Path::new(&config.store))?;
        let mut failed = None;
        while let Some(Started { bundle, folder, on_trial, notice, .. }) = store.start()? {
            notice.into_iter().for_each(&mut *said);
            match Self::ready(config, &bundle) {
                Ok(pipeline) => {
                    let left = config.confirm_frames;
                    let trial = if on_trial { Trial::Running { store, left } } else { Trial::None };
                    return Ok(Some(Self { pipeline, origin: folder, trial }));
                }
                // Rolling back did not help: the disk cannot be written.
                Err(error) if failed.as_ref() == Some(&folder) => return Err(error),
                Err(error) => {
                    let reason = super::describe(&error);
                    said(format!("update {} is rolled back: {reason}", folder.display()));
                    store.roll_back(&reason)?;
                    failed = Some(folder);
                }
            }
        }
        Ok(None)
    }

    fn ready(config: &ModelConfig, bundle: &ModelBundle) -> Result<HoiPipeline, DeviceError> {
        HoiPipeline::new(bundle, &TractEngine::new(config.threads.into()))
            .map_err(|source| DeviceError::Pipeline { bundle: bundle.origin().to_owned(), source: Box::new(source) })
    }

    /// Counts an answer. The last one that an update on trial needs keeps it, an error before that rolls it back; either is written by
    /// a thread of its own, and [`verdict`](Self::verdict) says when it is.
    pub(super) fn judge(&mut self, error: Option<&str>) {
        match (&mut self.trial, error) {
            (Trial::Running { left, .. }, None) if *left > 1 => *left -= 1,
            (Trial::Running { .. }, error) => {
                let Trial::Running { mut store, .. } = std::mem::replace(&mut self.trial, Trial::None) else { return };
                let reason = error.map(str::to_owned);
                let (done, verdict) = mpsc::channel();
                let decide = move || {
                    let verdict = match reason {
                        Some(reason) => {
                            let done = store.roll_back(&reason).map(drop);
                            Some(Verdict::RolledBack(done.map_err(|error| super::describe(&error))))
                        }
                        None => match store.confirm() {
                            Ok(true) => Some(Verdict::Kept),
                            // Another one was installed meanwhile.
                            Ok(false) => None,
                            Err(error) => Some(Verdict::NotWritten(super::describe(&error))),
                        },
                    };
                    // Nobody asks any more where the device has stopped.
                    verdict.map(|verdict| done.send(verdict).ok())
                };
                // Without a thread nothing is decided: the next start has the bundle on trial again.
                if thread::Builder::new().name("trial".to_owned()).spawn(decide).is_ok() {
                    self.trial = Trial::Deciding(verdict);
                }
            }
            _ => {}
        }
    }

    /// What was decided, once.
    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        let Trial::Deciding(verdict) = &self.trial else { return None };
        match verdict.try_recv() {
            Ok(verdict) => {
                self.trial = Trial::None;
                Some(verdict)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.trial = Trial::None;
                None
            }
        }
    }

    /// Lets the model go for another one, as [`release`](Self::release), by a thread of its own.
    pub(super) fn let_go(self) {
        if let Trial::Running { mut store, .. } = self.trial {
            // Without a thread the start counts, and no more.
            let _ = thread::Builder::new().name("trial".to_owned()).spawn(move || store.release());
        }
    }

    /// Lets the model go in good order: a start that was too short to keep an update does not count against it. What is being decided
    /// is waited for.
    pub(super) fn release(self) -> Option<Verdict> {
        match self.trial {
            Trial::None => None,
            Trial::Running { mut store, .. } => {
                // Where it cannot be written the start counts, and no more.
                let _ = store.release();
                None
            }
            Trial::Deciding(verdict) => verdict.recv_timeout(DECISION_WAIT).ok(),
        }
    }
}

/// A model that is being loaded beside the frame loop.
pub(super) struct Loading(mpsc::Receiver<(Result<Model, DeviceError>, Vec<String>)>);

impl Loading {
    /// Begins to load.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn begin(config: ModelConfig) -> std::io::Result<Self> {
        let (done, loaded) = mpsc::channel();
        thread::Builder::new().name("model".to_owned()).spawn(move || {
            let mut said = Vec::new();
            let model = Model::load(&config, &mut |line| said.push(line));
            // Nobody waits any more where the device has stopped.
            let _ = done.send((model, said));
        })?;
        Ok(Self(loaded))
    }

    /// The model and what was said while it was loaded, once it is there.
    pub(super) fn poll(&self) -> Option<(Result<Model, DeviceError>, Vec<String>)> {
        match self.0.try_recv() {
            Ok(loaded) => Some(loaded),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some((
                Err(DeviceError::Thread { what: "the model", source: std::io::Error::other("it has ended") }),
                vec![],
            )),
        }
    }
}
