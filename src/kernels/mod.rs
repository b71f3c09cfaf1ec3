//! From operation to launch: variants, tiles, grid arithmetic, parameter structs.
