//! A sweep as a job array of Slurm: one job a run.

use super::folder::Sweep;
use crate::output::quoted;
use crate::{Error, Result};
use std::ffi::OsString;
use std::fmt::Write;

/// The script for `sbatch`: job N of the array runs run N of the list, with `command` (this program, then its arguments as they
/// were given) and `--only N`. Resources and limits are the user's to complete.
///
/// # Errors
/// An argument or folder that is no text.
pub fn script(sweep: &Sweep, command: &[OsString], folder: OsString) -> Result<String> {
    let text = |word: &OsString| {
        let text = word.to_str().map(quoted);
        text.ok_or_else(|| Error::Config(format!("--slurm: {} is no text that a script could hold", word.display())))
    };
    let command: Vec<String> = command.iter().map(text).collect::<Result<_>>()?;
    let mut script = String::from("#!/bin/bash\n#SBATCH --job-name=recurve-sweep\n");
    _ = writeln!(script, "#SBATCH --array=0-{}", sweep.runs.len() - 1);
    script += "\
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before its time limit a job is told to stop: it saves its run, and ends with 143.
#SBATCH --signal=B:TERM@120
# To be completed for this cluster, by removing one #:
##SBATCH --time=04:00:00
##SBATCH --partition=gpu
#
# A job whose run is finished does nothing; one that was interrupted goes on. So the whole script may be submitted again.
";
    for (number, run) in sweep.runs.iter().enumerate() {
        _ = writeln!(script, "# {number}: {}", run.name);
    }
    let (folder, command) = (text(&folder)?, command.join(" "));
    _ = writeln!(script, "cd -- {folder} || exit\nexec {command} --only \"${{SLURM_ARRAY_TASK_ID:?}}\"");
    Ok(script)
}
