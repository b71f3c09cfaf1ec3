//! A NaN anywhere in the parameters reaches the loss, so that training stops at its step: no kernel may swallow it.

use recurve::dataset::{Batch, Normaliser, Pictures};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Options, Store};
use recurve::graph::compile::Request;
use recurve::network::{NetworkConfig, Normalisation, Preset, Schedule, initialise};

#[test]
fn a_parameter_that_is_nan_makes_the_loss_nan() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let small = NetworkConfig { image_size: 16, timesteps: 2, ..Preset::Tiny.network() };
    let images = 3;
    let data = (0..3 * 16 * 16 * images).map(|i| (13 * i % 256) as u8).collect();
    let batch = Batch::new(Pictures { data, labels: vec![0, 1, 2], n: images, side: 16 }, images);
    for norm in [Normalisation::Layer, Normalisation::None] {
        let config = NetworkConfig { norm, ..small.clone() };
        let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
        let request = Request::forward(&network, &schedule, images, &gpu.target);
        let mut engine = Engine::new(&gpu, &request, &mut Store::default()).expect("compiles");
        engine.set_normaliser(&Normaliser::new([127.5; 3], [74.0; 3]));
        let mut loss = |name: &str, value: f32| {
            let mut values = initialise(&network.parameters, 1);
            if let Some(tensor) = values.get_mut(name) {
                tensor.values.fill(value);
            }
            engine.set_parameters(&values).expect("all are there");
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
