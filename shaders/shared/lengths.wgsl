// Lengths of representations, and of the ways between them.

// Sums of squares between these bounds, 2^-80 and 2^100, have neither overflowed nor lost terms that count.
const LEAST_SQUARES: f32 = 8.271806125530277e-25;
const MOST_SQUARES: f32 = 1.2676506002282294e30;

fn feature(t: u32, d: u32, n: u32) -> f32 {
    return normal(representations[t * p.features_step + d * p.width + n]);
}

// Length of r(to) - r(from), or of r(to) where `alone`, of numbers of any size.
fn length_of_any_size(n: u32, to: u32, start: u32, alone: bool) -> f32 {
    var largest = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let from_there = select(feature(start, d, n), 0.0, alone);
            largest = max(largest, abs(normal(feature(to, d, n) - from_there)));
        }
    }
    let scale = scale_of(largest);
    var sum = 0.0;
    for (var block = 0u; block < p.features; block += BLOCK) {
        var part = 0.0;
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let from_there = select(feature(start, d, n), 0.0, alone);
            let scaled = normal(feature(to, d, n) - from_there) * scale.x;
            part += scaled * scaled;
        }
        sum += part;
    }
    return sqrt(sum) * scale.y;
}
