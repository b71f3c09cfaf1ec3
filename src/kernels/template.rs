//! From a WGSL file to the text of one variant.
//!
//! A kernel file is plain WGSL plus a few directives in comments, so that an editor still reads it as WGSL:
//!
//! ```text
//! //#if FLAG        //#if !FLAG       keep the lines up to //#else or //#endif if FLAG is (not) set
//! //#for i in 0..R                    repeat the lines up to //#end with `$i` replaced by each number
//! //#include NAME                     the text of shaders/shared/NAME.wgsl
//! //#map NAME                         how the map that is bound as NAME is read and written: shaders/shared/map.wgsl, with `$map`
//!                                     replaced by NAME, HALF set if it is of halves, and SINGLE if elements are single images
//! $sum{l: MATRIX[ROW] TEXT}           the sum over l of MATRIX[ROW][l] * TEXT, `$l` replaced by each column; a matrix of
//!                                     `interpolation.rs`
//! $(EXPRESSION)                       its value: + - * / % of numbers, constants and loop variables
//! ```
//!
//! Bounds of a `for` are numbers or the names of constants. Each constant of a variant is written in front of the
//! text as `const NAME: u32 = …u;`, so tile sizes are ordinary WGSL constants. `$(…)` is for what is repeated hundreds of
//! times: naga's time grows with the square of the number of expressions in a function.

use super::interpolation;
use std::collections::{BTreeMap, BTreeSet};

/// What distinguishes one variant of a kernel from another: constants (tile sizes) and flags (which lines are kept).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Settings {
    /// Constants, written in front of the text.
    constants: BTreeMap<&'static str, u32>,
    /// Flags that are set.
    flags: Vec<&'static str>,
    /// Bindings that are maps of halves, see `shaders/shared/half.wgsl`.
    halves: BTreeSet<&'static str>,
}

impl Settings {
    /// No constants, no flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a constant.
    pub fn set(mut self, name: &'static str, value: u32) -> Self {
        self.constants.insert(name, value);
        self
    }

    /// Sets a flag if `on`.
    pub fn flag(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.flags.push(name);
            self.flags.sort_unstable();
        }
        self
    }

    /// Lets a lane serve `vec` neighbouring images as one vector: 1, 2 or 4. See `shaders/shared/vectors.wgsl`.
    pub fn images(self, vec: usize) -> Self {
        self.flag("VEC2", vec == 2).flag("VEC4", vec == 4)
    }

    /// Lets vectors of images be loaded and stored as words of 64 bits, if there are vectors. See
    /// `shaders/shared/stored.wgsl`.
    pub fn wide_images(self, wide: bool) -> Self {
        let vectors = self.is_set("VEC2") || self.is_set("VEC4");
        self.flag("WIDE_IMAGES", wide && vectors)
    }

    /// Lets the map that is bound under this name be one of halves.
    pub fn half(mut self, name: &'static str) -> Self {
        self.halves.insert(name);
        if self.is_set(HALVES) { self } else { self.flag(HALVES, true) }
    }

    /// Whether a binding is a map of halves.
    pub fn is_half(&self, name: &str) -> bool {
        self.halves.contains(name)
    }

    /// The value of a constant.
    pub fn constant(&self, name: &str) -> Option<u32> {
        self.constants.get(name).copied()
    }

    /// Names of the constants.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.constants.keys().copied()
    }

    /// Whether a flag is set.
    pub fn is_set(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// A short name such as `r16_nv8_s8_base`: constants in order, then flags, then the bindings that are of halves.
    pub fn label(&self) -> String {
        let constants = self.constants.iter().map(|(name, value)| format!("{}{value}", name.to_lowercase()));
        let flags = self.flags.iter().map(|f| f.to_lowercase());
        constants.chain(flags).chain(self.halves.iter().map(|name| name.to_string())).collect::<Vec<_>>().join("_")
    }
}

/// Flag of variants in which some map is of halves.
const HALVES: &str = "HALVES";

