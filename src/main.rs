//! The command line: every command lives in a file of its own under `cli/`.

mod cli;

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::from(1)
        }
    }
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
        Some(text) if text.starts_with("failed printing to std") => {
            if !text.contains("Broken pipe") {
                let _ = writeln!(std::io::stderr(), "error: {text}");
            }
            std::process::exit(1);
        }
        _ => usual(panic),
    }));
}
