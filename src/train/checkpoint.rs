//! Checkpoints: one safetensors file with parameters, Adam's moments and everything else that a run needs to go on
//! bit for bit.
//!
//! Tensors, all f32: `param/<name>`, `adam_m/<name>`, `adam_v/<name>` for every parameter, unused ones too. The
//! metadata key `recurve` holds one JSON object, [`CheckpointState`] with a checksum (one key, because the order of
//! several is random). There is no wall-clock time in it: the same run gives the same bytes.
//!
//! No generator's state is stored: whatever is drawn is a function of the seed and the position in the data.

use crate::dataset::{Dataset, Normaliser};
use crate::error::{Error, Result};
use crate::files::{self, write_atomically};
use crate::network::{Architecture, Description, NetworkConfig, ParameterSpec, RunConfig, TrainingConfig, initialise};
use crate::ops::LossScale;
use crate::tensors::{Tensor, Tensors};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Changes when an older program could no longer read the file.
const FORMAT: u32 = 1;
/// The metadata key.
const KEY: &str = "recurve";
/// The three tensors of each parameter.
const KINDS: [&str; 3] = ["param", "adam_m", "adam_v"];

/// Where a run stands, apart from its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Fields", try_from = "Fields")]
pub struct CheckpointState {
    /// Training steps done.
    pub step: u64,
    /// Steps that Adam has counted for its bias correction.
    pub adam_step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Batches of the current epoch already trained on.
    pub batch_in_epoch: u64,
    /// What the network has been fed with.
    pub data: DataState,
    /// The network, as it is described.
    pub network: Description,
    /// The training, with the seed, without what changes no number ([`TrainingConfig::essential`]).
    pub training: TrainingConfig,
    /// The file that the network was imported from, with its hash; `None` for one that was drawn here.
    pub origin: Option<String>,
    /// The loss scale of a run in mixed precision, once it has begun.
    pub loss_scale: Option<LossScale>,
}

/// The state's JSON: the network's key is `network` or `architecture`, as in the configuration file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    step: u64,
    adam_step: u64,
    epoch: u64,
    batch_in_epoch: u64,
    data: DataState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<NetworkConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architecture: Option<Architecture>,
    training: TrainingConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<LossScale>,
}

impl From<CheckpointState> for Fields {
    fn from(state: CheckpointState) -> Fields {
        let CheckpointState { step, adam_step, epoch, batch_in_epoch, data, network, training, origin, loss_scale } =
            state;
        let (network, architecture) = network.into_sections();
        Fields { step, adam_step, epoch, batch_in_epoch, data, network, architecture, training, origin, loss_scale }
    }
}

impl TryFrom<Fields> for CheckpointState {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<CheckpointState> {
        let Fields {
            step,
            adam_step,
            epoch,
            batch_in_epoch,
            data,
            network,
            architecture,
            training,
            origin,
            loss_scale,
        } = fields;
        let network = Description::of_sections(network, architecture)?;
        Ok(CheckpointState { step, adam_step, epoch, batch_in_epoch, data, network, training, origin, loss_scale })
    }
}

/// What of the data set belongs to the trained network. Of an imported network it may not be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataState {
    /// Mean of each colour channel over the training split, on the scale 0..255: pictures are normalised by it. `None`
    /// (in the file `null`) where it is not known.
    pub channel_mean: Option<[f64; 3]>,
    /// Standard deviation of each colour channel, likewise.
    pub channel_std: Option<[f64; 3]>,
    /// Names of the classes, in the order of the readout's units; where they are not known "class 0", "class 1", ...
    pub class_names: Vec<String>,
}

impl DataState {
    /// What belongs to a network that is trained on this data set.
    pub fn of(dataset: &dyn Dataset) -> DataState {
        DataState {
            channel_mean: Some(dataset.mean()),
            channel_std: Some(dataset.std()),
            class_names: dataset.classes().to_vec(),
        }
    }

    /// Of a network that was trained elsewhere, on data of which only the number of classes is known.
    pub fn unknown(classes: usize) -> DataState {
        let class_names = (0..classes).map(|class| format!("class {class}")).collect();
        DataState { channel_mean: None, channel_std: None, class_names }
    }

    /// Whether the names of the classes are those that [`DataState::unknown`] gives.
    pub fn names_unknown(&self) -> bool {
        self.channel_mean.is_none() && *self == DataState::unknown(self.class_names.len())
    }

