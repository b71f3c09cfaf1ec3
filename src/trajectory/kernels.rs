//! The text of the kernels that accumulate trajectory statistics. What each computes, from which buffers and in which
//! layout, stands at its head; [`super::streaming`] is their twin and shows their sequence.

/// Declarations that all of them share; goes before each.
pub const SHARED: &str = include_str!("../../shaders/shared/trajectory.wgsl");

/// Name and text of each kernel, without [`SHARED`]. All run 64 threads a workgroup; `threads` says how many of them.
pub const KERNELS: [Kernel; 7] = [
    Kernel {
        name: "trajectory_measure",
        text: include_str!("../../shaders/trajectory_measure.wgsl"),
        threads: |p| [p.images, p.timesteps],
    },
    Kernel {
        name: "trajectory_cosine",
        text: include_str!("../../shaders/trajectory_cosine.wgsl"),
        threads: |p| [p.images, p.timesteps * p.classes.div_ceil(4)],
    },
    Kernel {
        name: "trajectory_classify",
        text: include_str!("../../shaders/trajectory_classify.wgsl"),
        threads: |p| [p.images, 1],
    },
    Kernel {
        name: "trajectory_pick",
        text: include_str!("../../shaders/trajectory_pick.wgsl"),
        threads: |p| [p.images, p.timesteps],
    },
    Kernel {
        name: "trajectory_count",
        text: include_str!("../../shaders/trajectory_count.wgsl"),
        threads: |p| [p.timesteps * p.classes, 1],
    },
    Kernel {
        name: "trajectory_tally",
        text: include_str!("../../shaders/trajectory_tally.wgsl"),
        threads: |p| [p.measures * p.timesteps * p.timesteps, 1],
    },
    Kernel {
        name: "trajectory_pairs",
        text: include_str!("../../shaders/trajectory_pairs.wgsl"),
        threads: |p| [p.timesteps * p.classes, 1],
    },
];

/// A kernel: its name, its text, and the threads it wants in x and y (x is shared out over workgroups of 64).
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Also the name of its file.
    pub name: &'static str,
    /// WGSL, to stand after [`SHARED`]. Entry point `main`; parameters at binding 0.
    pub text: &'static str,
    /// Threads in x and y.
    pub threads: fn(&Params) -> [u32; 2],
}

impl Kernel {
    /// The whole text.
    pub fn source(&self) -> String {
        format!("{SHARED}\n{}", self.text)
    }
}

/// The uniform buffer of all of these kernels, field by field as in [`SHARED`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// T.
    pub timesteps: u32,
    /// K.
    pub classes: u32,
    /// D.
    pub features: u32,
    /// Images for which the batch has room.
    pub width: u32,
    /// Images it holds.
    pub images: u32,
    /// Number of its first image among all samples.
    pub first: u32,
    /// All samples.
    pub samples: u32,
    /// [`super::accumulator::Tally::MEASURES`].
    pub measures: u32,
    /// `u32::MAX`, always.
    pub all_ones: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use naga::{AddressSpace, TypeInner};

    /// Each kernel is valid, within WebGPU's default limits, and has the parameters of the Rust struct.
    #[test]
    fn kernels_are_valid_and_portable() {
        for kernel in KERNELS {
            let module = naga::front::wgsl::parse_str(&kernel.source())
                .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&kernel.source())));
            let mut validator =
                naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
            let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}: {e:?}", kernel.name));
            let [entry] = module.entry_points.as_slice() else { panic!("{}: one entry point", kernel.name) };
            assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", [64, 1, 1]), "{}", kernel.name);

            let used = |handle: naga::Handle<naga::GlobalVariable>| !info.get_entry_point(0)[handle].is_empty();
            let buffers = module.global_variables.iter().filter(|(handle, variable)| {
                assert!(
                    variable.binding.is_none() || used(*handle),
                    "{}: {:?} is not used",
                    kernel.name,
                    variable.name
                );
                matches!(variable.space, AddressSpace::Storage { .. })
            });
            assert!(buffers.count() <= 8, "{}", kernel.name);

            let (_, params) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).unwrap();
            let TypeInner::Struct { members, span } = &params.inner else { panic!("Params is no struct") };
            assert_eq!(*span as usize, size_of::<Params>());
            let offsets = [
                ("timesteps", std::mem::offset_of!(Params, timesteps)),
                ("classes", std::mem::offset_of!(Params, classes)),
                ("features", std::mem::offset_of!(Params, features)),
                ("width", std::mem::offset_of!(Params, width)),
                ("images", std::mem::offset_of!(Params, images)),
                ("first", std::mem::offset_of!(Params, first)),
                ("samples", std::mem::offset_of!(Params, samples)),
                ("measures", std::mem::offset_of!(Params, measures)),
                ("all_ones", std::mem::offset_of!(Params, all_ones)),
            ];
            let found: Vec<_> =
                members.iter().map(|member| (member.name.as_deref().unwrap(), member.offset as usize)).collect();
            assert_eq!(found, offsets);
        }
    }
}
