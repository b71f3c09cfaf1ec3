//! `--baseline`: the rows of an earlier run beside those of this one.

use super::measure::{figure, median, ratio};
use super::table::{Document, Row, WIDTH};
use crate::{Error, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval lies above 1 + margin: slower beyond doubt.
    Regression,
    /// The whole interval lies below 1 / (1 + margin).
    Improvement,
    /// The interval reaches into the margin: nothing to be said.
    Same,
}

/// By what rows are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Their times.
    Time,
    /// Their shares of the multiply-add ceiling, measured beside them: a machine that was slower does not count.
    Share,
}

/// A row and its baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The row's id.
    pub id: String,
    /// Median of the baseline, milliseconds.
    pub before_ms: f64,
    /// Median now, milliseconds.
    pub ms: f64,
    /// `ms` / `before_ms`.
    pub ratio: f64,
    /// Its 95 % bootstrap confidence interval, from the samples of both runs.
    pub ratio_ci: [f64; 2],
    /// The row's share of the ceiling in the baseline, where it was measured.
    pub before_share: Option<f64>,
    /// Its share now, where it was measured.
    pub share: Option<f64>,
    /// The ratio of the times, each times the ceiling around it, now and before: 1 if both changed with the machine. Absent
    /// where one of the runs has no ceilings.
    pub ratio_vs_ceiling: Option<f64>,
    /// Its 95 % bootstrap confidence interval.
    pub ratio_vs_ceiling_ci: Option<[f64; 2]>,
    /// What the ratio that rows are judged by and its interval say.
    pub verdict: Verdict,
    /// The baseline's variant, where another one runs now.
    pub other_variant: Option<String>,
}

/// Two runs side by side.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineComparison {
    /// Rows that both have.
    pub rows: Vec<Compared>,
    /// Ids that only the baseline has, or that failed now.
    pub missing: Vec<String>,
    /// Ids that the baseline does not have, or that failed there.
    pub new: Vec<String>,
    /// The margin, as a fraction.
    pub margin: f64,
    /// By what rows are judged.
    pub by: By,
    /// The median ceiling beside the rows that both runs have, now over before: how fast the machine is by the multiply-add
    /// loop. Absent where one of the runs has none.
    pub machine: Option<f64>,
}

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// A row is a regression if its interval lies beyond this, as a fraction.
    pub margin: f64,
    /// By what rows are judged.
    pub by: By,
    /// Whether runs of different adapters, drivers and processors are compared all the same.
    pub any_adapter: bool,
}

/// Compares by id. Both runs must come from the same subcommand, adapter, driver and processor, unless `any_adapter`.
///
/// # Errors
/// Documents that cannot be compared; [`By::Share`], where a row was measured without ceilings.
pub fn compare(now: &Document, before: &Document, how: How) -> Result<BaselineComparison> {
    let How { margin, by, any_adapter } = how;
    let differ = |what: &str, before: &str, now: &str| {
        Error::Data(format!("the baseline's {what} is `{before}`, this run's is `{now}`"))
    };
    if now.bench != before.bench {
        return Err(differ("subcommand", &before.bench, &now.bench));
    }
    let cpu = |document: &Document| document.cpu.as_ref().map(|cpu| cpu.describe());
    let mut facts = vec![
        ("adapter", before.adapter.clone(), now.adapter.clone()),
        ("driver", before.driver.clone(), now.driver.clone()),
    ];
    facts.extend(cpu(before).zip(cpu(now)).map(|(before, now)| ("processor", before, now)));
    for (what, a, b) in facts {
        if a != b && !any_adapter {
            let error = differ(what, &a, &b);
            return Err(Error::Data(format!("{error}; --any-adapter compares all the same")));
        }
    }
    let good = |document: &Document| -> Vec<Row> {
        document.rows.iter().filter(|r| r.failure.is_none() && !r.samples_ms.is_empty()).cloned().collect()
    };
    let (now, before) = (good(now), good(before));
    let found = |rows: &[Row], id: &str| rows.iter().find(|r| r.id == id).cloned();
    let (mut rows, mut new) = (Vec::new(), Vec::new());
    for row in &now {
        let Some(old) = found(&before, &row.id) else {
            new.push(row.id.clone());
            continue;
        };
        let (by_time, time_ci) = ratio(&row.samples_ms, &old.samples_ms);
        let costs = [row.costs(), old.costs()];
        let by_share = costs.iter().all(|list| !list.is_empty()).then(|| ratio(&costs[0], &costs[1]));
        let judged = match (by, by_share) {
            (By::Time, _) => time_ci,
            (By::Share, Some((_, interval))) => interval,
            (By::Share, None) => {
                let which = if costs[0].is_empty() { "this run" } else { "the baseline" };
                return Err(Error::Data(format!(
                    "--vs-ceiling: {which} has no ceiling beside the row `{}`: it was measured with --no-ceilings, or by an \
                     older version; measure it again, or compare times without --vs-ceiling",
                    row.id
                )));
            }
        };
        let verdict = match judged {
            [low, _] if low > 1.0 + margin => Verdict::Regression,
            [_, high] if high < 1.0 / (1.0 + margin) => Verdict::Improvement,
            _ => Verdict::Same,
        };
        let other_variant = (old.variant != row.variant).then_some(old.variant);
        rows.push(Compared {
            id: row.id.clone(),
            before_ms: old.ms,
            ms: row.ms,
            ratio: by_time,
            ratio_ci: time_ci,
            before_share: old.share,
            share: row.share,
            ratio_vs_ceiling: by_share.map(|(ratio, _)| ratio),
            ratio_vs_ceiling_ci: by_share.map(|(_, interval)| interval),
            verdict,
            other_variant,
        });
    }
    let ceilings = |rows: &[Row], others: &[Row]| -> Vec<f64> {
        let both = rows.iter().filter(|row| found(others, &row.id).is_some());
        both.flat_map(|row| row.ceiling_samples.clone()).collect()
    };
    let machine = [ceilings(&now, &before), ceilings(&before, &now)];
    let machine = machine.iter().all(|list| !list.is_empty()).then(|| median(&machine[0]) / median(&machine[1]));
    let missing = before.iter().filter(|r| found(&now, &r.id).is_none()).map(|r| r.id.clone()).collect();
    Ok(BaselineComparison { rows, missing, new, margin, by, machine })
}

