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
    /// Processor time per run of each sample, seconds; empty where the system is not asked.
    pub processor: Vec<f64>,
    /// Operations per second, in 10^9, of the [`Reference`] around each sample; empty without one.
    pub ceilings: Vec<f64>,
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

impl Samples {
    /// Samples of `repeats` runs each, with what the reference took before and after each of them. One clock serves both, so
    /// that no ratio is one of two clocks.
    fn new(timings: &[Timing], repeats: usize, around: &[[Timing; 2]], flops: f64) -> Samples {
        let (source, doubt) = believed_by_both(timings, around.as_flattened());
        let one = |t: &Timing| match source {
            Clock::Wall => t.wall,
            Clock::Timestamp => device_seconds(t).expect("believed"),
        };
        let seconds = timings.iter().map(|t| one(t) / repeats as f64).collect();
        let processor = timings.iter().filter_map(|t| Some(t.processor? / repeats as f64)).collect();
        let ceilings = around.iter().map(|[a, b]| rate_around(flops, one(a), one(b))).collect();
        Samples { seconds, repeats, processor, ceilings, source, doubt }
    }
}

/// Operations per second, in 10^9, of a loop of so many that took these seconds before and after something.
pub fn rate_around(flops: f64, before: f64, after: f64) -> f64 {
    2.0 * flops / (before + after) / 1e9
}

/// A program that does nothing but a known number of operations, as fast as the adapter can: what it reaches beside a sample
/// says how fast the machine is just then. It runs on the same queue as what is measured, thus on the same units of a GPU and
/// on the same threads of a software driver.
pub struct Reference {
    recording: Recording,
    repeats: usize,
    /// Operations of one sample.
    flops: f64,
}

impl Reference {
    /// The reference whose program does so many operations in a run; a sample lasts as long as one of [`measure`].
    ///
    /// # Errors
    /// A lost device.
    pub async fn new(gpu: &Gpu, recording: Recording, flops: f64) -> Result<Reference> {
        let repeats = repeats(gpu, &recording).await?;
        Ok(Reference { recording, repeats, flops: repeats as f64 * flops })
    }

    /// Runs one sample.
    ///
    /// # Errors
    /// A lost device.
    pub async fn time(&self, gpu: &Gpu, timer: Option<&Timer>) -> Result<Timing> {
        self.recording.time(gpu, self.repeats, timer).await
    }

    /// Operations per second, in 10^9, where two samples took these seconds.
    pub fn rate(&self, before: f64, after: f64) -> f64 {
        rate_around(self.flops, before, after)
    }
}

/// How many runs of a program make a sample: so many that it lasts 20 empty submissions and 5 ms at least, so that submitting
/// is below a twentieth of it; it is not subtracted. The program has run twice then.
async fn repeats(gpu: &Gpu, recording: &Recording) -> Result<usize> {
    recording.time(gpu, 1, None).await?;
    let once = recording.time(gpu, 1, None).await?.wall;
    let wanted = f64::max(20.0 * submit_seconds(gpu, 5).await?, 5e-3);
    let mut repeats = 1;
    let mut last = once;
    while last < wanted && repeats < 4096 {
        repeats = (repeats as f64 * (1.2 * wanted / last).clamp(1.5, 8.0)).ceil() as usize;
        last = recording.time(gpu, repeats, None).await?.wall;
    }
    Ok(repeats)
}

/// Runs a program for about `seconds`, in at least five samples after a warm-up, each between two samples of the reference,
/// if there is one.
///
/// # Errors
/// A lost device.
pub async fn measure(gpu: &Gpu, recording: &Recording, seconds: f64, reference: Option<&Reference>) -> Result<Samples> {
    Ok(measure_in_turn(gpu, &[recording], seconds, reference).await?.swap_remove(0))
}

/// The same for several programs that take turns; `seconds` are for all of them.
///
/// # Errors
/// A lost device.
pub async fn measure_in_turn(
    gpu: &Gpu,
    recordings: &[&Recording],
    seconds: f64,
    reference: Option<&Reference>,
) -> Result<Vec<Samples>> {
    let mut counts = Vec::new();
    for recording in recordings {
        counts.push(repeats(gpu, recording).await?);
    }
    let timer = Timer::new(gpu, 1).await?;
    let timer = timer.as_ref();
    let run = async |i: usize| recordings[i].time(gpu, counts[i], timer).await;
    in_turn(gpu, (counts.clone(), run), seconds, reference.map(|reference| (reference, timer))).await
}

/// Samples of several things that take turns for about `seconds`, five rounds at least: what happens to the machine meanwhile
/// meets all of them alike. Every other round goes backwards, so that a machine that becomes slower or faster favours none. Of
/// each thing, the number of runs in a sample; `run` makes a sample of one of them. The reference, if there is one, runs before
/// and after every sample, by the same clock (`timer`).
///
/// # Errors
/// What `run` says; a lost device.
pub async fn in_turn(
    gpu: &Gpu,
    (repeats, mut run): (Vec<usize>, impl AsyncFnMut(usize) -> Result<Timing>),
    seconds: f64,
    reference: Option<(&Reference, Option<&Timer>)>,
) -> Result<Vec<Samples>> {
    let count = repeats.len();
    let (mut timings, mut around) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    let beside = async || match reference {
        Some((reference, timer)) => Ok(Some(reference.time(gpu, timer).await?)),
        None => Ok(None),
    };
    let start = Instant::now();
    let mut before = beside().await?;
    for round in 0.. {
        if round >= 1000 || (round >= 5 && start.elapsed().as_secs_f64() >= seconds) {
            break;
        }
        for place in 0..count {
            let i = turn(round, place, count);
            timings[i].push(run(i).await?);
            let after = beside().await?;
            around[i].extend(before.zip(after.clone()).map(|(a, b)| [a, b]));
            before = after;
        }
    }
    let flops = reference.map_or(0.0, |(reference, _)| reference.flops);
    let one = |i: usize| Samples::new(&timings[i], repeats[i], &around[i], flops);
    Ok((0..count).map(one).collect())
}

