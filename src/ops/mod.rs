//! Operations, one file each: mathematics, shapes, gradient, launches, and what it costs. The gradient of `x` is called
//! `d_x` everywhere; an operation that computes it is named after the forward operation, `conv2d` -> `conv2d_d_input`, and
//! stands in its file.
//!
//! Layout: maps [channels, rows, columns, images], vectors of a layer [channels, 1, 1, images]; weights as in the published
//! state dict, conv2d [out, in, k, k], transposed convolution [in, out, k, k], linear [out, in].
//!
//! To add one: its kernel in `shaders/`, its file here and its name in the list below, its twin in `src/reference/`, its row
//! in the table of cases.

mod accumulate;
mod adam;
mod add;
mod avg_pool;
mod channel_sum;
mod clip;
mod context;
mod conv2d;
mod conv_transpose2d;
mod convolution;
mod loss_scale;
mod max_pool;
mod modulate;
mod norm;
mod normalise;
mod relu;
mod scale;
mod softmax_ce;
mod tape;

pub use accumulate::Accumulate;
pub use adam::{Adam, Hyper};
pub use add::Add;
pub use avg_pool::{AvgPool, AvgPoolDInput, average};
pub use channel_sum::ChannelSum;
pub use clip::{Clip, GradientNorm};
pub use context::{Context, Fold};
pub use conv_transpose2d::{ConvTranspose2d, ConvTranspose2dDInput, ConvTranspose2dDWeight};
pub use conv2d::{Conv2d, Conv2dDInput, Conv2dDWeight};
pub use loss_scale::{FollowGradients, LossScale};
pub use max_pool::{MaxPool, MaxPoolDInput};
pub use modulate::{Modulate, ModulateDDrives};
pub use norm::{NORM_EPS, Norm, NormDAffine, NormDInput};
pub use normalise::Normalise;
pub use relu::{Relu, ReluDInput};
pub use scale::Scale;
pub use softmax_ce::{SoftmaxCe, SoftmaxCeDLogits};
pub use tape::Tape;

use crate::Result;
use crate::kernels::Site;

/// A tensor of a graph, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// The operands of one use of an operation, in the order that the operation documents.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is read.
    pub inputs: &'a [ValueId],
    /// What is written.
    pub outputs: &'a [ValueId],
}

/// What everything else asks of an operation.
pub trait Operation {
    /// Its name, by which its row in the table of cases is found; mostly also that of its main kernel.
    fn name(&self) -> &'static str;

    /// Shapes of the outputs from those of the inputs. Panics where they do not fit: networks are checked when their
    /// description is read.
    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>>;

    /// How many lists over timesteps the inputs are, one after the other; `None` if they are no lists.
    fn lists(&self) -> Option<usize> {
        None
    }

    /// For each output, the input whose place it takes: written over it. Empty: none does.
    fn in_place(&self) -> &'static [usize] {
        &[]
    }

    /// The same with a map added to its result, if it can do that; the map is then the last input.
    fn with_base(&self) -> Option<Op> {
        None
    }

    /// Adds to the tape what the gradients `d_outputs` of the outputs (where there are any) contribute to the inputs.
    /// Gradients of parameters are handed over unevaluated ([`Tape::parameter`]), so that all timesteps of a shared weight
    /// can be reduced at once. Panics for an operation that has none.
    fn gradient(&self, _: &mut dyn Tape, _: Call, _: &[Option<ValueId>]) {
        panic!("{} has no gradient", self.name());
    }

    /// Adds the launches to a program.
    ///
    /// # Errors
    /// When naga refuses a kernel variant.
    fn lower(&self, context: &mut Context, call: Call, site: Site) -> Result<()>;

    /// Additions and multiplications (divisions, roots, exponentials and comparisons count as one): of convolutions all
    /// products of the formula, padding included; of the rest what the formula asks per element.
    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64;

    /// What tells it from others of its name, for tables, such as `-k3-bias`; extents that the inputs do not show.
    fn label(&self, _inputs: &[&[usize]], _outputs: &[&[usize]]) -> String {
        String::new()
    }
}

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// Any operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name)),*
        }
        impl Op {
            /// The variants' names.
            pub const KINDS: &[&str] = &[$(stringify!($name)),*];
        }
        $(impl From<$name> for Op {
            fn from(op: $name) -> Op {
                Op::$name(op)
            }
        })*
        impl std::ops::Deref for Op {
            type Target = dyn Operation;
            fn deref(&self) -> &Self::Target {
                match self { $(Op::$name(op) => op),* }
            }
        }
    };
}

operations! {
    Conv2d, Conv2dDInput, Conv2dDWeight,
    ConvTranspose2d, ConvTranspose2dDInput, ConvTranspose2dDWeight,
    ChannelSum,
    Norm, NormDInput, NormDAffine,
    Relu, ReluDInput,
    Add,
    Modulate, ModulateDDrives,
    MaxPool, MaxPoolDInput,
    AvgPool, AvgPoolDInput,
    SoftmaxCe, SoftmaxCeDLogits,
    Normalise,
    Scale,
    Accumulate,
    GradientNorm, Clip,
    FollowGradients,
    Adam,
}

/// Number of elements of a shape.
fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// `-bias-base` of the flags that are set.
fn flags(list: &[(&str, bool)]) -> String {
    list.iter().filter(|flag| flag.1).map(|flag| format!("-{}", flag.0)).collect()
}

/// `-t5` for a reduction over five timesteps.
fn steps(inputs: usize, lists: usize) -> String {
    if inputs == lists { String::new() } else { format!("-t{}", inputs / lists) }
}
