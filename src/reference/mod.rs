//! Plain-loop twins of every kernel.
