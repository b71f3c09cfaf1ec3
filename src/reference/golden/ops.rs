//! Golden files of single operations: metadata `op` and `cases`, tensors `<case>/<name>`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::comparison::{Comparison, Results, compare, max_abs};
use super::file::File;
use crate::Result;
use crate::reference::adam::{Adam, adam};
use crate::reference::avg_pool::*;
use crate::reference::conv_transpose2d::*;
use crate::reference::conv2d::*;
use crate::reference::linear::*;
use crate::reference::max_pool::*;
use crate::reference::mix::*;
use crate::reference::norm::*;
use crate::reference::relu::*;
use crate::reference::softmax_ce::*;
use crate::reference::{ImageShape, Tensor};

/// The operation of a case, with its extents. Comments name the inputs -> the expected results; `?` marks those that
/// only some cases have. `gy` is the gradient that arrives at `y`, `g<input>` that of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// x, w, b?, gy -> y, gx, gw, gb?
    Conv2d(Conv2d),
    /// x, w, b?, gy -> y, gx, gw, gb?
    ConvTranspose2d(ConvTranspose2d),
    /// x, w, b, gy -> y, gx, gw, gb
    Norm(Norm),
    /// x, gy -> y, gx
    Relu,
    /// x, gy -> y, gx
    MaxPool(ImageShape),
    /// x, gy -> y, gx
    AvgPool(ImageShape),
    /// x, w, b?, gy -> y, gx, gw, gb?
    Linear(Linear),
    /// b, l?, t?, gy -> y, gb, gl?, gt?
    Mix(Interaction),
    /// z, labels -> logprob, loss, gz
    SoftmaxCe(SoftmaxCe),
    /// p, m, v, g -> p1, m1, v1
    Adam {
        /// Hyper-parameters.
        settings: Adam,
        /// Steps already taken.
        steps_taken: u64,
    },
}

/// One case of an operation: inputs and the results expected from them.
#[derive(Clone, Debug)]
pub struct OpCase {
    /// Name of the case in its file.
    pub name: String,
    /// Operation and extents.
    pub op: Op,
    /// What is special about the inputs ("plain", "tiny", "ties", ...); empty where the file does not say.
    pub data: String,
    /// Inputs, named as in the file, the upstream gradient `gy` included.
    pub inputs: BTreeMap<String, Tensor>,
    /// Labels, for [`Op::SoftmaxCe`]; else empty.
    pub labels: Vec<usize>,
    /// Expected results, named as in the file.
    pub expected: BTreeMap<String, Tensor>,
}

/// A case's entry in the metadata's list; which attributes it has depends on the operation.
#[derive(Deserialize)]
struct Attributes {
    name: String,
    #[serde(default)]
    data: String,
    x: Option<Vec<usize>>,
    z: Option<Vec<usize>>,
    co: Option<usize>,
    k: Option<usize>,
    out: Option<usize>,
    bias: Option<bool>,
    kind: Option<String>,
    groups: Option<usize>,
    mode: Option<Interaction>,
    terms: Option<String>,
    lr: Option<f64>,
    step: Option<u64>,
}

