//! Which variant serves which shape: the table of sensible choices, what was tuned or forced instead of it, and the list of
//! all variants for `check` and the tuner.

mod choices;
mod key;
mod table;
mod variants;

pub use choices::{Choices, Use, Uses};
pub use key::{ConvOp, Key, Variant};
pub use table::{norm_lanes, product_tile, tile, weight_tile, wide_streams};
pub use variants::variants;
