// For each image: the group of its trajectory, and since when it is stable or when it was first correct. The rules are
// those of src/trajectory/definitions.rs.
// Loops: timesteps.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> class_at: array<u32>;       // [T][width]
@group(0) @binding(3) var<storage, read> labels: array<u32>;         // [width]
@group(0) @binding(4) var<storage, read> values: array<f32>;         // [norm, ...][T][width]
@group(0) @binding(5) var<storage, read_write> records: array<u32>;  // [4][samples]
@group(0) @binding(6) var<storage, read_write> since: array<u32>;    // [2][width]: 1 + t_stable where stable-correct, else 0; label

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if n >= batch.images {
        return;
    }
    let final_class = class_at[(p.timesteps - 1u) * p.width + n];
    let label = labels[n];

    var run_start = 0u;       // of the final run
    var first_final = NO_STEP; // first visit to the final class
    var first_label = NO_STEP; // first visit to the label
    var all_finite = true;
    for (var t = 0u; t < p.timesteps; t++) {
        let class_now = class_at[t * p.width + n];
        if class_now != final_class {
            run_start = t + 1u;
        } else if first_final == NO_STEP {
            first_final = t;
        }
        if class_now == label && first_label == NO_STEP {
            first_label = t;
        }
        all_finite = all_finite && class_now != NOT_FINITE && values[t * p.width + n] < UNDEFINED;
    }

    // A change at the last transition, or a return to a class left before, is unstable.
    let stable = run_start + 1u < p.timesteps && first_final == run_start;
    var group = UNSTABLE_INCORRECT;
    if !all_finite {
        group = GROUP_NOT_FINITE;
    } else if p.timesteps == 1u {
        group = NO_GROUP;
    } else if stable {
        group = select(STABLE_INCORRECT, STABLE_CORRECT, final_class == label);
    } else if first_label != NO_STEP {
        group = UNSTABLE_CORRECT;
    }

    let sample = batch.first + n;
    records[GROUP * p.samples + sample] = group;
    records[T_STABLE * p.samples + sample] = select(NO_STEP, run_start, group <= STABLE_INCORRECT);
    records[T_UNSTABLE_CORRECT * p.samples + sample] = select(NO_STEP, first_label, group == UNSTABLE_CORRECT);
    records[FINAL_CLASS * p.samples + sample] = final_class;
    since[n] = select(0u, run_start + 1u, group == STABLE_CORRECT);
    since[p.width + n] = label;
}
