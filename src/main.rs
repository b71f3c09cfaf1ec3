//! The command line: every command lives in a file of its own under `cli/`.

#[macro_use(eprintln, println)]
extern crate recurve; // whose macros print nothing that drives a terminal

mod cli;

use clap::Parser;
use recurve::output::{UNPRINTED, lines};
use std::process::ExitCode;

fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => return said_by_clap(&asked),
    };
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::from(1)
        }
    }
}

/// Prints a help text or what is wrong with the arguments, in clap's colours where nothing in them could drive the terminal.
fn said_by_clap(asked: &clap::Error) -> ExitCode {
    let text = asked.render().to_string();
    match (lines(&text) != text, asked.use_stderr()) {
        (true, _) => eprintln!("{text}"),
        (false, true) => _ = asked.print(),
        (false, false) => asked.print().unwrap_or_else(|error| panic!("{UNPRINTED}{error}")),
    }
    ExitCode::from(u8::try_from(asked.exit_code()).unwrap_or(2))
}

/// An error with its causes, each of them said once.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        if !text.contains(cause.trim_end()) {
            text += if text.is_empty() { "" } else { ": " };
            text += cause.trim_end();
        }
    }
    text
}

/// `recurve plan … | head -1` closes the pipe while more is to come, and `println!` then panics. That is no fault of the
/// program: it ends, with exit code 1, as not everything was said.
fn end_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.payload_as_str() {
        Some(text) if text.starts_with(UNPRINTED) => {
            if !text.contains("Broken pipe") {
                eprintln!("error: {text}");
            }
            std::process::exit(1);
        }
        _ => usual(panic),
    }));
}
