//! One file per operation: mathematics, shapes and gradient.
