//! State dicts in and out: every form, what shapes and names tell, what is refused, and damage.

mod golden_folder;

use golden_folder::golden_folder;
use recurve::network::*;
use recurve::tensors::{Tensor, Tensors};
use recurve::train::run_folder::{checkpoints, chosen, latest, read_config};
use recurve::train::{Checkpoint, DataState};
use recurve::weights::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The smallest network of the family with everything in it.
fn small() -> NetworkConfig {
    NetworkConfig {
        image_size: 8,
        stem_channels: 1,
        area_channels: [1, 2, 2, 3],
        kernel_size: 1,
        topdown: true,
        readout_bias: true,
        timesteps: 3,
        classes: 4,
        ..Preset::Tiny.network()
    }
}

fn checkpoint(network: &NetworkConfig, seed: u64) -> Checkpoint {
    let mut run = Preset::Tiny.run();
    run.network = network.clone().into();
    run.training.seed = seed;
    run.classes_open = false;
    Checkpoint::initial(&run, DataState::unknown(network.classes))
}

fn pth(network: &NetworkConfig, seed: u64) -> Vec<u8> {
    encode(&checkpoint(network, seed), Form::Pth).unwrap()
}

/// A safetensors file without metadata.
fn safetensors<'a>(tensors: impl IntoIterator<Item = (String, Dtype, &'a [usize], &'a [u8])>) -> Vec<u8> {
    let views = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// The tensors in one, their names changed; `None` leaves one out.
fn renamed(tensors: &Tensors, name: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let bytes: Vec<_> = tensors
        .iter()
        .filter_map(|(n, t)| {
            Some((name(n)?, &t.shape, t.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()))
        })
        .collect();
    safetensors(bytes.iter().map(|(name, shape, bytes)| (name.clone(), Dtype::F32, &shape[..], &bytes[..])))
}

fn as_is(tensors: &Tensors) -> Vec<u8> {
    renamed(tensors, |name| Some(name.to_string()))
}

/// A folder, and a file of this name and content in it.
fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn flags() -> Flags {
    Flags { interaction: Some(Interaction::Additive), timesteps: Some(3), ..Flags::default() }
}

fn options<'a>(file: &'a Path, out: &'a Path, flags: Flags) -> ImportOptions<'a> {
    ImportOptions { file, out, init: None, classes: None, flags, batch: 32 }
}

/// Imports these bytes; the error must name the file and hold the words, and no folder may be made.
fn assert_refused(name: &str, bytes: &[u8], flags: Flags, words: &[&str]) {
    let (folder, path) = file(name, bytes);
    let out = folder.path().join("run");
    let said = import(&options(&path, &out, flags)).unwrap_err().to_string();
    for word in words.iter().chain(&[name]) {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.chars().any(char::is_control), "{said:?}");
    assert!(!out.exists(), "a run folder was made in spite of: {said}");
}

#[test]
fn what_goes_out_comes_in_bit_for_bit() {
    let (network, folder) = (small(), tempfile::tempdir().unwrap());
    let original = checkpoint(&network, 7);
    for (name, form) in [("a.pth", Form::Pth), ("a.safetensors", Form::Safetensors)] {
        let path = folder.path().join(name);
        write(&original, form, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), encode(&original, form).unwrap());
        let found = read(&path).unwrap();
        assert_eq!((found.tensors, found.notes), (original.parameters.clone(), vec![]));

        // To a run folder and out again: V1's unused recurrent weights too.
        let out = folder.path().join(form_name(form));
        let imported = import(&options(&path, &out, flags())).unwrap();
        assert_eq!(imported.network, network.clone().into());
        let (again, _) = chosen(&out, None).unwrap();
        assert_eq!(again.parameters, original.parameters);
        assert!(again.parameter("v1.lateral.weight").is_some() && again.parameter("v1.top_down.weight").is_some());
        assert_eq!((again.state.step, again.state.adam_step), (1, 0));
        assert_eq!(encode(&again, Form::Pth).unwrap(), encode(&original, Form::Pth).unwrap());
        assert_eq!(read_config(&out).unwrap().network, network.clone().into());
        assert!(again.state.origin.unwrap().starts_with(&format!("{name} (fnv1a:")));
    }
}

