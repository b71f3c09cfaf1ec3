// After the gradients of a step are there: a loss scale that follows them, and what Adam gets.
// state = [loss scale, good steps since it changed, skipped steps, 1 - b1^t, 1 - b2^t, 1 / loss scale], in place; t counts the steps
// that were not skipped.
// Where the norm of the gradients is finite the step is a good one: t grows, and after GROWTH good steps the scale doubles. Else it
// is halved, and numbers[5] = 0 tells Adam to leave everything as it is.
// hyper = [lr, 1 - b1, 1 - b2, _, eps, _]; numbers: as adam takes them.
// Constants: GROWTH, good steps after which the scale doubles.
// Loops: none.
@group(0) @binding(0) var<storage, read> hyper: array<f32>;
@group(0) @binding(1) var<storage, read_write> state: array<f32>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> numbers: array<f32>;

@compute @workgroup_size(1)
fn main() {
  let overflow = (bitcast<u32>(norm[0]) & 0x7f800000u) == 0x7f800000u;
  var scale = state[0];
  var good = state[1];
  var c1 = state[3];
  var c2 = state[4];
  numbers[5] = select(1.0 / scale, 0.0, overflow);
  if (overflow) {
    scale = scale * 0.5;
    good = 0.0;
    state[2] = state[2] + 1.0;
  } else {
    c1 += (1.0 - c1) * hyper[1];
    c2 += (1.0 - c2) * hyper[2];
    good += 1.0;
    if (good >= f32(GROWTH)) {
      good = 0.0;
      scale = select(2.0 * scale, LARGEST, 2.0 * scale > LARGEST);
    }
  }
  numbers[0] = hyper[0] / c1;
  numbers[1] = hyper[1];
  numbers[2] = hyper[2];
  numbers[3] = 1.0 / sqrt(c2);
  numbers[4] = hyper[4];
  state[0] = scale;
  state[1] = good;
  state[3] = c1;
  state[4] = c2;
  state[5] = 1.0 / scale;
}
const LARGEST = 1.2676506e30;   // 2^100: beyond, the sum of squares of any gradient is infinite
