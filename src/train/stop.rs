//! How a run is told to stop: by the signals with which a terminal, a batch system or a closed window ends a program.
//!
//! The first signal asks the run to end after the step in progress, a second one ends the process at once. While nobody
//! listens (see [`Stop::listen`]) the first one does. Signals that were ignored when the program was started, as HUP under
//! `nohup` and INT in what a script starts in the background, stay ignored where the system tells (Linux).

use crate::{Error, Result, parallel};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a run is to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// The exit status that was asked for: 128 and the signal's number; 0: nobody has asked.
    status: Arc<AtomicUsize>,
    /// Whether the next signal ends the process.
    at_once: Arc<AtomicBool>,
}

/// While it lives, the first signal only asks; afterwards a signal ends the process again.
#[derive(Debug)]
pub struct Listening<'a>(&'a Stop);

impl Stop {
    /// One that no signal reaches: only [`Stop::ask`] does.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// One that hears INT, TERM and HUP, on Windows Ctrl-C, Ctrl-Break and the end of the session. One a process.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::new();
        stop.at_once.store(true, Ordering::SeqCst);
        hear(&stop).map_err(|e| Error::Config(format!("signals of this process cannot be handled: {e}")))?;
        Ok(stop)
    }

    /// Asks the run to end with this exit status.
    pub fn ask(&self, status: u8) {
        self.status.store(usize::from(status), Ordering::SeqCst);
    }

    /// The exit status with which the run is to end, if it is to.
    pub fn asked(&self) -> Option<u8> {
        u8::try_from(self.status.load(Ordering::SeqCst)).ok().filter(|status| *status > 0)
    }

    /// From now on somebody looks at what was asked.
    pub fn listen(&self) -> Listening<'_> {
        self.at_once.store(false, Ordering::SeqCst);
        Listening(self)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.at_once.store(true, Ordering::SeqCst);
    }
}

/// What is said when a signal is heard.
fn heard(name: &str) {
    eprintln!("{name}: the step in progress is finished and saved; once more ends at once");
}

/// All but the words is done in the signal's handler itself, so that nothing that hangs can keep the second signal from
/// ending the process.
#[cfg(unix)]
fn hear(stop: &Stop) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::{flag, iterator::Signals, low_level::signal_name};
    let ignored = ignored();
    let heard_of: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| (ignored >> (s - 1)) & 1 == 0).collect();
    for &signal in &heard_of {
        let status = 128 + signal; // as a shell reports a process that a signal has ended
        flag::register_conditional_shutdown(signal, status, stop.at_once.clone())?;
        flag::register_usize(signal, stop.status.clone(), status as usize)?;
        flag::register(signal, stop.at_once.clone())?;
    }
    let mut signals = Signals::new(&heard_of)?;
    let speak = move || signals.forever().for_each(|signal| heard(signal_name(signal).unwrap_or("signal")));
    let _ = parallel::start("signals", speak); // without it nothing is said
    Ok(())
}

/// The signals that were ignored when the process was started, a bit each, the lowest for signal 1.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(windows)]
fn hear(stop: &Stop) -> std::io::Result<()> {
    let stop = stop.clone();
    let handler = move || {
        if stop.at_once.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        stop.ask(130);
        heard("interrupted");
    };
    ctrlc::set_handler(handler).map_err(std::io::Error::other)
}

#[cfg(not(any(unix, windows)))]
fn hear(_: &Stop) -> std::io::Result<()> {
    Ok(())
}