/// Expands the text of a kernel file. Panics on a malformed template: templates are part of the program, and every
/// variant is expanded in the tests.
pub(super) fn expand(text: &str, settings: &Settings, include: &dyn Fn(&str) -> &'static str) -> String {
    let mut out = String::new();
    for (name, value) in &settings.constants {
        out.push_str(&format!("const {name}: u32 = {value}u;\n"));
    }
    let lines: Vec<&str> = text.lines().collect();
    block(&lines, settings, include, &mut out);
    evaluated(&summed(&out, settings), settings)
}

/// The text with the sum in place of every `$sum{…}`.
fn summed(text: &str, settings: &Settings) -> String {
    let mut parts = text.split("$sum{");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (inner, rest) = part.split_once('}').unwrap_or_else(|| panic!("template: `$sum{{{part}` is not closed"));
        let malformed = || -> (&str, &str) { panic!("template: $sum{{NAME: MATRIX[ROW] TEXT}}, not `{inner}`") };
        let (variable, inner) = inner.split_once(": ").unwrap_or_else(malformed);
        let (matrix, inner) = inner.split_once('[').unwrap_or_else(malformed);
        let (row, term) = inner.split_once("] ").unwrap_or_else(malformed);
        let (m, k) = (settings.constants["M"], settings.constants["K"]);
        let row: usize = row.parse().expect("template: the row of a matrix is a number");
        let row = &interpolation::matrix(matrix, m as usize, k as usize)[row];
        let mut sum = String::new();
        for (column, &factor) in row.iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
            let term = term.replace(&format!("${variable}"), &column.to_string());
            let sign = match (factor < 0.0, sum.is_empty()) {
                (true, true) => "-",
                (true, false) => " - ",
                (false, true) => "",
                (false, false) => " + ",
            };
            let factor = factor.abs() as f32;
            let times = if factor == 1.0 { String::new() } else { format!("{factor:?} * ") };
            sum.push_str(&format!("{sign}{times}{term}"));
        }
        out.push_str(&sum);
        out.push_str(rest);
    }
    out
}

/// The text with the value in place of every `$(…)`.
fn evaluated(text: &str, settings: &Settings) -> String {
    let mut parts = text.split("$(");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let mut rest = part;
        let value = sum(&mut rest, settings);
        rest = rest.trim_start().strip_prefix(')').unwrap_or_else(|| panic!("template: `$({part}` is not closed"));
        out.push_str(&value.to_string());
        out.push_str(rest);
    }
    out
}

/// Takes a sum of products from the front of `text`.
fn sum(text: &mut &str, settings: &Settings) -> u32 {
    let mut value = product(text, settings);
    while let Some(operator) = operator(text, &['+', '-']) {
        let next = product(text, settings);
        value = if operator == '+' { value + next } else { value - next };
    }
    value
}

/// Takes a product of numbers, constants and sums in parentheses from the front of `text`.
fn product(text: &mut &str, settings: &Settings) -> u32 {
    let mut value = factor(text, settings);
    while let Some(operator) = operator(text, &['*', '/', '%']) {
        let next = factor(text, settings);
        value = match operator {
            '*' => value * next,
            '/' => value / next,
            _ => value % next,
        };
    }
    value
}

fn operator(text: &mut &str, allowed: &[char]) -> Option<char> {
    let found = text.trim_start().chars().next().filter(|c| allowed.contains(c))?;
    *text = &text.trim_start()[1..];
    Some(found)
}

fn factor(text: &mut &str, settings: &Settings) -> u32 {
    let start = text.trim_start();
    if let Some(inner) = start.strip_prefix('(') {
        *text = inner;
        let value = sum(text, settings);
        *text = text.trim_start().strip_prefix(')').expect("template: a parenthesis is not closed");
        return value;
    }
    let end = start.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(start.len());
    let (word, rest) = start.split_at(end);
    *text = rest;
    word.parse().unwrap_or_else(|_| *settings.constants.get(word).unwrap_or_else(|| panic!("template: no `{word}`")))
}

