//! What operations are lowered with: places, the program under construction, and the ways of launching that several share.

use super::ValueId;
use crate::Result;
use crate::kernels::choose::{Choices, Key, Use, Uses, Variant};
use crate::kernels::conv::{Stage, State};
use crate::kernels::grid::{Cover, cover};
use crate::kernels::{Param, Program, Settings, Site, Target, View};

/// Invocations of the workgroups of elementwise and row kernels.
pub(super) const LANES: usize = 64;

/// How far an operation on lists over timesteps has come.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// Timesteps of each sum; found when the first comes, where nobody says.
    pub stretches: Vec<usize>,
    /// Timesteps that are summed.
    pub done: usize,
    /// Timesteps that are summed once the present launches have run; all where nobody says.
    pub until: Option<usize>,
    /// Where the sums of each stretch lie.
    parts: Vec<Vec<View>>,
    /// What the launches of the present stretch have left.
    state: State,
}

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
    /// How far the operation that is lowered has come, if it is one on lists.
    pub fold: Fold,
}

/// A stretch of timesteps that lie at equal distances in one buffer: view of all, distance in numbers, how many.
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
    ///
    /// `apart`: each timestep has a sum of its own whatever lies where.
    ///
    /// Where [`Fold`] says so, only the next timesteps are summed now, and what they leave is gone on with later.
    pub(super) fn folded(
        &mut self,
        lists: &[&[ValueId]],
        outputs: &[ValueId],
        site: Site,
        apart: bool,
        each: impl Fn(&mut Context, (&[Run], &mut Stage), &[View], Site) -> Result<()>,
    ) -> Result<()> {
        let total = lists[0].len();
        let per_step = self.operations / total as f64;
        let mut fold = std::mem::take(&mut self.fold);
        if fold.stretches.is_empty() {
            fold.stretches = if apart { vec![1; total] } else { self.stretches(lists, per_step) };
        }
        let outs: Vec<View> = outputs.iter().map(|&v| self.view(v)).collect();
        let counts: Vec<usize> = outputs.iter().map(|&v| self.count(v)).collect();
        let (several, until) = (fold.stretches.len() > 1, fold.until.unwrap_or(total));
        while fold.done < until {
            let mut first = 0; // of the present stretch
            let stretch = fold.stretches.iter().find(|&&length| {
                let here = fold.done < first + length;
                first += if here { 0 } else { length };
                here
            });
            let (of, before) = (*stretch.expect("no more than all"), fold.done - first);
            if before == 0 {
                fold.state.clear();
                let mut place = |count: &usize| self.program.scratch("fold", site.area, *count);
                fold.parts.push(if several { counts.iter().map(&mut place).collect() } else { outs.clone() });
            }
            let now = fold.done..until.min(first + of);
            let length = lists.iter().map(|list| self.stretch(&list[now.clone()])).min().expect("one list at least");
            let runs: Vec<Run> = lists.iter().map(|list| self.run(&list[now.start..now.start + length])).collect();
            let views = fold.parts.last().expect("it was just added").clone();
            let mut stage = Stage { before, until: before + length, of, state: &mut fold.state };
            let from = self.program.launches.len();
            each(self, (&runs, &mut stage), &views, site)?;
            self.tell(from, per_step * length as f64);
            fold.done += length;
            if several && fold.until.is_some() && fold.done == first + of {
                // The sum of all stretches so far, in order.
                if let [.., before, now] = &fold.parts[..] {
                    let places = match fold.done == total {
                        true => outs.clone(),
                        false => counts.iter().map(|&count| self.program.scratch("fold", site.area, count)).collect(),
                    };
                    let (before, now) = (before.clone(), now.clone());
                    for (i, (&place, &count)) in places.iter().zip(&counts).enumerate() {
                        let from = self.program.launches.len();
                        super::add::sum(
                            self,
                            &[before[i], now[i]],
                            count,
                            place,
                            Site { label: &format!("{} fold", site.label), ..site },
                        )?;
                        self.tell(from, count as f64);
                    }
                    fold.parts = vec![places];
                }
            }
        }
        if several && fold.done == total && fold.until.is_none() {
            for (i, (out, count)) in outs.iter().zip(counts).enumerate() {
                let terms: Vec<View> = fold.parts.iter().map(|part| part[i]).collect();
                let from = self.program.launches.len();
                super::add::sum(self, &terms, count, *out, Site { label: &format!("{} fold", site.label), ..site })?;
                self.tell(from, (count * terms.len()) as f64);
            }
        }
        self.fold = fold;
        Ok(())
    }

    /// How many timesteps each sum takes.
    fn stretches(&self, lists: &[&[ValueId]], per_step: f64) -> Vec<usize> {
        let total = lists[0].len();
        let bytes = lists.iter().map(|list| self.view(list[0]).bytes as f64).sum();
        let most = self.target.pace.map_or(total, |pace| pace.pieces(per_step, bytes, total));
        let mut stretches = Vec::new();
        let mut first = 0;
        while first < total {
            let length = lists.iter().map(|list| self.stretch(&list[first..])).min().expect("one list at least");
            stretches.push(length.min(most));
            first += length.min(most);
        }
        stretches
    }

    /// How many of the first values lie at equal distances in one buffer, so that one binding may cover them.
    fn stretch(&self, values: &[ValueId]) -> usize {
        let first = self.view(values[0]);
        let mut step = None;
        let mut before = first;
        for (i, &value) in values.iter().enumerate().skip(1) {
            let view = self.view(value);
            let distance = view.offset.checked_sub(before.offset).filter(|&d| d > 0 && view.buffer == before.buffer);
            let follows = distance.is_some() && (step.is_none() || step == distance) && view.half == first.half;
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
        Run { view, step: (step / first.width()) as usize, steps: values.len() }
    }
}
