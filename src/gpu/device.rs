//! Adapters, the device, and compiled pipelines.

#[cfg(not(target_arch = "wasm32"))]
use super::wait::Poller;
use super::wait::{Mark, rest};
use crate::kernels::pace::Pace;
use crate::kernels::{Kernel, Target};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Substring of the adapter's name or driver, or an index into [`adapters`].
    pub adapter: Option<String>,
    /// Whether shaders run with wgpu's injected checks (bounds, loop bounds, zeroed workgroup memory). Tests and
    /// `check` use them; training runs without, at several times the speed on software drivers.
    pub checked: bool,
    /// What the device is to do without.
    pub smaller: Smaller,
}

/// A smaller device than there is, for tests and for those who ask whether something would run elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Smaller {
    /// WebGPU's default limits, which every adapter offers, in place of this one's.
    pub default_limits: bool,
    /// Features that are not used though they are there.
    pub without: wgpu::Features,
}

impl Smaller {
    /// A device that does without some of [`FEATURES`], by their names.
    pub fn new(default_limits: bool, without: &[String]) -> Smaller {
        let named = FEATURES.iter().filter(|(name, _)| without.iter().any(|of| of == name));
        Smaller { default_limits, without: named.fold(wgpu::Features::empty(), |all, (_, feature)| all | *feature) }
    }

    /// What is left of an adapter's features.
    pub fn features(self, adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter.features() - self.without
    }

    /// The limits that hold.
    pub fn limits(self, adapter: &wgpu::Adapter) -> wgpu::Limits {
        if self.default_limits { wgpu::Limits::default() } else { adapter.limits() }
    }

    /// In words, to be added to an adapter's name: nothing for the adapter as it is.
    fn describe(self) -> String {
        let limits = self.default_limits.then(|| ", held to WebGPU's default limits".to_string());
        let without = FEATURES.iter().filter(|(_, feature)| self.without.contains(*feature));
        limits.into_iter().chain(without.map(|(name, _)| format!(", without {name}"))).collect()
    }
}

/// The features of an adapter that decide on kernels and measurements, as users name them.
pub const FEATURES: [(&str, wgpu::Features); 4] = [
    ("subgroups", wgpu::Features::SUBGROUP),
    ("f16", wgpu::Features::SHADER_F16),
    ("int64", wgpu::Features::SHADER_INT64),
    ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
];

/// An open device with its queue and pipeline cache.
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// What the adapter says of itself.
    pub info: wgpu::AdapterInfo,
    /// Features requested and got.
    pub features: wgpu::Features,
    /// Facts that decide variants.
    pub target: Target,
    adapter: wgpu::Adapter,
    checked: bool,
    smaller: Smaller,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) poller: Poller,
    pipelines: Mutex<HashMap<String, Arc<wgpu::ComputePipeline>>>,
    faults: Arc<Mutex<Faults>>,
    allocated: AtomicU64,
    pub(super) passing: AtomicU64,
}

/// What wgpu reported outside a call's own result. It stays until the device is dropped: every later caller is told.
#[derive(Default)]
struct Faults {
    /// Why the device was lost.
    lost: Option<String>,
    /// The first error that no scope caught: nothing computed since can be trusted.
    uncaught: Option<String>,
}

/// `memory`: buffers are refused when more than so many per cent of the adapter's memory are in use; none: when the driver
/// refuses them.
fn instance(memory: Option<u8>) -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds { for_resource_creation: memory, for_device_loss: None },
        backends: wgpu::Backends::PRIMARY.with_env(),
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// Backends by which wgpu knows them in `WGPU_BACKEND`.
const BACKENDS: [&str; 11] =
    ["vulkan", "vk", "dx12", "d3d12", "metal", "mtl", "opengl", "gles", "gl", "webgpu", "noop"];
