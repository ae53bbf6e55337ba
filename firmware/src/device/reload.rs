//! A new configuration for a running device: only what changed is opened anew, and a file with an error changes nothing.

use std::path::Path;
use std::sync::Arc;

use super::DeviceError;
use super::describe;
use super::runner::{Runner, open_feed, open_screen, open_serial};
use crate::board::{self, Board};
use crate::config::Config;
use crate::outputs::{ScreenWriter, SerialOutput};
use crate::source::Feed;
use crate::update::Store;

/// What a new configuration brings; everything of it is open before anything of the old one is let go.
struct Change {
    board: Option<Arc<dyn Board>>,
    feed: Option<Feed>,
    screen: Option<Option<ScreenWriter>>,
    serial: Option<Option<SerialOutput>>,
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
            Ok((config, change)) => self.take_over(config, change),
            Err(why) => self.note(&format!("{why}; the old configuration goes on")),
        }
    }

    fn prepare(&self, config: &Config) -> Result<Change, DeviceError> {
        let old = &self.config;
        let board = (config.board != old.board).then(|| board::select(config.board())).transpose()?.map(Arc::from);
        let present = board.as_ref().unwrap_or(&self.board);
        let moved = board.is_some();
        Ok(Change {
            feed: (config.source != old.source).then(|| open_feed(config)).transpose()?,
            screen: (moved || config.display != old.display).then(|| open_screen(config, present, true)).transpose()?,
            serial: (moved || port_differs(config, old)).then(|| open_serial(config, present, true)).transpose()?,
            board,
        })
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
        self.config = config;
        if let Some(board) = board {
            self.board = board;
        }
        if let Some(feed) = feed {
            self.summary.add_feed(self.feed.counts());
            self.feed = feed;
        }
        if let Some(screen) = screen {
            self.outputs.set_screen(screen);
        }
        if let Some(serial) = serial {
            self.outputs.set_serial(serial);
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
        let status = Store::open(folder).and_then(|store| store.status());
        // Where it cannot be read, loading says why.
        status
            .is_ok_and(|status| status.current.is_some_and(|current| folder.join(current.folder) != self.model.origin))
    }
}

/// Whether the port has to be opened anew.
fn port_differs(a: &Config, b: &Config) -> bool {
    (&a.serial.device, a.serial.baud, &a.serial.protocol) != (&b.serial.device, b.serial.baud, &b.serial.protocol)
}
