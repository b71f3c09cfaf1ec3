//! Variants of the convolution kernels, as data.

/// Where a kernel takes the weights from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// One load brings as many weights as a subgroup has lanes; each is broadcast. Needs a fixed subgroup size.
    Subgroup,
    /// The group stages weights in workgroup memory.
    Shared,
    /// All lanes load the same address.
    Uniform,
}

/// A variant of conv2d or conv_transpose2d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tile {
    /// Operand source of the weights.
    pub source: Source,
    /// Invocations of a workgroup; lanes run along (column, image).
    pub lanes: usize,
    /// Output channels per invocation.
    pub r: usize,
    /// Output rows per invocation.
    pub nv: usize,
    /// Neighbouring images per invocation, read and written as one vector: 1, 2 or 4. A batch that this does not divide is
    /// computed one image per invocation.
    pub vec: usize,
    /// Terms of the sum per turn of the loop of a matrix product: each accumulator takes part in so many products before it is
    /// written back. 1 where there is no matrix product.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub terms: usize,
    /// Whether vectors are loaded and stored as words of 64 bits (see `shaders/shared/stored.wgsl`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wide: bool,
    /// Winograd's method with tiles of so many outputs, if it is that: the other members are then those of its matrix
    /// products. A shape that it does not fit (see [`super::Winograd::of`]) is computed directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winograd: Option<Outputs>,
}

fn one() -> usize {
    1
}

fn is_one(terms: &usize) -> bool {
    *terms == one()
}

/// Rows and columns of outputs of a tile of Winograd's method. In files the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub enum Outputs {
    /// 2 x 2.
    Two,
    /// 4 x 4.
    Four,
}

impl Outputs {
    /// The sizes for which transforms are written.
    pub const ALL: [Outputs; 2] = [Outputs::Two, Outputs::Four];

    /// Rows, and columns.
    pub fn side(self) -> usize {
        match self {
            Outputs::Two => 2,
            Outputs::Four => 4,
        }
    }
}

impl From<Outputs> for usize {
    fn from(outputs: Outputs) -> usize {
        outputs.side()
    }
}

impl TryFrom<usize> for Outputs {
    type Error = String;

    fn try_from(side: usize) -> std::result::Result<Outputs, String> {
        let unknown = || format!("Winograd's method has tiles of 2 or 4 rows of outputs, not of {side}");
        Outputs::ALL.into_iter().find(|outputs| outputs.side() == side).ok_or_else(unknown)
    }
}

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let source = match self.source {
            Source::Subgroup => "subgroup",
            Source::Shared => "shared",
            Source::Uniform => "uniform",
        };
        write!(f, "{source} l{} r{} nv{} v{}", self.lanes, self.r, self.nv, self.vec)?;
        if self.terms > 1 {
            write!(f, " t{}", self.terms)?;
        }
        if self.wide {
            write!(f, " wide")?;
        }
        self.winograd.map_or(Ok(()), |outputs| write!(f, " f{}", outputs.side()))
    }
}

/// Along what the lanes of a weight gradient run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lanes {
    /// Pixels and images: conv2d_d_weight.
    Pixels,
    /// Output channels: conv2d_d_weight_channels.
    Channels,
}

/// A variant of the weight gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct WeightTile {
    /// Along what the lanes run.
    pub along: Lanes,
    /// Whether subgroup operations are used (sums at the end; broadcasts of x). A workgroup is then one subgroup.
    pub subgroup: bool,
    /// Invocations of a workgroup.
    pub lanes: usize,
    /// Output channels per invocation.
    pub r: usize,
    /// Input channels per invocation.
    pub c: usize,
    /// Rows of x per turn of the loop (only with lanes along channels).
    pub unroll: usize,
    /// Neighbouring images per turn of the loop, read as one vector: 1, 2 or 4 (only with lanes along channels). A batch
    /// that this does not divide is taken image by image.
    pub vec: usize,
    /// Whether those vectors are loaded as words of 64 bits (see `shaders/shared/stored.wgsl`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wide: bool,
    /// Groups that share the columns; their partial sums are added in a second launch.
    pub splits: usize,
}

impl std::fmt::Display for WeightTile {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let WeightTile { lanes, r, c, unroll, vec, wide, splits, .. } = self;
        let along = match self.along {
            Lanes::Pixels => "pixels",
            Lanes::Channels => "channels",
        };
        let subgroup = if self.subgroup { " subgroup" } else { "" };
        let wide = if *wide { " wide" } else { "" };
        write!(f, "{along}{subgroup} l{lanes} r{r} c{c} u{unroll} v{vec}{wide} s{splits}")
    }
}
