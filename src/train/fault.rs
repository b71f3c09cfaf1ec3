//! Faults on purpose, for tests of what a run promises: the variable `RECURVE_FAULT` lists them as `KIND@STEP`, separated by
//! commas. Each strikes once, at its step of a training run:
//!
//! - `device-lost@7`: the device is destroyed while it computes step 7;
//! - `read-error@7`: the pictures of step 7 cannot be read;
//! - `disk-full@7`: the checkpoint of step 7 finds no space left;
//! - `out-of-memory@7`: the device has no memory for a run that is to begin, or to go on, with step 7.

use crate::{Error, Result};

/// The variable.
pub const VARIABLE: &str = "RECURVE_FAULT";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device is taken away in the middle of the step.
    DeviceLost,
    /// The step's pictures cannot be read.
    ReadError,
    /// The step's checkpoint cannot be written.
    DiskFull,
    /// The device refuses the buffers of a run whose next step it is.
    OutOfMemory,
}

const NAMES: [(&str, Fault); 4] = [
    ("device-lost", Fault::DeviceLost),
    ("read-error", Fault::ReadError),
    ("disk-full", Fault::DiskFull),
    ("out-of-memory", Fault::OutOfMemory),
];

/// The faults that have not struck yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<(Fault, u64)>);

impl Faults {
    /// Those that the variable lists; usually none.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub fn from_environment() -> Result<Faults> {
        std::env::var_os(VARIABLE).map_or(Ok(Faults::default()), |list| Faults::parse(&list.to_string_lossy()))
    }

    /// Reads a list.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub fn parse(list: &str) -> Result<Faults> {
        let one = |item: &str| {
            let (name, step) = item.trim().split_once('@')?;
            let fault = NAMES.iter().find(|(known, _)| *known == name)?.1;
            Some((fault, step.parse().ok()?))
        };
        let wrong = |item: &str| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            Error::Config(format!("{VARIABLE}: expected KIND@STEP with one of {names}, found `{item}`"))
        };
        let items = list.split(',').filter(|item| !item.trim().is_empty());
        Ok(Faults(items.map(|item| one(item).ok_or_else(|| wrong(item))).collect::<Result<_>>()?))
    }

    /// Whether this fault strikes at this step; the next time it does not.
    pub fn strikes(&mut self, fault: Fault, step: u64) -> bool {
        let at = self.0.iter().position(|listed| *listed == (fault, step));
        at.map(|at| self.0.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_it_is_listed() {
        let mut faults = Faults::parse("device-lost@7, read-error@9,device-lost@7").unwrap();
        assert!(!faults.strikes(Fault::DeviceLost, 6) && !faults.strikes(Fault::ReadError, 7));
        assert_eq!([0; 3].map(|_| faults.strikes(Fault::DeviceLost, 7)), [true, true, false]);
        assert!(faults.strikes(Fault::ReadError, 9));
        assert_eq!(faults, Faults::parse("").unwrap());
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for list in ["device-lost", "device-lost@", "device-lost@x", "fire@7", "@7"] {
            let error = Faults::parse(list).unwrap_err().to_string();
            assert!(error.contains(VARIABLE) && error.contains(list) && error.contains("read-error"), "{error}");
        }
    }
}
