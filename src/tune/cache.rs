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

use super::model::most_splits;
use crate::files::{self, write_atomically};
use crate::kernels::choose::{Choices, ConvOp, Key, Variant, variants};
use crate::kernels::conv::{ConvShape, Tile, WeightTile};
use crate::kernels::{Target, fingerprint};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Bytes of a file of choices at most; a thousand shapes have some 300 KB.
const MOST_BYTES: u64 = 16 << 20;
/// Largest number of images, channels, rows, columns or timesteps in a file of choices.
const MOST_EXTENT: usize = 1 << 24;
/// Largest kernel size that a file may name.
const MOST_KERNEL: usize = 31;

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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    adapter: String,
    driver: String,
    kernels: String,
    choices: Vec<Table>,
}

/// An entry of `choices`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<V> {
    op: ConvOp,
    steps: usize,
    shape: ConvShape,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    half: bool,
    variant: V,
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
        let line = Entry { op: key.op, steps: key.steps, shape: key.shape, half: key.half, variant: *variant };
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
/// A file that cannot be read, is damaged, is for another adapter, driver or set of kernels, or has an entry that is no shape of
/// a convolution or no variant on this adapter. The message names the file, the entry and its key, what was found and what is
/// allowed.
pub fn read(path: &Path, target: &Target) -> Result<Option<Choices>> {
    let text = match files::read_text(path, MOST_BYTES) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path)(e)),
    };
    parse(&text, target).map(Some).map_err(|what| Error::Config(format!("{}: {what}", path.display())))
}

/// The choices in a file's text; the error says what is wrong with it.
pub(crate) fn parse(text: &str, target: &Target) -> Result<Choices, String> {
    let file: File = toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| format!(" in line {}", text[..span.start].matches('\n').count() + 1));
        format!("not a file of choices{}: {}", line.unwrap_or_default(), e.message())
    })?;
    let found = Identity { adapter: file.adapter, driver: file.driver, kernels: file.kernels };
    let expected = Identity::of(target);
    for (what, found, expected) in [
        ("adapter", &found.adapter, &expected.adapter),
        ("driver", &found.driver, &expected.driver),
        ("kernels", &found.kernels, &expected.kernels),
    ] {
        if found != expected {
            return Err(format!("these choices are for {what} `{found}`; expected `{expected}`"));
        }
    }
    let mut choices = Choices::default();
    for (number, table) in (1..).zip(file.choices) {
        let (key, variant) = entry(table, target).map_err(|what| format!("entry {number} of choices: {what}"))?;
        if choices.tuned.insert(key, variant).is_some() {
            return Err(format!("entry {number} of choices: there is another one for {key}"));
        }
    }
    Ok(choices)
}

/// An entry: its members are there, of their types and nothing else, and make sense.
fn entry(table: Table, target: &Target) -> Result<(Key, Variant), String> {
    let variant = table.get("variant").and_then(Value::as_table);
    let has = |member: &str| variant.is_some_and(|variant| variant.contains_key(member));
    let (key, variant) = match (has("source"), has("along")) {
        (false, true) => {
            let Entry { op, steps, shape, half, variant } = typed::<WeightTile>(table)?;
            (Key { op, shape, steps, half }, Variant::Weight(variant))
        }
        (true, false) => {
            let Entry { op, steps, shape, half, variant } = typed::<Tile>(table)?;
            (Key { op, shape, steps, half }, Variant::Conv(variant))
        }
        _ => return Err("`variant` needs either `source`, or `along` (of a weight gradient)".into()),
    };
    check_key(&key)?;
    check_variant(&key, &variant, target).map_err(|what| format!("{key}: {what}"))?;
    Ok((key, variant))
}