fn form_name(form: Form) -> &'static str {
    if form == Form::Pth { "out_pth" } else { "out_safetensors" }
}

/// Our own safetensors file says all of its network, also of one of one's own, and what it was trained on.
#[test]
fn our_own_safetensors_come_in_without_flags() {
    let own = RunConfig::parse(
        "[architecture]\nimage_size = 8\nclasses = 3\ntimesteps = 2\n\
         areas = [{ name = \"low\", channels = 2 }, { name = \"gap\", channels = 2, pool = \"average\" }]\n\
         connections = [{ from = \"input\", to = \"low\", kind = \"bottom_up\" }, { from = \"low\", to = \"gap\", kind = \
         \"bottom_up\" }, { from = \"low\", to = \"low\", kind = \"lateral\" }]\n",
    )
    .unwrap();
    let data = DataState {
        channel_mean: Some([1.0, 2.0, 3.5]),
        channel_std: Some([4.0, 5.0, 6.0]),
        class_names: ["a", "b", "c"].map(String::from).to_vec(),
    };
    let original = Checkpoint::initial(&own, data.clone());
    let (folder, path) = file("own.safetensors", &encode(&original, Form::Safetensors).unwrap());
    let out = folder.path().join("run");
    import(&options(&path, &out, Flags::default())).unwrap();
    let (again, _) = chosen(&out, None).unwrap();
    assert_eq!((again.state.network, again.state.data), (own.network.clone(), data));
    assert_eq!(again.parameters, original.parameters);
    let wrong = Flags { timesteps: Some(9), ..Flags::default() };
    assert_refused("own.safetensors", &std::fs::read(&path).unwrap(), wrong, &["--timesteps 9", "says 2"]);
}

#[test]
fn shapes_tell_the_network() {
    let mut seen = 0;
    for (lateral, topdown) in [(true, true), (true, false), (false, true), (false, false)] {
        for lt_position in [LtPosition::All, LtPosition::Last] {
            for norm in [Normalisation::Layer, Normalisation::Group, Normalisation::None] {
                for (timesteps, readout_bias, kernel_size) in [(3, true, 3), (2, false, 1), (1, false, 5)] {
                    let network = NetworkConfig {
                        lateral,
                        topdown,
                        lt_position,
                        norm,
                        timesteps,
                        readout_bias,
                        kernel_size,
                        area_channels: [2, 4, 2, 6],
                        interaction: Interaction::Multiplicative,
                        groups: if norm == Normalisation::Group { 2 } else { 1 },
                        ..small()
                    };
                    let flags = Flags {
                        interaction: Some(network.interaction),
                        timesteps: Some(timesteps),
                        image_size: (norm != Normalisation::Layer).then_some(8),
                        groups: (norm == Normalisation::Group).then_some(2),
                        lt_position: Some(lt_position),
                        recurrent_from: None,
                    };
                    let tensors = checkpoint(&network, 1).parameters;
                    let same = |found: &NetworkConfig| {
                        // What no tensor shows has no effect either.
                        assert_eq!(found.network(), network.network());
                        assert_eq!(found.lt_position, lt_position);
                    };
                    if lateral && lt_position == LtPosition::Last && timesteps > 1
                        || !(lateral || topdown)
                        || timesteps == 1
                    {
                        same(&infer(&tensors, None, &flags).unwrap().0);
                    } else if lt_position == LtPosition::All {
                        same(&infer(&tensors, None, &flags).unwrap().0);
                        let found = infer(&tensors, None, &Flags { lt_position: None, ..flags }).unwrap().0;
                        assert_eq!(found, NetworkConfig { lateral, topdown, ..network.clone() });
                        let last = Flags { lt_position: Some(LtPosition::Last), ..flags };
                        let said = infer(&tensors, None, &last).unwrap_err();
                        assert!(said.contains("--lt-position last") && said.contains("the tensors"), "{said}");
                    }
                    seen += 1;
                }
            }
        }
    }
    assert_eq!(seen, 72);
}

