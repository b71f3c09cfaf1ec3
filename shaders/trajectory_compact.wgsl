// The records of a sample in one word, for the way to the host: group in the lowest 3 bits, then 1 + its step in 13 (0: none), final
// class in 16 (all ones where it is not finite). A group has one step: t_stable or t_unstable_correct.
// Loops: none.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> records: array<u32>;           // [4][samples]
@group(0) @binding(2) var<storage, read_write> compact: array<u32>;     // [samples]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let sample = id.y * groups.x * 64u + id.x;
    if sample >= p.samples {
        return;
    }
    let group = records[GROUP * p.samples + sample];
    // NO_STEP wraps to 0.
    let stable = records[T_STABLE * p.samples + sample] + 1u;
    let unstable = records[T_UNSTABLE_CORRECT * p.samples + sample] + 1u;
    let final_class = records[FINAL_CLASS * p.samples + sample];
    compact[sample] = group | ((stable | unstable) << 3u) | ((final_class & 0xffffu) << 16u);
}
