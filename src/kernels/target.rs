//! Facts about an adapter that decide which kernel variants can run.

use super::pace::Pace;

/// Facts about an adapter that decide which variants can run and which is chosen. Plain data, so that everything up
/// to the memory plan works (and is tested) without a device.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Target {
    /// What the driver calls the adapter.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Whether it is a CPU (lavapipe, SwiftShader, WARP).
    pub cpu: bool,
    /// The subgroup size if subgroup operations are available and the size cannot vary; else 0.
    pub subgroup: u32,
    /// Whether kernels may use whole numbers of 64 bits, as those with wide loads do (`shaders/shared/stored.wgsl`).
    pub int64: bool,
    /// Whether the processor has AVX-512: what a load costs on a CPU driver depends on it.
    pub avx512: bool,
    /// Whether it is a processor for which compilers gather from unrelated addresses in one instruction, as for Intel's with
    /// AVX-512: a CPU driver then loads plain numbers as fast as words of 64 bits, and has less to take apart.
    pub gathers: bool,
    /// Largest range of a buffer that one binding may cover, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Largest grid in one dimension.
    pub max_grid: u32,
    /// What a slow adapter of this kind does in a second, so that no dispatch takes too long there; none where nothing ends
    /// long ones, as on a CPU.
    pub pace: Option<Pace>,
}

impl Target {
    /// WebGPU's guaranteed minimum: what every adapter offers.
    pub fn minimum() -> Target {
        Target {
            name: "WebGPU defaults".into(),
            driver: String::new(),
            cpu: false,
            subgroup: 0,
            int64: false,
            avx512: false,
            gathers: false,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_grid: 65_535,
            pace: Some(Pace::INTEGRATED),
        }
    }

    /// A graphics card that is not here, to plan for: the limits that drivers of cards mostly have, and the pace of a slow one.
    pub fn card() -> Target {
        Target {
            name: "a graphics card".into(),
            driver: String::new(),
            cpu: false,
            subgroup: 32,
            int64: false,
            avx512: false,
            gathers: false,
            max_binding: (4 << 30) - 4,
            max_buffer: 1 << 40,
            max_grid: 65_535,
            pace: Some(Pace::DISCRETE),
        }
    }

    /// The version of LLVM that a CPU driver compiles with, as Mesa's says it.
    pub fn llvm(&self) -> Option<u32> {
        let version = self.driver.split_once("LLVM ")?.1;
        version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// SwiftShader: the time it takes to compile grows fast with the length of the text.
    pub fn slow_compiler(&self) -> bool {
        let names = [&self.name, &self.driver].map(|name| name.to_lowercase());
        self.cpu && names.iter().any(|name| name.contains("swiftshader"))
    }
}
