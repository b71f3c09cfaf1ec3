//! Statistics of how representations move through readout zones.