impl BaselineComparison {
    /// How many rows are slower beyond doubt.
    pub fn regressions(&self) -> usize {
        self.rows.iter().filter(|r| r.verdict == Verdict::Regression).count()
    }

    /// The comparison as a table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.set_header([
            "row",
            "ms before",
            "now",
            "ratio",
            "95 % CI",
            "share before",
            "now",
            "ratio",
            "95 % CI",
            "",
        ]);
        for i in 0..10 {
            let column = table.column_mut(i).expect("set");
            column.set_padding((0, if i < 9 { 2 } else { 0 }));
            column.set_cell_alignment(if (1..9).contains(&i) { CellAlignment::Right } else { CellAlignment::Left });
        }
        let share = |share: Option<f64>| share.map_or(String::new(), |share| format!("{share:.2}"));
        let interval = |[low, high]: [f64; 2]| format!("{low:.2}–{high:.2}");
        for r in &self.rows {
            let verdict = match r.verdict {
                Verdict::Regression => "REGRESSION",
                Verdict::Improvement => "improvement",
                Verdict::Same => "",
            };
            let variant = r.other_variant.as_ref().map_or(String::new(), |v| format!(" (before: {v})"));
            table.add_row([
                r.id.clone(),
                figure(r.before_ms),
                figure(r.ms),
                format!("{:.2}", r.ratio),
                interval(r.ratio_ci),
                share(r.before_share),
                share(r.share),
                share(r.ratio_vs_ceiling),
                r.ratio_vs_ceiling_ci.map_or(String::new(), interval),
                format!("{verdict}{variant}"),
            ]);
        }
        let mut text: String = table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        for (list, what) in [(&self.missing, "only in the baseline"), (&self.new, "not in the baseline")] {
            list.iter().for_each(|id| text += &format!("{what}: {id}\n"));
        }
        if let Some(machine) = self.machine {
            text += &format!("multiply-adds beside the rows: {machine:.2} times the baseline's rate\n");
            let same = (1.0 / (1.0 + self.margin)..=1.0 + self.margin).contains(&machine);
            if self.by == By::Time && !same {
                text += "  the machine's own speed has changed by more than the margin: --vs-ceiling compares shares\n";
            }
        }
        let (rows, worse, margin) = (self.rows.len(), self.regressions(), 100.0 * self.margin);
        let by = match self.by {
            By::Time => "times",
            By::Share => "shares of the ceiling",
        };
        text + &format!(
            "{rows} rows compared by their {by}, {worse} slower beyond the margin of {margin:.0} % (the whole interval)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{beside, document, row};
    use super::*;

    fn by_time(margin: f64, any_adapter: bool) -> How {
        How { margin, by: By::Time, any_adapter }
    }

    fn samples(scale: f64) -> Vec<f64> {
        (0..20).map(|i| scale * (1.0 + 0.01 * f64::from(i % 5))).collect()
    }

    #[test]
    fn verdicts_missing_and_new() {
        let before = document(["a", "b", "c", "d", "gone"].map(|id| row(id, &samples(1.0))).to_vec());
        let mut failed = row("d", &samples(1.0));
        failed.failure = Some("wrong".into());
        let mut other = row("c", &samples(1.05));
        other.variant = "v2".into();
        let now = document(vec![
            row("a", &samples(1.3)),
            row("b", &samples(0.7)),
            other,
            failed,
            row("fresh", &samples(1.0)),
        ]);
        let c = compare(&now, &before, by_time(0.1, false)).unwrap();
        let verdicts: Vec<Verdict> = c.rows.iter().map(|r| r.verdict).collect();
        assert_eq!(verdicts, [Verdict::Regression, Verdict::Improvement, Verdict::Same]);
        assert_eq!((c.missing, c.new), (vec!["d".to_string(), "gone".into()], vec!["fresh".to_string()]));
        assert_eq!(c.rows[2].other_variant.as_deref(), Some(""));
        assert!((c.rows[0].ratio - 1.3).abs() < 1e-9);
        // A wider margin forgives the same ratio.
        assert_eq!(compare(&now, &before, by_time(0.5, false)).unwrap().regressions(), 0);
        assert_eq!(compare(&now, &before, by_time(0.1, false)).unwrap().regressions(), 1);
    }

    #[test]
    fn noise_is_no_regression() {
        let noisy = |shift: f64| (0..20).map(|i| shift + if i % 2 == 0 { 1.0 } else { 2.0 }).collect::<Vec<f64>>();
        let [now, before] = [0.2, 0.0].map(|shift| document(vec![row("a", &noisy(shift))]));
        assert_eq!(compare(&now, &before, by_time(0.1, false)).unwrap().rows[0].verdict, Verdict::Same);
    }

    #[test]
    fn shares_tell_a_slow_machine_from_a_slow_kernel() {
        let ceilings = |scale: f64| vec![200.0 * scale; 20];
        let before = document(["a", "b"].map(|id| beside(row(id, &samples(1.0)), &ceilings(1.0))).to_vec());
        // Everything takes twice as long, the multiply-adds too; b has become slower beyond that.
        let now = document(vec![
            beside(row("a", &samples(2.0)), &ceilings(0.5)),
            beside(row("b", &samples(3.0)), &ceilings(0.5)),
        ]);
        let by_share = How { by: By::Share, ..by_time(0.1, false) };
        let verdicts = |how| compare(&now, &before, how).unwrap().rows.iter().map(|r| r.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(by_time(0.1, false)), [Verdict::Regression, Verdict::Regression]);
        assert_eq!(verdicts(by_share), [Verdict::Same, Verdict::Regression]);
        let found = compare(&now, &before, by_time(0.1, false)).unwrap();
        assert!((found.machine.unwrap() - 0.5).abs() < 1e-12);
        assert!((found.rows[1].ratio_vs_ceiling.unwrap() - 1.5).abs() < 1e-9, "{found:?}");
        assert!(found.table().contains("--vs-ceiling compares shares"), "{}", found.table());
        let found = compare(&now, &before, by_share).unwrap().table();
        assert!(found.contains("by their shares") && !found.contains("--vs-ceiling"), "{found}");
        assert!(found.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{found}");
        // The other way round: the kernel takes as long on a machine twice as fast.
        let now = document(vec![beside(row("a", &samples(1.0)), &ceilings(2.0))]);
        assert_eq!(compare(&now, &before, by_share).unwrap().rows[0].verdict, Verdict::Regression);
        // Without ceilings there is nothing to judge by.
        let bare = document(vec![row("a", &samples(1.0))]);
        for (now, before, which) in [(&bare, &now, "this run"), (&now, &bare, "the baseline")] {
            let error = compare(now, before, by_share).unwrap_err().to_string();
            assert!(error.contains(which) && error.contains("--no-ceilings"), "{error}");
            assert_eq!(compare(now, before, by_time(0.1, false)).unwrap().machine, None);
        }
    }

    #[test]
    fn other_adapters_are_refused_unless_allowed() {
        let now = document(vec![row("a", &[1.0])]);
        let mut before = now.clone();
        before.driver = "d 2".into();
        let error = compare(&now, &before, by_time(0.1, false)).unwrap_err().to_string();
        assert!(error.contains("`d 2`") && error.contains("`d 1`") && error.contains("--any-adapter"), "{error}");
        assert_eq!(compare(&now, &before, by_time(0.1, true)).unwrap().rows.len(), 1);
        // Nor is another processor the same machine; a run that did not ask may be any.
        let cpu = |model: &str| crate::host::Processor { model: model.into(), ..Default::default() };
        let (mut now, mut before) = (now.clone(), now.clone());
        now.cpu = Some(cpu("x"));
        assert!(compare(&now, &before, by_time(0.1, false)).is_ok());
        before.cpu = Some(cpu("y"));
        assert!(compare(&now, &before, by_time(0.1, false)).unwrap_err().to_string().contains("processor"));
        assert!(compare(&now, &before, by_time(0.1, true)).is_ok());
        before.bench = "step".into();
        assert!(compare(&now, &before, by_time(0.1, true)).unwrap_err().to_string().contains("subcommand"));
    }
}
