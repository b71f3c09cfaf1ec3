//! Memory plans of random networks, judged by the checker, which knows nothing of how they are made. No device is needed.

use recurve::graph::checker;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::graph::taps::{Quantity, Tap};
use recurve::kernels::Target;
use recurve::network::{Interaction, LtPosition, NetworkConfig, Normalisation, RecurrentFrom, Schedule};
use recurve::reference::random::SplitMix64;

/// Draws from lists of possibilities.
struct Draw(SplitMix64);

impl Draw {
    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[(self.0.bits() % list.len() as u64) as usize].clone()
    }

    fn coin(&mut self) -> bool {
        self.of(&[false, true])
    }

    /// A network that is valid, whatever is drawn.
    fn network(&mut self) -> NetworkConfig {
        let groups = self.of(&[1, 2, 4]);
        let channels = [(); 4].map(|()| groups * self.of(&[1, 2, 3, 8, 16]));
        let config = NetworkConfig {
            image_size: self.of(&[8, 16, 24]),
            stem_channels: self.of(&[1, 3, 4, 16, 32]),
            area_channels: channels,
            kernel_size: self.of(&[1, 3, 3, 5]),
            lateral: self.coin(),
            topdown: self.coin(),
            interaction: self.of(&[Interaction::Additive, Interaction::Multiplicative]),
            lt_position: self.of(&[LtPosition::All, LtPosition::All, LtPosition::Last]),
            recurrent_from: self.of(&[RecurrentFrom::V1, RecurrentFrom::V2]),
            norm: self.of(&[Normalisation::Layer, Normalisation::Group, Normalisation::None]),
            groups,
            readout_bias: self.coin(),
            timesteps: self.of(&[1, 2, 3, 4, 9]),
            classes: self.of(&[1, 2, 10]),
        };
        config.validate().unwrap_or_else(|e| panic!("{config:?}: {e}"));
        config
    }
}

/// Adapters that make lowering take its different ways: with subgroups and without, and with bindings so small that values
/// of one name do not fit into one.
fn targets() -> Vec<Target> {
    let cpu = Target { cpu: true, subgroup: 8, ..Target::minimum() };
    let narrow = Target { max_binding: 100_000, max_buffer: 150_000, ..cpu.clone() };
    vec![Target::minimum(), cpu, narrow]
}

/// Rule `sound-plan`.
#[test]
fn plans_of_random_networks_are_sound() {
    let mut draw = Draw(SplitMix64::new(20_261_125));
    let (mut shared, mut refused, mut met, mut smallest) = (0, 0, 0, 0);
    for _ in 0..150 {
        let (config, target) = (draw.network(), draw.of(&targets()));
        let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
        let batch = draw.of(&[1, 2, 3, 4, 8, 64]);
        let passes =
            Passes { hoist: draw.coin(), fuse: draw.coin(), fold: draw.coin(), reuse: draw.of(&[true, true, false]) };
        let train = draw.coin();
        let parts = if train { draw.of(&[1, 1, 2]) } else { 1 };
        let series = [Quantity::Logits, Quantity::Representation].map(Tap::series).to_vec();
        let taps = draw.of(&[Vec::new(), Tap::everything(&network), series]);
        let plain = Request::training(&network, &schedule, batch, &target);
        let request = Request { passes, train, parts, taps: &taps, ..plain };
        let compiled = compile(&request).unwrap_or_else(|e| panic!("{request:?}: {e}"));
        let program = &compiled.program;
        checker::check(program, &compiled.plan).unwrap_or_else(|e| panic!("{request:?}: {e}"));
        let in_slots = compiled.plan.slot_of.iter().flatten().count();
        assert!(in_slots == compiled.plan.slots.len() || passes.reuse, "{request:?}");
        shared += usize::from(in_slots > compiled.plan.slots.len());
        refused += usize::from(compiled.plan.fits(program, &target).is_err());
        if !train {
            continue;
        }
        // Within less memory, the same sums of the same timesteps.
        let free = compiled.peak_bytes();
        let bytes =
            compiled.plan.persistent_bytes + (free - compiled.plan.persistent_bytes) * draw.of(&[1, 60, 85, 95]) / 100;
        let bounded = compile(&Request { memory: Some(bytes), ..request.clone() }).expect("compiles");
        checker::check(&bounded.program, &bounded.plan)
            .unwrap_or_else(|e| panic!("{bytes} of {free}: {request:?}: {e}"));
        assert_eq!(bounded.stretches, compiled.stretches, "{request:?}");
        let bound = bounded.bound.as_ref().expect("it was asked for");
        assert_eq!((bound.met, bound.without), (bounded.peak_bytes() <= bytes, free), "{request:?}");
        assert!(bound.extra_operations >= -1e-9 && bounded.plan.persistent_bytes == compiled.plan.persistent_bytes);
        met += usize::from(bound.met);
        smallest += usize::from(!bound.met && bounded.peak_bytes() < free);
    }
    assert!(shared > 50, "slots were shared in only {shared} plans");
    assert!(met > 3 && smallest > 10, "{met} plans were within their bound, {smallest} others were smaller at least");
    assert!(refused < 75, "{refused} networks were too large for their adapter");
}
