// For each image and timestep: its class (first arg-max), the norm of its representation, and the norm of the change to
// the next timestep. Both lengths are those of scaled numbers, scaled back: squares in f32 overflow from 1.8e19 on and vanish
// below 1e-19.
// Loops: nested(classes), features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<f32>;           // [T][K][width]
@group(0) @binding(3) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(4) var<storage, read_write> class_at: array<u32>;   // [T][width]
@group(0) @binding(5) var<storage, read_write> values: array<f32>;     // [2][T][width]: norm, change

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }

    var class_now = 0u;
    var largest = logits[t * p.logits_step + n];
    var all_finite = finite(largest);
    for (var first = 0u; first < p.classes; first += 16384u) { // drivers stop long loops
        for (var k = first; k < min(first + 16384u, p.classes); k++) {
            let logit = logits[t * p.logits_step + k * p.width + n];
            all_finite = all_finite && finite(logit);
            if logit > largest {
                largest = logit;
                class_now = k;
            }
        }
    }

    let last = t + 1u == p.timesteps;
    let next = select(t + 1u, t, last);
    var largest_feature = 0.0;
    var largest_difference = 0.0;
    for (var d = 0u; d < p.features; d++) {
        let raw = representations[t * p.features_step + d * p.width + n];
        let r = normal(raw);
        let difference = normal(normal(representations[next * p.features_step + d * p.width + n]) - r);
        all_finite = all_finite && finite(raw);
        largest_feature = max(largest_feature, abs(r));
        largest_difference = max(largest_difference, abs(difference));
    }

    let scale = scale_of(largest_feature);
    let change_scale = scale_of(largest_difference);
    var norm = 0.0;
    var change = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        let end = min(block + BLOCK, p.features);
        var norm_part = 0.0;
        var change_part = 0.0;
        for (var d = block; d < end; d++) {
            let r = normal(representations[t * p.features_step + d * p.width + n]);
            let difference = normal(normal(representations[next * p.features_step + d * p.width + n]) - r);
            let scaled = r * scale.x;
            let scaled_difference = difference * change_scale.x;
            norm_part += scaled * scaled;
            change_part += scaled_difference * scaled_difference;
        }
        norm += norm_part;
        change += change_part;
    }
    norm = sqrt(norm) * scale.y;
    change = sqrt(change) * change_scale.y;

    let short = largest_feature <= LONGEST && norm <= LONGEST;   // of longer elements the norm may have overflowed
    class_at[t * p.width + n] = select(NOT_FINITE, class_now, all_finite && short);
    values[t * p.width + n] = norm;
    values[(p.timesteps + t) * p.width + n] = select(change, UNDEFINED, last);
}
