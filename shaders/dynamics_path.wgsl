// For each image and timestep, from the representations: their norm, the length of the step to the next timestep, the distance to
// the last representation, and by how much the next step turns: the tangent of half its angle with this one. Angles come from
// |u - v| and |u + v| of unit vectors, as products of nearly parallel vectors have no digits left (Kahan 2006); the host takes
// the arc tangent, of which WGSL asks for no accuracy.
// Loops: features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(3) var<storage, read_write> path: array<f32>;       // [4][T][samples]: norm, step, to_final, turning

// Tangent of half an angle of 180 degrees, as near as f32 comes to it.
const STRAIGHT_BACK: f32 = 1.0e30;

//#include lengths

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }
    let last = p.timesteps - 1u;
    let next = min(t + 1u, last);
    let after = min(t + 2u, last);

    var all_finite = true;
    var squares = vec4<f32>(0.0); // of r, this step, the next step, the way to the last representation
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = vec4<f32>(0.0);
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let raw = representations[t * p.features_step + d * p.width + n];
            all_finite = all_finite && finite(raw);
            let r = normal(raw);
            let r_next = feature(next, d, n);
            let x = vec4<f32>(r, r_next - r, feature(after, d, n) - r_next, feature(last, d, n) - r);
            part += x * x;
        }
        squares += part;
    }
    var lengths = sqrt(squares);
    if !(squares.x >= LEAST_SQUARES && squares.x <= MOST_SQUARES) {
        lengths.x = length_of_any_size(n, t, t, true);
    }
    if !(squares.y >= LEAST_SQUARES && squares.y <= MOST_SQUARES) {
        lengths.y = length_of_any_size(n, next, t, false);
    }
    if !(squares.z >= LEAST_SQUARES && squares.z <= MOST_SQUARES) {
        lengths.z = length_of_any_size(n, after, next, false);
    }
    if !(squares.w >= LEAST_SQUARES && squares.w <= MOST_SQUARES) {
        lengths.w = length_of_any_size(n, last, t, false);
    }

    var turning = UNDEFINED;
    if lengths.y > 0.0 && lengths.z > 0.0 {
        var apart = 0.0;
        var together = 0.0;
        let inverse = 1.0 / lengths.yz;
        for (var block = 0u; block < p.features; block += BLOCK) {
            var apart_part = 0.0;
            var together_part = 0.0;
            for (var d = block; d < min(block + BLOCK, p.features); d++) {
                let r_next = feature(next, d, n);
                let u = (r_next - feature(t, d, n)) * inverse.x;
                let v = (feature(after, d, n) - r_next) * inverse.y;
                apart_part += (u - v) * (u - v);
                together_part += (u + v) * (u + v);
            }
            apart += apart_part;
            together += together_part;
        }
        turning = STRAIGHT_BACK;
        if together > 0.0 {
            turning = sqrt(apart) / sqrt(together);
        }
    }

    let at = t * p.samples + batch.first + n;
    let table = p.timesteps * p.samples;
    path[at] = select(UNDEFINED, lengths.x, all_finite && lengths.x <= LONGEST);
    path[table + at] = lengths.y;
    path[2u * table + at] = lengths.w;
    path[3u * table + at] = turning;
}
