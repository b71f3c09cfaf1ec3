// Shared by the trajectory kernels: their parameters, codes, and the compensated sum.
// T timesteps, K classes, D features. The innermost index of every array of a batch is the image, of `width`.

struct Params {
    timesteps: u32, // T
    classes: u32,   // K
    features: u32,  // D
    width: u32,     // images for which the batch has room
    logits_step: u32,   // words from one timestep's logits to the next
    features_step: u32, // words from one timestep's representations to the next
    samples: u32,   // all samples
    measures: u32,  // number of tables of a tally
    all_ones: u32,  // 0xffffffff, unknown to the compiler: see `opaque`
}

// What changes from batch to batch.
struct Batch {
    first: u32,   // number of its first image among all samples
    images: u32,  // images it holds: the first of `width`; the others are padding
}

// A measure that does not exist: the cosine of an all-zero representation, the change after the last step.
const UNDEFINED: f32 = 3.0e38;
// The class where a logit or a representation is not finite, or its norm is above LONGEST.
const NOT_FINITE: u32 = 0xffffffffu;
// 2^95: sums of norms, and of changes, which are at most twice as long, stay below the largest f32 over 2^31 samples.
const LONGEST: f32 = 3.9614081257132169e28;

// `records` [4][samples]: what is kept of each sample. A step that does not exist is NO_STEP.
const GROUP: u32 = 0u;
const T_STABLE: u32 = 1u;
const T_UNSTABLE_CORRECT: u32 = 2u;
const FINAL_CLASS: u32 = 3u;
const NO_STEP: u32 = 0xffffffffu;
const STABLE_CORRECT: u32 = 0u;
const STABLE_INCORRECT: u32 = 1u;
const UNSTABLE_CORRECT: u32 = 2u;
const UNSTABLE_INCORRECT: u32 = 3u;
const NO_GROUP: u32 = 4u;
const GROUP_NOT_FINITE: u32 = 5u;

// Sums over features go in blocks of this length, so that rounding errors grow with D / BLOCK + BLOCK and not with D.
const BLOCK: u32 = 32u;

fn finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Numbers nearer to 0 than 2^-126 count as 0: WGSL lets a device take them for it, and so all devices do.
fn normal(x: f32) -> f32 {
    return select(x, 0.0, (bitcast<u32>(x) & 0x7f800000u) == 0u);
}

// A power of 2, and its inverse, by which numbers of at most this size are multiplied so that their squares neither overflow
// nor vanish. It is 1 for all but very large and very small ones: 2^50 and above, below 2^-40.
fn scale_of(size: f32) -> vec2<f32> {
    if size >= 1.125899906842624e15 {
        return vec2<f32>(8.673617379884035e-19, 1.152921504606847e18);    // 2^-60, 2^60
    }
    if size < 9.094947017729282e-13 {
        return vec2<f32>(1.2379400392853803e27, 8.077935669463161e-28);   // 2^90, 2^-90
    }
    return vec2<f32>(1.0, 1.0);
}

// The same number, behind an operation that no compiler can see through: WGSL lets it reorder sums, which would turn the
// compensation below into 0.
fn opaque(x: f32, all_ones: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) & all_ones);
}

// Adds x to a compensated sum: sum.x + sum.y, added in f64, is the sum to about 1e-13. Knuth's two-sum finds exactly
// what rounding loses; it is kept below one rounding of the sum, so that it is not itself a sum of many terms.
fn add(sum: vec2<f32>, x: f32, all_ones: u32) -> vec2<f32> {
    let total = opaque(sum.x + x, all_ones);
    let arrived = opaque(total - sum.x, all_ones);
    let from_sum = opaque(sum.x - opaque(total - arrived, all_ones), all_ones);
    let from_x = opaque(x - arrived, all_ones);
    let lost = opaque(from_sum + from_x, all_ones) + sum.y;
    let result = opaque(total + lost, all_ones);
    return vec2<f32>(result, lost - opaque(result - total, all_ones));
}
