// For each image and timestep: its class (first arg-max), the norm of its representation, and the norm of the change to
// the next timestep. Squares in f32 overflow from 1.8e19 on and vanish below 1e-19: the lengths of what is so large or so small
// are those of scaled numbers, scaled back.
// Loops: nested(classes), features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<f32>;           // [T][K][width]
@group(0) @binding(3) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(4) var<storage, read_write> class_at: array<u32>;   // [T][width]
@group(0) @binding(5) var<storage, read_write> values: array<f32>;     // [2][T][width]: norm, change

//#include lengths

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
    var squares = vec2<f32>(0.0); // of r, of the change
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = vec2<f32>(0.0);
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let raw = representations[t * p.features_step + d * p.width + n];
            all_finite = all_finite && finite(raw);
            let r = normal(raw);
            let x = vec2<f32>(r, feature(next, d, n) - r);
            part += x * x;
        }
        squares += part;
    }
    var lengths = sqrt(squares);
    if !(squares.x >= LEAST_SQUARES && squares.x <= MOST_SQUARES) {
        lengths.x = length_of_any_size(n, t, t, true);
    }
    if !last && !(squares.y >= LEAST_SQUARES && squares.y <= MOST_SQUARES) {
        lengths.y = length_of_any_size(n, next, t, false);
    }

    class_at[t * p.width + n] = select(NOT_FINITE, class_now, all_finite && lengths.x <= LONGEST);
    values[t * p.width + n] = lengths.x;
    values[(p.timesteps + t) * p.width + n] = select(lengths.y, UNDEFINED, last);
}
