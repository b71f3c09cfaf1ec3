//! How long something takes: repeated samples, whose clock is believed, and what may be said from them.

use crate::Result;
use crate::gpu::{Gpu, Recording, Timer, Timing};
use crate::reference::random::SplitMix64;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Which clock a time was taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The host's, from submission to completion.
    Wall,
    /// The device's, between the first and the last launch.
    Timestamp,
}

/// Least and largest share of the wall time that the timestamps of all submissions together must make up to be believed:
/// less, and the device's clock has stopped or another unit is meant; more is impossible, in a single submission too.
const PLAUSIBLE: [f64; 2] = [0.5, 1.02];

/// Samples of one program.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Seconds per run of the program, in the order of measuring.
    pub seconds: Vec<f64>,
    /// Runs of the program in one sample: submitted together, so that the cost of a submission is shared.
    pub repeats: usize,
    /// The clock that the times were taken with.
    pub source: Clock,
    /// Why the device's clock was not believed, if it was offered and not.
    pub doubt: Option<String>,
}

/// The median of the wall times of `count` empty submissions, seconds.
///
/// # Errors
/// A lost device.
pub async fn submit_seconds(gpu: &Gpu, count: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..count {
        times.push(crate::gpu::time_nothing(gpu).await?);
    }
    Ok(median(&times))
}

/// Runs a program for about `seconds`, in at least five samples after a warm-up. A sample holds as many runs as make it last
/// 20 empty submissions and 5 ms at least, so that submitting is below a twentieth of it; it is not subtracted.
///
/// # Errors
/// A lost device.
pub async fn measure(gpu: &Gpu, recording: &Recording, seconds: f64) -> Result<Samples> {
    recording.time(gpu, 1, None).await?;
    let once = recording.time(gpu, 1, None).await?.wall;
    let wanted = f64::max(20.0 * submit_seconds(gpu, 5).await?, 5e-3);
    let mut repeats = 1;
    let mut last = once;
    while last < wanted && repeats < 4096 {
        repeats = (repeats as f64 * (1.2 * wanted / last).clamp(1.5, 8.0)).ceil() as usize;
        last = recording.time(gpu, repeats, None).await?.wall;
    }
    let timer = Timer::new(gpu, 1).await?;
    let (mut timings, start) = (Vec::new(), Instant::now());
    while timings.len() < 5 || (start.elapsed().as_secs_f64() < seconds && timings.len() < 1000) {
        timings.push(recording.time(gpu, repeats, timer.as_ref()).await?);
    }
    let (source, doubt) = believed(&timings);
    let one = |t: &Timing| match source {
        Clock::Wall => t.wall,
        Clock::Timestamp => device_seconds(t).expect("believed"),
    };
    let seconds: Vec<f64> = timings.iter().map(|t| one(t) / repeats as f64).collect();
    Ok(Samples { seconds, repeats, source, doubt })
}

/// From the first begin to the last end of a submission by the device's clock.
pub fn device_seconds(timing: &Timing) -> Option<f64> {
    timing.passes.as_ref().and_then(|p| Some(p.last()?[1] - p.first()?[0]))
}

/// Whose clock to take: the device's, if its share of the wall time is plausible. A submission that had to wait, for another
/// program on the processor say, is no doubt: the device's clock leaves such waiting out.
pub fn believed(timings: &[Timing]) -> (Clock, Option<String>) {
    let Some(device) = timings.iter().map(device_seconds).collect::<Option<Vec<f64>>>() else {
        return (Clock::Wall, None);
    };
    let doubt = |device: f64, wall: f64, of: &str| {
        let (device, wall) = (1e3 * device, 1e3 * wall);
        (Clock::Wall, Some(format!("timestamps say {device:.3} ms for {of} of {wall:.3} ms by the wall clock")))
    };
    for (device, timing) in device.iter().zip(timings) {
        if !(0.0..=PLAUSIBLE[1] * timing.wall).contains(device) {
            return doubt(*device, timing.wall, "a submission");
        }
    }
    let (device, wall): (f64, f64) = (device.iter().sum(), timings.iter().map(|t| t.wall).sum());
    if device < PLAUSIBLE[0] * wall { doubt(device, wall, "submissions") } else { (Clock::Timestamp, None) }
}

