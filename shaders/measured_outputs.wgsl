// For each image and timestep, from the outputs: its class (first arg-max), the entropy of p = softmax(outputs) in nats, and the
// largest p. Both terms of the entropy are at least 0; what the logarithm of 1 may be short of 0 is not. A thread has VEC images
// and one timestep.
//
// Constants:
//   VEC      images of a vector
//   CERTAIN  flag: entropy and largest p too, not the class alone
// Loops: classes / 32.

//#include trajectory
//#include vectors
//#if VEC4
alias Wholes = vec4<u32>;
//#else
//#if VEC2
alias Wholes = vec2<u32>;
//#else
alias Wholes = u32;
//#endif
//#endif

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<StoredImages>;  // [T][K][width]
@group(0) @binding(3) var<storage, read> labels: array<u32>;           // [width]
@group(0) @binding(4) var<storage, read_write> class_at: array<u32>;   // [T + 1][width]: classes, then labels
//#if CERTAIN
@group(0) @binding(5) var<storage, read_write> values: array<f32>;     // [6][T][width]: the last two are entropy, confidence

// exp(-FAR) is 0 in f32.
const FAR: f32 = 128.0;
//#endif

// All ones in numbers that are not finite.
const EXPONENT: u32 = 0x7f800000u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.y;
    if id.x * VEC >= batch.images {
        return;
    }
    let start = t * (p.logits_step / VEC) + id.x;
    let row = p.width / VEC;

    var class_now = Wholes(0u);
    var largest = images(logits[start]);
    var exponent = bitcast<Wholes>(largest) & Wholes(EXPONENT);
    for (var block = 0u; block < p.classes; block += BLOCK) {
        for (var k = block; k < min(block + BLOCK, p.classes); k++) {
            let logit = images(logits[start + k * row]);
            exponent = max(exponent, bitcast<Wholes>(logit) & Wholes(EXPONENT));
            let above = logit > largest;
            largest = select(largest, logit, above);
            class_now = select(class_now, Wholes(k), above);
        }
    }
    class_now = select(class_now, Wholes(NOT_FINITE), exponent == Wholes(EXPONENT));
//#for e in 0..VEC
    {
        let n = id.x * VEC + $e;
//#if VECTOR
        class_at[t * p.width + n] = class_now[$e];
//#else
        class_at[t * p.width + n] = class_now;
//#endif
        if t == 0u {
            class_at[p.timesteps * p.width + n] = labels[n];
        }
    }
//#end

//#if CERTAIN
    var sum = Images(0.0);
    var weighted = Images(0.0);
    for (var block = 0u; block < p.classes; block += BLOCK) {
        var part = Images(0.0);
        var weighted_part = Images(0.0);
        for (var k = block; k < min(block + BLOCK, p.classes); k++) {
            let behind = min(largest - images(logits[start + k * row]), Images(FAR));
            let e = exp(-behind);
            part += e;
            weighted_part += behind * e;
        }
        sum += part;
        weighted += weighted_part;
    }
    let entropy = max(log(sum), Images(0.0)) + weighted / sum;
    let confidence = 1.0 / sum;
    let at = (4u * p.timesteps + t) * p.width + id.x * VEC;
//#for e in 0..VEC
    values[at + $e] = image_of(entropy, $eu);
    values[at + p.timesteps * p.width + $e] = image_of(confidence, $eu);
//#end
//#endif
}