fn typed<V: Serialize + DeserializeOwned>(table: Table) -> Result<Entry<V>, String> {
    let entry: Entry<V> = serde_path_to_error::deserialize(Value::Table(table.clone()))
        .map_err(|e| format!("`{}`: {}", e.path(), e.inner().message()))?;
    let known = Value::try_from(&entry).expect("numbers and words become TOML");
    for part in ["shape", "variant"] {
        let members = |of: &Table| of.keys().cloned().collect::<BTreeSet<String>>();
        let of = |all: Option<&Value>| all.and_then(Value::as_table).map(members).unwrap_or_default();
        let (found, known) = (of(table.get(part)), of(known.get(part)));
        // These are not written where they are 0, 1 and false, and need not be there.
        let optional: &[&str] = if known.contains("source") { &["winograd", "terms", "wide"] } else { &["wide"] };
        let optional = |member: &&String| part == "variant" && optional.contains(&member.as_str());
        if let Some(more) = found.difference(&known).find(|member| !optional(member)) {
            let known = Vec::from_iter(known.iter().map(String::as_str)).join(", ");
            return Err(format!("`{part}.{more}` is unknown; there are {known}"));
        }
    }
    Ok(entry)
}

/// Whether a key is the shape of a convolution: everything that computes with it may divide by its extents, and 32-bit indices
/// reach all of its maps.
fn check_key(key: &Key) -> Result<(), String> {
    let Key { op, shape, steps, half } = *key;
    let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, stride } = shape;
    let wrong = |what: &str, found: usize, allowed: &str| Err(format!("`{what}` is {found}, allowed is {allowed}"));
    let extents = [
        ("shape.n", n),
        ("shape.cin", cin),
        ("shape.cout", cout),
        ("shape.in_h", in_h),
        ("shape.in_w", in_w),
        ("shape.out_h", out_h),
        ("shape.out_w", out_w),
        ("steps", steps),
    ];
    for (what, found) in extents {
        if !(1..=MOST_EXTENT).contains(&found) {
            return wrong(what, found, &format!("1 to {MOST_EXTENT}"));
        }
    }
    if half && !n.is_multiple_of(2) {
        return wrong("shape.n", n, "an even number where maps are in f16");
    }
    if op != ConvOp::Conv2dDWeight && steps > 1 {
        return wrong("steps", steps, &format!("1 for {}", op.name()));
    }
    if !(1..=MOST_KERNEL).contains(&k) || k.is_multiple_of(2) {
        return wrong("shape.k", k, &format!("an odd number from 1 to {MOST_KERNEL}"));
    }
    let strides: &[usize] = if op == ConvOp::ConvTranspose2d { &[2, 4] } else { &[1, 2, 4] };
    if !strides.contains(&stride) {
        return wrong("shape.stride", stride, &format!("{strides:?} for {}", op.name()));
    }
    let sides = [("shape.in_h", in_h, "shape.out_h", out_h), ("shape.in_w", in_w, "shape.out_w", out_w)];
    for (from, from_is, to, to_is) in sides {
        // A transposed convolution leads from the small map to the large one.
        let (large, large_is, small, small_is) = match op {
            ConvOp::ConvTranspose2d => (to, to_is, from, from_is),
            _ => (from, from_is, to, to_is),
        };
        if large_is != stride * small_is {
            return wrong(
                small,
                small_is,
                &format!("`{large}` / `shape.stride`, {large_is} / {stride} without a rest"),
            );
        }
    }
    let products: [(&str, &[usize]); 3] = [
        ("steps n cin in_h in_w", &[steps, n, cin, in_h, in_w]),
        ("steps n cout out_h out_w", &[steps, n, cout, out_h, out_w]),
        ("cout cin k k", &[cout, cin, k, k]),
    ];
    for (what, factors) in products {
        let count = factors.iter().try_fold(1_usize, |product, factor| product.checked_mul(*factor));
        if count.is_none_or(|count| count > u32::MAX as usize) {
            return Err(format!(
                "`shape` has a map or weight of {what} = {factors:?} values, at most {} are allowed",
                u32::MAX
            ));
        }
    }
    Ok(())
}

