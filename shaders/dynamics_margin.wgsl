// For each image and timestep: the margins of r in the zones of its class and of its label, and its cosine with the readout
// vector of its class. They come from the products of r with all readout vectors; nearly identical vectors, whose products agree
// in most of their digits, are multiplied again, difference by difference. A thread has VEC images and one timestep, and takes
// four classes a turn.
//
// Constants:
//   VEC  images of a vector
// Loops: nested(classes / 4), nested(classes), features / 32.

//#include trajectory
//#include vectors

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> products: array<StoredImages>;  // [T][K][width], timesteps at multiples of 64
@group(0) @binding(3) var<storage, read> representations: array<f32>;    // [T][D][width]
@group(0) @binding(4) var<storage, read> class_at: array<u32>;           // [T + 1][width]: classes, then labels
@group(0) @binding(5) var<storage, read> readout: array<f32>;            // see below
@group(0) @binding(6) var<storage, read> inverse_gaps: array<StoredWeights>; // [K][K / 4]: 1 / length of the difference of two vectors
@group(0) @binding(7) var<storage, read> values: array<f32>;             // [6][T][width]: norm first
@group(0) @binding(8) var<storage, read_write> margins: array<f32>;      // [3][T][samples]: class, label, cosine

// `readout`: vectors [K][D] and bias [K], divided by one unit; [K] the unit of each vector in `products` over that one; [K] 1 /
// length of each vector in `products`; and [K] other than 0 where another vector is nearly identical. `inverse_gaps` are 0 where
// vectors are identical, negative where they nearly are, and 0 behind the last class.

//#include short

// The distance of r to the boundary with zone k, in that of zone c, by their products with it.
fn distance(own: f32, products: vec4<f32>, own_bias: f32, bias: vec4<f32>, unscale: f32, inverse: vec4<f32>) -> f32 {
    let difference = (own - products) * unscale + (own_bias - bias);
    let apart = select(vec4<f32>(UNDEFINED), difference * inverse, inverse > vec4<f32>(0.0));
    return min(min(apart.x, apart.y), min(apart.z, apart.w));
}

// The same for those k that are nearly c: r multiplied with the difference of the two readout vectors.
fn distance_to_nearly_identical(t: u32, n: u32, norm: f32, c: u32) -> f32 {
    let bias = p.classes * p.features;
    var nearest = UNDEFINED;
    if readout[bias + 3u * p.classes + c] == 0.0 {
        return nearest;
    }
    let scale = scale_of(norm);
    for (var first = 0u; first < p.classes; first += 16384u) { // drivers stop long loops
        for (var k = first; k < min(first + 16384u, p.classes); k++) {
            let inverse = weight_of(weights_from(inverse_gaps[c * ((p.classes + 3u) / 4u) + k / 4u]), k % 4u);
            if inverse < 0.0 {
                var sum = 0.0;
                for (var block = 0u; block < p.features; block += BLOCK) {
                    var part = 0.0;
                    for (var d = block; d < min(block + BLOCK, p.features); d++) {
                        let r = normal(representations[t * p.features_step + d * p.width + n]) * scale.x;
                        part += r * (readout[c * p.features + d] - readout[k * p.features + d]);
                    }
                    sum += part;
                }
                nearest = min(nearest, (sum * scale.y + (readout[bias + c] - readout[bias + k])) * abs(inverse));
            }
        }
    }
    return nearest;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.y;
    if id.x * VEC >= batch.images {
        return;
    }
    let bias = p.classes * p.features;
    let unit = bias + p.classes;
    let inverse_length = unit + p.classes;
    let step = (p.classes * p.width + 63u) / 64u * 64u;
    let first_product = t * (step / VEC) + id.x;
    let row = p.width / VEC;
    let quarter = (p.classes + 3u) / 4u;

    // Of each image: its class c and label l, its products with their vectors, and what the products were multiplied by.
//#for e in 0..VEC
    let n$e = id.x * VEC + $e;
    let c$e = min(class_at[t * p.width + n$e], p.classes - 1u);
    let l$e = min(class_at[p.timesteps * p.width + n$e], p.classes - 1u);
    let norm$e = values[t * p.width + n$e];
    let scale$e = scale_of_products(norm$e);
    let product$e = image_of(images(products[first_product + c$e * row]), $eu);
    let own_c$e = product$e * readout[unit + c$e];
    let own_l$e = image_of(images(products[first_product + l$e * row]), $eu) * readout[unit + l$e];
    let bias_c$e = readout[bias + c$e];
    let bias_l$e = readout[bias + l$e];
    var nearest_c$e = UNDEFINED;
    var nearest_l$e = UNDEFINED;
//#end
    for (var first = 0u; first < quarter; first += 16384u) { // drivers stop long loops
        for (var four = first; four < min(first + 16384u, quarter); four++) {
//#for i in 0..4
            let k$i = min(4u * four + $i, p.classes - 1u);
            let products$i = images(products[first_product + k$i * row]) * readout[unit + k$i];
//#end
            let biases = vec4<f32>(readout[bias + k0], readout[bias + k1], readout[bias + k2], readout[bias + k3]);
//#for e in 0..VEC
            {
                let others = vec4<f32>(
                    image_of(products0, $eu), image_of(products1, $eu), image_of(products2, $eu), image_of(products3, $eu),
                );
                let gaps_c = weights_from(inverse_gaps[c$e * quarter + four]);
                let gaps_l = weights_from(inverse_gaps[l$e * quarter + four]);
                nearest_c$e = min(nearest_c$e, distance(own_c$e, others, bias_c$e, biases, scale$e.y, gaps_c));
                nearest_l$e = min(nearest_l$e, distance(own_l$e, others, bias_l$e, biases, scale$e.y, gaps_l));
            }
//#end
        }
    }

    let table = p.timesteps * p.samples;
//#for e in 0..VEC
    if n$e < batch.images {
        let known = class_at[t * p.width + n$e] < p.classes && class_at[p.timesteps * p.width + n$e] < p.classes;
        let nearest_c = min(nearest_c$e, distance_to_nearly_identical(t, n$e, norm$e, c$e));
        let nearest_l = min(nearest_l$e, distance_to_nearly_identical(t, n$e, norm$e, l$e));
        var cosine = UNDEFINED;
        if norm$e > 0.0 && norm$e < UNDEFINED {
            cosine = product$e / (norm$e * scale$e.x) * readout[inverse_length + c$e];
        }
        // A norm that is not finite, or too long, shows in the margin of the class.
        let at = t * p.samples + batch.first + n$e;
        margins[at] = select(-UNDEFINED, select(UNDEFINED, nearest_c, known), norm$e < UNDEFINED);
        margins[table + at] = select(UNDEFINED, nearest_l, known);
        margins[2u * table + at] = select(UNDEFINED, cosine, known);
    }
//#end
}
