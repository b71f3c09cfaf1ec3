//! What fits an adapter: the check before anything is allocated, the largest batch, and the fewest parts of one.

use super::compile::{Compiled, Request, compile};
use crate::kernels::BufferSpec;
use crate::network::{IMAGE_CHANNELS, Network};
use crate::{Error, Result};
use std::cmp::Reverse;

/// The largest batch whose maps 32-bit indices can reach.
pub(super) fn indexable_batch(network: &Network) -> usize {
    let pixels = network.image_size.pow(2);
    let areas = network.areas.iter().map(|area| area.channels * area.side.pow(2));
    let largest = areas.chain([IMAGE_CHANNELS * pixels, network.classes]).max();
    u32::MAX as usize / largest.expect("a list that is not empty")
}

/// Checks a compiled network against its adapter, and against the bound of memory if there is one.
///
/// # Errors
/// What does not fit, with the figure asked, the figure allowed, and what would fit.
pub fn fits(compiled: &Compiled, request: &Request) -> Result<()> {
    let fits = compiled.plan.fits(&compiled.program, request.target);
    let Err(error) = fits.and_then(|()| within_bound(compiled, request)) else { return Ok(()) };
    Err(does_not_fit(request, &error.to_string())?)
}

/// Checks a compiled network against the bound of memory.
///
/// # Errors
/// Where it takes more: what is allowed, the least that was found possible, the largest tensors, and the parts that would fit.
pub fn within_bound(compiled: &Compiled, request: &Request) -> Result<()> {
    let Some(bound) = compiled.bound.as_ref().filter(|bound| !bound.met) else { return Ok(()) };
    let mut why = format!(
        "{:.1} MiB are allowed (--memory); the least that was found possible is {:.1} MiB. The largest tensors: {}",
        mib(bound.bytes),
        mib(compiled.peak_bytes()),
        largest_tensors(compiled)
    );
    // What would fit with the same batch: more parts of it.
    let more = numbers_of_parts(request.batch).into_iter().skip(1).filter(|_| request.train);
    for more in more {
        if would_fit(request, request.batch / more)? {
            let parts = request.parts * more;
            why += &format!("; --accumulate {parts} would fit (--fit finds such numbers)");
            break;
        }
    }
    Err(Error::Gpu(why))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 20) as f64
}

/// Whether a batch fits; where images come in pairs, of an odd one whether it would with one image more.
fn would_fit(request: &Request, batch: usize) -> Result<bool> {
    let batch = if request.in_pairs() { batch.next_multiple_of(2) } else { batch };
    if batch > indexable_batch(request.network) {
        return Ok(false);
    }
    let compiled = compile(&Request { batch, ..request.clone() })?;
    let bounded = compiled.bound.as_ref().is_none_or(|bound| bound.met);
    Ok(bounded && compiled.plan.fits(&compiled.program, request.target).is_ok())
}

/// The error for a batch that does not fit: why not, and the largest that does.
///
/// # Errors
/// When a kernel variant is refused.
pub fn does_not_fit(request: &Request, why: &str) -> Result<Error> {
    let advice = match largest_batch(request)? {
        0 => "not even a batch of 1 fits: use a smaller network".to_string(),
        largest => format!("the largest batch that fits is {largest}"),
    };
    let what = match request.parts {
        1 => format!("batch {}", request.batch),
        parts => format!("each of {parts} parts of the batch, {} images", request.batch),
    };
    Ok(Error::Gpu(format!("{what}: {why}; {advice}")))
}

/// A training step whose batch is computed in so many parts, and the evaluation that goes with it, a part at a time.
pub fn in_parts<'a>(request: &Request<'a>, batch: usize, parts: usize) -> [Request<'a>; 2] {
    let training = Request { batch: batch / parts, parts, train: true, ..request.clone() };
    let evaluation = Request { train: false, parts: 1, ranks: 1, clip: false, ..training.clone() };
    [training, evaluation]
}

