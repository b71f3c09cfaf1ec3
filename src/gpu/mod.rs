//! The only module that imports wgpu: device, buffers, pipelines, recordings.
