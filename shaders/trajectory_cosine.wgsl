// Cosine of each representation with each readout vector, from the products that `product` has computed; UNDEFINED for an
// all-zero representation. Of representations so short that products may vanish, they are computed again, scaled. A thread has
// one image and timestep.
// Loops: nested(classes), features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> products: array<f32>;         // [T][K][width], timesteps at multiples of 64
@group(0) @binding(3) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(4) var<storage, read> readout: array<f32>;          // [K][D], each vector of length 1
@group(0) @binding(5) var<storage, read> values: array<f32>;           // [2][T][width]: norm, change
@group(0) @binding(6) var<storage, read_write> cosines: array<f32>;    // [T][K][width]

//#include short

// r multiplied with readout vector k and with `scale`.
fn scaled_product(t: u32, n: u32, k: u32, scale: f32) -> f32 {
    var sum = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = 0.0;
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            part += normal(representations[t * p.features_step + d * p.width + n]) * scale * readout[k * p.features + d];
        }
        sum += part;
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }

    let norm = values[t * p.width + n];
    let short = norm < SHORT;
    let scale = select(1.0, scale_of(norm).x, short);
    let length = norm * scale;
    let step = (p.classes * p.width + 63u) / 64u * 64u;
    for (var first = 0u; first < p.classes; first += 16384u) { // drivers stop long loops
        for (var k = first; k < min(first + 16384u, p.classes); k++) {
            var cosine = UNDEFINED;
            if norm > 0.0 {
                var product = products[t * step + k * p.width + n];
                if short {
                    product = scaled_product(t, n, k, scale);
                }
                cosine = product / length;
            }
            cosines[(t * p.classes + k) * p.width + n] = cosine;
        }
    }
}