/// The numbers of parts in which a batch can be computed: its divisors, the smallest first.
pub fn numbers_of_parts(batch: usize) -> Vec<usize> {
    let small: Vec<usize> = (1..).take_while(|p| p * p <= batch).filter(|p| batch.is_multiple_of(*p)).collect();
    let large = small.iter().rev().map(|p| batch / p).filter(|p| p * p > batch);
    small.iter().copied().chain(large).collect()
}

/// The parts, no fewer than `least`, in which a training step on `batch` images and the evaluation that goes with it fit the
/// adapter, and the bound of memory if there is one, at the least predicted time of a step; that is, the fewest that fit, unless
/// these have to compute so much again that more are faster. What `request` itself says of batch and parts does not count.
///
/// # Errors
/// Where not even parts of one image fit: why not, with the largest tensors. When a kernel variant is refused.
pub fn best_parts(request: &Request, batch: usize, least: usize) -> Result<usize> {
    let mut best: Option<(usize, f64)> = None;
    let possible = |parts: &usize| !request.in_pairs() || (batch / parts).is_multiple_of(2);
    for parts in numbers_of_parts(batch).into_iter().filter(|parts| *parts >= least && possible(parts)) {
        let [training, evaluation] = in_parts(request, batch, parts);
        if training.batch > indexable_batch(request.network) || !would_fit(&evaluation, evaluation.batch)? {
            continue;
        }
        let compiled = compile(&training)?;
        let met = compiled.bound.as_ref().is_none_or(|bound| bound.met);
        if !met || compiled.plan.fits(&compiled.program, request.target).is_err() {
            continue;
        }
        let seconds = compiled.predicted_seconds(&training);
        if best.is_none_or(|(_, least)| seconds < least) {
            best = Some((parts, seconds));
        }
        if compiled.bound.as_ref().is_none_or(|bound| bound.extra_time < 0.01) {
            break; // next to nothing is computed again: more parts only start more often
        }
    }
    if let Some((parts, _)) = best {
        return Ok(parts);
    }
    let images = if request.in_pairs() && batch.is_multiple_of(2) { 2 } else { 1 };
    for request in in_parts(request, batch, batch / images) {
        let compiled = compile(&request)?;
        let mut fits = compiled.plan.fits(&compiled.program, request.target);
        if let (Ok(()), Some(bound)) = (&fits, compiled.bound.as_ref().filter(|bound| !bound.met)) {
            let (allowed, least) = (mib(bound.bytes), mib(compiled.peak_bytes()));
            fits = Err(Error::Gpu(format!(
                "{allowed:.1} MiB are allowed (--memory); the least that was found possible is {least:.1} MiB"
            )));
        }
        if let Err(why) = fits {
            let (largest, of) = (largest_tensors(&compiled), if images == 1 { "1 image" } else { "2 images" });
            return Err(Error::Gpu(format!(
                "not even a part of {of} fits: {why}. The largest tensors: {largest}. Use a smaller network"
            )));
        }
    }
    Err(Error::Gpu(format!("no number of parts from {least} on divides the batch of {batch}")))
}

/// The three largest buffers of a plan, for people: tensor, area, timestep and size of each.
pub fn largest_tensors(compiled: &Compiled) -> String {
    let lives = compiled.program.buffers.iter().zip(&compiled.plan.lifetime).filter(|(_, life)| life.0 != usize::MAX);
    let mut largest: Vec<_> = lives.map(|(spec, _)| spec).collect();
    largest.sort_by_key(|spec| Reverse(spec.bytes)); // of equals the first comes first
    let one = |spec: &&BufferSpec| {
        let when = spec.timestep.map_or("no single timestep".to_string(), |t| format!("timestep {t}"));
        format!("`{}` (area {}, {when}) {:.1} MiB", spec.name, spec.area, mib(spec.bytes))
    };
    largest.iter().take(3).map(one).collect::<Vec<_>>().join(", ")
}

/// An error of allocating what was compiled: where it is memory that is not there, with the plan's largest tensors.
pub fn with_largest_tensors(error: Error, compiled: &Compiled) -> Error {
    match error {
        Error::OutOfMemory { adapter, what, bytes, reason, advice } => {
            let advice = format!("The plan's largest tensors: {}. {advice}", largest_tensors(compiled));
            Error::OutOfMemory { adapter, what, bytes, reason, advice }
        }
        error => error,
    }
}

