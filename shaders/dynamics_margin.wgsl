// For each image and timestep: the margins of r in the zones of its class and of its label, and its cosine with the readout
// vector of its class. They come from the products of r with all readout vectors; nearly identical vectors, whose products agree
// in most of their digits, are multiplied again, difference by difference.
// Loops: classes / 32, features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> products: array<f32>;         // [T][K][width], timesteps at multiples of 64
@group(0) @binding(3) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(4) var<storage, read> class_at: array<u32>;         // [T + 1][width]: classes, then labels
@group(0) @binding(5) var<storage, read> readout: array<f32>;          // see below
@group(0) @binding(6) var<storage, read> values: array<f32>;           // [6][T][width]: norm first
@group(0) @binding(7) var<storage, read_write> margins: array<f32>;    // [3][T][samples]: class, label, cosine

// `readout`: vectors [K][D] and bias [K], divided by one unit; [K] the unit of each vector in `products` over that one; [K] 1 /
// length of each vector in `products`; and [K][K] 1 / length of the difference of two vectors: 0 where they are identical,
// negative where they nearly are.

//#include short

// r multiplied with the difference of readout vectors c and k.
fn difference_product(t: u32, n: u32, scale: vec2<f32>, c: u32, k: u32) -> f32 {
    var sum = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = 0.0;
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let r = normal(representations[t * p.features_step + d * p.width + n]) * scale.x;
            part += r * (readout[c * p.features + d] - readout[k * p.features + d]);
        }
        sum += part;
    }
    return sum * scale.y;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    let t = id.y;
    if n >= batch.images {
        return;
    }
    let bias = p.classes * p.features;
    let unit = bias + p.classes;
    let inverse_length = unit + p.classes;
    let inverse_gap = inverse_length + p.classes;
    let step = (p.classes * p.width + 63u) / 64u * 64u;
    let table = p.timesteps * p.samples;
    let at = t * p.samples + batch.first + n;

    var zones = vec2<u32>(class_at[t * p.width + n], class_at[p.timesteps * p.width + n]);
    let known = zones.x < p.classes && zones.y < p.classes;
    zones = min(zones, vec2<u32>(p.classes - 1u));
    let norm = values[t * p.width + n];
    let scale = scale_of_products(norm);
    let own = vec2<f32>(
        products[t * step + zones.x * p.width + n],
        products[t * step + zones.y * p.width + n],
    );
    let own_in_unit = own * vec2<f32>(readout[unit + zones.x], readout[unit + zones.y]);

    var nearest = vec2<f32>(UNDEFINED);
    for (var block = 0u; block < p.classes; block += BLOCK) {
        for (var k = block; k < min(block + BLOCK, p.classes); k++) {
            let product = products[t * step + k * p.width + n] * readout[unit + k];
            for (var zone = 0u; zone < 2u; zone++) {
                let c = zones[zone];
                let inverse = readout[inverse_gap + c * p.classes + k];
                var difference = (own_in_unit[zone] - product) * scale.y;
                if inverse < 0.0 {
                    difference = difference_product(t, n, scale_of(norm), c, k);
                }
                difference += readout[bias + c] - readout[bias + k];
                if inverse != 0.0 {
                    nearest[zone] = min(nearest[zone], difference * abs(inverse));
                }
            }
        }
    }

    var cosine = UNDEFINED;
    if norm > 0.0 && norm < UNDEFINED {
        cosine = own.x / (norm * scale.x) * readout[inverse_length + zones.x];
    }
    // A norm that is not finite, or too long, shows in the margin of the class.
    margins[at] = select(-UNDEFINED, select(UNDEFINED, nearest.x, known), norm < UNDEFINED);
    margins[table + at] = select(UNDEFINED, nearest.y, known);
    margins[2u * table + at] = select(UNDEFINED, cosine, known);
}
