//! The areas below the readout: the measures of [`super::structure`] on their own activity, on a device, while pictures stream
//! through the network.
//!
//! An area's map \[C\]\[P\]\[width\] becomes D numbers an image in one of three ways ([`Form`]): the mean over its pixels; the map as
//! it is, where it has no more than 256 numbers; else a very sparse random projection of it. An area that nothing recurrent
//! reaches is the same at all timesteps and is measured at the first alone. Of vectors there is one form, the vector itself.
//!
//! The projection (Li, Hastie and Church 2006, density 1 / sqrt(M)) of the M numbers x of a map to D: each feature is
//! sqrt(M / (m D)) sum_e s_e x\[p_e\] with m = sqrt(M) terms, rounded up, whose places p and signs s are drawn independently, so
//! that the expectation of |y|^2 is |x|^2, and that of squared distances likewise. Terms are drawn on the host from a stream that
//! is keyed by a seed and the area's number: the same on every platform, and not kept.
//!
//! An area carries the label from the first timestep at which the ridge decoder that was fitted there ([`super::decoder`]) is
//! above chance: it is right on more test images than the 99 % quantile of the binomial distribution whose probability is the
//! share of the commonest class among them, which is what guessing that class would reach.

use super::cka::Cka;
use super::decoder::Decoder;
use super::pca::Pca;
use super::rdm::Rdm;
use super::rdm_time::RdmTime;
use super::space::{Planned, Space, SpaceStream, Wanted};
use crate::dataset::random::Random;
use crate::engine::Engine;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::graph::taps::{Quantity, Tap, Tapped};
use crate::kernels::{BufferId, BufferSpec, Param, Program, Role, Settings, Site, View, align};
use crate::network::Network;
use crate::ops::average;
use crate::stream::{Pending, Portion, Sink};
use crate::{Error, Result};
use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};
use std::collections::BTreeMap;

/// Most numbers of a map that is taken as it is, and features of a projection where they fit.
const FEATURES: usize = 256;
/// Features below which no projection is worth while.
const FEWEST: usize = 32;
/// Seed of the projections, the same in all analyses.
pub const SEED: u64 = 0;
/// Bytes that all areas together may take on the device, or what the adapter allows for one buffer if that is less: the only
/// figure about its memory that it tells.
pub const MOST_BYTES: u64 = 2 << 30;
/// How sure the decoder must be that it is above chance.
const LEVEL: f64 = 0.99;

/// What the numbers of an area are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Form {
    /// The mean over the pixels of each channel.
    #[serde(rename = "pixel average")]
    Average,
    /// All activations.
    #[serde(rename = "map")]
    Map,
    /// A random projection of all activations.
    #[serde(rename = "projection")]
    Projection,
}

impl Form {
    /// The word for it, as in `report.json`.
    pub fn name(self) -> &'static str {
        match self {
            Form::Average => "pixel average",
            Form::Map => "map",
            Form::Projection => "projection",
        }
    }
}

/// What was measured of an area, in one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Name of the area.
    pub name: String,
    /// What its numbers are.
    pub form: Form,
    /// D.
    pub features: usize,
    /// Numbers of the map that was projected.
    pub projected_from: Option<usize>,
    /// Seed of the projection.
    pub seed: Option<u64>,
    /// \[T'\] The steps of the run that were measured, in the order of all tables here.
    pub timesteps: Vec<usize>,
    /// Whether the area is the same from that one step on, as nothing recurrent reaches it.
    pub constant: bool,
}

/// Shares and counts of dimensions of an area; see [`super::pca`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// Shares of the variance of the first principal components of all timesteps together.
    pub explained: Vec<Option<f64>>,
    /// Participation ratio of all timesteps together.
    pub participation: Option<f64>,
    /// \[T'\] Participation ratio at each.
    pub participation_t: Vec<Option<f64>>,
}

