// Tables from which the cosines over all pairs follow without a loop over pairs, from the stable-correct samples that
// are not stable yet, by timestep, class at it, and k:
//   later, voiced  how many have label k; how many of these have a cosine (are not all zero)
//   all            sum of their products with readout vector k, divided by their norm, whatever their label
//   own            the same sum over those with label k
// A thread owns one timestep and k, and takes the images in order.
// Loops: width.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> products: array<f32>;          // [T][K][width], timesteps at multiples of 64
@group(0) @binding(3) var<storage, read> values: array<f32>;            // [6][T][width]: norm first
@group(0) @binding(4) var<storage, read> class_at: array<u32>;          // [T][width]
@group(0) @binding(5) var<storage, read> since: array<u32>;             // [2][width]: see `trajectory_classify`
@group(0) @binding(6) var<storage, read_write> counts: array<vec2<u32>>;  // [T][K: class][K] later, voiced
@group(0) @binding(7) var<storage, read_write> all: array<vec2<f32>>;   // [T][K: class][K], compensated
@group(0) @binding(8) var<storage, read_write> own: array<vec2<f32>>;   // [T][K: class][K], compensated

//#include short

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.x / p.classes;
    let k = id.x % p.classes;
    if t >= p.timesteps {
        return;
    }
    let step = (p.classes * p.width + 63u) / 64u * 64u;
    for (var n = 0u; n < batch.images; n++) {
        if since[n] <= t + 1u {
            continue;
        }
        let cell = (t * p.classes + class_at[t * p.width + n]) * p.classes + k;
        let has_label = since[p.width + n] == k;
        if has_label {
            counts[cell].x += 1u;
        }
        let norm = values[t * p.width + n];
        if norm > 0.0 {
            let along = products[t * step + k * p.width + n] / (norm * scale_of_products(norm).x);
            all[cell] = add(all[cell], along, p.all_ones);
            if has_label {
                counts[cell].y += 1u;
                own[cell] = add(own[cell], along, p.all_ones);
            }
        }
    }
}
