// Cosine of each representation with each readout vector; UNDEFINED for an all-zero representation. A thread takes
// TILE classes of one image and timestep, so that it reads the representation once for all of them.
// Loops: features / 32.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> representations: array<f32>;  // [T][D][width]
@group(0) @binding(3) var<storage, read> readout: array<f32>;          // [K][D], each vector of length 1
@group(0) @binding(4) var<storage, read> values: array<f32>;           // [2][T][width]: norm, change
@group(0) @binding(5) var<storage, read_write> cosines: array<f32>;    // [T][K][width]

const TILE: u32 = 4u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let tiles = (p.classes + TILE - 1u) / TILE;
    let n = id.x;
    let t = id.y / tiles;
    let first_class = id.y % tiles * TILE;
    if n >= batch.images {
        return;
    }

    let norm = values[t * p.width + n];
    let scale = scale_of(norm).x;
    var vectors: array<u32, TILE>; // where each class's readout vector begins; the last class stands in for those beyond
    var dots: array<f32, TILE>;
    for (var j = 0u; j < TILE; j++) {
        vectors[j] = min(first_class + j, p.classes - 1u) * p.features;
        dots[j] = 0.0;
    }
    for (var block = 0u; block < p.features; block += BLOCK) {
        let end = min(block + BLOCK, p.features);
        var parts: array<f32, TILE>;
        for (var j = 0u; j < TILE; j++) {
            parts[j] = 0.0;
        }
        for (var d = block; d < end; d++) {
            let r = normal(representations[t * p.features_step + d * p.width + n]) * scale;
            for (var j = 0u; j < TILE; j++) {
                parts[j] += r * readout[vectors[j] + d];
            }
        }
        for (var j = 0u; j < TILE; j++) {
            dots[j] += parts[j];
        }
    }

    for (var j = 0u; j < TILE; j++) {
        let k = first_class + j;
        if k < p.classes {
            var cosine = UNDEFINED;
            if norm > 0.0 {
                cosine = dots[j] / (norm * scale);
            }
            cosines[(t * p.classes + k) * p.width + n] = cosine;
        }
    }
}
