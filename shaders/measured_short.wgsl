// The products with representations so short that they may vanish, once more, of the scaled representations: see `short`. A thread
// has one image and timestep; nearly all have nothing to do.
//
// Constants:
//   R  rows of a panel
// Loops: nested(classes), features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(3) var<storage, read> readout: array<f32>;          // in panels: [K / R][D][R]
@group(0) @binding(4) var<storage, read> values: array<f32>;           // [6][T][width]: norm first
@group(0) @binding(5) var<storage, read_write> products: array<f32>;   // [T][K][width], timesteps at multiples of 64

//#include short

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }
    let norm = values[t * p.width + n];
    if norm >= SHORT {
        return;
    }
    let scale = scale_of_products(norm).x;
    let step = (p.classes * p.width + 63u) / 64u * 64u;
    for (var first = 0u; first < p.classes; first += 16384u) { // drivers stop long loops
        for (var k = first; k < min(first + 16384u, p.classes); k++) {
            var sum = 0.0;
            for (var block = 0u; block < p.features; block += BLOCK) {
                var part = 0.0;
                for (var d = block; d < min(block + BLOCK, p.features); d++) {
                    let r = normal(representations[t * p.features_step + d * p.width + n]) * scale;
                    part += r * readout[(k / R * p.features + d) * R + k % R];
                }
                sum += part;
            }
            products[t * step + k * p.width + n] = sum;
        }
    }
}
