// Classes and labels of all images in one byte each, for the way to the host; 255 is none.
// Loops: none.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> classes: array<u32>;        // [T + 1][samples]
@group(0) @binding(2) var<storage, read_write> compact: array<u32>;  // [(T + 1) samples / 4, rounded up]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let word = id.y * groups.x * 64u + id.x;
    let count = (p.timesteps + 1u) * p.samples;
    if 4u * word >= count {
        return;
    }
    var bytes = vec4<u32>(255u);
    for (var i = 0u; i < 4u; i++) {
        if 4u * word + i < count {
            bytes[i] = min(classes[4u * word + i], 255u);
        }
    }
    compact[word] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
