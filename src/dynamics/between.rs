//! How far two networks' representations of the same image are from each other, image by image and timestep by timestep: of a
//! network that is disturbed and of the same one left alone.
//!
//! [`Between::exact`] computes the numbers in f64 from stored arrays, as they are defined; [`BetweenStream`] with
//! `shaders/dynamics_between.wgsl` in f32 from a stream of batches.

use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, View, align};
use crate::stream::{Pending, Portion, Sink};
use crate::trajectory::definitions::mean;
use crate::trajectory::measured::Layout;
use crate::trajectory::npz::Extraction;
use crate::trajectory::readout::norm;
use crate::trajectory::streaming::{UNDEFINED, image_innermost};
use crate::{Error, Result};
use serde::Serialize;

/// Invocations of a workgroup of the kernel.
const LANES: usize = 64;

/// The numbers of every image, \[T\]\[N\] each, of a first network's representation d and a second one's u.
#[derive(Clone, Debug, PartialEq)]
pub struct Between {
    /// T.
    pub timesteps: usize,
    /// N.
    pub samples: usize,
    /// Euclidean distance |d - u|.
    pub distance: Vec<f64>,
    /// Euclidean norms |d| and |u|.
    pub norms: [Vec<f64>; 2],
    /// Cosine of d and u; NaN where one of them is all zero.
    pub cosine: Vec<f64>,
}

/// Means over all images at each timestep, as they stand in `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distances {
    /// \[T\] Mean of |d - u|, in the unit of r.
    pub mean: Vec<Option<f64>>,
    /// \[T\] Mean of |d - u| / |u|, over the images whose u is not all zero.
    pub relative: Vec<Option<f64>>,
    /// \[T\] Mean cosine of d and u, over the images of which neither is all zero.
    pub cosine: Vec<Option<f64>>,
    /// \[T\] Mean |d|, of the disturbed network.
    pub norm_disturbed: Vec<Option<f64>>,
    /// \[T\] Mean |u|, of the undisturbed one.
    pub norm_undisturbed: Vec<Option<f64>>,
}

impl Between {
    /// Computes the numbers in f64, as they are defined. Both networks must have seen the same images for as many timesteps.
    pub fn exact(d: &Extraction, u: &Extraction) -> Between {
        let (timesteps, samples) = (d.timesteps, d.samples);
        assert_eq!((timesteps, samples, d.features), (u.timesteps, u.samples, u.features), "the same images and steps");
        let each = |value: &dyn Fn(&[f64], &[f64]) -> f64| -> Vec<f64> {
            let cells = (0..timesteps).flat_map(|t| (0..samples).map(move |i| (t, i)));
            cells.map(|(t, i)| value(d.representation(t, i), u.representation(t, i))).collect()
        };
        let apart = |a: &[f64], b: &[f64]| norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
        let unit = |v: &[f64]| v.iter().map(|x| x / norm(v)).collect::<Vec<_>>();
        Between {
            timesteps,
            samples,
            distance: each(&apart),
            norms: [each(&|d, _| norm(d)), each(&|_, u| norm(u))],
            // Of unit vectors |a - b|^2 = 2 - 2 a.b, which is exactly 0 for equal ones.
            cosine: each(&|d, u| 1.0 - apart(&unit(d), &unit(u)).powi(2) / 2.0),
        }
    }

    /// The means.
    pub fn distances(&self) -> Distances {
        let over = |value: &dyn Fn(usize) -> f64| -> Vec<Option<f64>> {
            let row = |t: usize| t * self.samples..(t + 1) * self.samples;
            (0..self.timesteps).map(|t| mean(row(t).map(value).filter(|value| !value.is_nan()))).collect()
        };
        let relative = |at: usize| match self.norms[1][at] {
            0.0 => f64::NAN,
            norm => self.distance[at] / norm,
        };
        Distances {
            mean: over(&|at| self.distance[at]),
            relative: over(&relative),
            cosine: over(&|at| self.cosine[at]),
            norm_disturbed: over(&|at| self.norms[0][at]),
            norm_undisturbed: over(&|at| self.norms[1][at]),
        }
    }
}

/// Batches in, numbers out, on a device.
pub struct BetweenStream<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    timesteps: usize,
    samples: usize,
    batch: View,
    networks: [View; 2],
    between: View,
}

