//! The frame loop: one turn takes what the source has, answers it, and looks after everything else.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoi_runtime::sink::FrameRecord;
use hoi_runtime::source::Frame;

use super::control::Manager;
use super::model::{Loading, Model, Verdict};
use super::pace::Pace;
use super::parts::{open_feed, open_screen, open_serial};
use super::{Control, DeviceError, FLUSH_MOST, FLUSH_WAIT, Settings, Summary, describe};
use crate::board::{self, Board};
use crate::config::Config;
use crate::display::screen::State;
use crate::outputs::{Outputs, Shown};
use crate::serial::{DeviceState, ErrorRecord, Part};
use crate::source::{self, Event, Feed, Taken};
use crate::update::Refusals;

/// How long a turn waits for a picture, so that signals, watchdog and state get their turn too.
const TURN: Duration = Duration::from_millis(200);

/// How often the store is looked at for what an installer has refused.
const REFUSALS_EVERY: Duration = Duration::from_secs(2);

/// How often the screen is told the state again while there is no picture.
const SHOW_AGAIN: Duration = Duration::from_secs(1);

/// How long a service leaves a source of files alone after an error; doubled with each further one, up to 64 times.
const FIRST_REST: Duration = Duration::from_millis(100);

/// How long the screen shows that a configuration was refused.
pub(super) const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// A running device.
pub(super) struct Runner<'a> {
    pub(super) config: Config,
    pub(super) settings: &'a Settings,
    pub(super) board: Arc<dyn Board>,
    pub(super) outputs: Outputs<'a>,
    pub(super) feed: Feed,
    pub(super) model: Model,
    /// A model that takes the place of the present one when it is ready.
    pub(super) loading: Option<Loading>,
    pub(super) summary: Summary,
    pub(super) state: DeviceState,
    pub(super) pace: Pace,
    pub(super) begun: Instant,
    pub(super) told: Instant,
    pub(super) temperature: Option<f32>,
    pub(super) temperature_at: Option<Instant>,
    /// When the screen was last given something.
    pub(super) shown_at: Instant,
    /// What the installer of updates leaves in the store for us to say.
    pub(super) refusals: Option<Refusals>,
    pub(super) refusals_at: Instant,
    /// Whether the first triplet was said to the log.
    pub(super) first_said: bool,
    /// Until then nothing is asked of a source of files that has only errors.
    pub(super) resting: Option<Instant>,
    /// Pictures of such a source that failed in a row.
    pub(super) failures: u32,
}

pub(super) fn run(settings: &Settings, control: &Control, stdout: &mut dyn Write) -> Result<Summary, DeviceError> {
    let config = &settings.config;
    let mut manager = Manager::new();
    manager.status("starting");
    let board: Arc<dyn Board> = Arc::from(board::select(config.board())?);
    eprintln!("hoi-device: board {} ({})", board.name(), board.model());
    let mut outputs = Outputs::new(config.output.json.then_some(stdout));
    outputs.set_screen(open_screen(config, &board, settings.again.is_some())?);
    outputs.show(Shown::of_state(State::Starting("loading the model".to_owned())));
    let begun = begin(config, settings.again.is_some(), &board, &mut outputs);
    let (feed, model, said) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let said = describe(&error);
            manager.status(&said);
            let (part, state) = match error {
                DeviceError::Bundle(_) | DeviceError::Pipeline { .. } | DeviceError::Update(_) => {
                    (Part::Model, State::ModelError(said.clone()))
                }
                DeviceError::Source(_) => (Part::Source, State::SourceError(said.clone())),
                _ => (Part::Device, State::DeviceError(said.clone())),
            };
            let uri = source::shown(&config.source.uri);
            outputs.send_error(&ErrorRecord { source: &uri, frame: 0, part, error: &said });
            outputs.show(Shown::of_state(state));
            outputs.finish(FLUSH_WAIT, FLUSH_MOST);
            return Err(error);
        }
    };
    let now = Instant::now();
    let mut runner = Runner {
        config: config.clone(),
        settings,
        board,
        outputs,
        feed,
        model,
        loading: None,
        summary: Summary::default(),
        state: DeviceState::Starting,
        pace: Pace::default(),
        begun: now,
        told: now,
        temperature: None,
        temperature_at: None,
        shown_at: now,
        refusals: refusals_of(config),
        refusals_at: now,
        first_said: false,
        resting: None,
        failures: 0,
    };
    settings.accept();
    for line in settings.refused.iter().chain(&said) {
        runner.note(line);
    }
    runner.frames(control, &mut manager);
    manager.stopping();
    let Runner { mut summary, mut outputs, feed, model, .. } = runner;
    summary.add_feed(feed.counts());
    // The camera is let go before anything is waited for.
    drop(feed);
    if let Some(verdict) = model.release() {
        say_verdict(&verdict, &mut outputs);
    }
    summary.stdout_error = outputs.stdout_error();
    let most = if settings.again.is_some() { FLUSH_MOST } else { Duration::MAX };
    (summary.lines, summary.lost_screens) = outputs.finish(FLUSH_WAIT, most);
    Ok(summary)
}