#[test]
fn what_nobody_says_is_an_error_that_names_the_flag() {
    let bytes = pth(&small(), 1);
    assert_refused("a.pth", &bytes, Flags::default(), &["--interaction", "--timesteps"]);
    assert_refused("a.pth", &bytes, Flags { timesteps: Some(3), ..Flags::default() }, &["--interaction"]);
    let unnormed = pth(&NetworkConfig { norm: Normalisation::None, ..small() }, 1);
    assert_refused("a.pth", &unnormed, flags(), &["--image-size"]);
    let grouped = pth(&NetworkConfig { norm: Normalisation::Group, ..small() }, 1);
    assert_refused("a.pth", &grouped, Flags { image_size: Some(8), ..flags() }, &["--groups"]);
    let sized = Flags { image_size: Some(12), groups: Some(1), ..flags() };
    assert_refused("a.pth", &grouped, sized, &["image_size = 12", "multiple of 8"]);
}

#[test]
fn who_disagrees_is_named_with_both_sides() {
    let bytes = pth(&small(), 1);
    let lt = "b8_l_1_t_1_ltinteract_additive_T_3_ltposition_all_num_1.pth";
    for (name, flags, words) in [
        ("a.pth", Flags { image_size: Some(16), ..flags() }, &["--image-size 16", "v1_ln.weight [1, 8, 8]"][..]),
        ("a.pth", Flags { timesteps: Some(1), ..flags() }, &["--timesteps 1", "gap.lateral.weight"]),
        (
            "a.pth",
            Flags { lt_position: Some(LtPosition::Last), ..flags() },
            &["--lt-position last", "areas have recurrent"],
        ),
        ("a.pth", Flags { groups: Some(2), ..flags() }, &["--groups 2", "layer norm"]),
        (lt, Flags { timesteps: Some(4), ..Flags::default() }, &["--timesteps 4", "T_3"]),
        (
            lt,
            Flags { interaction: Some(Interaction::Multiplicative), ..Flags::default() },
            &["--interaction multiplicative", "ltinteract_additive"],
        ),
        (
            "b8_l_0_t_1_ltinteract_additive_T_3_ltposition_all_num_1.pth",
            Flags::default(),
            &["l_0", "lateral weights are there"],
        ),
        (
            "b8_l_1_t_0_ltinteract_additive_T_3_ltposition_all_num_1.pth",
            Flags::default(),
            &["t_0", "v2.top_down.weight is there"],
        ),
        ("b8_l_1_t_1_ltinteract_additive_T_1_ltposition_all_num_1.pth", Flags::default(), &["T_1", "one step"]),
        (
            "b8_l_1_t_1_ltinteract_additive_T_3_ltposition_last_num_1.pth",
            Flags::default(),
            &["ltposition_last", "tensors"],
        ),
        (
            "b8_l_1_t_1_ltinteract_additive_T_3_ltposition_all_classifier_bias_0_norm_LN_num_1.pth",
            Flags::default(),
            &["classifier_bias_0", "true"],
        ),
        (
            "b8_l_1_t_1_ltinteract_additive_T_3_ltposition_all_classifier_bias_1_norm_None_num_1.pth",
            Flags::default(),
            &["the norm", "layer", "none"],
        ),
    ] {
        assert_refused(name, &bytes, flags, words);
    }
}

