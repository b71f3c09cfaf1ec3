//! A network on a device: the planned programs, their parameters and Adam's state, fed with batches.

pub use crate::scores::Scores;

use crate::Result;
use crate::dataset::Batch;
use crate::gpu::{Gpu, Reading, Recording, Store};
use crate::graph::compile::{Compiled, Request, compile, does_not_fit};
use crate::kernels::View;
use crate::network::{NetworkConfig, ParameterSpec, parameters};

/// Adam's settings.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
}

impl Adam {
    /// What `shaders/adam.wgsl` takes for the `step`-th step (the first is 1).
    pub fn hyper(&self, step: u64) -> [f32; 5] {
        let (c1, c2) = (1.0 - self.beta1.powf(step as f64), 1.0 - self.beta2.powf(step as f64));
        let numbers = [self.learning_rate / c1, 1.0 - self.beta1, 1.0 - self.beta2, 1.0 / c2.sqrt(), self.epsilon];
        numbers.map(|x| x as f32)
    }
}

/// One vector per parameter, in the order of [`parameters()`].
pub type Tensors = Vec<Vec<f32>>;

/// Checks a compiled network against its adapter.
///
/// # Errors
/// What does not fit, with the figure asked, the figure allowed and the largest batch that fits.
pub fn fits(compiled: &Compiled, request: &Request) -> Result<()> {
    let Err(error) = compiled.plan.fits(&compiled.lowered.program, request.target) else { return Ok(()) };
    Err(does_not_fit(request, &error.to_string())?)
}

/// A compiled network on a device.
pub struct Engine<'g> {
    /// The device.
    pub gpu: &'g Gpu,
    /// The network.
    pub config: NetworkConfig,
    /// Parameters, in order.
    pub specs: Vec<ParameterSpec>,
    /// Program and plan.
    pub compiled: Compiled,
    /// Batch size.
    pub batch: usize,
    recording: Recording,
    /// Values of parameters that take no part: kept for checkpoints.
    unused: Vec<(usize, Vec<f32>)>,
}