/// The measures of an area, in one form.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Area {
    /// What was measured.
    #[serde(flatten)]
    pub facts: Facts,
    /// \[T'\]\[pairs\] Dissimilarities of the images that the readout's are of; they have files of their own.
    #[serde(skip)]
    pub rdm: Rdm,
    /// \[T'\]\[T'\] See [`super::rdm_time`].
    pub rdm_time: RdmTime,
    /// \[T'\]\[T'\] See [`super::cka`].
    pub cka: Cka,
    /// \[T'\]\[T'\] See [`super::decoder`].
    pub decoder: Decoder,
    /// Principal components.
    pub pca: Spectrum,
    /// The share of the commonest class among the test images; none without test images.
    pub chance: Option<f64>,
    /// Right answers that guessing does not exceed, but once in a hundred times.
    pub by_chance: Option<u64>,
    /// The first step of the run at which the ridge decoder exceeds them; none if it never does.
    pub label_from: Option<usize>,
}

/// The share of the commonest class among these labels, and the 99 % quantile of how many of them guessing it gets right.
pub fn chance(labels: &[u32]) -> Option<(f64, u64)> {
    let mut counts = BTreeMap::new();
    labels.iter().for_each(|label| *counts.entry(label).or_insert(0u64) += 1);
    let (most, all) = (*counts.values().max()?, labels.len() as u64);
    let share = most as f64 / all as f64;
    let quantile = match most == all {
        true => all,
        false => Binomial::new(share, all).expect("a probability").inverse_cdf(LEVEL),
    };
    Some((share, quantile))
}

/// Sums of few numbers of a map, as `shaders/dynamics_project.wgsl` takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// D.
    pub features: usize,
    /// Terms of each feature.
    pub entries: usize,
    /// What each sum is multiplied with.
    pub scale: f32,
    /// \[D\]\[entries\] Twice the place in the map, and one more where the sign is minus.
    terms: Vec<u32>,
}

impl Projection {
    /// A random projection of maps of so many numbers, fewer than 2^31, the same for the same seed and area.
    pub fn random(seed: u64, area: usize, numbers: usize, features: usize) -> Projection {
        let entries = (numbers as f64).sqrt().ceil() as usize;
        let mut random = Random::new(b"areaproj", [seed, area as u64, 0]);
        let mut term = || (random.below(numbers as u64) as u32) << 1 | u32::from(random.coin());
        let scale = (numbers as f64 / (entries * features) as f64).sqrt() as f32;
        Projection { features, entries, scale, terms: (0..features * entries).map(|_| term()).collect() }
    }

    /// Every number of the map as it is.
    pub fn identity(numbers: usize) -> Projection {
        let terms = (0..numbers as u32).map(|place| place << 1).collect();
        Projection { features: numbers, entries: 1, scale: 1.0, terms }
    }

    /// Places and signs of the terms of a feature.
    pub fn terms(&self, feature: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let terms = &self.terms[feature * self.entries..][..self.entries];
        terms.iter().map(|term| ((term >> 1) as usize, if term & 1 == 1 { -1.0 } else { 1.0 }))
    }
}

/// Taps on the areas that are measured: all but a vector that the readout sees as it is.
pub fn taps(network: &Network) -> Vec<Tap> {
    let measured = |area: &usize| !(*area == network.readout.area && network.areas[*area].vector);
    (0..network.areas.len()).filter(measured).map(|area| Tap::in_place(Quantity::Activation(area))).collect()
}

/// An area in one form, before anything is allocated.
struct Candidate<'g> {
    /// Number of the area.
    area: usize,
    facts: Facts,
    /// [C, rows, columns, images]
    map: Vec<usize>,
    /// \[T'\] Where it lies.
    views: Vec<View>,
    space: Space,
    planned: Planned<'g>,
}

/// Batches of a network in, measures of its areas out, on a device.
pub struct AreaStream<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    spaces: Vec<(Facts, SpaceStream<'g>)>,
    /// Areas that turned out not to be measurable.
    left_out: Vec<String>,
}

/// What is said of an area that has no measures.
fn left_out(facts: &Facts, why: &str) -> String {
    format!("Area {} was left out as {}: {}.", facts.name, facts.form.name(), why.trim_end_matches('.'))
}

