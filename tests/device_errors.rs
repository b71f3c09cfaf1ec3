//! Errors of a device are of their own kind, and whoever asks later is told too.

mod rectifier;

use pollster::FutureExt;
use rectifier::rectifier;
use recurve::Error;
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Options, Recording, Store};
use recurve::graph::compile::Request;
use recurve::graph::fit::largest_batch;
use recurve::graph::plan::Plan;
use recurve::kernels::{Kernel, Settings};
use recurve::network::{NetworkConfig, Preset, Schedule};

fn open() -> Gpu {
    Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter")
}

/// Rule `sticky`.
#[test]
fn every_caller_sees_a_lost_device() {
    let gpu = open();
    let (program, [x, y]) = rectifier();
    let plan = Plan::new(&program, true);
    let recording = Recording::new(&gpu, &program, &plan, &mut Store::default()).block_on().unwrap();
    recording.write(&gpu, x, &[1.0f32; 64]);
    recording.run(&gpu);
    assert_eq!(recording.read::<f32>(&gpu, y).block_on().unwrap(), [1.0; 64]);
    gpu.device.destroy();
    let is_lost = |what: &str, outcome: Result<(), Error>| match outcome {
        Err(Error::DeviceLost { adapter, .. }) => assert_eq!(adapter, gpu.info.name, "{what}"),
        other => panic!("{what}: expected a lost device, found {other:?}"),
    };
    for _ in 0..2 {
        recording.run(&gpu);
        is_lost("wait", gpu.wait().block_on());
        is_lost("read", recording.read::<f32>(&gpu, y).block_on().map(|_| ()));
        is_lost("check", gpu.check());
        is_lost("buffer", gpu.buffer("more", 64, wgpu::BufferUsages::STORAGE).block_on().map(|_| ()));
        is_lost("recording", Recording::new(&gpu, &program, &plan, &mut Store::default()).block_on().map(|_| ()));
        is_lost(
            "pipeline",
            gpu.pipeline(&Kernel::new("relu", &Settings::new().set("L", 32).set("UNROLL", 1)).unwrap())
                .block_on()
                .map(|_| ()),
        );
    }
}

/// Rule `sticky`.
#[test]
fn an_uncaught_error_stays() {
    let gpu = open();
    // A buffer that must not be written.
    let buffer = gpu.buffer("not to be written", 64, wgpu::BufferUsages::STORAGE).block_on().unwrap();
    gpu.queue.write_buffer(&buffer, 0, &[0; 4]);
    for _ in 0..2 {
        let error = gpu.wait().block_on().expect_err("the write is not allowed");
        assert!(matches!(&error, Error::Gpu(_)), "{error:?}");
        assert!(error.to_string().contains("not to be written"), "{error}");
    }
    // Another device of the same adapter is not concerned.
    open().wait().block_on().unwrap();
}

#[test]
fn memory_that_is_not_there_is_an_error_with_buffer_and_size() {
    // Software drivers promise more memory than there is, so the budget is the smallest with which a device can be opened:
    // at most one per cent of the memory more than is in use.
    let options = Options { checked: true, ..Options::default() };
    let gpu = (0..100)
        .find_map(|percent| Gpu::open_within(&options, percent).block_on().ok())
        .expect("this test needs an adapter");
    let (size, mut held) = (gpu.target.max_buffer & !3, Vec::new());
    let error = loop {
        assert!(held.len() < 1000, "{} buffers of {size} bytes, and no end", held.len());
        match gpu.buffer("the last straw", size, wgpu::BufferUsages::STORAGE).block_on() {
            Ok(buffer) => held.push(buffer),
            Err(error) => break error,
        }
    };
    let text = error.to_string();
    match error {
        Error::OutOfMemory { adapter, what, bytes, .. } => {
            assert_eq!((adapter, bytes), (gpu.info.name.clone(), size));
            assert!(what.contains("the last straw") && text.contains(&what), "{text}");
        }
        other => panic!("expected OutOfMemory, found {other:?}"),
    }
    held.clear();
    gpu.wait().block_on().expect("nothing is lost by it");
    gpu.buffer("small", 64, wgpu::BufferUsages::STORAGE).block_on().expect("there is room again");
}

#[test]
fn a_network_that_finds_no_memory_is_an_error_with_its_largest_tensors() {
    let options = Options { checked: true, ..Options::default() };
    let gpu = (0..100)
        .find_map(|percent| Gpu::open_within(&options, percent).block_on().ok())
        .expect("this test needs an adapter");
    // So many timesteps that those of one value, which lie in one buffer, need more than is left.
    let network = NetworkConfig { timesteps: 24, ..Preset::Tiny.network() }.network();
    let schedule = Schedule::plain(network.timesteps);
    let batch = largest_batch(&Request::training(&network, &schedule, 1, &gpu.target)).unwrap();
    let request = Request::training(&network, &schedule, batch, &gpu.target);
    let error = match Engine::new(&gpu, &request, &mut Store::default()).block_on() {
        Ok(_) => panic!("batch {batch} finds room"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{text}");
    for word in ["largest tensors", "area ", "timestep", "MiB", "--accumulate"] {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
}

#[test]
fn a_buffer_beyond_the_limit_is_an_error_with_buffer_and_size() {
    let gpu = open();
    let size = (gpu.target.max_buffer | 3) + 1;
    let error = gpu
        .buffer("too large", size, wgpu::BufferUsages::STORAGE)
        .block_on()
        .expect_err("beyond the limit")
        .to_string();
    assert!(error.contains("too large") && error.contains(&size.to_string()), "{error}");
    gpu.buffer("small", 64, wgpu::BufferUsages::STORAGE).block_on().expect("it harms nothing");
}
