//! `--baseline`: the rows of an earlier run beside those of this one.

use super::measure::{figure, ratio};
use super::table::{Document, Row};
use crate::{Error, Result};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
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
    /// What the ratio and its interval say.
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
}

/// Compares by id. Both runs must come from the same subcommand, adapter and driver, unless `any_adapter`.
///
/// # Errors
/// Documents that cannot be compared.
pub fn compare(now: &Document, before: &Document, margin: f64, any_adapter: bool) -> Result<BaselineComparison> {
    let differ = |what: &str, before: &str, now: &str| {
        Error::Data(format!("the baseline's {what} is `{before}`, this run's is `{now}`"))
    };
    if now.bench != before.bench {
        return Err(differ("subcommand", &before.bench, &now.bench));
    }
    for (what, a, b) in [("adapter", &before.adapter, &now.adapter), ("driver", &before.driver, &now.driver)] {
        if a != b && !any_adapter {
            let error = differ(what, a, b);
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
        let (ratio, ratio_ci) = ratio(&row.samples_ms, &old.samples_ms);
        let verdict = match ratio_ci {
            [low, _] if low > 1.0 + margin => Verdict::Regression,
            [_, high] if high < 1.0 / (1.0 + margin) => Verdict::Improvement,
            _ => Verdict::Same,
        };
        let other_variant = (old.variant != row.variant).then_some(old.variant);
        rows.push(Compared {
            id: row.id.clone(),
            before_ms: old.ms,
            ms: row.ms,
            ratio,
            ratio_ci,
            verdict,
            other_variant,
        });
    }
    let missing = before.iter().filter(|r| found(&now, &r.id).is_none()).map(|r| r.id.clone()).collect();
    Ok(BaselineComparison { rows, missing, new, margin })
}

impl BaselineComparison {
    /// How many rows are slower beyond doubt.
    pub fn regressions(&self) -> usize {
        self.rows.iter().filter(|r| r.verdict == Verdict::Regression).count()
    }

    /// The comparison as a table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["row", "before, ms", "now, ms", "now / before", "95 % CI", "verdict"]);
        (1..5).for_each(|i| table.column_mut(i).expect("set").set_cell_alignment(CellAlignment::Right));
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
                format!("{:.2} – {:.2}", r.ratio_ci[0], r.ratio_ci[1]),
                format!("{verdict}{variant}"),
            ]);
        }
        let mut text = format!("{table}\n");
        for (list, what) in [(&self.missing, "only in the baseline"), (&self.new, "not in the baseline")] {
            list.iter().for_each(|id| text += &format!("{what}: {id}\n"));
        }
        let (rows, worse, margin) = (self.rows.len(), self.regressions(), 100.0 * self.margin);
        text + &format!(
            "{rows} rows compared, {worse} slower beyond the margin of {margin:.0} % (the whole interval lies beyond it)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{document, row};
    use super::*;

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
        let c = compare(&now, &before, 0.1, false).unwrap();
        let verdicts: Vec<Verdict> = c.rows.iter().map(|r| r.verdict).collect();
        assert_eq!(verdicts, [Verdict::Regression, Verdict::Improvement, Verdict::Same]);
        assert_eq!((c.missing, c.new), (vec!["d".to_string(), "gone".into()], vec!["fresh".to_string()]));
        assert_eq!(c.rows[2].other_variant.as_deref(), Some(""));
        assert!((c.rows[0].ratio - 1.3).abs() < 1e-9);
        // A wider margin forgives the same ratio.
        assert_eq!(compare(&now, &before, 0.5, false).unwrap().regressions(), 0);
        assert_eq!(compare(&now, &before, 0.1, false).unwrap().regressions(), 1);
    }

    #[test]
    fn noise_is_no_regression() {
        let noisy = |shift: f64| (0..20).map(|i| shift + if i % 2 == 0 { 1.0 } else { 2.0 }).collect::<Vec<f64>>();
        let c = compare(&document(vec![row("a", &noisy(0.2))]), &document(vec![row("a", &noisy(0.0))]), 0.1, false);
        assert_eq!(c.unwrap().rows[0].verdict, Verdict::Same);
    }

    #[test]
    fn other_adapters_are_refused_unless_allowed() {
        let now = document(vec![row("a", &[1.0])]);
        let mut before = now.clone();
        before.driver = "d 2".into();
        let error = compare(&now, &before, 0.1, false).unwrap_err().to_string();
        assert!(error.contains("`d 2`") && error.contains("`d 1`") && error.contains("--any-adapter"), "{error}");
        assert_eq!(compare(&now, &before, 0.1, true).unwrap().rows.len(), 1);
        before.bench = "step".into();
        assert!(compare(&now, &before, 0.1, true).unwrap_err().to_string().contains("subcommand"));
    }
}