/// Variables of wgpu that are on or off.
const SWITCHES: [&str; 5] = [
    "WGPU_VALIDATION",
    "WGPU_DEBUG",
    "WGPU_DISCARD_HAL_LABELS",
    "WGPU_GPU_BASED_VALIDATION",
    "WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER",
];
/// Variables by which other programs choose an adapter.
const NOT_READ: [&str; 2] = ["WGPU_ADAPTER_NAME", "WGPU_POWER_PREF"];

/// Refuses values of environment variables that would be taken for something else in silence; says which are not read.
fn check_environment(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<()> {
    let read = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
    let wrong = |name: &str, value: &str, expected: &str| {
        Err(Error::Gpu(format!("the environment variable {name} is {value:?}; expected {expected}, or unset it")))
    };
    if let Some(value) = read("WGPU_BACKEND")
        && value.split(',').any(|name| !BACKENDS.contains(&name.trim().to_lowercase().as_str()))
    {
        return wrong("WGPU_BACKEND", &value, "vulkan, metal or dx12, or several of them with commas between");
    }
    for name in SWITCHES {
        if let Some(value) = read(name).filter(|value| !["0", "1"].contains(&value.as_str())) {
            return wrong(name, &value, "0 or 1");
        }
    }
    for (name, value) in NOT_READ.into_iter().filter_map(|name| Some((name, read(name)?))) {
        eprintln!("note: the environment variable {name} ({value}) is not read: --adapter chooses an adapter");
    }
    Ok(())
}

/// All adapters of the primary backends (Vulkan, Metal, DX12), the fastest kind first.
///
/// # Errors
/// An environment variable of wgpu with a value that means nothing.
pub async fn adapters() -> Result<Vec<wgpu::Adapter>> {
    check_environment(|name| std::env::var_os(name))?;
    Ok(adapters_of(instance(None)).await)
}

async fn adapters_of(instance: wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut found = instance.enumerate_adapters(wgpu::Backends::PRIMARY.with_env()).await;
    let rank = |kind| match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    found.sort_by_key(|a| rank(a.get_info().device_type));
    found
}

/// `driver` and `driver_info` in one string, as reports print it.
pub fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info).trim().to_string()
}

fn choose(selector: Option<&str>, mut found: Vec<wgpu::Adapter>) -> Result<wgpu::Adapter> {
    let list = |found: &[wgpu::Adapter]| {
        let names =
            found.iter().enumerate().map(|(i, a)| format!("  {i}: {} ({})", a.get_info().name, driver(&a.get_info())));
        names.collect::<Vec<_>>().join("\n")
    };
    if found.is_empty() {
        return Err(Error::Gpu(
            "no adapter found: no Vulkan, Metal or DX12 driver answers. Without a GPU, install lavapipe, Mesa's software \
             Vulkan driver (scripts/setup.sh does it; Debian and Ubuntu: mesa-vulkan-drivers and libvulkan1), and check \
             that VK_DRIVER_FILES, if set, names an existing file. A limit on the address space (ulimit -v) keeps drivers from \
             loading too"
                .into(),
        ));
    }
    let Some(selector) = selector else { return Ok(found.swap_remove(0)) };
    let wanted = selector.to_lowercase();
    let by_name = |a: &wgpu::Adapter| {
        let info = a.get_info();
        info.name.to_lowercase().contains(&wanted) || driver(&info).to_lowercase().contains(&wanted)
    };
    let index = match selector.parse::<usize>() {
        Ok(i) if i < found.len() => Some(i),
        _ => found.iter().position(by_name),
    };
    match index {
        Some(i) => Ok(found.swap_remove(i)),
        None => Err(Error::Gpu(format!("no adapter matches `{selector}`; there are:\n{}", list(&found)))),
    }
}

/// Whether this processor has AVX-512.
fn avx512() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    false
}

