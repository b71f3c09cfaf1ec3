// For each image and timestep, how far the representations d and u of two networks are from each other: |d - u|, |d|, |u|, and
// |d/|d| - u/|u||^2, from which the host takes the cosine; the product of nearly parallel vectors has no digits left.
// Loops: features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> first: array<f32>;            // [T][D][width]: d
@group(0) @binding(3) var<storage, read> second: array<f32>;           // [T][D][width]: u
@group(0) @binding(4) var<storage, read_write> between: array<f32>;    // [4][T][samples]: |d - u|, |d|, |u|, of unit vectors

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }
    let start = t * p.features_step + n;

    var all_finite = true;
    var largest = vec3<f32>(0.0); // of d - u, d, u
    for (var block = 0u; block < p.features; block += BLOCK) {
        for (var i = block; i < min(block + BLOCK, p.features); i++) {
            let raw = vec2<f32>(first[start + i * p.width], second[start + i * p.width]);
            all_finite = all_finite && finite(raw.x) && finite(raw.y);
            let d = normal(raw.x);
            let u = normal(raw.y);
            largest = max(largest, abs(vec3<f32>(normal(d - u), d, u)));
        }
    }
    let of_apart = scale_of(largest.x);
    let of_d = scale_of(largest.y);
    let of_u = scale_of(largest.z);
    let scale = vec3<f32>(of_apart.x, of_d.x, of_u.x);
    var squares = vec3<f32>(0.0);
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = vec3<f32>(0.0);
        for (var i = block; i < min(block + BLOCK, p.features); i++) {
            let d = normal(first[start + i * p.width]);
            let u = normal(second[start + i * p.width]);
            let scaled = vec3<f32>(normal(d - u), d, u) * scale;
            part += scaled * scaled;
        }
        squares += part;
    }
    let scaled_lengths = sqrt(squares);
    let lengths = scaled_lengths * vec3<f32>(of_apart.y, of_d.y, of_u.y);

    var chord = UNDEFINED;
    if lengths.y > 0.0 && lengths.z > 0.0 {
        let inverse = 1.0 / scaled_lengths.yz;
        chord = 0.0;
        for (var block = 0u; block < p.features; block += BLOCK) {
            var part = 0.0;
            for (var i = block; i < min(block + BLOCK, p.features); i++) {
                let d = normal(first[start + i * p.width]) * scale.y * inverse.x;
                let u = normal(second[start + i * p.width]) * scale.z * inverse.y;
                part += (d - u) * (d - u);
            }
            chord += part;
        }
    }

    let at = t * p.samples + batch.first + n;
    let table = p.timesteps * p.samples;
    let sound = all_finite && lengths.y <= LONGEST && lengths.z <= LONGEST;
    between[at] = select(UNDEFINED, lengths.x, sound);
    between[table + at] = lengths.y;
    between[2u * table + at] = lengths.z;
    between[3u * table + at] = chord;
}
