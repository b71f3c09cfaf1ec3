//! Which checkpoints of a run stay: `keep` of `[training]`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The newest so many checkpoints always stay, whatever the rule: should the newest be damaged, a run goes on from the one
/// before.
const ALWAYS: usize = 2;

/// Which checkpoints stay, as a list: `keep = ["first", "last 3", "every 1000", "every 30 epochs", "epoch 29", "best"]`. A
/// checkpoint stays if one of the terms names it; those that terms name by epoch, or as the best, are saved when they are met,
/// the others at the run's interval. Without the key all stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Keep(Vec<Term>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// `first`: the first one, usually the untrained network.
    First,
    /// `last` or `last N`: the newest N.
    Last(u64),
    /// `every N`: those of steps that N divides.
    Every(u64),
    /// `every N epochs`: those after N epochs, 2 N epochs and so on.
    EveryEpochs(u64),
    /// `epoch N`: that after the epoch of this number, of which the first is 0; `epoch -1`: before the first step. So published
    /// checkpoints count.
    Epoch(i64),
    /// `best`: that with the highest accuracy on the evaluation split.
    Best,
}

impl Keep {
    /// Reads the terms of a rule.
    ///
    /// # Errors
    /// No term at all, or one that is none.
    pub fn parse<S: AsRef<str>>(terms: &[S]) -> Result<Keep> {
        if terms.is_empty() {
            return Err(Error::Config(
                "[training] keep: expected a list with one term at least; leave the key out to keep all checkpoints"
                    .into(),
            ));
        }
        Ok(Keep(terms.iter().map(|term| Term::parse(term.as_ref())).collect::<Result<_>>()?))
    }

    /// Whether all checkpoints stay.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the best one is among those that stay, so that it must be saved when it is met.
    pub fn best(&self) -> bool {
        self.0.contains(&Term::Best)
    }

    /// Whether the end of an epoch, when `epochs` are done, is one at which a checkpoint stays.
    pub fn names_epoch(&self, epochs: u64) -> bool {
        self.0.iter().any(|term| match *term {
            Term::EveryEpochs(n) => epochs > 0 && epochs.is_multiple_of(n),
            Term::Epoch(n) => n.checked_add(1).and_then(|done| u64::try_from(done).ok()) == Some(epochs),
            _ => false,
        })
    }

    /// Which of the checkpoints of these steps, in ascending order, go, where an epoch has `steps_per_epoch`; `best` is the best
    /// one's step.
    pub fn dropped(&self, steps: &[u64], steps_per_epoch: u64, best: Option<u64>) -> Vec<u64> {
        if self.is_all() {
            return Vec::new();
        }
        let stays = |at: usize| {
            let newer = steps.len() - 1 - at;
            newer < ALWAYS
                || (steps[at].is_multiple_of(steps_per_epoch) && self.names_epoch(steps[at] / steps_per_epoch))
                || self.0.iter().any(|term| match *term {
                    Term::First => at == 0,
                    Term::Last(n) => (newer as u64) < n,
                    Term::Every(n) => steps[at].is_multiple_of(n),
                    Term::Best => best == Some(steps[at]),
                    Term::EveryEpochs(_) | Term::Epoch(_) => false, // above
                })
        };
        (0..steps.len()).filter(|&at| !stays(at)).map(|at| steps[at]).collect()
    }
}

impl Term {
    fn parse(text: &str) -> Result<Term> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().ok().filter(|n| *n > 0);
        let term = match words[..] {
            ["first"] => Some(Term::First),
            ["best"] => Some(Term::Best),
            ["last"] => Some(Term::Last(1)),
            ["last", n] => number(n).map(Term::Last),
            ["every", n] => number(n).map(Term::Every),
            ["every", n, "epochs"] => number(n).map(Term::EveryEpochs),
            ["epoch", n] => n.parse().ok().filter(|n| *n >= -1).map(Term::Epoch),
            _ => None,
        };
        term.ok_or_else(|| {
            Error::Config(format!(
                "[training] keep: expected `first`, `last`, `last N`, `every N` (steps), `every N epochs`, `epoch N` (-1: before \
                 the first step, 0: after the first epoch) or `best`, found `{text}`"
            ))
        })
    }
}

