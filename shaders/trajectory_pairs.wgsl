// Tables from which the cosines over all pairs follow without a loop over pairs, from the stable-correct samples that
// are not stable yet, by timestep, class at it, and k:
//   later, voiced  how many have label k; how many of these have a cosine (are not all zero)
//   all            sum of their cosines with readout vector k, whatever their label
//   own            the same sum over those with label k
// A thread owns one timestep and k, and takes the images in order.
// Loops: width.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> cosines: array<f32>;           // [T][K][width]
@group(0) @binding(3) var<storage, read> class_at: array<u32>;          // [T][width]
@group(0) @binding(4) var<storage, read> records: array<u32>;           // [4][samples]
@group(0) @binding(5) var<storage, read_write> later: array<u32>;       // [T][K: class][K]
@group(0) @binding(6) var<storage, read_write> voiced: array<u32>;      // [T][K: class][K]
@group(0) @binding(7) var<storage, read_write> all: array<vec2<f32>>;   // [T][K: class][K], compensated
@group(0) @binding(8) var<storage, read_write> own: array<vec2<f32>>;   // [T][K: class][K], compensated

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.x / p.classes;
    let k = id.x % p.classes;
    if t >= p.timesteps {
        return;
    }
    for (var n = 0u; n < batch.images; n++) {
        let sample = batch.first + n;
        let t_stable = records[T_STABLE * p.samples + sample];
        if records[GROUP * p.samples + sample] != STABLE_CORRECT || t_stable <= t {
            continue;
        }
        let cell = (t * p.classes + class_at[t * p.width + n]) * p.classes + k;
        let has_label = records[FINAL_CLASS * p.samples + sample] == k; // stable-correct: they end in their label
        let cosine = cosines[(t * p.classes + k) * p.width + n];
        if has_label {
            later[cell] += 1u;
        }
        if cosine != UNDEFINED {
            all[cell] = add(all[cell], cosine, p.all_ones);
            if has_label {
                voiced[cell] += 1u;
                own[cell] = add(own[cell], cosine, p.all_ones);
            }
        }
    }
}