#[test]
fn a_published_name_says_the_rest_and_where_the_untrained_twin_lies() {
    let network = NetworkConfig { topdown: false, interaction: Interaction::Multiplicative, ..small() };
    let base = "b64_l_1_t_0_ltinteract_multiplicative_T_3_ltposition_all_num_1";
    let (folder, path) = file(&format!("{base}.pth"), &pth(&network, 2));
    let out = |name: &str| folder.path().join(name);

    let alone = import(&options(&path, &out("alone"), Flags::default())).unwrap();
    assert_eq!((alone.network, alone.untrained), (network.clone().into(), None));
    let notes = alone.notes.join("\n");
    for word in [
        "image_size is 8, not 64",
        "area_channels is [1,2,2,3], not [64,128,256,512]",
        "kernel_size is 1, not 3",
        "classes is 4, not 100",
        "readout_bias is true, not false",
        "no untrained network",
        "not known",
        "Adam",
    ] {
        assert!(notes.contains(word), "`{word}` is not in: {notes}");
    }
    assert_eq!(checkpoints(&out("alone")).unwrap().len(), 1);

    let twin = folder.path().join(format!("{base}_epoch_-1.pth"));
    std::fs::write(&twin, pth(&network, 1)).unwrap();
    let both = import(&options(&path, &out("both"), Flags::default())).unwrap();
    assert_eq!(both.untrained, Some(twin.clone()));
    let steps: Vec<u64> = checkpoints(&out("both")).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [0, 1]);
    assert_eq!(chosen(&out("both"), Some(0)).unwrap().0.parameters, checkpoint(&network, 1).parameters);
    assert_eq!(latest(&out("both")).unwrap().unwrap().checkpoint.parameters, checkpoint(&network, 2).parameters);

    // A twin of another network, or a broken one, is not passed over.
    std::fs::write(&twin, pth(&small(), 1)).unwrap();
    let said = import(&options(&path, &out("other"), Flags::default())).unwrap_err().to_string();
    assert!(said.contains("_epoch_-1.pth") && said.contains("v2.top_down.weight"), "{said}");
    std::fs::write(&twin, b"PK").unwrap();
    let said = import(&options(&path, &out("other"), Flags::default())).unwrap_err().to_string();
    assert!(said.contains("_epoch_-1.pth") && said.contains("zip"), "{said}");
    assert!(!out("other").exists());

    // Where no tensor tells the size, the name does.
    let unnormed = NetworkConfig { norm: Normalisation::None, ..network.clone() };
    let named = folder.path().join("b8_l_1_t_0_ltinteract_multiplicative_T_3_ltposition_all_num_1.pth");
    std::fs::write(&named, pth(&unnormed, 1)).unwrap();
    let imported = import(&options(&named, &out("unnormed"), Flags::default())).unwrap();
    assert_eq!(imported.network, unnormed.into());
    let sized = Flags { image_size: Some(16), ..Flags::default() };
    let said = import(&options(&named, &out("sized"), sized)).unwrap_err().to_string();
    assert!(said.contains("--image-size 16") && said.contains("b8"), "{said}");

    // --init wins over the file beside.
    let init = folder.path().join("init.safetensors");
    std::fs::write(&init, as_is(&checkpoint(&network, 5).parameters)).unwrap();
    let run = out("init");
    let given = ImportOptions { init: Some(&init), ..options(&path, &run, Flags::default()) };
    assert_eq!(import(&given).unwrap().untrained, Some(init.clone()));
    assert_eq!(chosen(&out("init"), Some(0)).unwrap().0.parameters, checkpoint(&network, 5).parameters);
    // A folder that holds a run is left alone.
    let said = import(&given).unwrap_err().to_string();
    assert!(said.contains("already holds"), "{said}");
}

#[test]
fn a_published_name_that_contradicts_its_file_is_noted() {
    let one = |name: &str, bytes: &[u8]| {
        let (folder, path) = file(name, bytes);
        import(&options(&path, &folder.path().join("run"), Flags::default())).unwrap().notes.join("\n")
    };
    // A file that describes its network itself.
    let described = encode(&checkpoint(&small(), 1), Form::Safetensors).unwrap();
    let notes = one("b128_l_0_t_1_ltinteract_multiplicative_T_10_ltposition_last_num_1.safetensors", &described);
    for word in [
        "image_size is 8, not 128",
        "kernel_size is 1, not 5",
        "timesteps is 3, not 10",
        "lateral is true, not false",
        "interaction is additive, not multiplicative",
        "lt_position is all, not last",
    ] {
        assert!(notes.contains(word), "`{word}` is not in: {notes}");
    }
    assert!(!notes.contains("topdown") && !notes.contains("norm is"), "{notes}");
    // One that is what its name says, but for its number of classes.
    let network = NetworkConfig { classes: 3, timesteps: 1, lateral: false, ..Preset::Blt64.network() };
    let notes = one("b64_l_0_t_0_ltinteract_None_T_1_ltposition_None_num_1.pth", &pth(&network, 1));
    assert!(notes.contains("but is another: classes is 3, not 100; what the file holds counts"), "{notes}");
    let network = NetworkConfig { classes: 100, ..network };
    let notes = one("b64_l_0_t_0_ltinteract_None_T_1_ltposition_None_num_1.pth", &pth(&network, 1));
    assert!(!notes.contains("published"), "{notes}");
}

