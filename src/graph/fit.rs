//! What fits an adapter: the check before anything is allocated, and the largest batch.

use super::compile::{Compiled, Request, compile};
use crate::network::{IMAGE_CHANNELS, Network};
use crate::{Error, Result};

/// The largest batch whose maps 32-bit indices can reach.
pub(super) fn indexable_batch(network: &Network) -> usize {
    let pixels = network.image_size.pow(2);
    let areas = network.areas.iter().map(|area| area.channels * area.side.pow(2));
    let largest = areas.chain([IMAGE_CHANNELS * pixels, network.classes]).max();
    u32::MAX as usize / largest.expect("a list that is not empty")
}

/// Checks a compiled network against its adapter.
///
/// # Errors
/// What does not fit, with the figure asked, the figure allowed and the largest batch that fits.
pub fn fits(compiled: &Compiled, request: &Request) -> Result<()> {
    let Err(error) = compiled.plan.fits(&compiled.program, request.target) else { return Ok(()) };
    Err(does_not_fit(request, &error.to_string())?)
}

fn would_fit(request: &Request, batch: usize) -> Result<bool> {
    if batch > indexable_batch(request.network) {
        return Ok(false);
    }
    let compiled = compile(&Request { batch, ..request.clone() })?;
    Ok(compiled.plan.fits(&compiled.program, request.target).is_ok())
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
        let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
        let config = NetworkConfig {
            image_size: 32,
            stem_channels: 16,
            area_channels: [16, 16, 64, 512],
            timesteps: 10,
            ..Preset::Blt64.network()
        };
        let network = config.network();
        let schedule = Schedule::plain(10);
        let request = |batch| Request::training(&network, &schedule, batch, &target);
        let largest = largest_batch(&request(1)).unwrap();
        assert!(largest > 1000, "{largest}");
        for batch in [1, 2, 3, 7, 19, 32, 75, 76, 100, 200, 300, 1000, 1001, largest] {
            assert!(would_fit(&request(batch), batch).unwrap(), "{batch} of {largest}");
        }
        assert!(!would_fit(&request(1), largest + 1).unwrap());
    }
}
