// For each image and timestep by how much the step after the next timestep turns from the step to it: the tangent of half their
// angle. Angles come from |u - v| and |u + v| of unit vectors, as products of nearly parallel vectors have no digits left (Kahan
// 2006); the host takes the arc tangent, of which WGSL asks for no accuracy. UNDEFINED where one of the two has no length, and at
// the last two timesteps. A thread has VEC images and one timestep.
//
// Constants:
//   VEC  images of a vector
// Loops: features / 32.

//#include trajectory
//#include vectors

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> representations: array<StoredImages>;  // [T][D][width]
@group(0) @binding(3) var<storage, read_write> values: array<f32>;              // [6][T][width]: the second is read, the fourth written

// Tangent of half an angle of 180 degrees, as near as f32 comes to it.
const STRAIGHT_BACK: f32 = 1.0e30;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let t = id.y;
    if id.x * VEC >= batch.images {
        return;
    }
    let table = p.timesteps * p.width;
    let at = t * p.width + id.x * VEC;
    if t + 2u >= p.timesteps {
//#for e in 0..VEC
        values[3u * table + at + $e] = UNDEFINED;
//#end
        return;
    }
//#for e in 0..VEC
    let first$e = values[table + at + $e];
    let second$e = values[table + at + p.width + $e];
//#end
//#if VEC4
    let first = 1.0 / Images(first0, first1, first2, first3);
    let second = 1.0 / Images(second0, second1, second2, second3);
//#else
//#if VEC2
    let first = 1.0 / Images(first0, first1);
    let second = 1.0 / Images(second0, second1);
//#else
    let first = 1.0 / first0;
    let second = 1.0 / second0;
//#endif
//#endif
    let step = p.features_step / VEC;
    let row = p.width / VEC;
    let start = t * step + id.x;
    var apart = Images(0.0);
    var together = Images(0.0);
    for (var block = 0u; block < p.features; block += BLOCK) {
        var apart_part = Images(0.0);
        var together_part = Images(0.0);
        for (var d = block; d < min(block + BLOCK, p.features); d++) {
            let r = images(representations[start + d * row]);
            let r_next = images(representations[start + step + d * row]);
            let r_after = images(representations[start + 2u * step + d * row]);
            let u = (r_next - r) * first;
            let v = (r_after - r_next) * second;
            let difference = u - v;
            let sum = u + v;
            apart_part = fma(difference, difference, apart_part);
            together_part = fma(sum, sum, together_part);
        }
        apart += apart_part;
        together += together_part;
    }
//#for e in 0..VEC
    {
        var turning = UNDEFINED;
        if first$e > 0.0 && second$e > 0.0 {
            turning = STRAIGHT_BACK;
            if image_of(together, $eu) > 0.0 {
                turning = sqrt(image_of(apart, $eu)) / sqrt(image_of(together, $eu));
            }
        }
        values[3u * table + at + $e] = turning;
    }
//#end
}
