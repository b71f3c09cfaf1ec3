//! Tensors by name: parameters, gradients, moments; what a checkpoint holds and an engine takes.

use crate::{Error, Result};
use std::collections::BTreeMap;

/// Numbers in rows of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Values, the last extent innermost.
    pub values: Vec<f32>,
}

/// Tensors under the names of the state dict. Names are unique; nothing relies on an order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensor {
    /// Panics if the shape asks for another number of values.
    pub fn new(shape: &[usize], values: Vec<f32>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values of a tensor {shape:?}");
        Tensor { shape: shape.to_vec(), values }
    }
}

impl Tensors {
    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// The values of this name.
    ///
    /// # Errors
    /// None of this name.
    pub fn values(&self, name: &str) -> Result<&[f32]> {
        let found = self.0.get(name).map(|tensor| &tensor.values[..]);
        found.ok_or_else(|| Error::Checkpoint(format!("tensor `{name}` is missing")))
    }

    /// The tensor of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.0.get_mut(name)
    }

    /// All, to be changed, in the order of their names.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Tensor)> {
        self.0.iter_mut()
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }

    /// Adds a tensor or replaces the one of its name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Zeros under the same names and of the same shapes.
    pub fn zeros(&self) -> Tensors {
        let zeros = |(name, tensor): (&String, &Tensor)| {
            (name.clone(), Tensor { shape: tensor.shape.clone(), values: vec![0.0; tensor.values.len()] })
        };
        Tensors(self.0.iter().map(zeros).collect())
    }

    /// Where the first value stands that is not finite: name, position, value.
    pub fn not_finite(&self) -> Option<(&str, usize, f32)> {
        self.0.iter().find_map(|(name, tensor)| {
            let at = tensor.values.iter().position(|v| !v.is_finite())?;
            Some((name.as_str(), at, tensor.values[at]))
        })
    }
}

impl FromIterator<(String, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(list: I) -> Tensors {
        Tensors(list.into_iter().collect())
    }
}

impl IntoIterator for Tensors {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
