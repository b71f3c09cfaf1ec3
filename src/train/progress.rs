//! What the user sees while the network trains: a bar on a terminal, plain lines at intervals elsewhere. Both go to
//! stderr and say the loss, the speed in images/s and the time left.

use crate::output::is_silent;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between plain lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one training run.
pub struct Progress {
    pace: Pace,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Progress {
    /// Starts at `step` of `steps`.
    pub fn new(step: u64, steps: u64) -> Progress {
        let bar = (std::io::stderr().is_terminal() && !is_silent()).then(|| {
            let style = ProgressStyle::with_template("{bar:30} {msg}").expect("the template is fixed");
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_position(step);
            bar
        });
        Progress { pace: Pace::new(step, steps, Instant::now()), bar, last_line: None }
    }

    /// `step` steps are done, the last of so many pictures with this loss. Returns the current speed in images/s.
    pub fn step(&mut self, step: u64, images: usize, loss: f64) -> f64 {
        let now = Instant::now();
        self.pace.step(step, images, now);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(self.pace.text(loss));
            }
            None if is_due(self.last_line, now) || step >= self.pace.steps => {
                self.last_line = Some(now);
                eprintln!("{}", self.pace.text(loss));
            }
            None => {}
        }
        self.pace.images_per_s()
    }

    /// Something else was done since the last step (evaluation, a checkpoint) that must not count as training time.
    pub fn pause_over(&mut self) {
        self.pace.last = Instant::now();
    }

    /// Prints a line without disturbing the bar.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{}", line)),
            None => eprintln!("{}", line),
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= INTERVAL)
}

/// Speed as an exponential mean over about ten steps. The first step, in which a driver compiles, counts only until
/// there is a second.
struct Pace {
    step: u64,
    steps: u64,
    seen: u64,
    last: Instant,
    seconds_per_step: f64,
    images_per_step: f64,
}

impl Pace {
    fn new(step: u64, steps: u64, now: Instant) -> Pace {
        Pace { step, steps, seen: 0, last: now, seconds_per_step: 0.0, images_per_step: 0.0 }
    }

    /// `step` steps are done; those since the last were of so many pictures each.
    fn step(&mut self, step: u64, images: usize, now: Instant) {
        let taken = step.saturating_sub(self.step).max(1);
        let seconds = now.duration_since(self.last).as_secs_f64() / taken as f64;
        let weight = if self.seen < 2 { 1.0 } else { 0.1_f64.max(1.0 / self.seen as f64) };
        self.seconds_per_step += weight * (seconds - self.seconds_per_step);
        self.images_per_step += weight * (images as f64 - self.images_per_step);
        self.seen += 1;
        (self.step, self.last) = (step, now);
    }

    /// 0 while nothing is known.
    fn images_per_s(&self) -> f64 {
        if self.seconds_per_step > 0.0 { self.images_per_step / self.seconds_per_step } else { 0.0 }
    }

    fn text(&self, loss: f64) -> String {
        let left = self.steps.saturating_sub(self.step) as f64 * self.seconds_per_step;
        let speed = self.images_per_s();
        let digits = if speed < 10.0 { 1 } else { 0 };
        format!(
            "step {}/{}  loss {loss:.4}  {speed:.digits$} images/s  {} left",
            self.step,
            self.steps,
            duration_text(left)
        )
    }
}

/// For people: `42 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`.
pub fn duration_text(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let cases =
            [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.0, "59 min 59 s"), (7500.0, "2 h 05 min")];
        for (seconds, text) in cases {
            assert_eq!(duration_text(seconds), text);
        }
        assert_eq!(duration_text(3.0 * 86_400.0 + 4.0 * 3600.0), "3 d 04 h");
    }

    #[test]
    fn the_speed_forgets_the_first_step_and_follows_changes() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut pace = Pace::new(0, 1000, start);
        assert_eq!(pace.images_per_s(), 0.0);
        pace.step(1, 32, at(20.0)); // compiles
        assert!((pace.images_per_s() - 1.6).abs() < 1e-9);
        pace.step(2, 32, at(20.5));
        assert!((pace.images_per_s() - 64.0).abs() < 1e-6);
        assert_eq!(pace.text(1.5), "step 2/1000  loss 1.5000  64 images/s  8 min 19 s left");
        for i in 0..100 {
            pace.step(3 + i, 32, at(20.5 + (i + 1) as f64 * 2.0));
        }
        assert!((pace.images_per_s() - 16.0).abs() < 0.01, "{}", pace.images_per_s());
    }

    #[test]
    fn a_run_that_goes_on_counts_from_its_step() {
        let start = Instant::now();
        let mut pace = Pace::new(500, 502, start);
        pace.step(501, 10, start + Duration::from_secs(2));
        assert_eq!(pace.text(0.25), "step 501/502  loss 0.2500  5.0 images/s  2 s left");
    }

    #[test]
    fn plain_lines_come_at_intervals() {
        let now = Instant::now();
        assert!(is_due(None, now));
        assert!(!is_due(Some(now), now + Duration::from_secs(9)));
        assert!(is_due(Some(now), now + Duration::from_secs(10)));
    }
}