#[test]
fn class_names() {
    let (folder, path) = file("a.pth", &pth(&small(), 1));
    let names = folder.path().join("names.txt");
    let out = folder.path().join("run");
    let given = ImportOptions { classes: Some(&names), ..options(&path, &out, flags()) };
    for (text, words) in [
        ("a\nb\nc\n", &["names.txt", "3 lines", "4 classes"][..]),
        ("a\nb\na\nd\n", &["lines 1 and 3", "a"]),
        ("a\n\nb\nc\n", &["line 2"]),
        ("a\n\u{1b}[2J\nb\nc\n", &["line 2", "\\u{1b}"]),
    ] {
        std::fs::write(&names, text).unwrap();
        let said = import(&given).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
    std::fs::write(&names, "fish\r\nRöhre\r\nc\r\nd").unwrap();
    import(&given).unwrap();
    let data = chosen(&out, None).unwrap().0.state.data;
    assert_eq!(data.class_names, ["fish", "Röhre", "c", "d"]);
    assert!(!data.names_unknown() && data.channel_mean.is_none());
}

#[test]
fn state_dicts_of_others_are_refused_with_what_was_found() {
    let bytes = vec![0u8; 4 * 64 * 3 * 49];
    let one = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        safetensors([(name.to_string(), Dtype::F32, shape, &bytes[..4 * count])])
    };
    assert_refused(
        "resnet.safetensors",
        &one("conv1.weight", &[64, 3, 7, 7]),
        flags(),
        &["conv1.weight [64, 3, 7, 7]", "retina.weight", "would fit"],
    );
    assert_refused("cornet.safetensors", &one("module.V1.conv1.weight", &[64, 3, 7, 7]), flags(), &["module.V1.conv1"]);
    assert_refused("optimizer.safetensors", &one("state.0.exp_avg", &[3]), flags(), &["state.0.exp_avg", "optimizer"]);
    assert_refused("empty.safetensors", &safetensors([]), flags(), &["no tensor"]);
    let own = checkpoint(&small(), 1).to_bytes().unwrap();
    assert_refused(
        "checkpoint.safetensors",
        &own,
        flags(),
        &["adam_m/gap.lateral.weight", "run is used by its folder"],
    );
    assert_refused("odd.safetensors", &one("\u{1b}[2J\n", &[1]), flags(), &["\\u{1b}"]);
    assert_refused("gray.safetensors", &one("retina.weight", &[2, 1, 3, 3]), flags(), &["retina.weight [2, 1, 3, 3]"]);
}

/// Each tensor missing, one too many, one of another shape: the message names it.
#[test]
fn half_matching_names_are_refused() {
    let tensors = checkpoint(&small(), 1).parameters;
    for (left_out, _) in tensors.iter().filter(|(name, _)| *name != "readout.bias") {
        let bytes = renamed(&tensors, |name| (name != left_out).then(|| name.to_string()));
        let sized = Flags { image_size: (left_out == "v1_ln.weight").then_some(8), ..flags() };
        assert_refused("half.safetensors", &bytes, sized, &[left_out.split('.').next().unwrap()]);
    }
    for left_out in ["retina.weight", "v4.bottom_up.weight", "readout.weight"] {
        let bytes = renamed(&tensors, |name| (name != left_out).then(|| name.to_string()));
        let missing = format!("missing: {left_out}; found {} tensors", tensors.iter().count() - 1);
        assert_refused("half.safetensors", &bytes, flags(), &[&missing, "torch.save(network.state_dict(), FILE)"]);
    }
    let mut more = tensors.clone();
    more.insert("it.top_down.weight", Tensor::new(&[3, 3, 1, 1], vec![0.0; 9]));
    assert_refused("half.safetensors", &as_is(&more), flags(), &["left over: it.top_down.weight [3, 3, 1, 1]"]);
    let mut other = tensors.clone();
    other.insert("v2.lateral.weight", Tensor::new(&[2, 2, 3, 3], vec![0.0; 36]));
    assert_refused(
        "half.safetensors",
        &as_is(&other),
        flags(),
        &["v2.lateral.weight [2, 2, 3, 3] in place of [2, 2, 1, 1]"],
    );
}

