//! Names of published files, which say what tensors cannot:
//! `b64_l_1_t_0_ltinteract_additive_T_10_ltposition_all_num_1.pth`, for 128 pixels with `classifier_bias_0_norm_LN` before
//! `num`, and `_epoch_29` (`_epoch_-1`: untrained) at the end of all but the final ones.

use crate::network::{Interaction, LtPosition, Normalisation};
use std::path::{Path, PathBuf};

/// What a published file's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedName {
    /// Side of the pictures in pixels: `b64`.
    pub image_size: usize,
    /// `l_1`: lateral connections.
    pub lateral: bool,
    /// `t_1`: top-down connections.
    pub topdown: bool,
    /// `ltinteract_additive`; `None` in names of one-step networks.
    pub interaction: Option<Interaction>,
    /// `T_10`.
    pub timesteps: usize,
    /// `ltposition_all`; `None` in names of one-step networks.
    pub lt_position: Option<LtPosition>,
    /// `classifier_bias_0`.
    pub readout_bias: Option<bool>,
    /// `norm_LN`.
    pub norm: Option<Normalisation>,
    /// `epoch_29`: epochs counted from 0; -1 before training; `None` for the final network.
    pub epoch: Option<i64>,
    /// The name without epoch and ending.
    stem: String,
}

impl PublishedName {
    /// Reads the name of a file; `None` where it is not one of these.
    pub fn of(path: &Path) -> Option<PublishedName> {
        let whole = path.file_stem()?.to_str()?;
        let (stem, epoch) = match whole.rsplit_once("_epoch_") {
            Some((stem, epoch)) => (stem, Some(epoch.parse().ok()?)),
            None => (whole, None),
        };
        let mut words = Words(stem);
        let image_size = words.before("_l_")?.strip_prefix('b')?.parse().ok()?;
        let lateral = flag(words.before("_t_")?)?;
        let topdown = flag(words.before("_ltinteract_")?)?;
        let interaction = match words.before("_T_")? {
            "additive" => Some(Interaction::Additive),
            "multiplicative" => Some(Interaction::Multiplicative),
            "None" => None,
            _ => return None,
        };
        let timesteps = words.before("_ltposition_")?.parse().ok()?;
        let (middle, _) = words.0.rsplit_once("_num_")?;
        let (position, rest) = match middle.split_once("_classifier_bias_") {
            Some((position, rest)) => (position, Some(rest.split_once("_norm_")?)),
            None => (middle, None),
        };
        let lt_position = match position {
            "all" => Some(LtPosition::All),
            "last" => Some(LtPosition::Last),
            "None" => None,
            _ => return None,
        };
        let (readout_bias, norm) = match rest {
            None => (None, None),
            Some((bias, "LN")) => (Some(flag(bias)?), Some(Normalisation::Layer)),
            Some((bias, "None")) => (Some(flag(bias)?), Some(Normalisation::None)),
            Some(_) => return None,
        };
        let stem = stem.to_string();
        Some(PublishedName {
            image_size,
            lateral,
            topdown,
            interaction,
            timesteps,
            lt_position,
            readout_bias,
            norm,
            epoch,
            stem,
        })
    }

    /// Where the untrained twin of the network in `path`, whose name this is, would lie; `None` for a twin itself.
    pub fn untrained(&self, path: &Path) -> Option<PathBuf> {
        let mut name = format!("{}_epoch_-1", self.stem);
        if let Some(ending) = path.extension() {
            name = format!("{name}.{}", ending.to_string_lossy());
        }
        (self.epoch != Some(-1)).then(|| path.with_file_name(name))
    }
}

/// The rest of a name.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// Takes what stands before `word`, and `word`.
    fn before(&mut self, word: &str) -> Option<&'a str> {
        let (found, rest) = self.0.split_once(word)?;
        self.0 = rest;
        Some(found)
    }
}

/// `1` or `0`; Python writes flags that were given as such as `True` and `False`.
fn flag(word: &str) -> Option<bool> {
    match word {
        "1" | "True" => Some(true),
        "0" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<PublishedName> {
        PublishedName::of(&Path::new("nets").join(name))
    }

    #[test]
    fn published_names() {
        let name = of("b64_l_1_t_0_ltinteract_additive_T_10_ltposition_all_num_1.pth").unwrap();
        assert_eq!((name.image_size, name.lateral, name.topdown, name.timesteps), (64, true, false, 10));
        assert_eq!((name.interaction, name.lt_position), (Some(Interaction::Additive), Some(LtPosition::All)));
        assert_eq!((name.readout_bias, name.norm, name.epoch), (None, None, None));
        let path = Path::new("nets/b64_l_1_t_0_ltinteract_additive_T_10_ltposition_all_num_1.pth");
        let twin = name.untrained(path).unwrap();
        assert_eq!(twin, Path::new("nets/b64_l_1_t_0_ltinteract_additive_T_10_ltposition_all_num_1_epoch_-1.pth"));
        let untrained = PublishedName::of(&twin).unwrap();
        assert_eq!((untrained.epoch, untrained.untrained(&twin)), (Some(-1), None));

        let wide = "b128_l_0_t_1_ltinteract_multiplicative_T_10_ltposition_last_classifier_bias_1_norm_None_num_2_epoch_29.pth";
        let name = of(wide).unwrap();
        assert_eq!((name.image_size, name.lateral, name.topdown), (128, false, true));
        assert_eq!((name.interaction, name.lt_position), (Some(Interaction::Multiplicative), Some(LtPosition::Last)));
        assert_eq!((name.readout_bias, name.norm, name.epoch), (Some(true), Some(Normalisation::None), Some(29)));
        assert!(name.untrained(Path::new(wide)).unwrap().to_str().unwrap().ends_with("norm_None_num_2_epoch_-1.pth"));

        let one = of("b64_l_0_t_0_ltinteract_None_T_1_ltposition_None_num_1.pth").unwrap();
        assert_eq!((one.interaction, one.lt_position, one.timesteps), (None, None, 1));
    }

    #[test]
    fn other_names_say_nothing() {
        for name in [
            "blt_small.pth",
            "",
            "b64_l_1.pth",
            "b64_l_2_t_0_ltinteract_additive_T_10_ltposition_all_num_1.pth",
            "b64_l_1_t_0_ltinteract_additive_T_ten_ltposition_all_num_1.pth",
            "b64_l_1_t_0_ltinteract_sum_T_10_ltposition_all_num_1.pth",
            "b64_l_1_t_0_ltinteract_additive_T_10_ltposition_first_num_1.pth",
            "b64_l_1_t_0_ltinteract_additive_T_10_ltposition_all_num_1_epoch_last.pth",
            "b128_l_1_t_0_ltinteract_additive_T_10_ltposition_all_classifier_bias_0_num_1.pth",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
