// Counts by timestep and label, over all images: how many there are, are classified correctly, have an all-zero
// representation, have a number that is not finite. A thread owns one timestep and label.
// Loops: width.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> class_at: array<u32>;      // [T][width]
@group(0) @binding(3) var<storage, read> values: array<f32>;        // [2][T][width]: norm, change
@group(0) @binding(4) var<storage, read> labels: array<u32>;        // [width]
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;  // [4][T][K]: all, correct, silent, not finite

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let table = p.timesteps * p.classes;
    let t = id.x / p.classes;
    let k = id.x % p.classes;
    if id.x >= table {
        return;
    }
    var all = counts[id.x];
    var correct = counts[table + id.x];
    var silent = counts[2u * table + id.x];
    var not_finite = counts[3u * table + id.x];
    for (var n = 0u; n < batch.images; n++) {
        if labels[n] == k {
            let class_now = class_at[t * p.width + n];
            all += 1u;
            correct += select(0u, 1u, class_now == k);
            silent += select(0u, 1u, values[t * p.width + n] == 0.0);
            not_finite += select(0u, 1u, class_now == NOT_FINITE);
        }
    }
    counts[id.x] = all;
    counts[table + id.x] = correct;
    counts[2u * table + id.x] = silent;
    counts[3u * table + id.x] = not_finite;
}