impl<'g> Engine<'g> {
    /// Compiles, checks the plan against the adapter, and only then allocates. Parameters live in `store`, which several
    /// engines of one network may share.
    ///
    /// # Errors
    /// What does not fit, with the figure asked, the figure allowed and the largest batch that fits; kernels that the
    /// driver refuses; out of memory.
    pub fn new(gpu: &'g Gpu, request: &Request, store: &mut Store) -> Result<Engine<'g>> {
        Engine::of(gpu, request, compile(request)?, store)
    }

    /// As [`Engine::new`], with what `request` was compiled to.
    ///
    /// # Errors
    /// As there.
    pub fn of(gpu: &'g Gpu, request: &Request, compiled: Compiled, store: &mut Store) -> Result<Engine<'g>> {
        fits(&compiled, request)?;
        let recording = Recording::new(gpu, &compiled.lowered.program, &compiled.plan, store)?;
        let (config, specs) = (request.config.clone(), parameters(request.config));
        Ok(Engine { gpu, config, specs, compiled, batch: request.batch, recording, unused: Vec::new() })
    }

    /// Sets all parameters, in the order of [`parameters()`].
    pub fn set_parameters(&mut self, values: &[Vec<f32>]) {
        self.write_arenas(&self.compiled.values.clone(), values);
        let unused = (0..self.specs.len()).filter(|i| !self.compiled.used.contains(i));
        self.unused = unused.map(|i| (i, values[i].clone())).collect();
    }

    /// Sets Adam's moments, in the order of [`parameters()`].
    pub fn set_moments(&mut self, m: &[Vec<f32>], v: &[Vec<f32>]) {
        self.write_arenas(&self.compiled.adam_m.clone(), m);
        self.write_arenas(&self.compiled.adam_v.clone(), v);
    }

    fn write_arenas(&self, arenas: &[View], values: &[Vec<f32>]) {
        for (range, &i) in self.compiled.used.iter().enumerate() {
            self.recording.write(self.gpu, self.compiled.arenas.view(arenas, range), &values[i]);
        }
    }

    fn read_arenas(&self, arenas: &[View], unused: impl Fn(usize) -> Vec<f32>) -> Result<Vec<Vec<f32>>> {
        let whole: Vec<Vec<f32>> = arenas.iter().map(|&a| self.recording.read(self.gpu, a)).collect::<Result<_>>()?;
        let mut all: Vec<Vec<f32>> = (0..self.specs.len()).map(unused).collect();
        for (range, &i) in self.compiled.used.iter().enumerate() {
            let (arena, offset, bytes) = self.compiled.arenas.ranges[range];
            all[i] = whole[arena][offset as usize / 4..(offset + bytes) as usize / 4].to_vec();
        }
        Ok(all)
    }

    /// All parameters, in the order of [`parameters()`].
    ///
    /// # Errors
    /// A lost device.
    pub fn parameters(&self) -> Result<Vec<Vec<f32>>> {
        let unused = |i| self.unused.iter().find(|(j, _)| *j == i).map(|(_, v)| v.clone()).unwrap_or_default();
        self.read_arenas(&self.compiled.values, unused)
    }

    /// Adam's moments, in the order of [`parameters()`]; zeros for those that take no part.
    ///
    /// # Errors
    /// A lost device.
    pub fn moments(&self) -> Result<(Tensors, Tensors)> {
        let zeros = |i: usize| vec![0.0; self.specs[i].len()];
        Ok((self.read_arenas(&self.compiled.adam_m, zeros)?, self.read_arenas(&self.compiled.adam_v, zeros)?))
    }

    /// Gradients of the last step, in the order of [`parameters()`]; empty for those that take no part.
    ///
    /// # Errors
    /// A lost device.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>> {
        self.read_arenas(&self.compiled.gradients, |_| Vec::new())
    }

    /// Uploads a batch.
    pub fn feed(&self, batch: &Batch) {
        let network = &self.compiled.network;
        self.recording.write(self.gpu, self.compiled.lowered.view(network.x), &batch.x);
        self.recording.write(self.gpu, self.compiled.lowered.view(network.labels), &batch.labels);
    }

    /// Sets Adam's step sizes for the `step`-th step (the first is 1).
    pub fn set_step(&self, adam: &Adam, step: u64) {
        if let Some(hyper) = self.compiled.hyper {
            self.recording.write(self.gpu, hyper, &adam.hyper(step));
        }
    }

    /// Submits one run of the program: forward, and when training backward and Adam's step.
    pub fn run(&self) {
        self.recording.run(self.gpu);
    }

    /// Loss and correctness of the last run, of its first `images` images.
    ///
    /// # Errors
    /// A lost device.
    pub fn scores(&self, images: usize) -> Result<Scores> {
        Ok(self.summed(&self.recording.read(self.gpu, self.compiled.scores)?, images))
    }

    /// Starts to copy back loss and correctness of the last run; the next may be submitted meanwhile.
    pub fn scores_later(&self) -> Reading {
        self.recording.read_later(self.gpu, self.compiled.scores)
    }

    /// Loss and correctness of the run that `reading` was started after, of its first `images` images.
    ///
    /// # Errors
    /// A lost device.
    pub fn finish_scores(&self, reading: Reading, images: usize) -> Result<Scores> {
        Ok(self.summed(&reading.finish(self.gpu)?, images))
    }

    fn summed(&self, raw: &[f32], images: usize) -> Scores {
        let sum = |t: usize, row: usize| {
            let start = t * self.compiled.score_step + row * self.batch;
            raw[start..start + images].iter().map(|&x| f64::from(x)).sum::<f64>()
        };
        let steps = self.config.timesteps;
        Scores {
            loss: (0..steps).map(|t| sum(t, 0)).collect(),
            correct: (0..steps).map(|t| sum(t, 1)).collect(),
            images,
        }
    }

    /// Copies back any view of the program.
    ///
    /// # Errors
    /// A lost device.
    pub fn read(&self, view: View) -> Result<Vec<f32>> {
        self.recording.read(self.gpu, view)
    }

    /// The recording, for kernels that work on this network's outputs.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }
}
