//! Pure Rust: the unrolled graph, its reverse-mode tape, passes, memory plan. Never imports wgpu.