impl<'g> AreaStream<'g> {
    /// For the images announced in `wanted`, of the areas of `engine` that were tapped as [`taps`] says. Labels lie in the buffer
    /// of `store` that `labels` names. All areas together take at most `most` bytes: of an area that has no room the projection
    /// gets fewer features, or it is left out, and a note says so.
    ///
    /// # Errors
    /// Too many images; out of memory; a kernel that the driver refuses.
    pub async fn new(
        gpu: &'g Gpu,
        engine: &Engine<'_>,
        wanted: &Wanted,
        labels: &str,
        store: &mut Store,
        most: u64,
    ) -> Result<(AreaStream<'g>, Vec<String>)> {
        let (chosen, notes) = choose(gpu, engine, wanted, labels, most)?;

        let mut program = Program::default();
        let persistent = |program: &mut Program, name: &str, bytes: u64, role: Role| {
            let spec =
                BufferSpec { name: name.into(), bytes: align(bytes), role, area: "areas".into(), timestep: None };
            View { buffer: program.buffer(spec), offset: 0, bytes, half: false }
        };
        let mut sources: BTreeMap<usize, BufferId> = BTreeMap::new();
        let mut tables = Vec::new();
        for of in &chosen {
            let Space { features, width, step, timesteps, .. } = of.space;
            let y = persistent(&mut program, &of.space.trained, 4 * (timesteps * step) as u64, Role::Persistent);
            let numbers = of.map[..3].iter().product();
            let projection = match of.facts.form {
                Form::Average => None,
                Form::Map => Some(Projection::identity(numbers)),
                Form::Projection => Some(Projection::random(SEED, of.area, numbers, features)),
            };
            let table = projection.map(|of_terms| {
                let (name, bytes) = (format!("{} terms", of.space.name), 4 * of_terms.terms.len() as u64);
                (persistent(&mut program, &name, bytes, Role::Input), of_terms)
            });
            for (t, view) in of.views.iter().enumerate() {
                let source = &engine.compiled.program.buffers[view.buffer.0];
                let buffer = *sources.entry(view.buffer.0).or_insert_with(|| {
                    let name = format!("areas.buffer {}", view.buffer.0);
                    store.share(&name, engine.recording(), *view);
                    persistent(&mut program, &name, source.bytes, Role::Persistent).buffer
                });
                let x = View { buffer, ..*view };
                let y = y.part(t * step, Some(features * width));
                let (name, area) = ("areas", of.facts.name.as_str());
                let site = Site { timestep: Some(of.facts.timesteps[t]), ..Site::of(name, area) };
                let Some((terms, projection)) = &table else {
                    average(&mut program, &gpu.target, &of.map, (x, y), site)?;
                    continue;
                };
                let operands = [("x", x), ("terms", *terms), ("y", y)];
                let params: [(&str, Param); 3] = [
                    ("width", width.into()),
                    ("entries", projection.entries.into()),
                    ("scale", projection.scale.into()),
                ];
                let grid = [width.div_ceil(64), features, 1];
                let kernel = ("dynamics_project", Settings::new());
                program.add(&gpu.target, kernel, &operands, &params, grid, site)?;
            }
            tables.extend(table);
        }
        let plan = Plan::new(&program, true);
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, store).await?;
        tables.iter().for_each(|(view, projection)| recording.write(gpu, *view, &projection.terms));
        let mut spaces = Vec::new();
        for of in chosen {
            spaces.push((of.facts, of.planned.allocate(store).await?));
        }
        Ok((AreaStream { gpu, recording, spaces, left_out: Vec::new() }, notes))
    }

    /// Ends the stream: the measures of all areas, in the order of the drive, of each its pixel average first. `tested` are the
    /// labels of the test images. And what is to be said of areas without measures, whose decoders cannot be fitted or whose
    /// numbers are not finite.
    ///
    /// # Errors
    /// A lost device.
    pub async fn areas(&mut self, tested: &[u32]) -> Result<(Vec<Area>, Vec<String>)> {
        let chance = chance(tested);
        let mut areas = Vec::new();
        for (facts, space) in &mut self.spaces {
            let found = match space.finish().await {
                Err(Error::Data(why)) => {
                    self.left_out.push(left_out(facts, &why));
                    continue;
                }
                found => found?,
            };
            let Pca { explained, participation, participation_t, .. } = found.pca;
            let right = &found.decoder.ridge.correct;
            let above = |t: &usize| chance.is_some_and(|(_, by_chance)| right[*t][*t] > by_chance);
            areas.push(Area {
                label_from: (0..right.len()).find(above).map(|t| facts.timesteps[t]),
                facts: facts.clone(),
                rdm: found.rdm,
                rdm_time: found.rdm_time,
                cka: found.cka,
                decoder: found.decoder,
                pca: Spectrum { explained, participation, participation_t },
                chance: chance.map(|(share, _)| share),
                by_chance: chance.map(|(_, by_chance)| by_chance),
            });
        }
        Ok((areas, self.left_out.clone()))
    }
}

