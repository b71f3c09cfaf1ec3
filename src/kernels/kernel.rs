//! One compiled variant of a kernel: its text, and what naga reads from it (bindings, access, parameter layout).

use super::loops::{Loop, stated};
use super::template::{Settings, expand};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How a kernel uses a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
    /// `var<uniform>`: the parameter struct.
    Uniform,
}

/// A resource of group 0, as declared in the text.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Variable name: launches bind by it.
    pub name: String,
    /// `@binding(…)`.
    pub index: u32,
    /// How it is used.
    pub access: Access,
    /// Whether the text loads from it: where it is `read_write`, whether it is read before it is written.
    pub loads: bool,
    /// Whether it holds floating-point numbers (else whole ones).
    pub float: bool,
    /// Whether these are numbers of f16, two to a word.
    pub half: bool,
}

/// A member of the parameter struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name, by which launches give its value.
    pub name: String,
    /// Bytes from the start of the struct.
    pub offset: u32,
    /// Whether it is `f32` (else `u32` or `i32`).
    pub float: bool,
}

/// One variant of one kernel, reflected and validated.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Name of the file in `shaders/`.
    pub name: &'static str,
    /// Constants and flags of the variant.
    pub settings: Settings,
    /// The same as a short name.
    pub variant: String,
    /// The WGSL text.
    pub source: String,
    /// The text as naga read it.
    pub module: naga::Module,
    /// What a launch binds, the parameter struct included.
    pub bindings: Vec<Binding>,
    /// Members of the parameter struct, in order.
    pub fields: Vec<Field>,
    /// Size of the parameter struct in bytes (0: none).
    pub params_size: u32,
    /// Invocations of a workgroup in x, y, z.
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Whether the text uses subgroup operations.
    pub subgroups: bool,
    /// Whether the text uses whole numbers of 64 bits, which are naga's own and not standard WGSL.
    pub int64: bool,
    /// How long its loops are.
    pub loops: Vec<Loop>,
}

/// A value for a member of a parameter struct.
#[derive(Clone, Copy, Debug)]
pub enum Param {
    /// `u32` (or `i32`).
    U(u32),
    /// `f32`.
    F(f32),
}

impl From<usize> for Param {
    fn from(value: usize) -> Self {
        Param::U(super::grid::word(value))
    }
}
impl From<u32> for Param {
    fn from(value: u32) -> Self {
        Param::U(value)
    }
}
impl From<f32> for Param {
    fn from(value: f32) -> Self {
        Param::F(value)
    }
}

/// What naga is asked to accept: the core language, subgroup operations, numbers of 16 bits and whole ones of 64.
pub fn capabilities() -> naga::valid::Capabilities {
    use naga::valid::Capabilities;
    Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SHADER_INT64
}

/// Parses and validates a text; the error holds the place in it.
fn validated(source: &str) -> std::result::Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let info = validator().validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// Whether a type is, or has among its parts, a number of 64 bits.
fn wide(inner: &naga::TypeInner) -> bool {
    use naga::TypeInner::{Scalar, Vector};
    matches!(inner, Scalar(scalar) | Vector { scalar, .. } if scalar.width == 8)
}

/// The kind of numbers that an array holds, alone or as vectors. Words of 64 bits are pairs of floating-point numbers, see
/// `shaders/shared/stored.wgsl`.
fn scalar_of(module: &naga::Module, of: naga::Handle<naga::Type>) -> Option<naga::ScalarKind> {
    match &module.types[of].inner {
        inner if wide(inner) => Some(naga::ScalarKind::Float),
        naga::TypeInner::Scalar(scalar) | naga::TypeInner::Vector { scalar, .. } | naga::TypeInner::Atomic(scalar) => {
            Some(scalar.kind)
        }
        naga::TypeInner::Array { base, .. } => scalar_of(module, *base),
        _ => None,
    }
}

fn validator() -> naga::valid::Validator {
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities());
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all());
    validator
}

impl Kernel {
    /// A variant of the kernel file `name`: expanded, parsed, validated and reflected once per process.
    ///
    /// # Errors
    /// When naga refuses the text; the message holds the place in the expanded text.
    pub fn new(name: &'static str, settings: &Settings) -> Result<Arc<Kernel>> {
        static KNOWN: Mutex<BTreeMap<(&str, Settings), Arc<Kernel>>> = Mutex::new(BTreeMap::new());
        let key = (name, settings.clone());
        if let Some(kernel) = KNOWN.lock().expect("no panic while held").get(&key) {
            return Ok(kernel.clone());
        }
        let kernel = Kernel::reflect(name, settings)?;
        KNOWN.lock().expect("no panic while held").insert(key, kernel.clone());
        Ok(kernel)
    }

