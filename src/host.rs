//! The machine that this process runs on: its processor, and the processor time that the process has used.

use serde::{Deserialize, Serialize};

/// A processor, as far as figures depend on it: software drivers compile kernels for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// What it calls itself, with family and model on x86, as virtual machines hide the rest; `unknown` where neither the
    /// processor nor the system says.
    pub model: String,
    /// Sets of vector instructions that it has and the system allows, of those by which the speed of kernels differs.
    pub vector: Vec<String>,
    /// Threads that the process may run at once.
    pub threads: usize,
}

impl Processor {
    /// The one that this process runs on.
    pub fn this() -> Processor {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Processor { model: model().unwrap_or_else(|| "unknown".into()), vector: vector(), threads }
    }

    /// In one line: `AMD EPYC (family 25, model 17), avx2 avx512f, 2 threads`.
    pub fn describe(&self) -> String {
        let vector = if self.vector.is_empty() { "no vector flags known".into() } else { self.vector.join(" ") };
        format!("{}, {vector}, {} thread{}", self.model, self.threads, if self.threads == 1 { "" } else { "s" })
    }
}

#[cfg(target_arch = "x86_64")]
fn model() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    let facts = __cpuid(1).eax;
    let (family, extended) = (facts >> 8 & 0xf, facts >> 20 & 0xff);
    let family = if family == 0xf { family + extended } else { family };
    let model = facts >> 4 & 0xf | facts >> 12 & 0xf0;
    let named = __cpuid(0x8000_0000).eax >= 0x8000_0004;
    let words = (0x8000_0002..=0x8000_0004).filter(|_| named).map(__cpuid).flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx]);
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|b| *b != 0).collect();
    let name = String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() { "x86-64" } else { &name };
    Some(format!("{name} (family {family}, model {model})"))
}

/// Linux names the parts of ARM processors by numbers, and other processors under several keys.
#[cfg(all(not(target_arch = "x86_64"), target_os = "linux"))]
fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_string())
    };
    let part = || Some(format!("implementer {}, part {}", value("CPU implementer")?, value("CPU part")?));
    let found = value("model name").or_else(|| value("cpu model")).or_else(|| value("uarch")).or_else(part);
    Some(format!("{} {}", std::env::consts::ARCH, found?))
}

#[cfg(all(not(target_arch = "x86_64"), not(target_os = "linux")))]
fn model() -> Option<String> {
    Some(format!("{} (model unknown)", std::env::consts::ARCH))
}

#[cfg(target_arch = "x86_64")]
fn vector() -> Vec<String> {
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    found.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_string()).collect()
}

#[cfg(target_arch = "aarch64")]
fn vector() -> Vec<String> {
    let found = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    found.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_string()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vector() -> Vec<String> {
    Vec::new()
}

/// Seconds of processor time that all threads of this process have used so far, in user and in system mode. `None` on
/// systems that are not asked: all but Unix.
pub fn processor_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name_and_threads() {
        let this = Processor::this();
        assert!(!this.model.trim().is_empty() && this.threads > 0, "{this:?}");
        assert!(this.describe().starts_with(&this.model), "{}", this.describe());
        let unique: std::collections::BTreeSet<&String> = this.vector.iter().collect();
        assert_eq!(unique.len(), this.vector.len());
    }

    /// Linux tells the same by another way.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn the_processor_is_the_system_s() {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let value = |key: &str| {
            let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim()).to_string()
        };
        let this = Processor::this();
        let (family, model) = (value("cpu family"), value("model"));
        assert!(this.model.ends_with(&format!("(family {family}, model {model})")), "{this:?}, {family} {model}");
        let flags = value("flags");
        for name in ["avx", "avx2", "avx512f", "fma"] {
            let has = flags.split(' ').any(|flag| flag == name);
            assert_eq!(this.vector.iter().any(|flag| flag == name), has, "{name}: {this:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn processor_time_goes_on_while_a_thread_works() {
        let before = processor_seconds().unwrap();
        let worked = std::thread::spawn(|| {
            let mut x = 1_u64;
            while x < 1 << 24 {
                x = std::hint::black_box(x + 1);
            }
            x
        });
        assert!(worked.join().unwrap() > 0);
        assert!(processor_seconds().unwrap() > before, "sixteen million additions take time");
    }
}
