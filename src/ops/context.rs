//! What operations are lowered with: places, the program under construction, and the ways of launching that several share.

use super::ValueId;
use crate::Result;
use crate::kernels::choose::{Choices, Key, Use, Uses, Variant};
use crate::kernels::grid::{Cover, cover};
use crate::kernels::{Param, Program, Settings, Site, Target, View};

/// Invocations of the workgroups of elementwise and row kernels.
pub(super) const LANES: usize = 64;

/// What lowering needs to know and what it extends.
pub struct Context<'a> {
    /// The program under construction.
    pub program: &'a mut Program,
    /// The adapter.
    pub target: &'a Target,
    /// Extents of each value.
    pub shapes: &'a [&'a [usize]],
    /// Where each value lies.
    pub views: &'a [Option<View>],
    /// Which variant serves which shape.
    pub choices: &'a Choices,
    /// Whether a sum of zeros must be exactly 0, see [`crate::graph::Graph::rounded`].
    pub exact: bool,
    /// Additions and multiplications of the operation that is lowered.
    pub operations: f64,
    /// The shapes asked for so far.
    pub uses: &'a mut Uses,
}

/// A stretch of timesteps that lie at equal distances in one buffer: view of all, distance in words, how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) view: View,
    pub(super) step: usize,
    pub(super) steps: usize,
}

/// Images (or elements) that a lane serves as one vector: a vector is cheaper to load than its elements.
pub(super) fn vector(n: usize) -> usize {
    [4, 2].into_iter().find(|v| n.is_multiple_of(*v)).unwrap_or(1)
}

impl<'a> Context<'a> {
    pub(super) fn view(&self, value: ValueId) -> View {
        self.views[value.0].unwrap_or_else(|| panic!("value {} of shape {:?} has no place", value.0, self.shape(value)))
    }

    pub(super) fn shape(&self, value: ValueId) -> &'a [usize] {
        self.shapes[value.0]
    }

    pub(super) fn count(&self, value: ValueId) -> usize {
        super::count(self.shape(value))
    }

    /// The variant for a shape, which counts as used.
    pub(super) fn variant(&mut self, key: Key) -> Variant {
        let variant = self.choices.variant(self.target, &key);
        self.uses.entry(key).or_insert(Use { variant, launches: 0 }).launches += 1;
        variant
    }

    /// Whether vectors are loaded and stored as words of 64 bits.
    pub(super) fn wide(&self) -> bool {
        self.choices.wide(self.target)
    }

    /// One launch of the kernel `name`.
    pub(super) fn launch(
        &mut self,
        name: &'static str,
        settings: &Settings,
        operands: &[(&'static str, View)],
        params: &[(&str, Param)],
        grid: [usize; 3],
        site: Site,
    ) -> Result<()> {
        self.program.add(self.target, (name, settings.clone()), operands, params, grid, site)?;
        Ok(())
    }

    /// An elementwise launch over `count` elements, in vectors where they divide it.
    pub(super) fn each(
        &mut self,
        name: &'static str,
        settings: Settings,
        operands: &[(&'static str, View)],
        count: usize,
        site: Site,
    ) -> Result<()> {
        self.each_with(name, settings, operands, (count, vector(count)), &[], site)
    }

    /// An elementwise launch over `count` elements, `vec` at a time, with more parameters than their count.
    pub(super) fn each_with(
        &mut self,
        name: &'static str,
        settings: Settings,
        operands: &[(&'static str, View)],
        (count, vec): (usize, usize),
        more: &[(&str, Param)],
        site: Site,
    ) -> Result<()> {
        let count = count / vec;
        let Cover { groups, unroll } = cover(count, LANES, if vec > 1 { 1 } else { 4 }, self.target);
        let settings = settings.set("L", LANES as u32).set("UNROLL", unroll as u32);
        let settings = settings.images(vec).wide_images(self.wide());
        let params = [&[("count", count.into())], more].concat();
        self.launch(name, &settings, operands, &params, [groups, 1, 1], site)
    }

    /// Says of the launches from number `from` on how many operations each does, where that has not been said.
    pub fn tell(&mut self, from: usize, operations: f64) {
        let untold = self.program.launches[from..].iter_mut().filter(|launch| launch.operations == 0.0);
        untold.for_each(|launch| launch.operations = operations);
    }

    /// Runs `each` over lists of values that belong together timestep by timestep. Timesteps whose values lie at equal
    /// distances in one buffer are served by one call, unless that would take a slow adapter too long; where there are several
    /// such stretches their results are added.
    pub(super) fn folded(
        &mut self,
        lists: &[&[ValueId]],
        outputs: &[ValueId],
        site: Site,
        each: impl Fn(&mut Context, &[Run], &[View], Site) -> Result<()>,
    ) -> Result<()> {
        let total = lists[0].len();
        let per_step = self.operations / total as f64;
        let bytes = lists.iter().map(|list| self.view(list[0]).bytes as f64).sum();
        let most = self.target.pace.map_or(total, |pace| pace.pieces(per_step, bytes, total));
        let mut runs: Vec<Vec<Run>> = Vec::new();
        let mut first = 0;
        while first < total {
            let length = lists.iter().map(|list| self.stretch(&list[first..])).min().expect("one list at least");
            let length = length.min(most);
            runs.push(lists.iter().map(|list| self.run(&list[first..first + length])).collect());
            first += length;
        }
        let outs: Vec<View> = outputs.iter().map(|&v| self.view(v)).collect();
        if runs.len() == 1 {
            return each(self, &runs[0], &outs, site);
        }
        let counts: Vec<usize> = outputs.iter().map(|&v| self.count(v)).collect();
        let mut parts: Vec<Vec<View>> = vec![Vec::new(); outs.len()];
        for run in &runs {
            let views: Vec<View> = counts.iter().map(|&count| self.program.scratch("fold", site.area, count)).collect();
            let from = self.program.launches.len();
            each(self, run, &views, site)?;
            self.tell(from, per_step * run[0].steps as f64);
            views.iter().zip(&mut parts).for_each(|(view, list)| list.push(*view));
        }
        for ((terms, out), count) in parts.iter().zip(&outs).zip(counts) {
            let from = self.program.launches.len();
            super::add::sum(self, terms, count, *out, Site { label: &format!("{} fold", site.label), ..site })?;
            self.tell(from, (count * terms.len()) as f64);
        }
        Ok(())
    }

    /// How many of the first values lie at equal distances in one buffer, so that one binding may cover them.
    fn stretch(&self, values: &[ValueId]) -> usize {
        let first = self.view(values[0]);
        let mut step = None;
        let mut before = first;
        for (i, &value) in values.iter().enumerate().skip(1) {
            let view = self.view(value);
            let distance = view.offset.checked_sub(before.offset).filter(|&d| d > 0 && view.buffer == before.buffer);
            let follows = distance.is_some() && (step.is_none() || step == distance);
            if !follows || view.offset + view.bytes - first.offset > self.target.max_binding {
                return i;
            }
            (step, before) = (distance, view);
        }
        values.len()
    }

    /// Values that lie at equal distances in one buffer as one run.
    fn run(&self, values: &[ValueId]) -> Run {
        let (first, last) = (self.view(values[0]), self.view(values[values.len() - 1]));
        let step = if values.len() > 1 { self.view(values[1]).offset - first.offset } else { 0 };
        let view = View { bytes: last.offset + last.bytes - first.offset, ..first };
        Run { view, step: step as usize / 4, steps: values.len() }
    }
}