/// The index of the line that closes the block opened at `lines[start]`, and of its `//#else` if there is one.
fn matching(lines: &[&str], start: usize) -> (usize, Option<usize>) {
    let mut depth = 0;
    let mut middle = None;
    for (i, line) in lines.iter().enumerate().skip(start) {
        let line = line.trim();
        if line.starts_with("//#if ") || line.starts_with("//#for ") {
            depth += 1;
        } else if line == "//#else" && depth == 1 {
            middle = Some(i);
        } else if line == "//#endif" || line == "//#end" {
            depth -= 1;
            if depth == 0 {
                return (i, middle);
            }
        }
    }
    panic!("template: `{}` is not closed", lines[start].trim());
}

fn block(lines: &[&str], settings: &Settings, include: &dyn Fn(&str) -> &'static str, out: &mut String) {
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i].trim();
        if let Some(condition) = line.strip_prefix("//#if ") {
            let (end, middle) = matching(lines, i);
            let holds = match condition.trim().strip_prefix('!') {
                Some(flag) => !settings.flags.contains(&flag),
                None => settings.flags.contains(&condition.trim()),
            };
            let (first, second) = (&lines[i + 1..middle.unwrap_or(end)], &lines[middle.unwrap_or(end)..end]);
            block(if holds { first } else { second.get(1..).unwrap_or(&[]) }, settings, include, out);
            i = end;
        } else if let Some(header) = line.strip_prefix("//#for ") {
            let (end, _) = matching(lines, i);
            let (variable, range) = header.split_once(" in ").expect("template: //#for NAME in A..B");
            let (from, to) = range.split_once("..").expect("template: //#for NAME in A..B");
            let number = |s: &str| s.trim().parse::<u32>().unwrap_or_else(|_| settings.constants[s.trim()]);
            let body = lines[i + 1..end].join("\n");
            for value in number(from)..number(to) {
                let body = body.replace(&format!("${}", variable.trim()), &value.to_string());
                block(&body.lines().collect::<Vec<_>>(), settings, include, out);
            }
            i = end;
        } else if let Some(name) = line.strip_prefix("//#include ") {
            let text: Vec<&str> = include(name.trim()).lines().collect();
            block(&text, settings, include, out);
        } else if let Some(name) = line.strip_prefix("//#map ") {
            let text = include("map").replace("$map", name.trim());
            let single = !settings.is_set("VEC2") && !settings.is_set("VEC4");
            let settings = settings.clone().flag("HALF", settings.is_half(name.trim())).flag("SINGLE", single);
            block(&text.lines().collect::<Vec<_>>(), &settings, include, out);
        } else {
            out.push_str(lines[i]);
            out.push('\n');
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        let text =
            "//#if A\na\n//#else\nb\n//#endif\n//#for i in 0..N\nx$i\n//#if !A\ny$i\n//#endif\n//#end\n//#include h\n";
        let settings = Settings::new().set("N", 2);
        assert_eq!(expand(text, &settings, &|_| "h\n"), "const N: u32 = 2u;\nb\nx0\ny0\nx1\ny1\nh\n");
        let settings = settings.flag("A", true);
        assert_eq!(expand(text, &settings, &|_| "h\n"), "const N: u32 = 2u;\na\nx0\nx1\nh\n");
        assert_eq!(settings.label(), "n2_a");
    }

    #[test]
    fn values() {
        let settings = Settings::new().set("N", 4).set("K", 3);
        let text = "//#for i in 0..2\nx[$($i * N + (K - 1) / 2)] = $( 7 % N + 1 );\n//#end\n";
        assert_eq!(expand(text, &settings, &|_| ""), "const K: u32 = 3u;\nconst N: u32 = 4u;\nx[1] = 4;\nx[5] = 4;\n");
    }

    #[test]
    #[should_panic(expected = "no `M`")]
    fn unknown_name() {
        expand("$(M)\n", &Settings::new(), &|_| "");
    }

    #[test]
    #[should_panic(expected = "not closed")]
    fn unclosed() {
        expand("//#if A\n", &Settings::new(), &|_| "");
    }
}
