// Sums of measures over the stable-correct samples, by t_stable and timestep. A thread owns one measure and timestep, and takes
// the images in order.
// Loops: width.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> values: array<f32>;             // [measures][T][width]
@group(0) @binding(3) var<storage, read> since: array<u32>;              // [width] 1 + t_stable where stable-correct, else 0
@group(0) @binding(4) var<storage, read_write> sums: array<vec2<f32>>;   // [measures][T: t_stable][T], compensated
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;       // [measures][T: t_stable][T]: terms in each sum

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.x % p.timesteps;
    let measure = id.x / p.timesteps;
    if measure >= p.measures {
        return;
    }
    for (var n = 0u; n < batch.images; n++) {
        let stable = since[n];
        if stable > 0u {
            let value = values[id.x * p.width + n];
            if value != UNDEFINED {
                let cell = (measure * p.timesteps + stable - 1u) * p.timesteps + t;
                sums[cell] = add(sums[cell], value, p.all_ones);
                counts[cell] += 1u;
            }
        }
    }
}
