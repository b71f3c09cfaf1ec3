//! What is printed: one place through which every line to the terminal goes, of the library and of the binary.
//!
//! The macros [`println!`](crate::println) and [`eprintln!`](crate::eprintln) stand in for those of the standard library. Text may hold
//! what others wrote (class names, names of files and adapters, lines of a configuration): control characters in it, with which a
//! terminal could be driven, are printed as their escapes, such as `\u{1b}`. A line to stderr that nobody reads is lost without
//! harm, as training must not end because a window was closed; one to stdout is a result, and the program ends where it cannot be
//! written.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// Prints a line to stdout, without control characters. What cannot be written is a panic whose text begins with
/// [`UNPRINTED`](crate::output::UNPRINTED), which the binary turns into exit code 1.
#[macro_export]
macro_rules! println {
    ($($text:tt)+) => { $crate::output::result(format_args!($($text)+)) };
}

/// Prints a line to stderr, without control characters. What cannot be written is lost.
#[macro_export]
macro_rules! eprintln {
    ($($text:tt)+) => { $crate::output::note(format_args!($($text)+)) };
}

/// How the panic of a result that cannot be printed begins.
pub const UNPRINTED: &str = "failed printing to stdout: ";

/// Whether this process says nothing: of several that do one thing together, one speaks.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Says nothing from now on, until [`speak`].
pub fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Ends the silence, for an error that is this process's own.
pub fn speak() {
    SILENT.store(false, Ordering::Relaxed);
}

/// Whether nothing is said.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Prints a line of a result; see [`println!`](crate::println).
pub fn result(text: Arguments) {
    if is_silent() {
        return;
    }
    let line = format!("{text}\n");
    if let Err(error) = stdout().lock().write_all(lines(&line).as_bytes()) {
        panic!("{UNPRINTED}{error}");
    }
}

/// Prints a line of progress, a note, a warning or an error; see [`eprintln!`](crate::eprintln).
pub fn note(text: Arguments) {
    if is_silent() {
        return;
    }
    let line = format!("{text}\n");
    _ = stderr().lock().write_all(lines(&line).as_bytes());
}

/// A name as it may stand in a line, a table or a figure: without control characters, line ends among them.
pub fn plain(name: &str) -> Cow<'_, str> {
    escaped(name, false)
}

/// A word of a command line, in the quotes of a POSIX shell where it needs them.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    let safe = !word.is_empty() && word.chars().all(plain);
    if safe { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Lines as a terminal may get them: without control characters but line ends and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, true)
}

fn escaped(text: &str, keep_lines: bool) -> Cow<'_, str> {
    // Characters that turn the direction of writing can make a line look like another.
    let harmful = |c: char| {
        (c.is_control() && !(keep_lines && ['\n', '\t'].contains(&c)))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_their_escapes() {
        assert_eq!(plain("a\nb\x1b[31m\u{9b}2J\u{202e}"), r"a\nb\u{1b}[31m\u{9b}2J\u{202e}");
        assert_eq!(lines("a\n\tb\r\x07"), "a\n\tb\\r\\u{7}");
        assert_eq!(
            (quoted("a-b=1").as_str(), quoted("it's $x").as_str(), quoted("").as_str()),
            ("a-b=1", r"'it'\''s $x'", "''")
        );
        assert!(matches!(plain("Möwe, 1 <b> é 日本"), Cow::Borrowed(_)));
    }
}