/// Whether this adapter has a variant for a key; else the member that no variant has so, or that it is a combination that none
/// has.
fn check_variant(key: &Key, variant: &Variant, target: &Target) -> Result<(), String> {
    let of_table = Choices::TABLE.variant(target, key);
    let mut listed: Vec<Variant> =
        variants(target, key.op, key.shape.k, key.shape.stride).into_iter().chain([of_table]).collect();
    let mut variant = *variant;
    // Splits come from the shape, not from the list.
    for listed in &mut listed {
        if let Variant::Weight(tile) = listed {
            tile.splits = 1;
        }
    }
    if let Variant::Weight(tile) = &mut variant {
        let most = most_splits(target, key);
        if !(1..=most).contains(&tile.splits) {
            return Err(format!("`variant.splits` is {}, allowed is 1 to {most}", tile.splits));
        }
        tile.splits = 1;
    }
    if listed.contains(&variant) {
        return Ok(());
    }
    let found = members(&variant);
    let kind: Vec<Table> = listed.iter().map(members).filter(|other| other.keys().eq(found.keys())).collect();
    let everything: BTreeSet<String> = listed.iter().map(ToString::to_string).collect();
    let everything = Vec::from_iter(everything).join("; ");
    if kind.is_empty() {
        return Err(format!("`{variant}` is no variant of {}; there are on this adapter: {everything}", key.op.name()));
    }
    for (member, value) in &found {
        let mut allowed: Vec<&Value> = Vec::new();
        for other in kind.iter().map(|other| &other[member]) {
            if !allowed.contains(&other) {
                allowed.push(other);
            }
        }
        if !allowed.contains(&value) {
            allowed.sort_by_key(|value| value.as_integer());
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            return Err(format!("`variant.{member}` is {value}, allowed on this adapter is {}", allowed.join(" or ")));
        }
    }
    Err(format!(
        "`{variant}` is no variant, though each of its members is of one; there are on this adapter: {everything}"
    ))
}