#[test]
fn numbers_that_are_no_weights_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut tensors = checkpoint(&small(), 1).parameters;
        tensors.get_mut("v4.lateral.weight").unwrap().values[2] = value;
        assert_refused(
            "nan.safetensors",
            &as_is(&tensors),
            flags(),
            &["v4.lateral.weight", "index 2", &value.to_string()],
        );
    }
    let tensors = checkpoint(&small(), 1).parameters;
    let retyped = |dtype: Dtype, bytes: &dyn Fn(f32) -> Vec<u8>| {
        let all: Vec<_> = tensors
            .iter()
            .map(|(n, t)| (n, &t.shape, t.values.iter().flat_map(|v| bytes(*v)).collect::<Vec<u8>>()))
            .collect();
        safetensors(all.iter().map(|(name, shape, bytes)| (name.to_string(), dtype, &shape[..], &bytes[..])))
    };
    assert_refused(
        "int.safetensors",
        &retyped(Dtype::I32, &|v| (v as i32).to_le_bytes().to_vec()),
        flags(),
        &["int32"],
    );
    // Wider and narrower floats are read right, and said.
    for (dtype, word, bytes, value) in [
        (
            Dtype::F64,
            "rounded",
            &(|v| f64::from(v).to_le_bytes().to_vec()) as &dyn Fn(f32) -> Vec<u8>,
            &(|v| v) as &dyn Fn(f32) -> f32,
        ),
        (Dtype::F16, "float16", &|v| half::f16::from_f32(v).to_le_bytes().to_vec(), &|v| {
            half::f16::from_f32(v).to_f32()
        }),
        (Dtype::BF16, "bfloat16", &|v| half::bf16::from_f32(v).to_le_bytes().to_vec(), &|v| {
            half::bf16::from_f32(v).to_f32()
        }),
    ] {
        let (_folder, path) = file("a.safetensors", &retyped(dtype, bytes));
        let found = read(&path).unwrap();
        assert!(found.notes[0].contains(word), "{:?}", found.notes);
        for (name, tensor) in tensors.iter() {
            let expected: Vec<f32> = tensor.values.iter().map(|v| value(*v)).collect();
            assert_eq!(found.tensors.values(name).unwrap(), expected, "{name}");
        }
    }
}

/// The entries of a zip file, by name.
fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|i| {
            let mut entry = archive.by_index(i).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.name().unwrap().into_owned(), content)
        })
        .collect()
}