/// Whether this processor is one of Intel's.
fn intel() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::x86_64::__cpuid(0).ebx.to_le_bytes() == *b"Genu";
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The selector of the adapter that one of several processes opens, whose number on this machine is `local`: those whose name or
/// driver holds the text, or without one those of the fastest kind, are taken in turn. A number stays what it is.
///
/// # Errors
/// As of [`adapters`].
pub async fn in_turn(selector: Option<&str>, local: usize) -> Result<Option<String>> {
    let infos: Vec<wgpu::AdapterInfo> = adapters().await?.iter().map(wgpu::Adapter::get_info).collect();
    let suits = |info: &wgpu::AdapterInfo| match selector {
        Some(text) => {
            [info.name.clone(), driver(info)].iter().any(|of| of.to_lowercase().contains(&text.to_lowercase()))
        }
        None => info.device_type == infos[0].device_type,
    };
    let suitable: Vec<usize> = (0..infos.len()).filter(|&i| suits(&infos[i])).collect();
    let number = selector.is_some_and(|text| text.parse::<usize>().is_ok_and(|i| i < infos.len()));
    if number || suitable.is_empty() {
        return Ok(selector.map(str::to_string));
    }
    Ok(Some(suitable[local % suitable.len()].to_string()))
}

/// Facts about an adapter, without opening it.
pub fn target(adapter: &wgpu::Adapter, smaller: Smaller) -> Target {
    let (info, limits, features) = (adapter.get_info(), smaller.limits(adapter), smaller.features(adapter));
    let fixed = info.subgroup_min_size == info.subgroup_max_size && features.contains(wgpu::Features::SUBGROUP);
    Target {
        name: info.name.clone() + &smaller.describe(),
        driver: driver(&info),
        cpu: info.device_type == wgpu::DeviceType::Cpu,
        subgroup: if fixed && (4..=64).contains(&info.subgroup_max_size) { info.subgroup_max_size } else { 0 },
        // No browser knows naga's `u64`, whatever its adapter offers.
        int64: features.contains(wgpu::Features::SHADER_INT64) && info.backend != wgpu::Backend::BrowserWebGpu,
        avx512: avx512(),
        gathers: avx512() && intel(),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        max_grid: limits.max_compute_workgroups_per_dimension,
        pace: match info.device_type {
            wgpu::DeviceType::Cpu => None,
            wgpu::DeviceType::DiscreteGpu => Some(Pace::DISCRETE),
            _ => Some(Pace::INTEGRATED),
        },
    }
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// No adapter, none that matches, or one below WebGPU's default limits.
    pub async fn open(options: &Options) -> Result<Gpu> {
        Gpu::on(choose(options.adapter.as_deref(), adapters().await?)?, options).await
    }

    /// As [`Gpu::open`], but buffers are refused, as out of memory, once so many per cent of the adapter's memory are in use
    /// by whatever program, where the driver tells.
    ///
    /// # Errors
    /// As there.
    pub async fn open_within(options: &Options, percent: u8) -> Result<Gpu> {
        let found = adapters_of(instance(Some(percent))).await;
        Gpu::on(choose(options.adapter.as_deref(), found)?, options).await
    }

    /// Another device on the same adapter, with a queue of its own.
    pub(super) async fn second(&self) -> Result<Gpu> {
        Gpu::on(self.adapter.clone(), &self.options()).await
    }

    /// How it was opened.
    fn options(&self) -> Options {
        Options { adapter: None, checked: self.checked, smaller: self.smaller }
    }

    /// The same adapter opened anew, from the drivers on: for going on after the device was lost.
    ///
    /// # Errors
    /// An adapter that is no longer there, or that cannot be opened.
    pub async fn reopen(&self) -> Result<Gpu> {
        let place = |info: &wgpu::AdapterInfo| {
            (info.backend, info.vendor, info.device, info.device_pci_bus_id.clone(), info.name.clone())
        };
        let same = adapters().await?.into_iter().find(|adapter| place(&adapter.get_info()) == place(&self.info));
        let adapter = same.ok_or_else(|| Error::Gpu(format!("{}: the adapter is no longer there", self.describe())))?;
        Gpu::on(adapter, &self.options()).await
    }

    /// Takes the device away in the middle of whatever it does, as a driver may: for tests.
    pub fn lose(&self) {
        self.device.destroy();
    }

    async fn on(adapter: wgpu::Adapter, &Options { checked, smaller, .. }: &Options) -> Result<Gpu> {
        let (info, limits) = (adapter.get_info(), smaller.limits(&adapter));
        let used = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_INT64 | wgpu::Features::TIMESTAMP_QUERY;
        let features = smaller.features(&adapter) & used;
        // Kernels stay within WebGPU's defaults; only sizes of buffers and grids may use all that the adapter offers.
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_buffer_size: limits.max_buffer_size,
            max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("recurve"),
            required_features: features,
            required_limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) = opened.map_err(|e| Error::Gpu(format!("{} cannot be opened: {e}", info.name)))?;
        let faults: Arc<Mutex<Faults>> = Arc::default();
        let seen = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            seen.lock().expect("no panic while held").uncaught.get_or_insert(error.to_string());
        }));
        let seen = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            let said = if message.is_empty() { format!("{reason:?}").to_lowercase() } else { message };
            seen.lock().expect("no panic while held").lost.get_or_insert(said);
        });
        let (target, allocated) = (target(&adapter, smaller), AtomicU64::new(0));
        Ok(Gpu {
            device,
            queue,
            info,
            features,
            target,
            adapter,
            checked,
            smaller,
            #[cfg(not(target_arch = "wasm32"))]
            poller: Poller::default(),
            pipelines: Mutex::default(),
            faults,
            allocated,
            passing: AtomicU64::new(0),
        })
    }

    /// Adapter, driver and backend in one line, as every report prints them.
    pub fn describe(&self) -> String {
        format!("{} ({}, {:?})", self.target.name, driver(&self.info), self.info.backend)
    }

    /// Whether shaders run with injected checks.
    pub fn checked(&self) -> bool {
        self.checked
    }

    /// Whether the device can be trusted. Once it was lost, or reported an error outside a call's own result, it cannot, and
    /// this says so for as long as it lives.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; the first error reported.
    pub fn check(&self) -> Result<()> {
        let faults = self.faults.lock().expect("no panic while held");
        let adapter = self.info.name.clone();
        match (&faults.lost, &faults.uncaught) {
            (Some(reason), _) => Err(Error::DeviceLost { adapter, reason: reason.clone() }),
            (None, Some(message)) => Err(Error::Gpu(format!("{adapter}: {message}"))),
            (None, None) => Ok(()),
        }
    }

    /// What is behind an error: if the device was lost, that, as what it leads to may show first.
    pub async fn cause(&self, error: Error) -> Error {
        if let Error::Gpu(_) = error {
            rest(self).await;
        }
        self.check().err().filter(|cause| matches!(cause, Error::DeviceLost { .. })).unwrap_or(error)
    }

    /// Makes something on the device, and catches what goes wrong with it, of whatever kind.
    pub(super) async fn caught<T>(&self, make: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let [memory, validation, internal] =
            [OutOfMemory, Validation, Internal].map(|kind| self.device.push_error_scope(kind));
        let made = make();
        // Scopes belong to this thread: all are closed before anything is waited for.
        let (internal, validation, memory) = (internal.pop(), validation.pop(), memory.pop());
        for scope in [internal, validation, memory] {
            if let Some(error) = scope.await {
                return Err(error);
            }
        }
        Ok(made)
    }

    /// Bytes of all buffers created so far.
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Buffers that were made for one use alone, outside any plan: for what is written once (`Recording::write`), feeds larger
    /// than a ring's buffers, and readings for which no planned buffer was free, as of parameters. The loops over steps and
    /// batches add none.
    pub fn passing(&self) -> u64 {
        self.passing.load(Ordering::Relaxed)
    }

    /// Creates a buffer.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], with the buffer and the size asked for; a size that the adapter does not allow; a lost
    /// device.
    pub async fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let made = self.caught(|| self.device.create_buffer(&descriptor)).await;
        self.check()?; // a lost device makes buffers that are not there
        let adapter = self.info.name.clone();
        let buffer = made.map_err(|error| match error {
            wgpu::Error::OutOfMemory { source } => {
                let (what, reason) = (format!("`{label}`"), source.to_string());
                Error::OutOfMemory { adapter, what, bytes: size, reason, advice: Error::MORE_MEMORY.into() }
            }
            error => Error::Gpu(format!("buffer `{label}` of {size} bytes on {adapter}: {error}")),
        })?;
        self.allocated.fetch_add(size, Ordering::Relaxed);
        Ok(buffer)
    }

    /// Whether this device has met a kernel variant.
    pub(super) fn knows(&self, kernel: &Kernel) -> bool {
        self.pipelines.lock().expect("no panic while held").contains_key(&kernel.source)
    }

    /// The pipeline of a kernel variant, compiled once per device.
    ///
    /// # Errors
    /// What the driver's compiler or wgpu's validation says.
    pub async fn pipeline(&self, kernel: &Kernel) -> Result<Arc<wgpu::ComputePipeline>> {
        if let Some(done) = self.pipelines.lock().expect("no panic while held").get(&kernel.source) {
            return Ok(done.clone());
        }
        let label = kernel.label();
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(kernel.module.clone())),
        };
        let make = || {
            let module = match self.checked {
                true => self.device.create_shader_module(descriptor),
                false => trusted(&self.device, descriptor),
            };
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: self.checked,
                    ..Default::default()
                },
                cache: None,
            })
        };
        let made = self.caught(make).await;
        self.check()?;
        let pipeline = made.map_err(|error| Error::Gpu(format!("kernel {label}: {error}")))?;
        let pipeline = Arc::new(pipeline);
        self.pipelines.lock().expect("no panic while held").insert(kernel.source.clone(), pipeline.clone());
        Ok(pipeline)
    }

    /// Waits until all submitted work is done.
    ///
    /// # Errors
    /// A lost device, or an error reported meanwhile.
    pub async fn wait(&self) -> Result<()> {
        Mark::submitted(&self.queue, None).over(self).await
    }

    /// A mark behind everything that was submitted so far, for [`Gpu::wait_for`].
    pub fn mark(&self) -> Mark {
        let submission = self.queue.submit([]);
        Mark::submitted(&self.queue, Some(submission))
    }

    /// Waits until what lies before a mark is done, whatever was submitted after it.
    ///
    /// # Errors
    /// A lost device, or an error reported meanwhile.
    pub async fn wait_for(&self, mark: &Mark) -> Result<()> {
        mark.over(self).await
    }
}

/// A shader module without injected checks.
#[expect(
    unsafe_code,
    reason = "the only one: our own kernels, whose loops end and whose indices stay in bounds; the \
                                tests run every variant with all checks on"
)]
fn trusted(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: the text comes from `shaders/` alone, never from a user.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_mean_nothing_are_refused_by_name_and_value() {
        let check = |name: &'static str, value: &'static str| check_environment(|n| (n == name).then(|| value.into()));
        for (name, value) in
            [("WGPU_BACKEND", "vulkna"), ("WGPU_BACKEND", ""), ("WGPU_BACKEND", "vulkan,x"), ("WGPU_VALIDATION", "yes")]
        {
            let error = check(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(&format!("{value:?}")), "{error}");
        }
        for (name, value) in [("WGPU_BACKEND", "Vulkan, dx12"), ("WGPU_DEBUG", "1"), ("WGPU_ADAPTER_NAME", "x")] {
            check(name, value).unwrap();
        }
    }
}
