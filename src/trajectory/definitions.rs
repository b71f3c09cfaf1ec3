//! The rules: which class a step has, when a trajectory is stable, when it is correct, how long the analysis lasts.

/// The four groups of trajectories, numbered as in the published analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Stable, and the final class is the label.
    StableCorrect = 0,
    /// Stable, and the final class is not the label.
    StableIncorrect = 1,
    /// Unstable, and the label was the class at some step, even if it was left again.
    UnstableCorrect = 2,
    /// Unstable, and the label was never the class.
    UnstableIncorrect = 3,
}

impl Group {
    /// All four, in the order of their numbers.
    pub const ALL: [Group; 4] =
        [Group::StableCorrect, Group::StableIncorrect, Group::UnstableCorrect, Group::UnstableIncorrect];
}

/// What one sample's sequence of classes amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trajectory {
    /// `None` where there is only one timestep: nothing can be called stable.
    pub group: Option<Group>,
    /// The step from which a stable sample keeps its class; `None` for the others. Never the last step.
    pub t_stable: Option<usize>,
    /// The first step at which the label is the class, for unstable-correct samples; `None` for the others.
    pub t_unstable_correct: Option<usize>,
    /// The class at the last step.
    pub final_class: usize,
}

/// Index of the largest value, the first of them where several are equal. `None` without values.
pub fn first_arg_max<V: PartialOrd>(values: impl IntoIterator<Item = V>) -> Option<usize> {
    let mut values = values.into_iter().enumerate();
    let (mut index, mut best) = values.next()?;
    for (i, value) in values {
        if value > best {
            (index, best) = (i, value);
        }
    }
    Some(index)
}

/// Classifies one trajectory from its class at each timestep and its label. `None` without timesteps.
///
/// A sample that never changes its class is stable from step 0. One that changes it at the very last transition is
/// unstable: nobody can say that it would have stayed. Any other is stable if its final class was not visited before its
/// final run, from the start of that run on.
pub fn classify(classes: &[usize], label: usize) -> Option<Trajectory> {
    let (&final_class, before) = classes.split_last()?;
    let mut trajectory = Trajectory { group: None, t_stable: None, t_unstable_correct: None, final_class };
    if before.is_empty() {
        return Some(trajectory);
    }
    let run_start = before.iter().rposition(|&class| class != final_class).map_or(0, |t| t + 1);
    let returned = classes[..run_start].contains(&final_class);
    let changed_last = run_start == before.len();
    if !returned && !changed_last {
        trajectory.t_stable = Some(run_start);
        trajectory.group = Some(if final_class == label { Group::StableCorrect } else { Group::StableIncorrect });
    } else {
        trajectory.t_unstable_correct = classes.iter().position(|&class| class == label);
        let visited = trajectory.t_unstable_correct.is_some();
        trajectory.group = Some(if visited { Group::UnstableCorrect } else { Group::UnstableIncorrect });
    }
    Some(trajectory)
}

/// Number of stable-correct trajectories by `t_stable`: one entry for each of `timesteps` steps.
pub fn histogram<'a>(trajectories: impl IntoIterator<Item = &'a Trajectory>, timesteps: usize) -> Vec<u64> {
    let mut counts = vec![0; timesteps];
    for trajectory in trajectories {
        if let (Some(Group::StableCorrect), Some(t)) = (trajectory.group, trajectory.t_stable) {
            counts[t] += 1;
        }
    }
    counts
}

/// Number of steps, from the first, that the means over time cover: up to the first step at which fewer than a hundredth
/// as many samples become stable as were stable from the start. `None` where no sample was stable from the start.
pub fn analysis_window(histogram: &[u64]) -> Option<usize> {
    let &from_start = histogram.first()?;
    histogram.iter().position(|&count| 100 * count < from_start)
}

