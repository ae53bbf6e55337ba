//! `hoi-device check`: tries every part that a configuration names, one line each, with what to do where one does not work.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::source::Frame;
use image::RgbImage;
use serde::Serialize;

use crate::board::{self, Board};
use crate::config::Config;
use crate::device::describe;
use crate::display::{self, Canvas, screen};
use crate::source::{self, SourceSettings};
use crate::update::StoreStatus;

/// Above this a Raspberry Pi lowers its clock.
const HOT: f32 = 80.0;

/// Seconds from 1970 to 2026: a clock that says less was never set.
const YEAR_2026: u64 = 1_767_225_600;

/// Whether a part works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Works,
    /// It works, but.
    Warns,
    /// It does not.
    Fails,
    /// The configuration does not name it.
    Unused,
}

/// What was found out about one part. As JSON: `{"part": "camera", "verdict": "fails", "said": ".."}`; a verdict is `works`, `warns`,
/// `fails` or `unused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which part.
    pub part: &'static str,
    /// Whether it works.
    pub verdict: Verdict,
    /// What was seen, and what to do.
    pub said: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Works => "ok",
            Verdict::Warns => "warn",
            Verdict::Fails => "FAIL",
            Verdict::Unused => "-",
        };
        write!(f, "{word:<5} {:<12} {}", self.part, self.said)
    }
}

/// Tries the parts in turn and gives each finding to `found` as soon as it is there. The source has `wait` for its first picture.
pub fn check(config: &Config, wait: Duration, found: &mut dyn FnMut(Finding)) {
    let mut tell = |part, (verdict, said)| found(Finding { part, verdict, said });
    let board = match board::select(config.board()) {
        Ok(board) => {
            tell("board", (Verdict::Works, format!("{} ({})", board.name(), board.model())));
            Some(board)
        }
        Err(error) => {
            tell("board", (Verdict::Fails, describe(&error)));
            None
        }
    };
    tell("clock", clock(SystemTime::now()));
    tell("temperature", temperature(board.as_ref().and_then(|board| board.temperature())));
    tell("permissions", permissions());
    tell("store", store(config));
    tell("model", model(config));
    tell("camera", camera(config, wait));
    if let Some(board) = board {
        tell("display", display(config, board.as_ref()));
        tell("serial", serial(config, board.as_ref()));
    }
}

fn clock(now: SystemTime) -> (Verdict, String) {
    match now.duration_since(UNIX_EPOCH).map(|since| since.as_secs()) {
        Ok(seconds) if seconds >= YEAR_2026 => (Verdict::Works, format!("{seconds} seconds since 1970")),
        _ => (
            Verdict::Warns,
            "it was never set, so the times in the log are wrong: fit a real-time clock (dtoverlay=i2c-rtc), or let \
             systemd-timesyncd have the network once"
                .to_owned(),
        ),
    }
}

fn temperature(degrees: Option<f32>) -> (Verdict, String) {
    match degrees {
        None => (Verdict::Unused, "this machine does not say".to_owned()),
        Some(degrees) if degrees < HOT => (Verdict::Works, format!("{degrees:.0} degrees Celsius")),
        Some(degrees) => (
            Verdict::Warns,
            format!(
                "{degrees:.0} degrees Celsius: the board slows down from {HOT:.0} on; a heat sink or fan is needed"
            ),
        ),
    }
}

/// In which groups this process is; which one a device wants is said where it is opened.
fn permissions() -> (Verdict, String) {
    let known = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let ids = match rustix::process::getgroups() {
        Ok(ids) => ids,
        Err(error) => return (Verdict::Warns, format!("the groups of this process cannot be had: {error}")),
    };
    let mut names: Vec<String> = [rustix::process::getegid()]
        .into_iter()
        .chain(ids)
        .map(|id| board::group_name(&known, id.as_raw()).unwrap_or_else(|| id.as_raw().to_string()))
        .collect();
    names.sort();
    names.dedup();
    let user = rustix::process::geteuid();
    (Verdict::Works, format!("user {}, in the groups {}", user.as_raw(), names.join(", ")))
}

fn store(config: &Config) -> (Verdict, String) {
    if config.model.store.is_empty() {
        return (Verdict::Unused, "no [model] store: updates are not taken".to_owned());
    }
    match StoreStatus::read(Path::new(&config.model.store)) {
        Ok(Some(status)) => (Verdict::Works, status.to_string().replace('\n', "; ")),
        Ok(None) => (Verdict::Works, format!("{}: no update was installed yet", config.model.store)),
        Err(error) => (Verdict::Fails, describe(&error)),
    }
}

