@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read> w: array<StoredWeights>;
//#map y
@group(0) @binding(3) var<storage, read_write> y: array<Stored_y>;
//#map base
@group(0) @binding(4) var<storage, read> base: array<Stored_base>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
