//! The bundle that a run answers with: chosen, loaded beside the frame loop, tried, kept or rolled back.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;

use super::DeviceError;
use crate::config::ModelConfig;
use crate::update::{Started, Store};

/// A pipeline with what stands behind it.
pub(super) struct Model {
    pub(super) pipeline: HoiPipeline,
    /// Folder or name of the bundle.
    pub(super) origin: PathBuf,
    trial: Option<Trial>,
}

/// An update that has not been kept yet.
struct Trial {
    store: Store,
    /// Frames without an error that it still has to answer.
    left: u32,
}

/// What became of an update with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to decide, or not yet.
    None,
    /// It has answered often enough and is kept.
    Kept,
    /// It has answered often enough, and that could not be written down: at the next start it is on trial again.
    NotWritten(String),
    /// It failed and the bundle before it is the current one again, or the reason why not.
    RolledBack(Result<(), String>),
}

impl Model {
    /// Loads the bundle that `config` names. An update whose networks cannot be made ready is rolled back, which `said` is told, and
    /// the bundle before it is loaded.
    pub(super) fn load(config: &ModelConfig, said: &mut dyn FnMut(String)) -> Result<Self, DeviceError> {
        if config.store.is_empty() {
            return Self::of_bundle(config);
        }
        let mut store = Store::open(Path::new(&config.store))?;
        // Each turn but the last takes one bundle back, and the store has at most two.
        while let Some(Started { bundle, folder, on_trial, notice, .. }) = store.start()? {
            notice.into_iter().for_each(&mut *said);
            match Self::ready(config, &bundle) {
                Ok(pipeline) => {
                    let trial = on_trial.then_some(Trial { store, left: config.confirm_frames });
                    return Ok(Self { pipeline, origin: folder, trial });
                }
                Err(error) => {
                    let reason = super::describe(&error);
                    said(format!("update {} is rolled back: {reason}", folder.display()));
                    store.roll_back(&reason)?;
                }
            }
        }
        Self::of_bundle(config)
    }

    /// The bundle that the configuration names itself.
    fn of_bundle(config: &ModelConfig) -> Result<Self, DeviceError> {
        let bundle = match config.bundle.as_str() {
            "" => ModelBundle::fastest_builtin()?,
            folder => ModelBundle::load(Path::new(folder))?,
        };
        Ok(Self { pipeline: Self::ready(config, &bundle)?, origin: bundle.origin().to_owned(), trial: None })
    }

    fn ready(config: &ModelConfig, bundle: &ModelBundle) -> Result<HoiPipeline, DeviceError> {
        HoiPipeline::new(bundle, &TractEngine::new(config.threads.into()))
            .map_err(|source| DeviceError::Pipeline { bundle: bundle.origin().to_owned(), source: Box::new(source) })
    }

    /// Counts an answer. The last one that an update on trial needs keeps it; an error before that rolls it back.
    pub(super) fn judge(&mut self, error: Option<&str>) -> Verdict {
        let Some(trial) = &mut self.trial else { return Verdict::None };
        let verdict = match error {
            Some(reason) => {
                let done = trial.store.roll_back(reason);
                Verdict::RolledBack(done.map(drop).map_err(|error| super::describe(&error)))
            }
            None if trial.left > 1 => {
                trial.left -= 1;
                return Verdict::None;
            }
            None => match trial.store.confirm() {
                Ok(_) => Verdict::Kept,
                Err(error) => Verdict::NotWritten(super::describe(&error)),
            },
        };
        self.trial = None;
        verdict
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
