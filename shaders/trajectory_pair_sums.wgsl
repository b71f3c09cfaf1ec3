// What the mean cosine over pairs takes of the tables of trajectory_pairs, by timestep and class c at it: the sum over k of
// later[c][k] (all[c][k] - own[c][k]) / |w_k|, and the number of pairs, voiced[c][k] (in c - later[c][k]) summed, in two words. A thread
// owns one timestep and class.
// Loops: nested(classes).

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> lengths: array<f32>;             // [K] 1 / length of the vectors in the products
@group(0) @binding(2) var<storage, read> counts: array<vec2<u32>>;        // [T][K: class][K] later, voiced
@group(0) @binding(3) var<storage, read> all: array<vec2<f32>>;           // [T][K: class][K], compensated
@group(0) @binding(4) var<storage, read> own: array<vec2<f32>>;           // [T][K: class][K], compensated
@group(0) @binding(5) var<storage, read_write> sums: array<vec2<f32>>;    // [T][K: class], compensated
@group(0) @binding(6) var<storage, read_write> pairs: array<vec2<u32>>;   // [T][K: class]: low and high word

// The product of two whole numbers, low and high word.
fn product(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);             // at most (2^16 - 1) 2^16
    let other = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>((other << 16u) | (low & 0xffffu), a1 * b1 + (middle >> 16u) + (other >> 16u));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.timesteps * p.classes {
        return;
    }
    let row = id.x * p.classes;
    var in_class = 0u;
    for (var first = 0u; first < p.classes; first += 16384u) { // drivers stop long loops
        for (var k = first; k < min(first + 16384u, p.classes); k++) {
            in_class += counts[row + k].x;
        }
    }
    var sum = vec2<f32>(0.0, 0.0);
    var count = vec2<u32>(0u, 0u);
    for (var first = 0u; first < p.classes; first += 16384u) {
        for (var k = first; k < min(first + 16384u, p.classes); k++) {
            let with_label = counts[row + k].x;
            let weight = f32(with_label) * lengths[k];
            let mine = own[row + k];
            let others = add(add(all[row + k], -mine.x, p.all_ones), -mine.y, p.all_ones);
            sum = add(sum, weight * others.x, p.all_ones);
            sum = add(sum, weight * others.y, p.all_ones);
            let more = product(counts[row + k].y, in_class - with_label);
            let low = count.x + more.x;
            count = vec2<u32>(low, count.y + more.y + select(0u, 1u, low < more.x));
        }
    }
    sums[id.x] = sum;
    pairs[id.x] = count;
}