/// What is measured at a place of a round: every other round goes backwards.
fn turn(round: usize, place: usize, count: usize) -> usize {
    if round.is_multiple_of(2) { place } else { count - 1 - place }
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

/// Whose clock to take for samples and the reference around them, if there is one: the device's, if it is plausible for each.
pub fn believed_by_both(timings: &[Timing], reference: &[Timing]) -> (Clock, Option<String>) {
    match believed(timings) {
        (Clock::Timestamp, _) if !reference.is_empty() => believed(reference),
        found => found,
    }
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

/// The median of `a[i] / b[i]`, of things that were measured in turns, with its 95 % confidence interval.
pub fn paired_ratio(a: &[f64], b: &[f64]) -> (f64, [f64; 2]) {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    (median(&ratios), median_interval(&ratios))
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

    /// Times of two things on a machine whose speed is given by the moment.
    fn measured_in_turns(slowness: impl Fn(f64) -> f64, rounds: usize) -> [Vec<f64>; 2] {
        let (mut now, mut times) = (0.0, [Vec::new(), Vec::new()]);
        for round in 0..rounds {
            for place in 0..2 {
                let i = turn(round, place, 2);
                let took = [1.0, 1.5][i] * slowness(now);
                now += took;
                times[i].push(took);
            }
        }
        times
    }

    #[test]
    fn turns_are_not_fooled_by_a_machine_that_changes() {
        // One that becomes ever slower favours none; always in one order, the second would seem 3 % slower than it is.
        let [a, b] = measured_in_turns(|t| 1.0 + 0.03 * t, 20);
        let (found, _) = paired_ratio(&b, &a);
        assert!((found / 1.5 - 1.0).abs() < 1e-2, "{found}");
        // Slow phases that begin at any time are twice as slow; the medians of all samples would be those of other phases.
        let [a, b] = measured_in_turns(|t| if (t / 17.0) as usize % 2 == 1 { 2.0 } else { 1.0 }, 41);
        let (found, [low, high]) = paired_ratio(&b, &a);
        assert!((found - 1.5).abs() < 1e-12 && low <= 1.5 && 1.5 <= high, "{found}");
    }

    #[test]
    fn a_share_does_not_follow_the_machine() {
        // Samples of 3 s of work beside a reference of 1 s, 1e9 operations: at half the speed both take twice as long.
        let timing = |wall: f64| Timing { wall, host: 0.0, processor: Some(2.0 * wall), passes: None };
        let speeds = [1.0, 1.0, 2.0, 2.0, 1.0];
        let timings: Vec<Timing> = speeds.iter().map(|s| timing(3.0 * s)).collect();
        let around: Vec<[Timing; 2]> = speeds.iter().map(|s| [timing(*s), timing(*s)]).collect();
        let samples = Samples::new(&timings, 3, &around, 1e9);
        assert_eq!(samples.seconds, [1.0, 1.0, 2.0, 2.0, 1.0]);
        assert_eq!(samples.processor, [2.0, 2.0, 4.0, 4.0, 2.0]);
        assert_eq!(samples.ceilings, [1.0, 1.0, 0.5, 0.5, 1.0]);
        // 1e8 operations a run are a tenth of the reference's rate throughout.
        let shares: Vec<f64> = samples.seconds.iter().zip(&samples.ceilings).map(|(s, c)| 0.1 / s / c).collect();
        assert!(shares.iter().all(|share| (share - 0.1).abs() < 1e-12), "{shares:?}");
        // One clock for both: the device's stopped in the reference.
        let ticking = |wall: f64, ticks: f64| Timing { passes: Some(vec![[0.0, ticks]]), ..timing(wall) };
        let around = [[ticking(1.0, 0.0), ticking(1.0, 0.0)]];
        let samples = Samples::new(&[ticking(3.0, 2.9)], 1, &around, 1e9);
        assert_eq!((samples.source, samples.seconds[0], samples.ceilings[0]), (Clock::Wall, 3.0, 1.0));
    }

    #[test]
    fn whose_clock() {
        let timing = |wall: f64, device: Option<f64>| Timing {
            wall,
            host: 0.0,
            processor: None,
            passes: device.map(|d| vec![[0.0, d]]),
        };
        assert_eq!(believed(&[timing(1.0, Some(0.9)), timing(1.0, Some(0.6))]), (Clock::Timestamp, None));
        assert_eq!(believed(&[timing(1.0, Some(0.9)), timing(1.0, Some(0.3))]), (Clock::Timestamp, None));
        assert_eq!(believed(&[timing(1.0, None)]), (Clock::Wall, None));
        for device in [0.05, 1.1, 0.0, -1.0, f64::NAN] {
            let (source, doubt) = believed(&[timing(1.0, Some(0.9)), timing(1.0, Some(device))]);
            assert!(source == Clock::Wall && doubt.is_some(), "{device}");
        }
    }
}
