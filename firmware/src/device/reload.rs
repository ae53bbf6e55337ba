//! A new configuration for a running device: only what changed is opened anew, and a file with an error changes nothing.

use std::path::Path;
use std::sync::Arc;

use super::DeviceError;
use super::describe;
use super::parts::{open_feed, open_screen, open_serial};
use super::runner::{Runner, refusals_of};
use crate::board::{self, Board};
use crate::config::Config;
use crate::outputs::{ScreenWriter, SerialOutput};
use crate::source::Feed;
use crate::update::StoreStatus;

/// What a new configuration brings. What takes another device is open before the old one is let go; the same device cannot be had
/// twice, so there the old one goes first.
struct Change {
    board: Option<Arc<dyn Board>>,
    feed: Option<Next<Feed>>,
    screen: Option<Option<ScreenWriter>>,
    serial: Option<Next<Option<SerialOutput>>>,
}

enum Next<T> {
    Open(T),
    /// To be opened when the old one has let the device go.
    AfterOld,
}

impl Runner<'_> {
    /// Reads the configuration again and takes over what changed. Where that is not possible, it is said and nothing changes.
    pub(super) fn reload(&mut self) {
        let Some(again) = &self.settings.again else {
            eprintln!("hoi-device: SIGHUP: there is no configuration to read again; start with --config FILE");
            return;
        };
        let changed = again().map_err(|error| describe(&error)).and_then(|config| {
            let change = self.prepare(&config).map_err(|error| describe(&error))?;
            Ok((config, change))
        });
        match changed {
            Ok((config, change)) => {
                self.take_over(config, change);
                self.settings.accept();
            }
            Err(why) => self.note(&format!("{why}; the old configuration goes on")),
        }
    }

    fn prepare(&self, config: &Config) -> Result<Change, DeviceError> {
        let old = &self.config;
        let board = (config.board != old.board).then(|| board::select(config.board())).transpose()?.map(Arc::from);
        let present = board.as_ref().unwrap_or(&self.board);
        let moved = board.is_some();
        let feed = match config.source != old.source {
            false => None,
            true if same_camera(&config.source.uri, &old.source.uri) => Some(Next::AfterOld),
            true => Some(Next::Open(open_feed(config)?)),
        };
        let serial = match moved || port_differs(config, old) {
            false => None,
            true if config.serial.device == old.serial.device => Some(Next::AfterOld),
            true => Some(Next::Open(open_serial(config, present, true)?)),
        };
        let screen =
            (moved || config.display != old.display).then(|| open_screen(config, present, true)).transpose()?;
        Ok(Change { board, feed, screen, serial })
    }

    fn take_over(&mut self, config: Config, change: Change) {
        let Change { board, feed, screen, serial } = change;
        let model_differs = config.model.bundle != self.config.model.bundle
            || config.model.store != self.config.model.store
            || config.model.threads != self.config.model.threads
            || self.update_waits(&config);
        if config.output != self.config.output {
            eprintln!("hoi-device: [output] is taken over at the next start");
        }
        let old = std::mem::replace(&mut self.config, config);
        if self.config.model.store != old.model.store {
            self.refusals = refusals_of(&self.config);
        }
        if let Some(board) = board {
            self.board = board;
        }
        if let Some(feed) = feed {
            self.summary.add_feed(self.feed.counts());
            self.feed.close();
            let opened = match feed {
                Next::Open(feed) => Ok(feed),
                Next::AfterOld => open_feed(&self.config).or_else(|error| {
                    self.note(&format!("{}; the old source goes on", describe(&error)));
                    self.config.source = old.source.clone();
                    open_feed(&old)
                }),
            };
            match opened {
                Ok(feed) => self.feed = feed,
                Err(error) => self.note(&describe(&error)),
            }
            self.waits_for_source();
        }
        if let Some(screen) = screen {
            self.outputs.set_screen(screen);
        }
        if let Some(serial) = serial {
            self.outputs.set_serial(None);
            let opened = match serial {
                Next::Open(serial) => Ok(serial),
                Next::AfterOld => open_serial(&self.config, &self.board, true),
            };
            match opened {
                Ok(serial) => self.outputs.set_serial(serial),
                Err(error) => self.note(&describe(&error)),
            }
            self.outputs.set_vocabulary(self.model.pipeline.vocabulary());
        }
        if model_differs {
            self.load_beside();
        }
        eprintln!("hoi-device: configuration taken over");
    }

    /// Whether the store holds another bundle than the one that answers.
    fn update_waits(&self, config: &Config) -> bool {
        if config.model.store.is_empty() {
            return false;
        }
        let folder = Path::new(&config.model.store);
        match StoreStatus::read(folder) {
            Ok(Some(status)) => match status.current {
                Some(current) => folder.join(current.folder) != self.model.origin,
                // It was taken back: the program's own bundle is the current one.
                None => self.model.origin.starts_with(folder),
            },
            // There is none, or loading says what is wrong with it.
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// Whether two URIs name one camera, which cannot be opened twice.
fn same_camera(a: &str, b: &str) -> bool {
    let camera = |uri: &str| {
        let name = uri.split(['?', '#']).next().unwrap_or(uri).to_owned();
        ["v4l2://", "csi://"].iter().any(|scheme| name.starts_with(scheme)).then_some(name)
    };
    camera(a).is_some() && camera(a) == camera(b)
}

/// Whether the port has to be opened anew.
fn port_differs(a: &Config, b: &Config) -> bool {
    (&a.serial.device, a.serial.baud, &a.serial.protocol) != (&b.serial.device, b.serial.baud, &b.serial.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_camera_is_known_by_its_name_whatever_its_options() {
        assert!(same_camera("v4l2:///dev/video0?rate=5", "v4l2:///dev/video0"));
        assert!(same_camera("csi://0", "csi://0?size=640x480"));
        assert!(!same_camera("csi://0", "csi://1"));
        assert!(!same_camera("v4l2:///dev/video0", "v4l2:///dev/video1"));
        // Two readers of a stream or a file are no trouble.
        assert!(!same_camera("rtsp://camera/a", "rtsp://camera/a#rate=5"));
        assert!(!same_camera("file://a.jpg", "file://a.jpg"));
    }
}
