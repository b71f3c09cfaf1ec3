// Products with representations shorter than this, 2^-60, are computed again, scaled.
const SHORT: f32 = 8.673617379884035e-19;