fn zipped(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in entries {
        zip.start_file(name.as_str(), stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The same state dict in the format before PyTorch 1.6: five pickles, then the storages one after the other.
fn legacy(pth: &[u8]) -> Vec<u8> {
    let entries = entries(pth);
    let storages: Vec<&Vec<u8>> =
        entries.iter().filter(|(name, _)| name.contains("/data/")).map(|(_, content)| content).collect();
    let mut out = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    out.extend(b"\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88u.");
    out.extend(&entries[0].1);
    out.extend(b"\x80\x02](");
    for i in 0..storages.len() {
        let key = i.to_string();
        out.extend([b'X', key.len() as u8, 0, 0, 0]);
        out.extend(key.bytes());
    }
    out.extend(b"e.");
    for storage in storages {
        out.extend((storage.len() as u64 / 4).to_le_bytes());
        out.extend(storage);
    }
    out
}

#[test]
fn the_older_format_holds_the_same() {
    let bytes = legacy(&pth(&small(), 3));
    let (_folder, path) = file("old.pth", &bytes);
    assert_eq!(read(&path).unwrap().tensors, checkpoint(&small(), 3).parameters);
}

#[test]
fn pickles_that_would_call_something_are_refused_and_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("executed");
    let command = format!("touch {}", marker.display());
    let call = |module: &str, name: &str| {
        let mut call = format!("c{module}\n{name}\nX").into_bytes();
        call.extend((command.len() as u32).to_le_bytes());
        call.extend(command.bytes());
        call.extend(b"\x85R");
        call
    };
    let whole = entries(&pth(&small(), 1));
    let state_dict = whole[0].1.clone();
    let with = |pickle: Vec<u8>| {
        let mut changed = whole.clone();
        changed[0].1 = pickle;
        zipped(&changed)
    };
    let beside = |extra: &[u8]| [&state_dict[..2], extra, b"0", &state_dict[2..]].concat(); // the result is thrown away
    let among = |extra: &[u8]| {
        let mut pickle = state_dict[..state_dict.len() - 2].to_vec();
        pickle.extend(b"X\x04\x00\x00\x00more");
        pickle.extend(extra);
        pickle.extend(b"u.");
        pickle
    };
    for (module, name) in [("os", "system"), ("posix", "system"), ("subprocess", "call"), ("builtins", "exec")] {
        let call = call(module, name);
        let alone = [b"\x80\x02", &call[..], b"."].concat();
        let said = format!("{module}.{name}");
        for pickle in [alone.clone(), beside(&call), among(&call)] {
            assert_refused("evil.pth", &with(pickle), flags(), &[&said, "not executed", "torch.save(net.state_dict()"]);
        }
        let mut hidden = whole.clone();
        hidden.push(("archive/other.pkl".into(), alone.clone()));
        assert_refused("evil.pth", &zipped(&hidden), flags(), &[&said]);
        assert_refused("evil.pth", &alone, flags(), &[&said]);
        let mut old = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
        old.extend(&alone);
        assert_refused("evil.pth", &old, flags(), &[&said]);
    }
    assert!(!marker.exists());
    // A harmless addition does not hinder.
    let (_folder, path) = file("more.pth", &with(among(b"K\x07")));
    assert_eq!(read(&path).unwrap().tensors, checkpoint(&small(), 1).parameters);
}

/// Cut anywhere, every form is refused with an error and no panic; changed anywhere, it is refused or read.
#[test]
fn damage() {
    let original = checkpoint(&small(), 1);
    let zip = encode(&original, Form::Pth).unwrap();
    for (name, bytes) in [
        ("a.pth", zip.clone()),
        ("old.pth", legacy(&zip)),
        ("a.safetensors", encode(&original, Form::Safetensors).unwrap()),
    ] {
        let (_folder, path) = file(name, &bytes);
        for length in (0..bytes.len()).step_by(13).chain(bytes.len().saturating_sub(40)..bytes.len()) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let said = read(&path).expect_err(&format!("{name}: {length} of {} bytes", bytes.len())).to_string();
            assert!(said.contains(name), "{said}");
        }
        let mut refused = 0;
        let places: Vec<usize> = (0..bytes.len()).step_by(11).collect();
        for &at in &places {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                std::fs::write(&path, &changed).unwrap();
                refused += usize::from(read(&path).is_err());
            }
        }
        assert!(refused > places.len() / 4, "{name}: {refused} of {} refused", 3 * places.len());
    }
}

