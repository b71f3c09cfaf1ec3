// Sums of measures over the stable-correct samples, by t_stable and timestep. A thread owns one measure, t_stable and
// timestep, and takes the images in order.
// Loops: width.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> values: array<f32>;             // [measures][T][width]
@group(0) @binding(3) var<storage, read> records: array<u32>;            // [4][samples]
@group(0) @binding(4) var<storage, read_write> sums: array<vec2<f32>>;   // [measures][T: t_stable][T], compensated
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;       // [measures][T: t_stable][T]: terms in each sum

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.x % p.timesteps;
    let t_stable = id.x / p.timesteps % p.timesteps;
    let measure = id.x / p.timesteps / p.timesteps;
    if measure >= p.measures {
        return;
    }
    var sum = sums[id.x];
    var count = counts[id.x];
    for (var n = 0u; n < batch.images; n++) {
        let sample = batch.first + n;
        if records[GROUP * p.samples + sample] == STABLE_CORRECT
            && records[T_STABLE * p.samples + sample] == t_stable {
            let value = values[(measure * p.timesteps + t) * p.width + n];
            if value != UNDEFINED {
                sum = add(sum, value, p.all_ones);
                count += 1u;
            }
        }
    }
    sums[id.x] = sum;
    counts[id.x] = count;
}
