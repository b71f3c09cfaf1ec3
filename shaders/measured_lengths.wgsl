// For each image and timestep, from the representations: their norm, the length of the step to the next timestep, and the distance
// to the last representation. The norm is UNDEFINED where a number is not finite or the norm above LONGEST. Squares in f32
// overflow from 1.8e19 on and vanish below 1e-19: the lengths of what is so large or so small are those of scaled numbers, scaled
// back. A thread has VEC images and TS timesteps, so that most of what it loads serves two of them.
//
// Constants:
//   VEC    images of a vector
//   TS     timesteps of a thread
//   FINAL  flag: the distance to the last representation too
// Loops: features / 32.

//#include trajectory
//#include vectors

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> representations: array<StoredImages>;  // [T][D][width]
@group(0) @binding(3) var<storage, read_write> values: array<f32>;              // [norm, step, distance to the last][T][width]

// Sums of squares between these bounds, 2^-80 and 2^100, have neither overflowed nor lost terms that count; and no term was
// anything but finite, nor near enough to 0 to count as 0.
const LEAST_SQUARES: f32 = 8.271806125530277e-25;
const MOST_SQUARES: f32 = 1.2676506002282294e30;

fn sound(squares: f32) -> bool {
    return squares >= LEAST_SQUARES && squares <= MOST_SQUARES;
}

fn raw(t: u32, d: u32, n: u32) -> f32 {
    return image_of(images(representations[t * (p.features_step / VEC) + d * (p.width / VEC) + n / VEC]), n % VEC);
}

// Length of r(to) - r(start), or of r(to) where `alone`, of numbers of any size.
fn length_of_any_size(n: u32, to: u32, start: u32, alone: bool) -> f32 {
    var largest = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let from_there = select(normal(raw(start, d, n)), 0.0, alone);
            largest = max(largest, abs(normal(normal(raw(to, d, n)) - from_there)));
        }
    }
    let scale = scale_of(largest);
    var sum = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = 0.0;
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let from_there = select(normal(raw(start, d, n)), 0.0, alone);
            let scaled = normal(normal(raw(to, d, n)) - from_there) * scale.x;
            part += scaled * scaled;
        }
        sum += part;
    }
    return sqrt(sum) * scale.y;
}

fn norm_of(squares: f32, t: u32, n: u32) -> f32 {
    if sound(squares) {
        return sqrt(squares);
    }
    var all_finite = true;
    for (var block = 0u; block < p.features; block += BLOCK) {
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            all_finite = all_finite && finite(raw(t, d, n));
        }
    }
    let norm = length_of_any_size(n, t, t, true);
    return select(UNDEFINED, norm, all_finite && norm <= LONGEST);
}

fn way(squares: f32, n: u32, to: u32, start: u32) -> f32 {
    if to == start {
        return 0.0;
    }
    if sound(squares) {
        return sqrt(squares);
    }
    return length_of_any_size(n, to, start, false);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let first = id.y * TS;
    if id.x * VEC >= batch.images {
        return;
    }
    let last = p.timesteps - 1u;
    let step = p.features_step / VEC;
    let row = p.width / VEC;
//#for j in 0..TS
    let t$j = min(first + $j, last);
    let at$j = t$j * step + id.x;
    var norm$j = Images(0.0);
    var change$j = Images(0.0);
    var left$j = Images(0.0);
//#end
    let t$(TS) = min(first + TS, last);
    let at$(TS) = t$(TS) * step + id.x;
//#if FINAL
    let at_last = last * step + id.x;
//#endif
    for (var block = 0u; block < p.features; block += BLOCK) {
//#for j in 0..TS
        var norm_part$j = Images(0.0);
        var change_part$j = Images(0.0);
        var left_part$j = Images(0.0);
//#end
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
//#for j in 0..TS
            let r$j = images(representations[at$j + d * row]);
//#end
            let r$(TS) = images(representations[at$(TS) + d * row]);
//#if FINAL
            let r_last = images(representations[at_last + d * row]);
//#endif
//#for j in 0..TS
            norm_part$j = fma(r$j, r$j, norm_part$j);
            let by$j = r$($j + 1) - r$j;
            change_part$j = fma(by$j, by$j, change_part$j);
//#if FINAL
            let to_last$j = r_last - r$j;
            left_part$j = fma(to_last$j, to_last$j, left_part$j);
//#endif
//#end
        }
//#for j in 0..TS
        norm$j += norm_part$j;
        change$j += change_part$j;
        left$j += left_part$j;
//#end
    }

    let table = p.timesteps * p.width;
//#for j in 0..TS
    if first + $j <= last {
        for (var e = 0u; e < VEC; e++) {
            let n = id.x * VEC + e;
            if n >= batch.images {
                break;
            }
            let at = t$j * p.width + n;
            values[at] = norm_of(image_of(norm$j, e), t$j, n);
            values[table + at] = select(way(image_of(change$j, e), n, t$($j + 1), t$j), UNDEFINED, t$j == last);
//#if FINAL
            values[2u * table + at] = way(image_of(left$j, e), n, last, t$j);
//#endif
        }
    }
//#end
}