/// Sizes that a file only claims cost no memory.
#[test]
fn claims_beyond_the_file_are_refused() {
    let whole = entries(&pth(&small(), 1));
    // retina.weight [1, 3, 1, 1], of 3 numbers, is said to have 2^30 of them, of stride 0.
    let text = b"tQJ\x00\x00\x00\x00(J\x01\x00\x00\x00J\x03\x00\x00\x00J\x01\x00\x00\x00J\x01\x00\x00\x00t(J\x03\x00\x00\x00J\x01";
    let at = whole[0].1.windows(text.len()).position(|window| window == text).unwrap();
    let mut huge = whole.clone();
    let pickle = &mut huge[0].1;
    pickle[at + 9..at + 13].copy_from_slice(&(1u32 << 28).to_le_bytes());
    pickle[at + 31..at + 35].fill(0);
    assert_refused("huge.pth", &zipped(&huge), flags(), &["claim", "bytes"]);

    let mut header =
        br#"{"retina.weight":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}"#.to_vec();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    assert_refused("huge.safetensors", &bytes, flags(), &["cut or damaged"]);
    bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert_refused("huge.safetensors", &bytes, flags(), &["cut or damaged"]);
    for (name, bytes, word) in [
        ("empty.pth", &b""[..], "empty"),
        ("text.pth", b"<!DOCTYPE html><html>404", "[3c, 21"),
        ("data.h5", b"\x89HDF\r\n\x1a\n", "[89, 48"),
        ("plain.pkl", b"\x80\x02}.", "plain pickle"),
        ("empty.zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "without data.pkl"),
    ] {
        assert_refused(name, bytes, flags(), &[word]);
    }
    let said = read(Path::new("nowhere.pth")).unwrap_err().to_string();
    assert!(said.contains("nowhere.pth"), "{said}");
}

#[test]
fn wrapped_state_dicts() {
    let tensors = checkpoint(&small(), 1).parameters;
    for (prefix, word) in [("module.", "DataParallel"), ("state_dict.", "`state_dict`"), ("model.module.", "`model`")] {
        let bytes = renamed(&tensors, |name| Some(format!("{prefix}{name}")));
        let (folder, path) = file("a.safetensors", &bytes);
        let imported = import(&options(&path, &folder.path().join("run"), flags())).unwrap();
        assert!(imported.notes.concat().contains(word), "{:?}", imported.notes);
        assert_eq!(chosen(&folder.path().join("run"), None).unwrap().0.parameters, tensors);
    }
    let other = renamed(&tensors, |name| Some(format!("student.{name}")));
    assert_refused("a.safetensors", &other, flags(), &["student"]);
}

/// The state dicts that PyTorch wrote, in both formats: bit for bit what the golden file says.
#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_state_dicts() {
    let golden = golden_folder("golden");
    let bytes = std::fs::read(golden.join("blt_small.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata: HashMap<String, String> = header.metadata().clone().unwrap();
    let network = Description::from_golden_metadata(&metadata).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["blt_small.pth", "blt_small_legacy.pth"] {
        let (path, out) = (golden.join(name), folder.path().join(name));
        let imported = import(&options(&path, &out, Flags { image_size: Some(16), ..flags() })).unwrap();
        assert_eq!(imported.network, network);
        let found = chosen(&out, None).unwrap().0.parameters;
        let mut count = 0;
        for (name, view) in expected.iter().filter_map(|(name, view)| Some((name.strip_prefix("param/")?, view))) {
            let bytes: Vec<u8> = found.values(name).unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(bytes, view.data(), "{name}");
            count += 1;
        }
        assert_eq!(count, found.len());
    }
}

/// Every golden network is found from its shapes alone, with the flags that it needs.
#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_networks_are_told_by_shapes() {
    let mut seen = 0;
    for entry in std::fs::read_dir(golden_folder("golden")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !(name.starts_with("blt_") && name.ends_with(".safetensors")) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let json = header.metadata().clone().unwrap().remove("config").unwrap();
        let network = NetworkConfig::from_golden_json(&json).unwrap();
        let layer = network.norm == Normalisation::Layer;
        let flags = Flags {
            interaction: Some(network.interaction),
            timesteps: Some(network.timesteps),
            image_size: (!layer).then_some(network.image_size),
            groups: (network.norm == Normalisation::Group).then_some(network.groups),
            ..Flags::default()
        };
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let of = |view: TensorView| Tensor { shape: view.shape().to_vec(), values: vec![] };
        let tensors: Tensors =
            file.iter().filter_map(|(name, view)| Some((name.strip_prefix("param/")?.to_string(), of(view)))).collect();
        let (found, _) = infer(&tensors, None, &flags).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.network(), network.network(), "{name}");
        seen += 1;
    }
    assert!(seen >= 13, "{seen} networks");
}
