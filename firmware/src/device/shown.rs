//! What the screen, the serial port and the service manager are told of a frame and of the device's state.

use std::time::{Duration, Instant};

use hoi_runtime::geometry::BBox;
use hoi_runtime::sink::{FrameRecord, TripletRecord};
use hoi_runtime::source::Frame;

use super::runner::Runner;
use crate::display::screen::{SceneTriplet, State};
use crate::outputs::Shown;
use crate::serial::{DeviceState, StatusRecord};

/// How often the board's temperature is asked for.
const TEMPERATURE_EVERY: Duration = Duration::from_secs(2);

impl Runner<'_> {
    pub(super) fn show_state(&mut self, state: State, frame: Option<u64>) {
        self.shown_at = Instant::now();
        let scene = self.scene(state, frame);
        self.outputs.show(scene);
    }

    pub(super) fn show_frame(&mut self, frame: Frame, record: &FrameRecord) {
        if !self.outputs.shows() {
            return;
        }
        let bbox = |edges: [f64; 4]| BBox::from(edges.map(|v| v as f32));
        let human = &self.model.pipeline.vocabulary().spec().human;
        let people = record.detections.iter().filter(|d| &d.class == human).map(|d| bbox(d.bbox)).collect();
        let triplet = |t: &TripletRecord| SceneTriplet {
            human: bbox(t.human.bbox),
            object: t.object.as_ref().map(|o| bbox(o.bbox)),
            verb: t.verb.replace('_', " "),
            object_name: t.object.as_ref().map(|o| o.class.replace('_', " ")),
            score: t.score,
        };
        let triplets = record.triplets.iter().map(triplet).collect();
        let mut scene = self.scene(State::Running, Some(frame.index));
        (scene.people, scene.triplets, scene.frame_ms) = (people, triplets, Some(record.timings_ms.total));
        scene.picture = Some(frame.pixels);
        self.outputs.show(scene);
    }

    pub(super) fn scene(&mut self, state: State, frame: Option<u64>) -> Shown {
        Shown {
            frame,
            dropped: self.outputs.lost_lines() + self.summary.dropped + self.feed.counts().dropped,
            frames_per_second: self.pace.frames_per_second(Instant::now()),
            temperature: self.temperature(),
            ..Shown::of_state(state)
        }
    }

    pub(super) fn temperature(&mut self) -> Option<f32> {
        let now = Instant::now();
        if self.temperature_at.is_none_or(|at| now - at >= TEMPERATURE_EVERY) {
            self.temperature_at = Some(now);
            self.temperature = self.board.temperature();
        }
        self.temperature
    }

    pub(super) fn status(&mut self) -> StatusRecord {
        StatusRecord {
            state: self.state,
            uptime_s: self.begun.elapsed().as_secs(),
            frames: self.summary.frames,
            frames_per_s: self.pace.frames_per_second(Instant::now()).unwrap_or(0.0),
            temperature_c: self.temperature(),
            dropped_frames: self.summary.dropped + self.feed.counts().dropped,
            lost_messages: self.outputs.lost_lines(),
        }
    }

    /// The state for `systemctl status`.
    pub(super) fn status_line(&mut self) -> String {
        let StatusRecord { state, frames, frames_per_s, dropped_frames, lost_messages, .. } = self.status();
        let state = match state {
            DeviceState::Starting => "waiting for the source",
            DeviceState::Ok => "ok",
            DeviceState::SourceError => "no pictures",
            DeviceState::ModelError => "the model fails",
            DeviceState::DeviceError => "device error",
        };
        format!(
            "{state}; {frames} frames, {frames_per_s:.1} a second, {dropped_frames} dropped, {lost_messages} messages lost"
        )
    }
}
