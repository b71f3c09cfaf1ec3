@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<StoredImages>;
@group(0) @binding(2) var<storage, read> w: array<StoredWeights>;
@group(0) @binding(3) var<storage, read_write> y: array<StoredImages>;
@group(0) @binding(4) var<storage, read> base: array<StoredImages>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
