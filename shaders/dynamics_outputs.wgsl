// For each image and timestep, from the outputs: its class (first arg-max), the entropy of p = softmax(outputs) in nats, and the
// largest p. Both terms of the entropy are at least 0; what the logarithm of 1 may be short of 0 is not.
// Loops: classes / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<f32>;          // [T][K][width]
@group(0) @binding(3) var<storage, read> labels: array<u32>;          // [width]
@group(0) @binding(4) var<storage, read_write> class_at: array<u32>;  // [T + 1][width]: classes, then labels
@group(0) @binding(5) var<storage, read_write> classes: array<u32>;   // [T + 1][samples]: the same of all images
@group(0) @binding(6) var<storage, read_write> certain: array<f32>;   // [2][T][samples]: entropy, confidence

// exp(-FAR) is 0 in f32.
const FAR: f32 = 128.0;

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
    for (var block = 0u; block < p.classes; block += BLOCK) {
        for (var k = block; k < min(block + BLOCK, p.classes); k++) {
            let logit = logits[t * p.logits_step + k * p.width + n];
            all_finite = all_finite && finite(logit);
            if logit > largest {
                largest = logit;
                class_now = k;
            }
        }
    }

    var sum = 0.0;
    var weighted = 0.0;
    for (var block = 0u; block < p.classes; block += BLOCK) {
        var part = 0.0;
        var weighted_part = 0.0;
        for (var k = block; k < min(block + BLOCK, p.classes); k++) {
            let behind = min(largest - logits[t * p.logits_step + k * p.width + n], FAR);
            let e = exp(-behind);
            part += e;
            weighted_part += behind * e;
        }
        sum += part;
        weighted += weighted_part;
    }

    let sample = batch.first + n;
    let class_or_none = select(NOT_FINITE, class_now, all_finite);
    class_at[t * p.width + n] = class_or_none;
    classes[t * p.samples + sample] = class_or_none;
    certain[t * p.samples + sample] = max(log(sum), 0.0) + weighted / sum;
    certain[(p.timesteps + t) * p.samples + sample] = 1.0 / sum;
    if t == 0u {
        class_at[p.timesteps * p.width + n] = labels[n];
        classes[p.timesteps * p.samples + sample] = labels[n];
    }
}
