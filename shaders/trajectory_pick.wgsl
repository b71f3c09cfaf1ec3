// The cosines of each representation with the readout vector of its class at this timestep, and with that of its label; UNDEFINED
// for an all-zero representation.
// Loops: none.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> products: array<f32>;      // [T][K][width], timesteps at multiples of 64
@group(0) @binding(3) var<storage, read> class_at: array<u32>;      // [T][width]
@group(0) @binding(4) var<storage, read> labels: array<u32>;        // [width]
@group(0) @binding(5) var<storage, read> values: array<f32>;        // [6][T][width]: norm first
@group(0) @binding(6) var<storage, read> lengths: array<f32>;       // [K] 1 / length of the vectors in the products
@group(0) @binding(7) var<storage, read_write> picked: array<f32>;  // [2][T][width]: current, label

//#include short

fn cosine(t: u32, k: u32, n: u32) -> f32 {
    let norm = values[t * p.width + n];
    if k >= p.classes || !(norm > 0.0) {
        return UNDEFINED;
    }
    let step = (p.classes * p.width + 63u) / 64u * 64u;
    return products[t * step + k * p.width + n] / (norm * scale_of_products(norm).x) * lengths[k];
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
