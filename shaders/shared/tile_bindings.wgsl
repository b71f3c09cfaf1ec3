@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Images>;
@group(0) @binding(2) var<storage, read> w: array<Weights>;
@group(0) @binding(3) var<storage, read_write> y: array<Images>;
@group(0) @binding(4) var<storage, read> base: array<Images>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
