//! Plain-loop twins of operations, and whole networks made of them: the project's executable specification.
//!
//! A twin is the formula of an operation written as loops over slices. It knows nothing of the GPU: tensors are
//! *logical*, row-major and NCHW with images outermost, exactly as PyTorch stores them, and no index arithmetic is
//! shared with the shaders. Inputs and outputs are f32, every sum in between is kept in f64 and rounded once, so a
//! twin is more exact than any f32 kernel and the difference between the two is the kernel's error.
//!
//! An operation `op` has a function `op` and, for each differentiable input, `op_d_input`, `op_d_weight`, ...: the
//! gradient of a scalar loss with respect to that input, given `d_y`, the gradient with respect to the output.
//! Shapes are small structs, and a slice whose length disagrees with its shape panics: callers check shapes first
//! (as [`golden`] and [`network`] do for what they read). [`augment`] is no operation of the network: its twin is equal to the last
//! bit, see there.
//!
//! In reading order: the operations, [`network`] (areas and connections, forward and backward through time), [`golden`]
//! (reference numbers from an independent PyTorch implementation), [`finite_differences`] (a third, formula-free witness
//! of gradients).

mod shape;

pub mod adam;
pub mod augment;
pub mod avg_pool;
pub mod clip;
pub mod conv2d;
pub mod conv_transpose2d;
pub mod linear;
pub mod loss_scale;
pub mod max_pool;
pub mod mix;
pub mod norm;
pub mod normalise;
pub mod reduce;
pub mod relu;
pub mod softmax_ce;

pub mod network;

pub mod finite_differences;
pub mod golden;
pub mod random;
pub mod sample;

pub use shape::{ImageShape, Tensor};
use shape::{check_len, rounded, tap};