    fn reflect(name: &'static str, settings: &Settings) -> Result<Arc<Kernel>> {
        let source = expand(super::text(name), settings, &super::shared_text);
        let fail = |what: String| Error::Gpu(format!("kernel {name} ({}): {what}", settings.label()));
        let (module, info) = validated(&source).map_err(fail)?;

        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).map_err(|e| fail(e.to_string()))?;
        let mut bindings = Vec::new();
        let (mut fields, mut params_size, mut workgroup_memory) = (Vec::new(), 0, 0);
        for (handle, variable) in module.global_variables.iter() {
            let access = match variable.space {
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                    Access::ReadWrite
                }
                naga::AddressSpace::Storage { .. } => Access::Read,
                naga::AddressSpace::Uniform => Access::Uniform,
                naga::AddressSpace::WorkGroup => {
                    workgroup_memory += layouter[variable.ty].size;
                    continue;
                }
                _ => continue,
            };
            let binding = variable.binding.ok_or_else(|| fail("a resource has no binding".into()))?;
            let name = variable.name.clone().unwrap_or_default();
            let used = module.entry_points.first().map(|_| info.get_entry_point(0)[handle]);
            let loads = used.is_some_and(|used| used.contains(naga::valid::GlobalUse::READ));
            let half = settings.is_half(&name) && source.contains(&format!(": array<Stored_{name}>"));
            let float = half || scalar_of(&module, variable.ty) == Some(naga::ScalarKind::Float);
            bindings.push(Binding { name, index: binding.binding, access, loads, float, half });
            if access == Access::Uniform {
                let naga::TypeInner::Struct { members, span } = &module.types[variable.ty].inner else {
                    return Err(fail("the parameters are not a struct".into()));
                };
                params_size = *span;
                for member in members {
                    let naga::TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
                        return Err(fail("parameters must be scalars".into()));
                    };
                    let float = scalar.kind == naga::ScalarKind::Float;
                    fields.push(Field { name: member.name.clone().unwrap_or_default(), offset: member.offset, float });
                }
            }
        }
        let int64 = module.types.iter().any(|(_, of)| wide(&of.inner));
        let entry = module.entry_points.first().ok_or_else(|| fail("no entry point".into()))?;
        Ok(Arc::new(Kernel {
            name,
            settings: settings.clone(),
            variant: settings.label(),
            subgroups: source.lines().any(|line| line.split("//").next().is_some_and(|code| code.contains("subgroup"))),
            int64,
            workgroup: entry.workgroup_size,
            source,
            module,
            bindings,
            fields,
            params_size,
            workgroup_memory,
            loops: stated(super::text(name), settings.is_set("LONG")).map_err(fail)?,
        }))
    }

    /// Naga's module with what its validator found, for translation to other languages.
    pub fn validated(&self) -> (&naga::Module, naga::valid::ModuleInfo) {
        (&self.module, validator().validate(&self.module).expect("validated when the kernel was made"))
    }

    /// `name/variant`, for messages, tables and profiles.
    pub fn label(&self) -> String {
        if self.variant.is_empty() { self.name.to_string() } else { format!("{}/{}", self.name, self.variant) }
    }

    /// A whole number of a parameter struct, if it has one of this name.
    pub fn whole_param(&self, params: &[u8], name: &str) -> Option<u32> {
        let field = self.fields.iter().find(|field| field.name == name && !field.float)?;
        let bytes = params.get(field.offset as usize..field.offset as usize + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The bytes of the parameter struct. Panics if a member is missing, unknown or of another type: a mistake in
    /// the program, found by every test that launches the kernel.
    pub(super) fn pack_params(&self, values: &[(&str, Param)]) -> Vec<u8> {
        let mut bytes = vec![0u8; self.params_size as usize];
        assert_eq!(values.len(), self.fields.len(), "{}: parameters {:?}", self.label(), self.fields);
        for (name, value) in values {
            let field = self.fields.iter().find(|f| f.name == *name);
            let field = field.unwrap_or_else(|| panic!("{}: no parameter `{name}`", self.label()));
            let raw = match (value, field.float) {
                (Param::U(v), false) => v.to_le_bytes(),
                (Param::F(v), true) => v.to_le_bytes(),
                _ => panic!("{}: parameter `{name}` has another type", self.label()),
            };
            bytes[field.offset as usize..field.offset as usize + 4].copy_from_slice(&raw);
        }
        bytes
    }
}
