//! What the twins share: shapes and tensors, the reach of a convolution kernel, rounding.

/// Shape of a batch of maps, `[n, c, h, w]`: images, channels, rows, columns; row-major, images outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Images in the batch.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl ImageShape {
    /// The shape `[n, c, h, w]`.
    pub fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// True when some extent is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position of element (image, channel, row, column) in the slice.
    pub fn at(&self, n: usize, c: usize, row: usize, column: usize) -> usize {
        ((n * self.c + c) * self.h + row) * self.w + column
    }
}

/// A row-major f32 tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first; their product is the number of values.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f32>,
}

/// `start + k - padding` where that lies inside `0..len`, else `None` (the kernel reaches over the edge).
pub(super) fn tap(start: usize, k: usize, padding: usize, len: usize) -> Option<usize> {
    (start + k).checked_sub(padding).filter(|&i| i < len)
}

/// The one rounding from f64 sums to f32 results.
pub(super) fn rounded(sums: Vec<f64>) -> Vec<f32> {
    sums.into_iter().map(|s| s as f32).collect()
}

/// Panics, naming the operand, unless the slice has as many elements as its shape says.
#[track_caller]
pub(super) fn check_len(operand: &str, values: &[f32], expected: usize) {
    assert_eq!(values.len(), expected, "`{operand}` has {} elements, its shape says {expected}", values.len());
}
