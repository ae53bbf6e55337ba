//! What reaches a running device from outside: signals; and what it says to the service manager.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The wishes of whoever runs the device: stop, read the configuration again. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Control {
    /// Wishes by signal: SIGTERM and SIGINT stop, a second one of them ends the process at once; SIGHUP reads the configuration again.
    ///
    /// # Errors
    /// What the system says when a signal cannot be taken.
    pub fn by_signals() -> io::Result<Self> {
        let control = Self::default();
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag down, and raises it.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&control.stop))?;
            flag::register(signal, Arc::clone(&control.stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&control.reload))?;
        Ok(control)
    }

    /// Asks the device to stop after the frame that it is at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Asks the device to read its configuration again.
    pub fn reload(&self) {
        self.reload.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether to read the configuration again; answers once for each wish.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}

/// The service manager, where there is one: systemd's notification socket and watchdog. Without it every call does nothing.
#[derive(Debug)]
pub(super) struct Manager {
    /// How often the watchdog wants to hear of us, at the latest.
    watchdog: Option<Duration>,
    fed: Instant,
}

impl Manager {
    pub(super) fn new() -> Self {
        // A quarter of the time that the watchdog gives: one late frame does not restart the device.
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 4);
        Self { watchdog, fed: Instant::now() }
    }

    /// The device runs.
    pub(super) fn ready(&self) {
        say(&[sd_notify::NotifyState::Ready]);
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        say(&[sd_notify::NotifyState::Status(text)]);
    }

    /// The device is about to stop.
    pub(super) fn stopping(&self) {
        say(&[sd_notify::NotifyState::Stopping]);
    }

    /// The frame loop is alive; called by it, and by nothing else, on every turn.
    pub(super) fn feed(&mut self) {
        if let Some(every) = self.watchdog
            && self.fed.elapsed() >= every
        {
            self.fed = Instant::now();
            say(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// A manager that does not listen is no reason to stop: it will say so itself.
fn say(states: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_reload_is_answered_once_and_a_wish_to_stop_for_good() {
        let control = Control::default();
        let theirs = control.clone();
        assert!(!control.take_reload() && !control.is_stopping());
        theirs.reload();
        theirs.stop();
        assert!(control.take_reload() && !control.take_reload());
        assert!(control.is_stopping() && control.is_stopping());
    }
}