    /// How pictures of `dataset` are normalised for this network: by the means and deviations that it was trained with;
    /// where they are not known by those of `dataset`, and then a sentence says so.
    pub fn normaliser(&self, dataset: &dyn Dataset) -> (Normaliser, Option<String>) {
        match (self.channel_mean, self.channel_std) {
            (Some(mean), Some(std)) => (Normaliser::new(mean, std), None),
            _ => {
                let said = format!(
                    "The channel means and deviations that the imported network was trained with are not known: pictures \
                     are normalised with those of {}, {:.3?} and {:.3?} on the scale 0 to 255.",
                    dataset.name(),
                    dataset.mean(),
                    dataset.std()
                );
                (Normaliser::new(dataset.mean(), dataset.std()), Some(said))
            }
        }
    }
}

/// A run at one step. The tensors stand in the order of [`crate::network::Network::parameters`].
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where the run stands.
    pub state: CheckpointState,
    /// The network's parameters.
    pub parameters: Tensors,
    /// Adam's running means of the gradients, by the names of the parameters.
    pub adam_m: Tensors,
    /// Adam's running means of the squared gradients, likewise.
    pub adam_v: Tensors,
}

/// The JSON of the metadata key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    checksum: String,
    state: CheckpointState,
}

/// Of an unknown format only this much is read.
#[derive(Deserialize)]
struct AnyHeader {
    format: u32,
}

impl Checkpoint {
    /// The run before its first step: parameters as `config`, which must be valid, and its seed draw them, no moments.
    pub fn initial(config: &RunConfig, data: DataState) -> Checkpoint {
        let parameters = initialise(&specs(&config.network), config.training.seed);
        let zeros = parameters.zeros();
        Checkpoint {
            state: CheckpointState {
                step: 0,
                adam_step: 0,
                epoch: 0,
                batch_in_epoch: 0,
                data,
                network: config.network.clone(),
                training: config.training.essential(),
                origin: None,
                loss_scale: None,
            },
            parameters,
            adam_m: zeros.clone(),
            adam_v: zeros,
        }
    }

    /// Names and shapes of the tensors.
    pub fn specs(&self) -> Vec<ParameterSpec> {
        specs(&self.state.network)
    }

    /// One parameter by its name in the state dict.
    pub fn parameter(&self, name: &str) -> Option<&[f32]> {
        self.parameters.get(name).map(|tensor| &tensor.values[..])
    }

