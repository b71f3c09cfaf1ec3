//! How often the loops of a launch turn. Some lavapipe versions stop a loop beyond 30,000 turns, without a word: longer ones
//! are nested.
//!
//! Each kernel's text says it in a line of its top comment, beside the loops themselves: `// Loops: steps, nested(n / 4).` The
//! terms are products and quotients (rounded up) of parameters, constants and numbers, calculated from left to right.
//! `nested(…)`: with `shaders/shared/block.wgsl`; `long(…)`: so only where the flag `LONG` is set. A term with a constant that a
//! variant does not have is a loop that it does not have either. Loops that are written out by the template do not count.

use super::kernel::Kernel;

/// Turns that a loop may have.
pub const MOST_TURNS: usize = 30_000;

/// `BLOCK` of `shaders/shared/block.wgsl`: turns after which a nested loop is taken up again by an outer one. The loops of the
/// convolution kernels are nested only where they are longer than this (flag `LONG`), as their text is slow to compile.
pub(super) const BLOCK: usize = 16_384;

/// Where a kernel's text says how long its loops are.
const LINE: &str = "// Loops: ";

/// The loops of a kernel variant, as its text states them.
#[derive(Clone, Debug)]
pub struct Loop {
    /// Whether turns beyond [`BLOCK`] are those of an outer loop.
    nested: bool,
    /// The first factor, and those that follow.
    factors: Vec<Factor>,
}

/// What the turns so far are multiplied with, or divided by.
#[derive(Clone, Debug)]
struct Factor {
    divides: bool,
    name: String,
}

/// The loops that a text states; the error says what is wrong with its line.
pub(super) fn stated(text: &str, long: bool) -> Result<Vec<Loop>, String> {
    let line = text.lines().find_map(|line| line.strip_prefix(LINE)).ok_or(format!("no line `{LINE}`"))?;
    let line = line.strip_suffix('.').ok_or("the line of its loops does not end with a full stop")?;
    let terms = line.split(", ").filter(|term| *term != "none");
    terms.map(|term| one(term, long).ok_or(format!("malformed loop `{term}`"))).collect()
}

fn one(term: &str, long: bool) -> Option<Loop> {
    let inside = |name: &str| term.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    let (nested, term) = match (inside("nested"), inside("long")) {
        (Some(term), _) => (true, term),
        (_, Some(term)) => (long, term),
        _ => (false, term),
    };
    let word = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let mut words = term.split(' ');
    let mut factors = vec![Factor { divides: false, name: words.next().filter(|name| word(name))?.to_string() }];
    while let Some(operator) = words.next() {
        let divides = match operator {
            "*" => false,
            "/" => true,
            _ => return None,
        };
        factors.push(Factor { divides, name: words.next().filter(|name| word(name))?.to_string() });
    }
    Some(Loop { nested, factors })
}

/// The turns of the longest loop of a kernel with the bytes of a parameter struct. Panics where the text names what is neither a
/// parameter of its own nor written like a constant: every test that lowers the kernel finds it.
pub fn longest(kernel: &Kernel, params: &[u8]) -> usize {
    let turns = |of: &Loop| {
        let mut product = 1_usize;
        for Factor { divides, name } in &of.factors {
            let constant = name.chars().all(|c| c.is_uppercase());
            let value = match name.parse() {
                Ok(number) => number,
                Err(_) if constant => kernel.settings.constant(name)? as usize,
                Err(_) => {
                    let value = kernel.whole_param(params, name);
                    value.unwrap_or_else(|| panic!("{}: no whole parameter `{name}`", kernel.label())) as usize
                }
            };
            product = if *divides { product.div_ceil(value) } else { product.saturating_mul(value) };
        }
        Some(if of.nested { product.div_ceil(BLOCK).max(product.min(BLOCK)) } else { product })
    };
    kernel.loops.iter().filter_map(turns).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Kernel, Settings, TEXTS};

    #[test]
    fn the_text_has_the_same_block() {
        let kernel = Kernel::new("avg_pool", &Settings::new().set("L", 8)).unwrap();
        assert!(kernel.source.contains(&format!("const BLOCK = {BLOCK}u;")));
        const { assert!(BLOCK <= MOST_TURNS) };
    }

    #[test]
    fn lines_are_read() {
        let loops = stated("// Loops: steps, long(cin / CU), K * K.\n", true).unwrap();
        assert_eq!(loops.iter().map(|l| l.nested).collect::<Vec<_>>(), [false, true, false]);
        assert!(!stated("// Loops: long(cin).", false).unwrap()[0].nested);
        assert!(stated("// Loops: none.", false).unwrap().is_empty());
        for wrong in
            ["", "// Loops: n", "// Loops: n +  2.", "// Loops: n 2.", "// Loops: nested(n.", "// Loops: n / ."]
        {
            assert!(stated(wrong, false).is_err(), "{wrong}");
        }
    }

    /// A name that is spelt wrongly would be a loop that no variant has.
    #[test]
    fn names_occur_in_the_text() {
        for (name, text) in TEXTS {
            let (mut lines, mut rest): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
            text.lines().for_each(|line| if line.starts_with(LINE) { lines.push(line) } else { rest.push(line) });
            assert_eq!(lines.len(), 1, "{name}");
            let rest = rest.join("\n");
            let words: Vec<&str> = rest.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for factor in stated(text, false).unwrap_or_else(|e| panic!("{name}: {e}")).iter().flat_map(|l| &l.factors)
            {
                let number = factor.name.parse::<usize>().is_ok();
                assert!(number || words.contains(&&factor.name[..]), "{name}: `{}`", factor.name);
            }
        }
    }
}
