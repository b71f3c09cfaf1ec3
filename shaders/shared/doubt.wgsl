// A result of Winograd's method that is so small beside the largest of the numbers it comes from may be rounding noise in place
// of an exact 0. Rounding leaves some 1e-6 of it.
const DOUBT = 1.0 / 4096.0;