impl Sink for AreaStream<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(async {
            self.recording.run(self.gpu);
            for (_, space) in &mut self.spaces {
                space.run(portion.first, portion.images).await?;
            }
            Ok(())
        })
    }

    fn turn(&mut self) -> Pending<'_> {
        Box::pin(async {
            for (facts, mut space) in std::mem::take(&mut self.spaces) {
                match space.half().await {
                    Ok(()) => self.spaces.push((facts, space)),
                    Err(Error::Data(why)) => self.left_out.push(left_out(&facts, &why)),
                    Err(other) => return Err(other),
                }
            }
            Ok(())
        })
    }
}

/// The areas and forms that have room in `most` bytes together, averages before maps, and what is to be said of the others.
fn choose<'g>(
    gpu: &'g Gpu,
    engine: &Engine<'_>,
    wanted: &Wanted,
    labels: &str,
    most: u64,
) -> Result<(Vec<Candidate<'g>>, Vec<String>)> {
    let network = &engine.network;
    let (mut chosen, mut notes, mut taken) = (Vec::new(), Vec::new(), 0);
    let areas = || (0..network.areas.len()).filter_map(|i| Some((i, engine.tapped(Quantity::Activation(i))?)));
    for averages in [true, false] {
        for (area, tapped) in areas() {
            let name = &network.areas[area].name;
            let Some((timesteps, views, constant)) = measured(tapped) else {
                if averages {
                    notes.push(format!("Area {name} does not exist within the timesteps of the run and was left out."));
                }
                continue;
            };
            let (channels, numbers) = (tapped.shape[0], tapped.shape[..3].iter().product::<usize>());
            let vector = numbers == channels;
            // What the readout sees of a map is its pixel average.
            if averages && (vector || area == network.readout.area) {
                continue;
            }
            let (form, mut features) = match (averages, vector || numbers <= FEATURES) {
                (true, _) => (Form::Average, channels),
                (false, true) => (Form::Map, numbers),
                (false, false) => (Form::Projection, FEATURES),
            };
            loop {
                let space = Space {
                    name: format!("area {name}, {}", form.name()),
                    timesteps: views.len(),
                    features,
                    width: engine.batch,
                    step: (features * engine.batch).next_multiple_of(64),
                    trained: format!("areas.{name} {}", form.name()),
                    untrained: None,
                    labels: labels.into(),
                };
                let planned = SpaceStream::plan(gpu, space.clone(), Wanted { shown_classes: vec![], ..wanted.clone() });
                let why = match planned {
                    Ok(planned) if taken + planned.bytes() <= most => {
                        taken += planned.bytes();
                        let projected = (form == Form::Projection).then_some(numbers);
                        if projected.is_some() && features < FEATURES {
                            notes.push(format!(
                                "The projection of area {name} has {features} features, as memory is short."
                            ));
                        }
                        let facts = Facts {
                            name: name.clone(),
                            form,
                            features,
                            projected_from: projected,
                            seed: projected.map(|_| SEED),
                            timesteps: timesteps.clone(),
                            constant,
                        };
                        let (map, views) = (tapped.shape.clone(), views.clone());
                        chosen.push(Candidate { area, facts, map, views, space, planned });
                        break;
                    }
                    Ok(planned) => {
                        let mib = |bytes: u64| bytes >> 20;
                        let (asked, left) = (mib(planned.bytes()), mib(most - taken));
                        format!("its moments take {asked} MiB, and {left} MiB of {} are left", mib(most))
                    }
                    Err(Error::Gpu(why)) => why,
                    Err(other) => return Err(other),
                };
                if form != Form::Projection || features / 2 < FEWEST {
                    let form = form.name();
                    notes.push(format!("Area {name} was left out as {form}: {why}."));
                    break;
                }
                features /= 2;
            }
        }
    }
    chosen.sort_by_key(|of| (of.area, of.facts.form != Form::Average));
    Ok((chosen, notes))
}