impl<'g> BetweenStream<'g> {
    /// For so many samples with representations of so many features. `store` holds the buffers in which the two networks leave
    /// them, under the names that [`Layout::share`] gives a trained and an untrained one.
    ///
    /// # Errors
    /// A table that does not fit the adapter; out of memory.
    pub async fn new(
        gpu: &'g Gpu,
        features: usize,
        samples: usize,
        layout: Layout,
        store: &mut Store,
    ) -> Result<BetweenStream<'g>> {
        let Layout { timesteps, width, features_step, .. } = layout;
        let mut program = Program::default();
        let mut buffer = |name: &str, words: usize, role: Role| {
            let (area, bytes) = ("dynamics".to_string(), align(4 * words as u64));
            let buffer = program.buffer(BufferSpec { name: name.into(), bytes, role, area, timestep: None });
            View { buffer, offset: 0, bytes: 4 * words as u64, half: false }
        };
        let batch = buffer("dynamics.between.batch", 2, Role::Input);
        let [first, second] = ["trained", "untrained"].map(|name| {
            buffer(&format!("trajectory.representations {name}"), timesteps * features_step, Role::Persistent)
        });
        let between = buffer("dynamics.between", 4 * timesteps * samples, Role::Persistent);
        let params: [(&str, Param); 9] = [
            ("timesteps", timesteps.into()),
            ("classes", 0u32.into()),
            ("features", features.into()),
            ("width", width.into()),
            ("logits_step", 0u32.into()),
            ("features_step", features_step.into()),
            ("samples", samples.into()),
            ("measures", 0u32.into()),
            ("all_ones", u32::MAX.into()),
        ];
        let operands = [("batch", batch), ("first", first), ("second", second), ("between", between)];
        let kernel = Kernel::new("dynamics_between", &Settings::new())?;
        let grid = [width.div_ceil(LANES), timesteps, 1];
        program.launch(&kernel, &operands, &params, grid, Site::of("dynamics_between", "dynamics"));
        let plan = Plan::new(&program, true).with_rings([batch.bytes].into_iter(), std::iter::empty());
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, store).await?;
        if gpu.checked() {
            recording.poison(gpu, &program);
        }
        Ok(BetweenStream { gpu, recording, timesteps, samples, batch, networks: [first, second], between })
    }

    /// Submits the kernel for a batch of which all is on the device: `images` images, of which `first` came before.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self, first: usize, images: usize) -> Result<()> {
        assert!(first + images <= self.samples, "more images than the {} announced", self.samples);
        self.recording.feed(self.gpu, self.batch, &[first as u32, images as u32]).await?;
        self.recording.run(self.gpu);
        Ok(())
    }

    /// The numbers, once all images have passed.
    ///
    /// # Errors
    /// Representations that are not finite; a lost device.
    pub async fn finish(&self) -> Result<Between> {
        let raw: Vec<f32> = self.recording.read(self.gpu, self.between).await?;
        let (timesteps, samples) = (self.timesteps, self.samples);
        let table = |which: usize| &raw[which * timesteps * samples..][..timesteps * samples];
        let broken: Vec<usize> =
            (0..timesteps * samples).filter(|&at| table(0)[at].is_nan() || table(0)[at] >= UNDEFINED).collect();
        if let Some(&at) = broken.first() {
            return Err(Error::Data(format!(
                "the disturbed and the undisturbed network: representations of {} of {samples} samples x {timesteps} \
                 timesteps are not finite, or longer than 4e28, the first at timestep {}; a gain is too large, or the \
                 weights have diverged",
                broken.len(),
                at / samples
            )));
        }
        let exact = |which: usize| table(which).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let cosine = |&chord: &f32| if chord == UNDEFINED { f64::NAN } else { 1.0 - f64::from(chord) / 2.0 };
        Ok(Between {
            timesteps,
            samples,
            distance: exact(0),
            norms: [exact(1), exact(2)],
            cosine: table(3).iter().map(cosine).collect(),
        })
    }
}

/// The numbers of two stored networks, in batches of `width`.
///
/// # Errors
/// As [`BetweenStream::new`] and [`BetweenStream::finish`].
pub async fn stored(gpu: &Gpu, networks: [&Extraction; 2], width: usize) -> Result<Between> {
    let Extraction { timesteps, samples, classes, features, .. } = *networks[0];
    let layout = Layout::aligned(classes, features, timesteps, width);
    let mut stream = BetweenStream::new(gpu, features, samples, layout, &mut Store::default()).await?;
    for first in (0..samples).step_by(width) {
        let images = width.min(samples - first);
        for (view, of) in stream.networks.into_iter().zip(networks) {
            let (_, representations) = image_innermost(of, first..first + images, width);
            for (t, numbers) in representations.chunks_exact(features * width).enumerate() {
                stream.recording.write(gpu, view.part(t * layout.features_step, Some(numbers.len())), numbers);
            }
        }
        stream.run(first, images).await?;
    }
    stream.finish().await
}

impl Sink for BetweenStream<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(self.run(portion.first, portion.images))
    }
}
