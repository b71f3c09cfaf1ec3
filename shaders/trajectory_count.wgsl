// Counts by timestep and label, over all images: how many there are, are classified correctly, have an all-zero
// representation, have a number that is not finite. A thread has one image and timestep; whole numbers may be added in any order.
// Loops: none.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> class_at: array<u32>;              // [T][width]
@group(0) @binding(3) var<storage, read> values: array<f32>;                // [norm, ...][T][width]
@group(0) @binding(4) var<storage, read> labels: array<u32>;                // [width]
@group(0) @binding(5) var<storage, read_write> counts: array<atomic<u32>>;  // [4][T][K]: all, correct, silent, not finite

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }
    let k = labels[n];
    if k >= p.classes {
        return;
    }
    let table = p.timesteps * p.classes;
    let cell = t * p.classes + k;
    let class_now = class_at[t * p.width + n];
    let norm = values[t * p.width + n];
    atomicAdd(&counts[cell], 1u);
    if class_now == k {
        atomicAdd(&counts[table + cell], 1u);
    }
    if norm == 0.0 {
        atomicAdd(&counts[2u * table + cell], 1u);
    }
    if class_now == NOT_FINITE || !(norm < UNDEFINED) {
        atomicAdd(&counts[3u * table + cell], 1u);
    }
}
