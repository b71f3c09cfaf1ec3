//! Choices on disk: one readable file per adapter, driver and set of kernels in the user's cache folder, and the same
//! format in a run's folder.
//!
//! ```toml
//! adapter = "llvmpipe (LLVM 15.0.6, 256 bits)"
//! driver = "llvmpipe Mesa 25.0.7 (LLVM 15.0.6)"
//! kernels = "recurve 0.1.0, 0123456789abcdef"
//! choices = [
//!   { op = "conv2d", steps = 1, shape = { n = 32, cin = 16, … }, variant = { source = "subgroup", lanes = 8, … } },
//! ]
//! ```

use crate::kernels::choose::{Choices, ConvOp, Key, Variant, variants};
use crate::kernels::conv::{ConvShape, WeightTile};
use crate::kernels::{Target, fingerprint};
use crate::train::checkpoint::write_atomically;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What choices hold for: another driver or other kernels may rank variants differently, and round differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    adapter: String,
    driver: String,
    kernels: String,
}

impl Identity {
    /// This adapter, its driver, and the kernels of this program.
    pub fn of(target: &Target) -> Identity {
        let kernels = format!("recurve {}, {:016x}", env!("CARGO_PKG_VERSION"), fingerprint());
        Identity { adapter: target.name.clone(), driver: target.driver.clone(), kernels }
    }

    /// The file in the cache folder: the adapter's name for people, and a hash of everything.
    fn file_name(&self) -> String {
        let readable: String =
            self.adapter.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let parts: Vec<&str> = readable.split('-').filter(|part| !part.is_empty()).collect();
        let hash = crate::hash::fnv1a(format!("{self:?}").as_bytes());
        format!("choices-{:.40}-{hash:016x}.toml", parts.join("-"))
    }
}

/// A file of choices.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    adapter: String,
    driver: String,
    kernels: String,
    choices: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    op: ConvOp,
    steps: usize,
    shape: ConvShape,
    variant: Variant,
}

/// The text of a file.
pub fn to_toml(identity: &Identity, choices: &Choices) -> String {
    let Identity { adapter, driver, kernels } = identity;
    let mut text = String::from("# Kernel variants by shape, chosen by recurve.\n");
    for (key, content) in [("adapter", adapter), ("driver", driver), ("kernels", kernels)] {
        text += &format!("{key} = {}\n", inline(content));
    }
    text += "choices = [\n";
    for (key, variant) in &choices.tuned {
        let line = Line { op: key.op, steps: key.steps, shape: key.shape, variant: *variant };
        text += &format!("  {},\n", inline(&line));
    }
    text + "]\n"
}

fn inline(value: &impl Serialize) -> String {
    let mut text = String::new();
    value.serialize(toml::ser::ValueSerializer::new(&mut text)).expect("numbers and words become TOML");
    text
}

/// Reads a file; `None` if it is not there.
///
/// # Errors
/// A file that cannot be read, is damaged, is for another adapter, driver or set of kernels, or names a variant that does
/// not exist. The message names the file.
pub fn read(path: &Path, target: &Target) -> Result<Option<Choices>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path)(e)),
    };
    let wrong = |what: String| Error::Config(format!("{}: {what}", path.display()));
    let file: File = toml::from_str(&text).map_err(|e| wrong(format!("not a file of choices: {}", e.message())))?;
    let found = Identity { adapter: file.adapter, driver: file.driver, kernels: file.kernels };
    let expected = Identity::of(target);
    for (what, found, expected) in [
        ("adapter", &found.adapter, &expected.adapter),
        ("driver", &found.driver, &expected.driver),
        ("kernels", &found.kernels, &expected.kernels),
    ] {
        if found != expected {
            return Err(wrong(format!("these choices are for {what} `{found}`; expected `{expected}`")));
        }
    }
    let mut choices = Choices::default();
    for Line { op, steps, shape, variant } in file.choices {
        let key = Key { op, shape, steps };
        if !exists(target, &key, &variant) {
            return Err(wrong(format!("{key}: `{variant}` is no variant on this adapter")));
        }
        choices.tuned.insert(key, variant);
    }
    Ok(Some(choices))
}

