//! The BLT network: configuration, presets, parameters and their initialisation.