/// The median; of an even number, the mean of the middle two. Panics without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { 0.5 * (sorted[middle - 1] + sorted[middle]) }
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// The 95 % percentile-bootstrap interval of a statistic: `of` is given resamples of every list, drawn with replacement.
/// The same lists give the same interval.
fn bootstrap(lists: &[&[f64]], of: impl Fn(&[Vec<f64>]) -> f64) -> [f64; 2] {
    let mut random = SplitMix64::new(1);
    let mut resample = |list: &[f64]| -> Vec<f64> {
        list.iter().map(|_| list[(random.unit() * list.len() as f64) as usize]).collect()
    };
    let mut found: Vec<f64> =
        (0..RESAMPLES).map(|_| of(&lists.iter().map(|l| resample(l)).collect::<Vec<_>>())).collect();
    found.sort_by(f64::total_cmp);
    [found[RESAMPLES * 25 / 1000], found[RESAMPLES * 975 / 1000 - 1]]
}

/// The 95 % confidence interval of the median.
pub fn median_interval(values: &[f64]) -> [f64; 2] {
    bootstrap(&[values], |lists| median(&lists[0]))
}

/// The ratio of two medians, `now` / `before`, with its 95 % confidence interval.
pub fn ratio(now: &[f64], before: &[f64]) -> (f64, [f64; 2]) {
    let of = |lists: &[Vec<f64>]| median(&lists[0]) / median(&lists[1]);
    (median(now) / median(before), bootstrap(&[now, before], of))
}

/// Three significant digits, without an exponent.
pub fn figure(x: f64) -> String {
    let decimals = if x == 0.0 { 0 } else { (2 - x.abs().log10().floor() as i32).clamp(0, 6) as usize };
    format!("{x:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::random::normal;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 30.0]), 3.0);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn the_interval_of_a_median_covers_it_as_often_as_it_says() {
        // 200 samples of 25 standard normal values, true median 0. Percentile intervals of a median are close to 95 %.
        let covered = (0..200).filter(|&seed| {
            let sample: Vec<f64> = normal(seed, 25).into_iter().map(f64::from).collect();
            let [low, high] = median_interval(&sample);
            assert!(low <= median(&sample) && median(&sample) <= high);
            (low..=high).contains(&0.0)
        });
        let covered = covered.count();
        assert!((180..=199).contains(&covered), "{covered} of 200");
        assert_eq!(median_interval(&[2.0; 9]), [2.0, 2.0]);
    }

    #[test]
    fn the_ratio_of_two_medians() {
        let before: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i % 5)).collect();
        let now: Vec<f64> = before.iter().map(|x| 1.5 * x).collect();
        let (r, [low, high]) = ratio(&now, &before);
        assert_eq!(r, 1.5);
        assert!((1.45..=1.5).contains(&low) && (1.5..1.55).contains(&high), "{low} {high}");
    }

    #[test]
    fn whose_clock() {
        let timing =
            |wall: f64, device: Option<f64>| Timing { wall, host: 0.0, passes: device.map(|d| vec![[0.0, d]]) };
        assert_eq!(believed(&[timing(1.0, Some(0.9)), timing(1.0, Some(0.6))]), (Clock::Timestamp, None));
        assert_eq!(believed(&[timing(1.0, Some(0.9)), timing(1.0, Some(0.3))]), (Clock::Timestamp, None));
        assert_eq!(believed(&[timing(1.0, None)]), (Clock::Wall, None));
        for device in [0.05, 1.1, 0.0, -1.0, f64::NAN] {
            let (source, doubt) = believed(&[timing(1.0, Some(0.9)), timing(1.0, Some(device))]);
            assert!(source == Clock::Wall && doubt.is_some(), "{device}");
        }
    }
}