/// Mean over the rows t < `window` in which both columns are defined. Undefined without a window or without such rows.
pub fn mean_of_complete_rows(rows: &[[Option<f64>; 2]], window: Option<usize>) -> [Option<f64>; 2] {
    let window = window.unwrap_or(0).min(rows.len());
    let complete: Vec<[f64; 2]> = rows[..window].iter().filter_map(|row| Some([row[0]?, row[1]?])).collect();
    [0, 1].map(|column| mean(complete.iter().map(|row| row[column])))
}

/// Arithmetic mean, summed in the order given; `None` of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition in other words, over all sequences of 3 classes in 4 steps and all labels: a run-length code of
    /// the sequence, in which the last run must be longer than one step (or the only one) and its class must be new.
    #[test]
    fn all_short_sequences() {
        let mut groups = [0; 4];
        for code in 0..81 {
            let classes = [code / 27, code / 9 % 3, code / 3 % 3, code % 3];
            let mut runs: Vec<(usize, usize)> = Vec::new(); // (class, length)
            for class in classes {
                match runs.last_mut() {
                    Some(run) if run.0 == class => run.1 += 1,
                    _ => runs.push((class, 1)),
                }
            }
            let (last, earlier) = runs.split_last().unwrap();
            let stable = last.1 >= 2 && earlier.iter().all(|run| run.0 != last.0);
            for label in 0..3 {
                let found = classify(&classes, label).unwrap();
                let correct = if stable { last.0 == label } else { runs.iter().any(|run| run.0 == label) };
                let group = match (stable, correct) {
                    (true, true) => Group::StableCorrect,
                    (true, false) => Group::StableIncorrect,
                    (false, true) => Group::UnstableCorrect,
                    (false, false) => Group::UnstableIncorrect,
                };
                assert_eq!(found.group, Some(group), "{classes:?}, label {label}");
                assert_eq!(found.t_stable, stable.then_some(4 - last.1), "{classes:?}");
                let first = (group == Group::UnstableCorrect)
                    .then(|| (0..4).find(|&t| classes[t] == label).expect("the label was visited"));
                assert_eq!(found.t_unstable_correct, first, "{classes:?}, label {label}");
                assert_eq!(found.final_class, classes[3]);
                groups[group as usize] += 1;
            }
        }
        assert_eq!(groups, [21, 42, 150, 30], "by group, of all 81 sequences x 3 labels");
    }

    #[test]
    fn short_sequences() {
        assert_eq!(classify(&[], 0), None);
        let one = classify(&[2], 2).unwrap();
        assert_eq!((one.group, one.t_stable, one.final_class), (None, None, 2));
        assert_eq!(classify(&[1, 1], 1).unwrap().t_stable, Some(0));
        assert_eq!(classify(&[0, 1], 1).unwrap().group, Some(Group::UnstableCorrect));
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(first_arg_max([1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(first_arg_max([0.0; 3]), Some(0));
        assert_eq!(first_arg_max(Vec::<f32>::new()), None);
    }

    #[test]
    fn windows() {
        assert_eq!(analysis_window(&[]), None);
        assert_eq!(analysis_window(&[0, 5, 0]), None);
        assert_eq!(analysis_window(&[100, 1, 0]), Some(2), "a hundredth is not less than a hundredth");
        assert_eq!(analysis_window(&[101, 1, 7, 0]), Some(1), "strictly less; later steps do not reopen the window");
    }

    #[test]
    fn rows_with_a_gap_are_left_out_whole() {
        let rows = [[Some(1.0), Some(2.0)], [None, Some(9.0)], [Some(3.0), Some(4.0)], [Some(100.0), Some(100.0)]];
        assert_eq!(mean_of_complete_rows(&rows, Some(3)), [Some(2.0), Some(3.0)]);
        assert_eq!(mean_of_complete_rows(&rows[1..], Some(1)), [None, None]);
        assert_eq!(mean_of_complete_rows(&rows, None), [None, None]);
    }
}
