//! Opens what a configuration names: source, screen, serial port.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{DeviceError, describe};
use crate::board::Board;
use crate::config::Config;
use crate::display;
use crate::outputs::{OpenDisplay, ScreenWriter, SerialOutput};
use crate::serial::{Encoder, LineWriter, QUEUE_LINES, Reopen};
use crate::source::{self, Feed, SourceSettings};

/// Opens the source that `config` names.
pub(super) fn open_feed(config: &Config) -> Result<Feed, DeviceError> {
    let settings = SourceSettings {
        repeat: if config.source.repeat == 0 { u32::MAX } else { config.source.repeat },
        stall: Duration::from_secs_f64(config.source.stall_s),
        ..SourceSettings::default()
    };
    Ok(source::open(&config.source.uri, &settings)?)
}

/// Opens the display that `config` names; for a service one that is not there is opened when it is.
pub(super) fn open_screen(
    config: &Config,
    board: &Arc<dyn Board>,
    service: bool,
) -> Result<Option<ScreenWriter>, DeviceError> {
    let uri = config.display.uri.clone();
    if uri.is_empty() {
        return Ok(None);
    }
    let display = match service {
        false => Some(display::open(&uri, board.as_ref())?),
        true => match display::open_later(&uri, board.as_ref()) {
            Err(error) if error.is_usage() => return Err(error.into()),
            display => display.ok(),
        },
    };
    let board = Arc::clone(board);
    let open: OpenDisplay = Box::new(move || display::open_later(&uri, board.as_ref()));
    let screen = ScreenWriter::start(display, open);
    Ok(Some(screen.map_err(|source| DeviceError::Thread { what: "the screen", source })?))
}

/// Opens the serial port that `config` names; for a service one that is not there is opened when it is.
pub(super) fn open_serial(
    config: &Config,
    board: &Arc<dyn Board>,
    service: bool,
) -> Result<Option<SerialOutput>, DeviceError> {
    let spec = &config.serial;
    if spec.device.is_empty() {
        return Ok(None);
    }
    let device = Path::new(&spec.device).to_owned();
    let port = match board.open_serial(&device, spec.baud) {
        Ok(port) => Some(port),
        Err(error) if service => {
            eprintln!("hoi-device: {}; it is tried again", describe(&error));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let (again, board, baud) = (device.clone(), Arc::clone(board), spec.baud);
    let reopen: Reopen = Box::new(move || board.open_serial(&again, baud).map_err(|e| io::Error::other(describe(&e))));
    let writer = LineWriter::start(port, Some(reopen), config.protocol(), baud, QUEUE_LINES)
        .map_err(|source| DeviceError::Thread { what: "the serial port", source })?;
    Ok(Some(SerialOutput { device, writer, encoder: Encoder::new(config.protocol()) }))
}