/// The largest batch for which `request` fits the adapter, whatever its own batch; 0 when not even one image fits.
///
/// # Errors
/// When a kernel variant is refused.
pub fn largest_batch(request: &Request) -> Result<usize> {
    let most = indexable_batch(request.network);
    // Often it is the largest map that limits the batch: the search starts where that just fits, in steps that double.
    let words = request.target.max_binding.min(request.target.max_buffer) / 4;
    let start = (most as u64).saturating_mul(words) / u64::from(u32::MAX);
    let mut low = most.min(start as usize); // fits, once the loops are done
    let mut high = low + 1; // does not fit, once the loops are done
    let mut step = 1;
    while low > 0 && !would_fit(request, low)? {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    if step == 1 {
        while would_fit(request, high)? {
            low = high;
            high = low + step;
            step *= 2;
        }
    }
    while low + 1 < high {
        let middle = (low + high) / 2;
        if would_fit(request, middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Target;
    use crate::network::{NetworkConfig, Preset, Schedule};

    /// The search for the largest batch takes for granted that smaller ones fit: no kernel may need more memory where it
    /// has less to do.
    #[test]
    fn what_fits_is_monotone_in_the_batch() {
        let config = NetworkConfig {
            image_size: 32,
            stem_channels: 16,
            area_channels: [16, 16, 64, 512],
            timesteps: 10,
            ..Preset::Blt64.network()
        };
        let network = config.network();
        let schedule = Schedule::plain(10);
        // Bindings are what limits the batch of a CPU; on a GPU it may be time.
        for (pace, least) in [(None, 1000), (Target::minimum().pace, 500)] {
            let target = Target { cpu: pace.is_none(), subgroup: 8, pace, ..Target::minimum() };
            let request = |batch| Request::training(&network, &schedule, batch, &target);
            let largest = largest_batch(&request(1)).unwrap();
            assert!(largest > least, "{largest}");
            let batches = [1, 2, 3, 7, 19, 32, 75, 76, 100, 200, 300, 1000, 1001, largest];
            for batch in batches.into_iter().filter(|&batch| batch <= largest) {
                assert!(would_fit(&request(batch), batch).unwrap(), "{batch} of {largest}");
            }
            assert!(!would_fit(&request(1), largest + 1).unwrap());
        }
    }

    #[test]
    fn parts_are_divisors() {
        assert_eq!(numbers_of_parts(1), [1]);
        assert_eq!(numbers_of_parts(36), [1, 2, 3, 4, 6, 9, 12, 18, 36]);
        assert_eq!(numbers_of_parts(97), [1, 97]);
    }

    #[test]
    fn the_fewest_parts_fit_and_fewer_do_not() {
        let network = Preset::Tiny.network().network();
        let schedule = Schedule::plain(network.timesteps);
        for max_binding in [1 << 20, 3 << 20, 20 << 20] {
            let target = Target { max_binding, max_buffer: 2 * max_binding, ..Target::minimum() };
            let request = Request::training(&network, &schedule, 999, &target); // its batch does not count
            let chosen = best_parts(&request, 96, 1).unwrap();
            for parts in numbers_of_parts(96) {
                let checked = in_parts(&request, 96, parts).map(|one| fits(&compile(&one).unwrap(), &one).is_ok());
                assert_eq!(checked == [true; 2], parts >= chosen, "{parts} parts, {chosen} chosen");
            }
            let next = best_parts(&request, 96, chosen + 1).unwrap();
            assert_eq!(next, *numbers_of_parts(96).iter().find(|&&parts| parts > chosen).unwrap());
        }
        let target = Target { max_binding: 50_000, max_buffer: 50_000, ..Target::minimum() };
        let error = best_parts(&Request::training(&network, &schedule, 1, &target), 96, 1).unwrap_err().to_string();
        for word in ["1 image", "largest tensors", "area ", "timestep", "MiB", "smaller network"] {
            assert!(error.contains(word), "`{word}` is missing: {error}");
        }
    }
}
