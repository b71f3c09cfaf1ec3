// Keeps rows of numbers of a batch's images behind those of earlier batches. A thread has one image and row.
// Loops: none.

//#include trajectory

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<u32>;        // [row][width]
@group(0) @binding(3) var<storage, read_write> y: array<u32>;  // [row][samples]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < batch.images {
        y[id.y * p.samples + batch.first + id.x] = x[id.y * p.width + id.x];
    }
}
