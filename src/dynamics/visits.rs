//! Which readout zones trajectories visit, how long they stay, and how often they find and lose the label's.
//!
//! First and last runs in a zone are cut off by the beginning and the end of the sequence, so that their lengths are too short;
//! `mean_complete` leaves them out.

use super::reaction::counts;
use super::values::Values;
use crate::trajectory::definitions::mean;
use serde::Serialize;

/// Visits of zones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Visits {
    /// \[K\]\[K\] How often a class (row) is followed by a class (column), over all images and timesteps; staying is counted on
    /// the diagonal.
    pub transitions: Vec<Vec<u64>>,
    /// \[T\]\[K\] Images in each zone.
    pub occupancy: Vec<Vec<u64>>,
    /// \[T\] Images by how often they change their class: 0 to T - 1 times.
    pub switches: Vec<u64>,
    /// \[T\] Images by the number of different zones that they visit: 1 to T.
    pub zones: Vec<u64>,
    /// How long they stay.
    pub dwell: Dwell,
    /// How they come and go in the zone of the label.
    pub label_zone: LabelZone,
}

/// Lengths of runs in one zone, in timesteps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dwell {
    /// \[T\] Runs by length: 1 to T.
    pub histogram: Vec<u64>,
    /// Mean over all runs.
    pub mean: Option<f64>,
    /// Mean over the runs that begin after the first timestep and end before the last.
    pub mean_complete: Option<f64>,
    /// Mean over the runs in the zone of the label.
    pub mean_label: Option<f64>,
    /// Mean over the other runs.
    pub mean_other: Option<f64>,
}

/// Numbers of images, and of their transitions, in and out of the zone of their label.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LabelZone {
    /// Images that are in it at the first timestep.
    pub started: u64,
    /// \[T-1\] Images that enter it from each timestep to the next.
    pub entered: Vec<u64>,
    /// \[T-1\] Images that leave it.
    pub left: Vec<u64>,
    /// Images that are ever in it.
    pub visited: u64,
    /// Images that ever leave it.
    pub left_ever: u64,
    /// Images that were in it and are not at the end.
    pub lost: u64,
    /// Images that enter it after they have left it.
    pub regained: u64,
}

/// A stay in one zone.
struct Run {
    class: usize,
    length: usize,
    complete: bool,
    label: bool,
}

/// The visits of all images.
pub fn of(values: &Values) -> Visits {
    let (steps, classes) = (values.timesteps, values.classes);
    let mut transitions = vec![vec![0; classes]; classes];
    let mut zone = LabelZone { entered: vec![0; steps - 1], left: vec![0; steps - 1], ..LabelZone::default() };
    let (mut switches, mut zones, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..values.samples {
        let label = values.labels[i];
        let mut own: Vec<Run> = Vec::new();
        for t in 0..steps {
            let class = values.class(t, i);
            match own.last_mut() {
                Some(run) if run.class == class => run.length += 1,
                _ => own.push(Run { class, length: 1, complete: false, label: class == label }),
            }
            if t + 1 < steps {
                transitions[class][values.class(t + 1, i)] += 1;
            }
        }
        let last = own.len() - 1;
        own.iter_mut().enumerate().for_each(|(at, run)| run.complete = at > 0 && at < last);

        let mut end = 0;
        for pair in own.windows(2) {
            end += pair[0].length;
            zone.left[end - 1] += u64::from(pair[0].label);
            zone.entered[end - 1] += u64::from(pair[1].label);
        }
        let stays = own.iter().filter(|run| run.label).count();
        let at_the_end = own[last].label;
        zone.started += u64::from(own[0].label);
        zone.visited += u64::from(stays > 0);
        zone.left_ever += u64::from(own[..last].iter().any(|run| run.label));
        zone.lost += u64::from(stays > 0 && !at_the_end);
        zone.regained += u64::from(stays > 1);

        switches.push(last);
        let mut distinct: Vec<usize> = own.iter().map(|run| run.class).collect();
        distinct.sort_unstable();
        distinct.dedup();
        zones.push(distinct.len() - 1);
        runs.append(&mut own);
    }
    let length = |of: &dyn Fn(&Run) -> bool| mean(runs.iter().filter(|run| of(run)).map(|run| run.length as f64));
    let occupancy = |t: usize| counts((0..values.samples).map(|i| values.class(t, i)), classes);
    Visits {
        transitions,
        occupancy: (0..steps).map(occupancy).collect(),
        switches: counts(switches, steps),
        zones: counts(zones, steps),
        dwell: Dwell {
            histogram: counts(runs.iter().map(|run| run.length - 1), steps),
            mean: length(&|_| true),
            mean_complete: length(&|run| run.complete),
            mean_label: length(&|run| run.label),
            mean_other: length(&|run| !run.label),
        },
        label_zone: zone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::values::made_up::with_classes;

    #[test]
    fn on_paper() {
        // The label's zone is left and found again; never met; lost; stayed in.
        let sequences: [&[u32]; 4] = [&[0, 1, 0, 0], &[1, 1, 2, 1], &[2, 0, 0, 1], &[1, 1, 1, 1]];
        let found = of(&with_classes(&sequences, &[0, 0, 0, 1], 3));
        assert_eq!(found.transitions, [[2, 2, 0], [1, 4, 1], [1, 1, 0]]);
        assert_eq!(found.occupancy, [[1, 2, 1], [1, 3, 0], [2, 1, 1], [1, 3, 0]]);
        assert_eq!((found.switches, found.zones), (vec![1, 0, 3, 0], vec![1, 2, 1, 0]));
        // Runs of length 1: 0 and 1 of the first, 2 and 1 of the second, 2 and 1 of the third; of 2: the first's last, the
        // second's first, the third's second; of 4: the fourth.
        assert_eq!(found.dwell.histogram, [6, 3, 0, 1]);
        assert_eq!((found.dwell.mean, found.dwell.mean_complete), (Some(1.6), Some(4.0 / 3.0)));
        assert_eq!((found.dwell.mean_label, found.dwell.mean_other), (Some(9.0 / 4.0), Some(7.0 / 6.0)));
        let zone = LabelZone {
            started: 2,
            entered: vec![1, 1, 0],
            left: vec![1, 0, 1],
            visited: 3,
            left_ever: 2,
            lost: 1,
            regained: 1,
        };
        assert_eq!(found.label_zone, zone);
    }
}