/// The steps at which a tapped area exists, and where it lies then: the first alone where it is in one place at all of them, and
/// so the same.
fn measured(tapped: &Tapped) -> Option<(Vec<usize>, Vec<View>, bool)> {
    let exists = tapped.views.iter().enumerate().filter_map(|(t, view)| Some((t, (*view)?)));
    let (mut timesteps, mut views): (Vec<usize>, Vec<View>) = exists.unzip();
    let first = *views.first()?;
    let constant = views.len() > 1 && views.iter().all(|view| *view == first);
    if constant {
        timesteps.truncate(1);
        views.truncate(1);
    }
    Some((timesteps, views, constant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_the_binomial_quantile() {
        // Two of four: P(X <= 3) = 15/16 < 0.99, so that even four right answers may be luck.
        assert_eq!(chance(&[0, 1, 0, 1]), Some((0.5, 4)));
        // Seven of seven: P(X <= 6) = 127/128 > 0.99, P(X <= 5) = 120/128.
        assert_eq!(chance(&[0, 1, 0, 1, 0, 1, 0, 1].map(|l| l + 3)[..]).unwrap().1, 7);
        assert_eq!(chance(&[5; 9]), Some((1.0, 9)));
        assert_eq!(chance(&[]), None);
        // The distribution written out, for a share of 3/10 of 10.
        let labels = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4];
        let choose = |k: u64| (0..k).fold(1.0, |c, i| c * (10 - i) as f64 / (i + 1) as f64);
        let mass = |k: u64| choose(k) * 0.3f64.powi(k as i32) * 0.7f64.powi(10 - k as i32);
        let mut cumulated = 0.0;
        let by_hand = (0..=10).find(|&k| {
            cumulated += mass(k);
            cumulated >= 0.99
        });
        assert_eq!(chance(&labels), Some((0.3, by_hand.unwrap())));
        assert_eq!(by_hand, Some(7));
    }

    #[test]
    fn projections_keep_lengths_on_average() {
        let (numbers, features) = (1000, 64);
        let x: Vec<f64> = (0..numbers).map(|i| if i % 7 == 0 { (i as f64 * 0.37).sin() + 1.0 } else { 0.1 }).collect();
        let length: f64 = x.iter().map(|x| x * x).sum();
        let squared = |seed: u64| -> f64 {
            let of = Projection::random(seed, 3, numbers, features);
            assert_eq!((of.entries, of.features), (32, features));
            let y = |d| f64::from(of.scale) * of.terms(d).map(|(place, sign)| sign * x[place]).sum::<f64>();
            (0..features).map(|d| y(d) * y(d)).sum()
        };
        let mean = (0..400).map(squared).sum::<f64>() / 400.0;
        // Each is good to about 2 / sqrt(64 terms), their mean 20 times better.
        assert!((mean / length - 1.0).abs() < 0.04, "{mean}, expected {length}");
        assert_eq!(Projection::random(0, 3, 1000, 64), Projection::random(0, 3, 1000, 64));
        assert_ne!(Projection::random(0, 3, 1000, 64), Projection::random(0, 4, 1000, 64));
        assert_ne!(Projection::random(0, 3, 1000, 64), Projection::random(1, 3, 1000, 64));
    }
}
