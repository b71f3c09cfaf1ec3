//! A NaN anywhere in the parameters reaches the loss, so that training stops at its step: no kernel may swallow it.

use recurve::dataset::Batch;
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Options, Store};
use recurve::graph::compile::Request;
use recurve::graph::passes::Passes;
use recurve::kernels::choose::Choices;
use recurve::network::{NetworkConfig, Normalisation, Preset, initialise, parameters};

#[test]
fn a_parameter_that_is_nan_makes_the_loss_nan() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let small = NetworkConfig { image_size: 16, timesteps: 2, ..Preset::Tiny.network() };
    let images = 3;
    let x = (0..3 * 16 * 16 * images).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let batch = Batch { x, labels: vec![0, 1, 2], n: images };
    for norm in [Normalisation::Layer, Normalisation::None] {
        let config = NetworkConfig { norm, ..small.clone() };
        let (target, passes, choices) = (&gpu.target, Passes::default(), Choices::TABLE);
        let request = Request {
            config: &config,
            batch: images,
            target,
            passes,
            choices,
            train: false,
            inspect: false,
            trajectory: false,
        };
        let mut engine = Engine::new(&gpu, &request, &mut Store::default()).expect("compiles");
        let mut loss = |name: &str, value: f32| {
            let specs = parameters(&config);
            let mut values = initialise(&specs, 1);
            if let Some(at) = specs.iter().position(|spec| spec.name == name) {
                values[at].fill(value);
            }
            engine.set_parameters(&values);
            engine.feed(&batch);
            engine.run();
            engine.scores(images).expect("runs").loss[1]
        };
        assert!(loss("none", 0.0).is_finite());
        for name in
            ["retina.weight", "v1.bottom_up.weight", "v2.lateral.weight", "gap.lateral.weight", "readout.weight"]
        {
            // A NaN of either sign: x86 makes those of inf - inf negative, other machines positive.
            for bits in [0xffc0_0000, 0x7fc0_0000] {
                let found = loss(name, f32::from_bits(bits));
                assert!(found.is_nan(), "{norm:?}, {name} = NaN ({bits:x}): the loss is {found}");
            }
        }
        assert!(!loss("readout.weight", f32::INFINITY).is_finite(), "{norm:?}: infinite logits");
    }
}