/// Names of tensors with their shapes.
type Shapes = Vec<(&'static str, Vec<usize>)>;

/// Reads a golden file of one operation: the operation's name as in the file, and its cases.
///
/// # Errors
/// When the file cannot be read, names an unknown operation, or a case has attributes or tensors that do not fit.
pub fn read_op_cases(path: &Path) -> Result<(String, Vec<OpCase>)> {
    from_file(File::read(path)?)
}

pub(super) fn from_file(mut file: File) -> Result<(String, Vec<OpCase>)> {
    let op = file.metadata.get("op").cloned().ok_or_else(|| file.error("no metadata key `op`"))?;
    let list = Vec::<Attributes>::deserialize(file.json("cases")?)
        .map_err(|e| file.error(format!("metadata key `cases` is not a list of cases: {e}")))?;
    if list.is_empty() {
        return Err(file.error("metadata key `cases` lists no case"));
    }
    let cases = list.iter().map(|attributes| read_case(&mut file, &op, attributes)).collect::<Result<_>>()?;
    file.finish()?;
    Ok((op, cases))
}

fn read_case(file: &mut File, op: &str, attributes: &Attributes) -> Result<OpCase> {
    let name = &attributes.name;
    let wrong = |file: &File, what: String| file.error(format!("case `{name}` of `{op}`: {what}"));
    let elementwise = file.tensors.get(&format!("{name}/{}", if op == "adam" { "p" } else { "b" }));
    let elementwise = elementwise.map(|raw| raw.shape.clone());
    let (op, inputs, outputs) = parse(op, attributes, elementwise).map_err(|what| wrong(file, what))?;
    let mut take = |shapes: Shapes| -> Result<BTreeMap<String, Tensor>> {
        let one = |(tensor, shape): (&str, Vec<usize>)| -> Result<_> {
            Ok((tensor.to_owned(), file.f32_of(&format!("{name}/{tensor}"), &shape)?))
        };
        shapes.into_iter().map(one).collect()
    };
    let (inputs, expected) = (take(inputs)?, take(outputs)?);
    let labels = match op {
        Op::SoftmaxCe(s) => file.labels(&format!("{name}/labels"), s.n, s.classes)?,
        _ => Vec::new(),
    };
    Ok(OpCase { name: name.clone(), op, data: attributes.data.clone(), inputs, labels, expected })
}

/// The operation, and the shapes of its inputs and of its results. `elementwise` is the common shape of the tensors of
/// `combine` and `adam`, which their attributes do not give. The error says what is wrong with the attributes.
fn parse(op: &str, a: &Attributes, elementwise: Option<Vec<usize>>) -> Result<(Op, Shapes, Shapes), String> {
    fn need<T: Clone>(name: &str, attribute: &Option<T>) -> Result<T, String> {
        attribute.clone().ok_or_else(|| format!("attribute `{name}` is missing"))
    }
    let extents = |name: &str, shape: &Option<Vec<usize>>, rank: usize| -> Result<Vec<usize>, String> {
        let shape = need(name, shape)?;
        if shape.len() != rank || shape.iter().any(|&e| e == 0 || e > 1 << 30) {
            return Err(format!("attribute `{name}`: expected {rank} extents from 1 to 2^30, found {shape:?}"));
        }
        Ok(shape)
    };
    let image = || extents("x", &a.x, 4).map(|x| ImageShape::new(x[0], x[1], x[2], x[3]));
    let four = |s: ImageShape| vec![s.n, s.c, s.h, s.w];
    let kernel = || match need("k", &a.k)? {
        k if k % 2 == 1 => Ok(k),
        k => Err(format!("attribute `k`: expected an odd kernel size, found {k}")),
    };
    // x, w, b?, gy -> y, gx, gw, gb?
    let weighted = |x: Vec<usize>, w: Vec<usize>, b: Option<Vec<usize>>, y: Vec<usize>| {
        let mut inputs = vec![("x", x.clone()), ("w", w.clone()), ("gy", y.clone())];
        let mut outputs = vec![("y", y), ("gx", x), ("gw", w)];
        if let Some(b) = b {
            inputs.push(("b", b.clone()));
            outputs.push(("gb", b));
        }
        (inputs, outputs)
    };
    // x, gy -> y, gx
    let plain = |x: Vec<usize>, y: Vec<usize>| (vec![("x", x.clone()), ("gy", y.clone())], vec![("y", y), ("gx", x)]);
    let (op, (inputs, outputs)) = match op {
        "conv2d" => {
            let (ImageShape { n, c, h, w }, c_out, k) = (image()?, need("co", &a.co)?, kernel()?);
            let s = Conv2d { n, c_in: c, c_out, h, w, k, stride: 1 };
            let bias = need("bias", &a.bias)?.then(|| vec![c_out]);
            (Op::Conv2d(s), weighted(four(s.input()), vec![c_out, c, k, k], bias, four(s.output())))
        }
        "conv_transpose2d" => {
            let (ImageShape { n, c, h, w }, c_out, k) = (image()?, need("co", &a.co)?, kernel()?);
            let s = ConvTranspose2d { n, c_in: c, c_out, h, w, k, stride: 2 };
            let bias = need("bias", &a.bias)?.then(|| vec![c_out]);
            (Op::ConvTranspose2d(s), weighted(four(s.input()), vec![c, c_out, k, k], bias, four(s.output())))
        }
        "norm" => {
            let kind = need("kind", &a.kind)?;
            let (x, shape) = match kind.as_str() {
                "layer_c" => {
                    let x = extents("x", &a.x, 2)?;
                    (x.clone(), ImageShape::new(x[0], x[1], 1, 1))
                }
                // A group norm may stand on maps or, as at the gap, on vectors.
                "group" if a.x.as_ref().is_some_and(|x| x.len() == 2) => {
                    let x = extents("x", &a.x, 2)?;
                    (x.clone(), ImageShape::new(x[0], x[1], 1, 1))
                }
                _ => (four(image()?), image()?),
            };
            let (kind, affine) = match kind.as_str() {
                "layer" | "layer_c" => (NormKind::Layer, x[1..].to_vec()),
                "group" => match need("groups", &a.groups)? {
                    groups if groups > 0 && shape.c % groups == 0 => (NormKind::Group { groups }, vec![shape.c]),
                    groups => return Err(format!("{} channels do not divide into {groups} groups", shape.c)),
                },
                other => return Err(format!("attribute `kind`: expected layer, layer_c or group, found `{other}`")),
            };
            (Op::Norm(Norm { shape, kind }), weighted(x.clone(), affine.clone(), Some(affine), x))
        }
        "relu" => {
            let x = need("x", &a.x)?;
            (Op::Relu, plain(x.clone(), x))
        }
        "maxpool2x2" => {
            let s = image()?;
            if s.h < 2 || s.w < 2 {
                return Err(format!("attribute `x`: maps of {} x {} are smaller than the 2 x 2 window", s.h, s.w));
            }
            (Op::MaxPool(s), plain(four(s), four(max_pool_output(s))))
        }
        "global_avgpool" => {
            let s = image()?;
            (Op::AvgPool(s), plain(four(s), vec![s.n, s.c]))
        }
        "linear" => {
            let (x, outputs) = (extents("x", &a.x, 2)?, need("out", &a.out)?);
            let s = Linear { n: x[0], inputs: x[1], outputs };
            let bias = need("bias", &a.bias)?.then(|| vec![outputs]);
            (Op::Linear(s), weighted(x.clone(), vec![outputs, x[1]], bias, vec![x[0], outputs]))
        }
        "combine" => {
            let (shape, terms) = (need("b", &elementwise)?, need("terms", &a.terms)?);
            if !matches!(terms.as_str(), "b" | "bl" | "bt" | "blt") {
                return Err(format!("attribute `terms`: expected b, bl, bt or blt, found `{terms}`"));
            }
            let (mut inputs, mut outputs) = (vec![("gy", shape.clone())], vec![("y", shape.clone())]);
            for (letter, term, gradient) in [('b', "b", "gb"), ('l', "l", "gl"), ('t', "t", "gt")] {
                if terms.contains(letter) {
                    inputs.push((term, shape.clone()));
                    outputs.push((gradient, shape.clone()));
                }
            }
            (Op::Mix(need("mode", &a.mode)?), (inputs, outputs))
        }
        "softmax_ce" => {
            let z = extents("z", &a.z, 2)?;
            let outputs = vec![("logprob", z.clone()), ("loss", vec![1]), ("gz", z.clone())];
            (Op::SoftmaxCe(SoftmaxCe { n: z[0], classes: z[1] }), (vec![("z", z)], outputs))
        }
        "adam" => {
            let shape = need("p", &elementwise)?;
            let settings = Adam { learning_rate: need("lr", &a.lr)?, ..Adam::default() };
            let all = |names: &[&'static str]| names.iter().map(|&name| (name, shape.clone())).collect();
            let op = Op::Adam { settings, steps_taken: need("step", &a.step)? };
            (op, (all(&["p", "m", "v", "g"]), all(&["p1", "m1", "v1"])))
        }
        _ => {
            let known =
                "adam, combine, conv2d, conv_transpose2d, global_avgpool, linear, maxpool2x2, norm, relu, softmax_ce";
            return Err(format!("unknown operation; known: {known}"));
        }
    };
    Ok((op, inputs, outputs))
}

impl OpCase {
    /// The values of an input.
    ///
    /// # Panics
    /// When the case has no such input; [`Op`] says which it has.
    pub fn input(&self, name: &str) -> &[f32] {
        self.optional_input(name).unwrap_or_else(|| panic!("case `{}` has no input `{name}`", self.name))
    }

    /// The values of an input that only some cases have.
    pub fn optional_input(&self, name: &str) -> Option<&[f32]> {
        self.inputs.get(name).map(|tensor| tensor.values.as_slice())
    }

    /// The largest error allowed for each element of an expected result: the tolerances that come with the golden files.
    ///
    /// # Panics
    /// When no such result is expected.
    pub fn allowed_errors(&self, tensor: &str) -> Vec<f64> {
        let reference = &self.expected[tensor].values;
        let scaled = |tolerance: f64| vec![tolerance * max_abs(reference).max(1.0); reference.len()];
        match (self.op, tensor) {
            (Op::Relu | Op::MaxPool(_), _) => scaled(0.0),
            (Op::AvgPool(_) | Op::Mix(_), _) => scaled(1e-6),
            // A sum without a product other than 0 is 0, and not what rounding leaves of it: Adam makes steps of that.
            (Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_), _) => {
                scaled(1e-5).into_iter().zip(reference).map(|(e, &r)| if r == 0.0 { 0.0 } else { e }).collect()
            }
            (Op::Norm(_), _) => match self.data.as_str() {
                "tiny" => scaled(5e-4), // variance 1e-8: d y / d x is about 300
                "offset" => scaled(5e-5),
                _ => scaled(1e-5),
            },
            (Op::SoftmaxCe(_), "gz") => vec![1e-6; reference.len()],
            (Op::SoftmaxCe(_), _) => reference.iter().map(|&r| 1e-5 * (1.0 + r.abs() as f64)).collect(),
            // Two units in the last place of f32.
            (Op::Adam { .. }, "p1") => reference.iter().map(|&r| 1e-6 * f64::from(r.abs()).max(1.0)).collect(),
            // Relative to the terms of the sum, which may cancel: 0.9 m + 0.1 g.
            (Op::Adam { settings, .. }, "m1") => {
                let terms = self.input("m").iter().zip(self.input("g"));
                let size = |m: f32, g: f32| settings.beta1 * m.abs() as f64 + (1.0 - settings.beta1) * g.abs() as f64;
                terms.map(|(&m, &g)| 1e-6 * size(m, g)).collect()
            }
            (Op::Adam { .. }, _) => reference.iter().map(|&r| 1e-6 * r.abs() as f64).collect(),
        }
    }

    /// Compares results with the expected ones, one comparison a tensor; a missing or unexpected result fails.
    pub fn compare(&self, found: &Results) -> Vec<Comparison> {
        compare(&self.expected, found, |tensor| self.allowed_errors(tensor))
    }
}

/// Every expected result of a case, computed by the operation's twin.
pub fn run_twin(case: &OpCase) -> Results {
    let input = |name: &str| case.input(name);
    let bias = case.optional_input("b");
    let mut results = Vec::new();
    match case.op {
        Op::Conv2d(s) => {
            results.push(("y", conv2d(&s, input("x"), input("w"), bias)));
            results.push(("gx", conv2d_d_input(&s, input("w"), input("gy"))));
            results.push(("gw", conv2d_d_weight(&s, input("x"), input("gy"))));
            results.extend(bias.map(|_| ("gb", conv2d_d_bias(&s, input("gy")))));
        }
        Op::ConvTranspose2d(s) => {
            results.push(("y", conv_transpose2d(&s, input("x"), input("w"), bias)));
            results.push(("gx", conv_transpose2d_d_input(&s, input("w"), input("gy"))));
            results.push(("gw", conv_transpose2d_d_weight(&s, input("x"), input("gy"))));
            results.extend(bias.map(|_| ("gb", conv_transpose2d_d_bias(&s, input("gy")))));
        }
        Op::Norm(s) => {
            results.push(("y", norm(&s, input("x"), input("w"), input("b"))));
            results.push(("gx", norm_d_input(&s, input("x"), input("w"), input("gy"))));
            results.push(("gw", norm_d_weight(&s, input("x"), input("gy"))));
            results.push(("gb", norm_d_bias(&s, input("gy"))));
        }
        Op::Relu => {
            results.push(("y", relu(input("x"))));
            results.push(("gx", relu_d_input(input("x"), input("gy"))));
        }
        Op::MaxPool(s) => {
            results.push(("y", max_pool(s, input("x"))));
            results.push(("gx", max_pool_d_input(s, input("x"), input("gy"))));
        }
        Op::AvgPool(s) => {
            results.push(("y", avg_pool(s, input("x"))));
            results.push(("gx", avg_pool_d_input(s, input("gy"))));
        }
        Op::Linear(s) => {
            results.push(("y", linear(&s, input("x"), input("w"), bias)));
            results.push(("gx", linear_d_input(&s, input("w"), input("gy"))));
            results.push(("gw", linear_d_weight(&s, input("x"), input("gy"))));
            results.extend(bias.map(|_| ("gb", linear_d_bias(&s, input("gy")))));
        }
        Op::Mix(kind) => {
            let (l, t) = (case.optional_input("l"), case.optional_input("t"));
            results.push(("y", mix(kind, input("b"), l, t)));
            results.push(("gb", mix_d_bottom_up(kind, l, t, input("gy"))));
            let d_term = || mix_d_term(kind, input("b"), input("gy"));
            results.extend(l.map(|_| ("gl", d_term())));
            results.extend(t.map(|_| ("gt", d_term())));
        }
        Op::SoftmaxCe(s) => {
            let (logprob, loss) = softmax_ce(&s, input("z"), &case.labels);
            results.push(("logprob", logprob));
            results.push(("loss", vec![loss]));
            results.push(("gz", softmax_ce_d_logits(&s, input("z"), &case.labels)));
        }
        Op::Adam { settings, steps_taken } => {
            let [mut p, mut m, mut v] = ["p", "m", "v"].map(|name| input(name).to_vec());
            adam(&settings, steps_taken, &mut p, &mut m, &mut v, input("g"));
            results.extend([("p1", p), ("m1", m), ("v1", v)]);
        }
    }
    results.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}