/// Whether the kernels have this variant.
fn exists(target: &Target, key: &Key, variant: &Variant) -> bool {
    // Splits come from the shape, not from the list.
    let whole = |variant: &Variant| match variant {
        Variant::Weight(tile) => Variant::Weight(WeightTile { splits: 1, ..*tile }),
        Variant::Conv(_) => *variant,
    };
    let some = !matches!(variant, Variant::Weight(tile) if tile.splits == 0);
    let listed = variants(target, key.op, key.shape.k, key.shape.stride);
    some && listed.into_iter().chain([Choices::TABLE.variant(target, key)]).any(|known| whole(&known) == whole(variant))
}

/// Writes a file at once or not at all.
///
/// # Errors
/// What the operating system says.
pub fn write(path: &Path, target: &Target, choices: &Choices) -> Result<()> {
    write_atomically(path, to_toml(&Identity::of(target), choices).as_bytes()).map_err(Error::io(path))
}

/// The user's cache folder for this program: `$XDG_CACHE_HOME/recurve`, or where the platform keeps such things. `None`
/// without a home.
pub fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let platform = || {
        if cfg!(windows) {
            variable("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            Some(variable("HOME")?.join("Library/Caches"))
        } else {
            Some(variable("HOME")?.join(".cache"))
        }
    };
    variable("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(platform).map(|folder| folder.join("recurve"))
}

/// The cached choices for an adapter. A damaged file is passed over with a warning; the next [`remember`] replaces it.
pub fn recall(folder: Option<&Path>, target: &Target) -> Choices {
    let Some(folder) = folder else { return Choices::default() };
    read(&folder.join(Identity::of(target).file_name()), target).map(Option::unwrap_or_default).unwrap_or_else(
        |error| {
            eprintln!("warning: {error}; it is passed over");
            Choices::default()
        },
    )
}

/// Keeps choices in the cache, beside those for other shapes. Where that is impossible the run goes on: a warning says so.
pub fn remember(folder: Option<&Path>, target: &Target, choices: &Choices) {
    let Some(folder) = folder else {
        eprintln!(
            "warning: no cache folder (neither XDG_CACHE_HOME nor a home is set): choices are not kept for later runs"
        );
        return;
    };
    let mut all = recall(Some(folder), target);
    all.tuned.extend(&choices.tuned);
    let path = folder.join(Identity::of(target).file_name());
    let kept = std::fs::create_dir_all(folder).map_err(Error::io(folder)).and_then(|()| write(&path, target, &all));
    if let Err(error) = kept {
        eprintln!("warning: {error}; choices are not kept for later runs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { name: "Some \"GPU\" (α)".into(), driver: "1.2".into(), cpu: true, subgroup: 8, ..Target::minimum() }
    }

    fn some() -> Choices {
        let mut choices = Choices::default();
        for (op, steps, k) in [(ConvOp::Conv2d, 1, 3), (ConvOp::ConvTranspose2d, 1, 5), (ConvOp::Conv2dDWeight, 5, 3)] {
            for cin in [3, 16] {
                let key = Key { op, steps, shape: ConvShape::same(32, cin, 16, 8, 8, k) };
                choices.tuned.insert(
                    key,
                    crate::tune::model::candidates(&target(), &key, &Choices::TABLE.variant(&target(), &key))[0],
                );
            }
        }
        choices
    }

    #[test]
    fn what_is_remembered_is_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("not/yet/there");
        assert_eq!(recall(Some(&cache), &target()), Choices::default());
        remember(Some(&cache), &target(), &some());
        assert_eq!(recall(Some(&cache), &target()), some());
        // One line a shape, and what another run found is kept.
        let file = cache.join(Identity::of(&target()).file_name());
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().filter(|l| l.contains("variant = {")).count(), 6, "{text}");
        let key = Key { op: ConvOp::Conv2d, steps: 1, shape: ConvShape::same(1, 1, 1, 1, 1, 1) };
        let more = Choices { tuned: [(key, Choices::TABLE.variant(&target(), &key))].into(), ..Choices::default() };
        remember(Some(&cache), &target(), &more);
        assert_eq!(recall(Some(&cache), &target()).tuned.len(), 7);
        // Another driver does not see them.
        let other = Target { driver: "1.3".into(), ..target() };
        assert_eq!(recall(Some(&cache), &other), Choices::default());
    }

    #[test]
    fn variants_are_written_as_ever() {
        // Lines of files from before Winograd's tiles had a type of their own.
        let old = r#"adapter = "a"
driver = "b"
kernels = "c"
choices = [
  { op = "conv2d", steps = 1, shape = { n = 32, cin = 3, cout = 16, in_h = 8, in_w = 8, out_h = 8, out_w = 8, k = 3, stride = 1 }, variant = { source = "subgroup", lanes = 8, r = 16, nv = 4, vec = 2 } },
  { op = "conv2d_d_weight", steps = 5, shape = { n = 32, cin = 64, cout = 64, in_h = 8, in_w = 8, out_h = 8, out_w = 8, k = 3, stride = 1 }, variant = { source = "subgroup", lanes = 8, r = 32, nv = 1, vec = 4, winograd = 4 } },
  { op = "conv2d_d_weight", steps = 5, shape = { n = 32, cin = 3, cout = 16, in_h = 8, in_w = 8, out_h = 8, out_w = 8, k = 3, stride = 1 }, variant = { along = "channels", subgroup = true, lanes = 8, r = 2, c = 8, unroll = 1, vec = 4, splits = 3 } },
]
"#;
        let file: File = toml::from_str(old).unwrap();
        let shown: Vec<String> = file.choices.iter().map(|line| line.variant.to_string()).collect();
        let expected = ["subgroup l8 r16 nv4 v2", "subgroup l8 r32 nv1 v4 f4", "channels subgroup l8 r2 c8 u1 v4 s3"];
        assert_eq!(shown, expected);
        let lines = file.choices.iter().map(inline).map(|line| format!("  {line},\n"));
        assert!(old.contains(&lines.collect::<String>()), "written in another form");
        for side in ["0", "1", "3", "-4"] {
            let wrong = old.replace("winograd = 4", &format!("winograd = {side}"));
            assert!(toml::from_str::<File>(&wrong).is_err(), "tiles of {side} outputs");
        }
    }

    #[test]
    fn damaged_files_are_named_passed_over_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Identity::of(&target()).file_name());
        let good = to_toml(&Identity::of(&target()), &some());
        let subgroup = &good.replace("\"subgroup\"", "\"telepathy\"");
        for (what, text) in [
            ("half", &good[..good.len() / 2]),
            ("no TOML", "\u{1}"),
            ("empty", ""),
            ("another driver", &good.replace("driver = \"1.2\"", "driver = \"1.1\"")),
            ("another source", subgroup),
            ("a key too much", &(good.clone() + "more = 1\n")),
            ("no such variant", &good.replace("lanes = ", "lanes = 1000")),
        ] {
            assert!(what == "half" || text != good, "{what}: the text was changed");
            std::fs::write(&path, text).unwrap();
            let error = read(&path, &target()).expect_err(what).to_string();
            assert!(error.contains("choices-some-gpu-"), "{what}: {error}");
            assert_eq!(recall(Some(folder.path()), &target()), Choices::default(), "{what}");
            remember(Some(folder.path()), &target(), &some());
            assert_eq!(recall(Some(folder.path()), &target()), some(), "{what}");
        }
    }
}
