// Of the cosines with all readout vectors, the two with the vector of the class at this timestep and with the label's.
// Loops: none.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> cosines: array<f32>;       // [T][K][width]
@group(0) @binding(3) var<storage, read> class_at: array<u32>;      // [T][width]
@group(0) @binding(4) var<storage, read> labels: array<u32>;        // [width]
@group(0) @binding(5) var<storage, read_write> picked: array<f32>;  // [2][T][width]: current, label

fn cosine(t: u32, k: u32, n: u32) -> f32 {
    if k >= p.classes {
        return UNDEFINED;
    }
    return cosines[(t * p.classes + k) * p.width + n];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }
    picked[t * p.width + n] = cosine(t, class_at[t * p.width + n], n);
    picked[(p.timesteps + t) * p.width + n] = cosine(t, labels[n], n);
}