/// A variant's members, all of them.
fn members(variant: &Variant) -> Table {
    let Ok(Value::Table(mut members)) = Value::try_from(variant) else { unreachable!("a variant has members") };
    match variant {
        Variant::Conv(tile) => {
            members.insert("winograd".into(), Value::Integer(tile.winograd.map_or(0, |outputs| outputs.side() as i64)));
            members.insert("terms".into(), Value::Integer(tile.terms as i64));
            members.insert("wide".into(), Value::Boolean(tile.wide));
        }
        Variant::Weight(tile) => _ = members.insert("wide".into(), Value::Boolean(tile.wide)),
    }
    members
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
    use crate::graph::compile::{Request, compile};
    use crate::network::{NetworkConfig, Preset, Schedule};

    fn target() -> Target {
        Target { name: "Some \"GPU\" (α)".into(), driver: "1.2".into(), cpu: true, subgroup: 8, ..Target::minimum() }
    }

    fn some() -> Choices {
        let mut choices = Choices::default();
        for (op, steps, k) in [(ConvOp::Conv2d, 1, 3), (ConvOp::ConvTranspose2d, 1, 5), (ConvOp::Conv2dDWeight, 5, 3)] {
            for cin in [3, 16] {
                let shape = match op {
                    ConvOp::ConvTranspose2d => ConvShape::transposed(32, cin, 16, [8, 8], k, 2),
                    _ => ConvShape::same(32, cin, 16, 8, 8, k),
                };
                let key = Key { op, steps, shape, half: cin == 16 };
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
        let key = Key { op: ConvOp::Conv2d, steps: 1, shape: ConvShape::same(1, 1, 1, 1, 1, 1), half: false };
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
  { op = "conv2d_d_weight", steps = 5, shape = { n = 32, cin = 64, cout = 64, in_h = 8, in_w = 8, out_h = 8, out_w = 8, k = 3, stride = 1 }, variant = { source = "subgroup", lanes = 8, r = 32, nv = 1, vec = 4, terms = 4, winograd = 4 } },
  { op = "conv2d_d_weight", steps = 5, shape = { n = 32, cin = 3, cout = 16, in_h = 8, in_w = 8, out_h = 8, out_w = 8, k = 3, stride = 1 }, variant = { along = "channels", subgroup = true, lanes = 8, r = 2, c = 8, unroll = 1, vec = 4, splits = 3 } },
]
"#;
        let file: File = toml::from_str(old).unwrap();
        let read: Vec<(Key, Variant)> =
            file.choices.iter().map(|table| entry(table.clone(), &target()).unwrap()).collect();
        let shown: Vec<String> = read.iter().map(|(_, variant)| variant.to_string()).collect();
        let expected =
            ["subgroup l8 r16 nv4 v2", "subgroup l8 r32 nv1 v4 t4 f4", "channels subgroup l8 r2 c8 u1 v4 s3"];
        assert_eq!(shown, expected);
        let written =
            to_toml(&Identity::of(&target()), &Choices { tuned: read.into_iter().collect(), ..Choices::default() });
        for line in old.lines().filter(|line| line.contains("variant = {")) {
            assert!(written.contains(line), "written in another form: {written}");
        }
        for side in ["0", "1", "3", "-4"] {
            let wrong = old.replace("winograd = 4", &format!("winograd = {side}"));
            assert!(parse(&wrong, &target()).is_err(), "tiles of {side} outputs");
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

    /// The choices of a small network on an adapter: the last candidate of each shape, so that not all are the table's.
    fn of_network(config: &NetworkConfig, target: &Target, choices: &Choices) -> crate::Result<Choices> {
        let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
        let uses = compile(&Request { choices, ..Request::training(&network, &schedule, 2, target) })?.uses;
        let last = |key: &Key, present: &Variant| {
            crate::tune::model::candidates(target, key, present).last().copied().unwrap_or(*present)
        };
        Ok(Choices {
            tuned: uses.iter().map(|(key, used)| (*key, last(key, &used.variant))).collect(),
            ..Choices::default()
        })
    }

    fn network() -> NetworkConfig {
        let area_channels = [4, 4, 8, 8];
        NetworkConfig { image_size: 8, stem_channels: 4, area_channels, timesteps: 2, ..Preset::Tiny.network() }
    }

    #[test]
    fn a_wrong_member_is_named_with_what_is_allowed() {
        let good = to_toml(&Identity::of(&target()), &some());
        assert_eq!(parse(&good, &target()), Ok(some()));
        let entry = |op: &str| good.lines().find(|line| line.contains(op)).expect("all three are there");
        let with = |op: &str, from: &str, to: &str| {
            let old = entry(op);
            let start = old.find(&format!("{from} = ")).unwrap_or_else(|| panic!("{from} in {old}"));
            let end = start + old[start..].find([',', '}']).expect("more follows");
            good.replace(old, &format!("{}{to}{}", &old[..start], &old[end..]))
        };
        let conv = "\"conv2d\"";
        for (text, words) in [
            (with(conv, "cin", "cin = 0"), ["entry 1", "`shape.cin` is 0", "1 to 16777216"]),
            (with(conv, "n", "n = -1"), ["entry 1", "`shape.n`", "-1"]),
            (with(conv, "k", "k = 4"), ["entry 1", "`shape.k` is 4", "odd"]),
            (with(conv, "stride", "stride = 3"), ["entry 1", "`shape.stride` is 3", "[1, 2, 4]"]),
            (with(conv, "stride", "stride = 2"), ["entry 1", "`shape.out_h` is 8", "8 / 2"]),
            (with(conv, "steps", "steps = 0"), ["entry 1", "`steps` is 0", "1 to"]),
            (with(conv, "steps", "steps = 2"), ["entry 1", "`steps` is 2", "1 for conv2d"]),
            (with(conv, "cout", "cout = 16777216"), ["entry 1", "16777216", "4294967295"]),
            (with(conv, "lanes", "lanes = 7"), ["entry 1", "`variant.lanes` is 7", "8"]),
            (with(conv, "vec", "vec = 3"), ["entry 1", "`variant.vec` is 3", "1 or 2 or 4"]),
            (with(conv, "vec", "vec = true"), ["entry 1", "`variant.vec`", "true"]),
            (with(conv, "vec", "vac = 1"), ["entry 1", "vec", "missing"]),
            (with(conv, "vec", "vec = 1, more = 1"), ["entry 1", "`variant.more`", "unknown"]),
            (with(conv, "stride", "stride = 1, more = 1"), ["entry 1", "`shape.more`", "unknown"]),
            (with("\"conv_transpose2d\"", "stride", "stride = 1"), ["entry 3", "`shape.stride` is 1", "[2, 4]"]),
            (with(conv, "vec", "vec = 1, terms = 3"), ["entry 1", "`variant.terms` is 3", "1"]),
            (with(conv, "vec", "vec = 1, wide = true"), ["entry 1", "`variant.wide` is true", "false"]),
            (with("d_weight", "splits", "splits = 0"), ["entry 5", "`variant.splits` is 0", "1 to"]),
            (with("d_weight", "splits", "splits = 99999999"), ["entry 5", "`variant.splits`", "1 to"]),
            (with("d_weight", "unroll", "unroll = 3"), ["entry 5", "`variant.unroll` is 3", "1 or"]),
            (good.replace(entry(conv), &format!("{0}\n{0}", entry(conv))), ["entry 2", "another", "conv2d 32x3"]),
        ] {
            let error = parse(&text, &target()).expect_err(&format!("{words:?}"));
            assert!(words.iter().all(|w| error.contains(w)), "{words:?}: {error}");
        }
    }

    /// Every member of every kind of entry replaced, left out or doubled; every byte left out or another; every torn length.
    /// What is read all the same must be something that can be compiled.
    #[test]
    fn no_edit_of_a_file_is_a_panic() {
        let gpu = Target { cpu: false, subgroup: 32, max_binding: 1 << 30, ..target() };
        for target in [target(), Target { subgroup: 0, ..target() }, gpu] {
            let config = network();
            let whole = of_network(&config, &target, Choices::TABLE).expect("the table compiles");
            // Of the entries that are alike one will do.
            let mut few = Choices::default();
            for (key, variant) in &whole.tuned {
                let alike = |(other, v): (&Key, &Variant)| {
                    (other.op, other.shape.k, other.shape.stride) == (key.op, key.shape.k, key.shape.stride)
                        && members(v).keys().eq(members(variant).keys())
                };
                if !few.tuned.iter().any(alike) {
                    few.tuned.insert(*key, *variant);
                }
            }
            let good = to_toml(&Identity::of(&target), &few);
            assert_eq!(parse(&good, &target).as_ref(), Ok(&few));
            let mut texts = Vec::new();
            for (at, _) in good.char_indices() {
                let (before, after) = good.split_at(at);
                let rest: String = after.chars().skip(1).collect();
                texts.push(before.to_string());
                texts.push(format!("{before}{rest}"));
                texts.extend(["0", "-", "\"", "\n", "x"].map(|other| format!("{before}{other}{rest}")));
            }
            for (at, _) in good.match_indices(" = ") {
                let end = at + good[at..].find([',', '}', '\n']).expect("each value ends");
                let start = good[..at].rfind([' ', '\n']).map_or(0, |space| space + 1);
                for value in VALUES {
                    texts.push(format!("{} = {value}{}", &good[..at], &good[end..]));
                }
                texts.push(format!("{}more = 1{}", &good[..start], &good[end..]));
                texts.push(format!("{}more = 1, {}", &good[..start], &good[start..]));
            }
            let (mut read, mut refused) = (Vec::new(), 0);
            for text in &texts {
                match parse(text, &target) {
                    Ok(choices) if choices == few || read.contains(&choices) => {}
                    Ok(choices) => read.push(choices),
                    Err(error) => {
                        assert!(!error.is_empty());
                        refused += 1;
                    }
                }
            }
            assert!(refused > texts.len() / 2, "{refused} of {} refused", texts.len());
            // All together, so that kernels compile once: what concerns a shape of the network comes by turns.
            let mut turns: Vec<Choices> = Vec::new();
            for (key, variant) in
                read.iter().flat_map(|choices| &choices.tuned).filter(|(k, _)| whole.tuned.contains_key(k))
            {
                if turns.iter().any(|turn| turn.tuned.get(key) == Some(variant)) {
                    continue;
                }
                match turns.iter_mut().find(|turn| !turn.tuned.contains_key(key)) {
                    Some(turn) => _ = turn.tuned.insert(*key, *variant),
                    None => turns.push(Choices { tuned: [(*key, *variant)].into(), ..Choices::default() }),
                }
            }
            assert!(turns.len() > 1, "some edits are other variants");
            for turn in turns {
                of_network(&config, &target, &turn).unwrap_or_else(|e| panic!("{turn:?}: {e}"));
            }
        }
    }

    /// Values for any member.
    const VALUES: [&str; 24] = [
        "-1",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "16",
        "32",
        "33",
        "64",
        "65536",
        "16777216",
        "4294967296",
        "9223372036854775807",
        "1.5",
        "nan",
        "true",
        "\"subgroup\"",
        "[]",
        "{}",
    ];
}