/// Loads the bundle and answers a grey picture, twice: the first time is no measure.
fn model(config: &Config) -> (Verdict, String) {
    let store = Path::new(&config.model.store);
    let stored = match config.model.store.is_empty() {
        true => None,
        // Where the store cannot be read, its own line says so.
        false => StoreStatus::read(store).ok().flatten().and_then(|status| status.current),
    };
    let bundle = match (&stored, config.model.bundle.as_str()) {
        (Some(installed), _) => ModelBundle::load(&store.join(&installed.folder)),
        (None, "") => ModelBundle::fastest_builtin(),
        (None, folder) => ModelBundle::load(Path::new(folder)),
    };
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(error) => return (Verdict::Fails, describe(&error)),
    };
    let origin = bundle.origin().display().to_string();
    let begun = Instant::now();
    let answered = HoiPipeline::new(&bundle, &TractEngine::new(config.model.threads.into())).and_then(|pipeline| {
        let load = begun.elapsed();
        let frame = Frame {
            pixels: RgbImage::from_pixel(640, 480, image::Rgb([128; 3])),
            source: "check".to_owned(),
            index: 0,
            decode_ms: 0.0,
        };
        pipeline.run(&frame)?;
        Ok((load, pipeline.run(&frame)?.timings.total))
    });
    match answered {
        Ok((load, ms)) => (
            Verdict::Works,
            format!("{origin}: loaded in {:.1} s, an empty picture takes {ms:.0} ms", load.as_secs_f64()),
        ),
        Err(error) => (Verdict::Fails, format!("{origin}: {}", describe(&error))),
    }
}

fn camera(config: &Config, wait: Duration) -> (Verdict, String) {
    match source::probe(&config.source.uri, &SourceSettings::default(), wait) {
        Ok(said) => (Verdict::Works, said),
        Err(said) => (Verdict::Fails, said),
    }
}

/// Shows a screen that says so.
fn display(config: &Config, board: &dyn Board) -> (Verdict, String) {
    if config.display.uri.is_empty() {
        return (Verdict::Unused, "no [display] uri".to_owned());
    }
    let shown = display::open(&config.display.uri, board).and_then(|mut display| {
        let (width, height) = display.size();
        let mut canvas = Canvas::new(width, height);
        let scene = screen::Scene::of_state(screen::State::Starting("this screen works".to_owned()));
        let Ok(()) = screen::draw(&mut canvas, &scene);
        display.flush(&canvas).map(|()| (width, height))
    });
    match shown {
        Ok((width, height)) => {
            (Verdict::Works, format!("{}: {width}x{height}, it should say `this screen works`", config.display.uri))
        }
        Err(error) => (Verdict::Fails, describe(&error)),
    }
}

fn serial(config: &Config, board: &dyn Board) -> (Verdict, String) {
    let spec = &config.serial;
    if spec.device.is_empty() {
        return (Verdict::Unused, "no [serial] device".to_owned());
    }
    match board.open_serial(Path::new(&spec.device), spec.baud) {
        Ok(_) => (Verdict::Works, format!("{}: opened at {} baud, {}", spec.device, spec.baud, spec.protocol)),
        Err(error) => (Verdict::Fails, describe(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_and_a_hot_board_are_warned_of() {
        let at = |seconds| clock(UNIX_EPOCH + Duration::from_secs(seconds)).0;
        assert_eq!((at(12), at(YEAR_2026 - 1), at(YEAR_2026)), (Verdict::Warns, Verdict::Warns, Verdict::Works));
        let verdicts = [None, Some(45.0), Some(80.0)].map(|t| temperature(t).0);
        assert_eq!(verdicts, [Verdict::Unused, Verdict::Works, Verdict::Warns]);
    }

    #[test]
    fn every_part_has_one_line_and_what_fails_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let mut config = Config::for_command_line();
        config.board.name = "host".to_owned();
        config.source.uri = format!("file://{}", gone.join("x.jpg").display());
        config.display.uri = format!("png://{}", gone.join("screen.png").display());
        config.serial.device = gone.join("ttyUSB7").display().to_string();
        config.model.bundle = gone.display().to_string();
        let mut found = Vec::new();
        check(&config, Duration::from_secs(5), &mut |finding| found.push(finding));
        let parts: Vec<&str> = found.iter().map(|f| f.part).collect();
        assert_eq!(
            parts,
            ["board", "clock", "temperature", "permissions", "store", "model", "camera", "display", "serial"]
        );
        for finding in &found {
            let fails = ["model", "camera", "display", "serial"].contains(&finding.part);
            assert_eq!(finding.verdict == Verdict::Fails, fails, "{finding}");
            assert!(!fails || finding.said.contains("gone"), "{finding}");
            assert!(!finding.to_string().contains('\n'), "{finding}");
        }
    }
}