impl TryFrom<Vec<String>> for Keep {
    type Error = Error;

    fn try_from(terms: Vec<String>) -> Result<Keep> {
        Keep::parse(&terms)
    }
}

impl From<Keep> for Vec<String> {
    fn from(keep: Keep) -> Vec<String> {
        let text = |term: Term| match term {
            Term::First => "first".to_string(),
            Term::Last(1) => "last".to_string(),
            Term::Last(n) => format!("last {n}"),
            Term::Every(n) => format!("every {n}"),
            Term::EveryEpochs(n) => format!("every {n} epochs"),
            Term::Epoch(n) => format!("epoch {n}"),
            Term::Best => "best".to_string(),
        };
        keep.0.into_iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(terms: &[&str], steps: &[u64], best: Option<u64>) -> Vec<u64> {
        let dropped = Keep::parse(terms).unwrap().dropped(steps, 100, best);
        steps.iter().copied().filter(|step| !dropped.contains(step)).collect()
    }

    #[test]
    fn a_checkpoint_stays_if_a_term_names_it_and_the_newest_two_always() {
        let steps = [0, 500, 1000, 1200, 1500, 2000, 2100];
        assert_eq!(kept(&["last"], &steps, None), [2000, 2100]);
        assert_eq!(kept(&["first"], &steps, None), [0, 2000, 2100]);
        assert_eq!(kept(&["last 3"], &steps, None), [1500, 2000, 2100]);
        assert_eq!(kept(&["every 1000"], &steps, Some(1200)), [0, 1000, 2000, 2100]);
        assert_eq!(kept(&["best", "last"], &steps, Some(1200)), [1200, 2000, 2100]);
        assert_eq!(kept(&["best"], &steps, None), [2000, 2100]);
        assert!(kept(&["first"], &[], None).is_empty());
        assert!(Keep::default().dropped(&steps, 100, None).is_empty());
    }

    /// With 100 steps an epoch.
    #[test]
    fn epochs_count_as_published() {
        let steps = [0, 100, 1000, 3000, 3050, 6000, 6100, 6200];
        assert_eq!(kept(&["epoch -1", "epoch 29", "epoch 59"], &steps, None), [0, 3000, 6000, 6100, 6200]);
        assert_eq!(kept(&["epoch 0"], &steps, None), [100, 6100, 6200]);
        assert_eq!(kept(&["every 30 epochs"], &steps, None), [3000, 6000, 6100, 6200]);
        let keep = Keep::parse(&["epoch -1", "epoch 29", "every 7 epochs"]).unwrap();
        let named: Vec<u64> = (0..32).filter(|&done| keep.names_epoch(done)).collect();
        assert_eq!(named, [0, 7, 14, 21, 28, 30]);
    }

    #[test]
    fn rules_read_back_and_wrong_ones_are_refused() {
        let terms = ["first", "last", "last 3", "every 1000", "every 30 epochs", "epoch -1", "epoch 59", "best"];
        assert_eq!(Vec::<String>::from(Keep::parse(&terms).unwrap()), terms);
        assert_eq!(Keep::parse(&[" every  7 "]).unwrap(), Keep::parse(&["every 7"]).unwrap());
        for wrong in [
            "",
            "all",
            "last 0",
            "every",
            "every x",
            "every -1",
            "every 3 steps",
            "epoch",
            "epoch -2",
            "epoch x",
            "best 2",
        ] {
            let error = Keep::parse(&[wrong]).unwrap_err().to_string();
            assert!(error.contains("keep") && error.contains(wrong) && error.contains("every N"), "{error}");
        }
        assert!(Keep::parse::<&str>(&[]).unwrap_err().to_string().contains("leave the key out"));
    }
}
