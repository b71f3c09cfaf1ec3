//! A loss scale that follows the gradients, as PyTorch's GradScaler does, and Adam's bias corrections where steps may be skipped.

/// What a run in mixed precision carries from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// What the loss is multiplied by.
    pub scale: f64,
    /// Good steps since it changed.
    pub good: f64,
    /// Skipped steps.
    pub skipped: f64,
    /// 1 - beta1^t over the steps that were not skipped.
    pub c1: f64,
    /// 1 - beta2^t.
    pub c2: f64,
}

impl LossScale {
    /// After a step whose gradients have this norm: halved where that is not finite, doubled after `growth` good steps. `d1` and `d2`:
    /// 1 - beta1 and 1 - beta2.
    pub fn after(self, norm: f64, (d1, d2): (f64, f64), growth: f64) -> LossScale {
        if !norm.is_finite() {
            return LossScale { scale: self.scale / 2.0, good: 0.0, skipped: self.skipped + 1.0, ..self };
        }
        let grows = self.good + 1.0 >= growth;
        LossScale {
            scale: if grows { (2.0 * self.scale).min(2.0_f64.powi(100)) } else { self.scale },
            good: if grows { 0.0 } else { self.good + 1.0 },
            skipped: self.skipped,
            c1: 1.0 - (1.0 - self.c1) * (1.0 - d1),
            c2: 1.0 - (1.0 - self.c2) * (1.0 - d2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let new = LossScale { scale: 65_536.0, good: 0.0, skipped: 0.0, c1: 0.0, c2: 0.0 };
        let good = new.after(3.0, (0.1, 0.001), 2.0);
        assert_eq!((good.scale, good.good, good.skipped), (65_536.0, 1.0, 0.0));
        assert!((good.c1 - 0.1).abs() < 1e-12 && (good.c2 - 0.001).abs() < 1e-12);
        let skipped = good.after(f64::INFINITY, (0.1, 0.001), 2.0);
        assert_eq!((skipped.scale, skipped.good, skipped.skipped, skipped.c1), (32_768.0, 0.0, 1.0, good.c1));
        let grown = good.after(3.0, (0.1, 0.001), 2.0);
        assert_eq!((grown.scale, grown.good), (131_072.0, 0.0));
        assert!((grown.c1 - 0.19).abs() < 1e-12);
    }
}