    /// The file's bytes. Refuses values that are not finite, so that a run gone wrong keeps its last good checkpoint.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let specs = self.specs();
        self.verify(&specs)
            .map_err(|what| Error::Checkpoint(format!("checkpoint of step {} not written: {what}", self.state.step)))?;
        let header =
            Header { format: FORMAT, checksum: format!("{:016x}", self.checksum(&specs)), state: self.state.clone() };
        let json = serde_json::to_string(&header).expect("the state has only plain fields");
        let views = KINDS.iter().zip(self.tensors()).flat_map(|(kind, tensors)| {
            specs.iter().map(move |spec| {
                let bytes = bytemuck::cast_slice(tensors.values(&spec.name).expect("verified"));
                let view = TensorView::new(Dtype::F32, spec.shape.clone(), bytes).expect("sizes were verified");
                (tensor_name(kind, spec), view)
            })
        });
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_string(), json)])))
            .map_err(|e| Error::Checkpoint(format!("checkpoint of step {} not written: {e}", self.state.step)))
    }

    /// Writes the file at once or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_checkpoint_bytes(path, &self.to_bytes()?)
    }

    /// Reads a file and verifies all of it: tensors, shapes, types, checksum, finite values.
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let bytes = files::read(path, files::TENSORS)
            .map_err(|e| Error::Checkpoint(format!("checkpoint {}: cannot be read: {e}", path.display())))?;
        Checkpoint::from_bytes(&bytes).map_err(|what| {
            Error::Checkpoint(format!(
                "checkpoint {} ({} bytes): {what}; use another one of the run's folder checkpoints",
                path.display(),
                bytes.len()
            ))
        })
    }

    /// Reads and verifies a file's bytes; the error says what was expected and found.
    pub fn from_bytes(bytes: &[u8]) -> Result<Checkpoint, String> {
        let not_one = |e| format!("torn, or not a checkpoint at all (no complete safetensors file: {e})");
        let (_, file_header) = SafeTensors::read_metadata(bytes).map_err(not_one)?;
        let file = SafeTensors::deserialize(bytes).map_err(not_one)?;
        let json =
            file_header.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| {
                format!("not a checkpoint of this program: the safetensors metadata has no key '{KEY}'")
            })?;
        let bad_json = |e| format!("the metadata key '{KEY}' is damaged: {e}");
        let AnyHeader { format } = serde_json::from_str(json).map_err(bad_json)?;
        if format != FORMAT {
            return Err(format!("format {format} found, this program reads format {FORMAT}"));
        }
        let Header { checksum, state, .. } = serde_json::from_str(json).map_err(bad_json)?;
        state.training.validate().map_err(|e| e.to_string())?;
        let specs = state.network.network().map_err(|e| e.to_string())?.parameters;

        if file.len() != KINDS.len() * specs.len() {
            return Err(format!("expected {} tensors, found {}", KINDS.len() * specs.len(), file.len()));
        }
        let [parameters, adam_m, adam_v] =
            KINDS.map(|kind| specs.iter().map(|spec| read_tensor(&file, kind, spec)).collect::<Result<_, String>>());
        let checkpoint = Checkpoint { state, parameters: parameters?, adam_m: adam_m?, adam_v: adam_v? };

        let found = format!("{:016x}", checkpoint.checksum(&specs));
        if found != checksum {
            return Err(format!("damaged: checksum {found} of the content, {checksum} expected"));
        }
        checkpoint.verify(&specs)?;
        Ok(checkpoint)
    }

    /// The tensors in the order of [`KINDS`].
    fn tensors(&self) -> [&Tensors; 3] {
        [&self.parameters, &self.adam_m, &self.adam_v]
    }

    /// Each parameter must be there in its shape, and all values must be finite.
    fn verify(&self, specs: &[ParameterSpec]) -> Result<(), String> {
        for (kind, tensors) in KINDS.iter().zip(self.tensors()) {
            if tensors.len() != specs.len() {
                return Err(format!("{} tensors {kind}/..., {} expected", tensors.len(), specs.len()));
            }
            for spec in specs {
                let name = tensor_name(kind, spec);
                let tensor = tensors.get(&spec.name).ok_or_else(|| format!("{name} is missing"))?;
                if tensor.values.len() != spec.len() {
                    return Err(format!("{name} has {} values, {} expected", tensor.values.len(), spec.len()));
                }
            }
            if let Some((name, at, value)) = tensors.not_finite() {
                return Err(format!("{kind}/{name} holds {value} at index {at}, finite numbers expected"));
            }
        }
        Ok(())
    }

    /// FNV-1a (64 bits), over the bytes of the state's JSON and then over the tensors' values as 32-bit words, in the
    /// order of the parameters. Any single changed value changes it.
    fn checksum(&self, specs: &[ParameterSpec]) -> u64 {
        let state = serde_json::to_string(&self.state).expect("the state has only plain fields");
        let of = |tensors: &'_ Tensors| -> Vec<u32> {
            let values = specs.iter().filter_map(|spec| tensors.get(&spec.name)).flat_map(|tensor| &tensor.values);
            values.map(|v| v.to_bits()).collect()
        };
        let values = self.tensors().into_iter().flat_map(of);
        crate::hash::fnv1a_words(state.bytes().map(u32::from).chain(values))
    }
}

/// What a network learns that has been checked.
fn specs(network: &Description) -> Vec<ParameterSpec> {
    network.network().expect("the network was checked when it was read").parameters
}

fn tensor_name(kind: &str, spec: &ParameterSpec) -> String {
    format!("{kind}/{}", spec.name)
}

fn read_tensor(file: &SafeTensors, kind: &str, spec: &ParameterSpec) -> Result<(String, Tensor), String> {
    let name = tensor_name(kind, spec);
    let tensor = file.tensor(&name).map_err(|_| format!("tensor {name} is missing"))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != spec.shape {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        return Err(format!("tensor {name}: expected F32 {:?}, found {dtype} {shape:?}", spec.shape));
    }
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok((spec.name.clone(), Tensor::new(&spec.shape, values)))
}

/// Writes a checkpoint's bytes at once or not at all; the error says that nothing is lost.
pub(super) fn write_checkpoint_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(|e| {
        Error::Checkpoint(format!(
            "checkpoint {} ({} bytes) could not be written: {e}; earlier checkpoints are unharmed: free space or \
             mend the permissions, then go on with --resume",
            path.display(),
            bytes.len()
        ))
    })
}
