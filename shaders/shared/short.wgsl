// Products with representations shorter than this, 2^-60, may vanish: `products` hold those of the scaled representation.
const SHORT: f32 = 8.673617379884035e-19;

// What a representation of this norm is multiplied by in `products`, and its inverse.
fn scale_of_products(norm: f32) -> vec2<f32> {
    return select(vec2<f32>(1.0, 1.0), scale_of(norm), norm < SHORT);
}