/// Opens everything else that a run needs, what is quick to fail first; with what is to be said of the model.
fn begin(
    config: &Config,
    service: bool,
    board: &Arc<dyn Board>,
    outputs: &mut Outputs<'_>,
) -> Result<(Feed, Model, Vec<String>), DeviceError> {
    outputs.set_serial(open_serial(config, board, service)?);
    let feed = open_feed(config)?;
    let mut said = Vec::new();
    let mut say = |line| said.push(line);
    let model = match service {
        true => Model::load_or_builtin(&config.model, &mut say)?,
        false => Model::load(&config.model, &mut say)?,
    };
    eprintln!("hoi-device: bundle {}", model.origin.display());
    outputs.set_vocabulary(model.pipeline.vocabulary());
    Ok((feed, model, said))
}

impl Runner<'_> {
    fn frames(&mut self, control: &Control, manager: &mut Manager) {
        let mut said = Instant::now();
        let mut ready = false;
        while !control.is_stopping() {
            if control.take_reload() {
                self.reload();
            }
            self.take_loaded();
            self.take_verdict();
            self.take_refusal();
            match self.next() {
                Event::Frame(taken) => self.frame(taken),
                Event::Down(why) => {
                    self.down(&why);
                    // Who has just typed it wants to know; what has worked before comes back.
                    if self.settings.again.is_none() && self.summary.frames == 0 {
                        self.summary.failed += 1;
                        break;
                    }
                }
                Event::Waiting => self.wait(),
                Event::Ended => break,
            }
            if !ready {
                // After the first picture, which on a small board takes longer than any other, or the first wait for one.
                ready = true;
                manager.ready();
            }
            // Only now: the manager's watchdog begins with that.
            manager.feed();
            self.outputs.report();
            let now = Instant::now();
            if self.config.serial.status_s > 0.0 && (now - self.told).as_secs_f64() >= self.config.serial.status_s {
                self.told = now;
                let status = self.status();
                self.outputs.send_status(&status);
            }
            if now - said >= Duration::from_secs(5) {
                said = now;
                manager.status(&self.status_line());
            }
            if !self.outputs.any_left() && self.settings.again.is_none() {
                break;
            }
        }
    }

    /// What the source has next, unless it rests.
    fn next(&mut self) -> Event {
        match self.resting.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => {
                std::thread::sleep(left.min(TURN));
                Event::Waiting
            }
            _ => {
                self.resting = None;
                self.feed.next(TURN)
            }
        }
    }

    /// Answers a picture, or says why there is none.
    fn frame(&mut self, Taken { source, frame }: Taken) {
        let index = self.summary.frames;
        self.summary.frames += 1;
        let answer = match frame {
            Ok(frame) => {
                let frame = Frame { index, ..frame };
                match self.model.pipeline.run(&frame) {
                    Ok(result) => {
                        let vocabulary = self.model.pipeline.vocabulary();
                        Ok((FrameRecord::new(&frame, &result, vocabulary, self.config.model.min_score), frame))
                    }
                    Err(error) => Err((Part::Model, describe(&error))),
                }
            }
            Err(error) => Err((Part::Source, describe(&error))),
        };
        match answer {
            Ok((record, frame)) => {
                if self.settings.again.is_some() && !self.first_said && !record.triplets.is_empty() {
                    self.first_said = true;
                    if let Some(seconds) = since_boot() {
                        eprintln!("hoi-device: first triplet {seconds:.1} s after the board's start");
                    }
                }
                self.state = DeviceState::Ok;
                self.failures = 0;
                self.pace.count(Instant::now());
                self.outputs.send_frame(&record);
                self.model.judge(None);
                self.show_frame(frame, &record);
            }
            Err((part, error)) => {
                self.summary.failed += 1;
                eprintln!("hoi-device: frame {index}: {error}");
                self.outputs.send_error(&ErrorRecord { source: &source, frame: index, part, error: &error });
                if part == Part::Source && self.settings.again.is_some() && !self.feed.is_live() {
                    // A stick that was pulled fails at once, again and again.
                    let pause = FIRST_REST * 2_u32.pow(self.failures.min(6));
                    self.failures += 1;
                    self.resting = Some(Instant::now() + pause);
                }
                let state = if part == Part::Model {
                    self.state = DeviceState::ModelError;
                    self.model.judge(Some(&error));
                    State::ModelError(error)
                } else {
                    self.state = DeviceState::SourceError;
                    State::SourceError(error)
                };
                self.show_state(state, Some(index));
            }
        }
    }

    /// The camera has gone; the source sees to it that it comes back.
    fn down(&mut self, why: &str) {
        self.state = DeviceState::SourceError;
        eprintln!("hoi-device: source {}: {why}", self.feed.uri());
        let uri = self.feed.uri().to_owned();
        let frame = self.summary.frames;
        self.outputs.send_error(&ErrorRecord { source: &uri, frame, part: Part::Source, error: why });
        self.show_state(State::NoCamera(why.to_owned()), None);
    }

    /// No picture yet. The screen is told the state again: a display may have come meanwhile, or have shown something else for a while.
    fn wait(&mut self) {
        if self.shown_at.elapsed() < SHOW_AGAIN {
            return;
        }
        let state = match (self.state, self.feed.down()) {
            (_, Some(why)) => State::NoCamera(why),
            (DeviceState::Starting, None) => State::Starting(format!("waiting for {}", self.feed.uri())),
            _ => return,
        };
        self.show_state(state, None);
    }

    /// Another source was opened.
    pub(super) fn waits_for_source(&mut self) {
        (self.state, self.failures, self.resting) = (DeviceState::Starting, 0, None);
    }

    /// Says what an installer, which is another process, has refused.
    fn take_refusal(&mut self) {
        if self.refusals_at.elapsed() < REFUSALS_EVERY {
            return;
        }
        self.refusals_at = Instant::now();
        if let Some(why) = self.refusals.as_mut().and_then(Refusals::take) {
            self.note(&why);
        }
    }

    fn take_verdict(&mut self) {
        if let Some(verdict) = self.model.verdict() {
            say_verdict(&verdict, &mut self.outputs);
            if let Verdict::RolledBack(_) = verdict {
                // Where it could not be written, the store starts the bundle before all the same.
                self.load_beside();
            }
        }
    }

    /// Says something on screen, serial port and log that is no error of a frame.
    pub(super) fn note(&mut self, text: &str) {
        eprintln!("hoi-device: {text}");
        let uri = self.feed.uri().to_owned();
        let frame = self.summary.frames;
        self.outputs.send_error(&ErrorRecord { source: &uri, frame, part: Part::Device, error: text });
        self.outputs.hold(Shown::of_state(State::DeviceError(text.to_owned())), REFUSAL_TIME);
    }

    /// Begins to load the model of the present configuration; the present one answers until then.
    pub(super) fn load_beside(&mut self) {
        match Loading::begin(self.config.model.clone()) {
            Ok(loading) => self.loading = Some(loading),
            Err(error) => self.note(&format!("the model cannot be loaded: {error}")),
        }
    }

    /// Takes a model that has been loaded beside.
    fn take_loaded(&mut self) {
        let Some((model, said)) = self.loading.as_ref().and_then(Loading::poll) else { return };
        self.loading = None;
        for line in said {
            self.note(&line);
        }
        match model {
            Ok(model) => {
                eprintln!("hoi-device: bundle {}", model.origin.display());
                self.outputs.set_vocabulary(model.pipeline.vocabulary());
                std::mem::replace(&mut self.model, model).let_go();
            }
            Err(error) => {
                let origin = self.model.origin.display().to_string();
                self.note(&format!("{}; {origin} goes on", describe(&error)));
            }
        }
    }
}

/// Says what became of an update on trial, on log, serial port and screen.
fn say_verdict(verdict: &Verdict, outputs: &mut Outputs<'_>) {
    let said = match verdict {
        Verdict::Kept => "the update is kept".to_owned(),
        Verdict::NotWritten(why) => format!("the update is good, and that cannot be written down: {why}"),
        Verdict::RolledBack(Ok(())) => "the update is rolled back".to_owned(),
        Verdict::RolledBack(Err(why)) => format!("the update cannot be rolled back: {why}"),
    };
    eprintln!("hoi-device: {said}");
    if *verdict != Verdict::Kept {
        outputs.send_error(&ErrorRecord { source: "", frame: 0, part: Part::Model, error: &said });
        outputs.hold(Shown::of_state(State::Update(said)), REFUSAL_TIME);
    }
}

/// The refusals of the store that `config` names.
pub(super) fn refusals_of(config: &Config) -> Option<Refusals> {
    (!config.model.store.is_empty()).then(|| Refusals::of(Path::new(&config.model.store)))
}

/// Seconds since the board was started; `None` where the system does not say.
fn since_boot() -> Option<f64> {
    std::fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()
}
