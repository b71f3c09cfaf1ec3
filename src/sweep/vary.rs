//! `--vary KEY=V,V...`: keys of a configuration file with the values that each is to take, and their combinations.

use crate::hash::fnv1a;
use crate::network::MARK;
use crate::{Error, Result};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Runs of a sweep, at most: beyond it a value was surely mistyped.
const MOST_RUNS: usize = 10_000;

/// Bytes of a run's name that every file system takes, with room for what tools append.
const LONGEST_NAME: usize = 160;

/// A key and the values that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The key as it was said: `training.seed`.
    pub key: String,
    /// Its parts.
    path: Vec<String>,
    /// The values, each with the text that stands for it.
    values: Vec<(String, Value)>,
}

/// One run's choice: the text of its value for each axis, and its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// `interaction=additive,seed=1`.
    pub name: String,
    /// The configuration file with the chosen values in it.
    pub config: String,
}

impl Axis {
    /// Reads `KEY=V,V...`. A value is TOML; what is no TOML is a string without its quotes. Commas within brackets or quotes
    /// do not separate.
    ///
    /// # Errors
    /// No key, no value, a value given twice.
    pub fn parse(text: &str) -> Result<Axis> {
        let wrong = |why: &str| {
            Error::Config(format!(
                "--vary {text}: {why}; expected KEY=VALUE,VALUE..., such as network.interaction=additive,multiplicative"
            ))
        };
        let (key, values) = text.split_once('=').ok_or_else(|| wrong("it has no ="))?;
        let path = key_path(key).ok_or_else(|| wrong("what stands before = is no key of a configuration file"))?;
        let mut axis = Axis { key: key.trim().into(), path, values: Vec::new() };
        for text in separate(values) {
            if text.is_empty() {
                return Err(wrong("a value is empty"));
            }
            let value = value(text);
            if axis.values.iter().any(|(_, other)| *other == value) {
                return Err(wrong(&format!("the value {text} is there twice")));
            }
            axis.values.push((text.into(), value));
        }
        Ok(axis)
    }

    /// What a value is called in names: strings without quotes.
    fn word(&self, choice: usize) -> &str {
        match &self.values[choice] {
            (_, Value::String(text)) => text,
            (text, _) => text,
        }
    }

    /// The value that a configuration has at this key.
    pub fn of(&self, config: &Table) -> Option<Value> {
        let (first, rest) = self.path.split_first()?;
        rest.iter().try_fold(config.get(first)?.clone(), |value, part| match value {
            Value::Table(mut table) => table.remove(part),
            Value::Array(array) => array.get(part.parse::<usize>().ok()?).cloned(),
            _ => None,
        })
    }

    /// Puts a value at this key of a configuration.
    fn put(&self, config: &mut Table, value: Value) -> Result<()> {
        // The length is said in one of two ways; the one that is varied stands for the other.
        if let (Some(training), [section, length]) =
            (config.get_mut("training").and_then(Value::as_table_mut), &self.path[..])
            && section == "training"
        {
            match length.as_str() {
                "steps" => _ = training.remove("epochs"),
                "epochs" => _ = training.remove("steps"),
                _ => {}
            }
        }
        let (last, above) = self.path.split_last().expect("a key has a part");
        let Some((first, between)) = above.split_first() else {
            config.insert(last.clone(), value);
            return Ok(());
        };
        let wrong = |part: &str| Error::Config(format!("--vary {}: there is no `{part}` to be varied", self.key));
        let mut place = config.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
        for part in between {
            place = match place {
                Value::Table(table) => table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new())),
                Value::Array(array) => within(array, part).ok_or_else(|| wrong(part))?,
                _ => return Err(wrong(part)),
            };
        }
        match place {
            Value::Table(table) => _ = table.insert(last.clone(), value),
            Value::Array(array) => *within(array, last).ok_or_else(|| wrong(last))? = value,
            _ => return Err(wrong(last)),
        }
        Ok(())
    }
}

/// An element of an array by its number, from 0.
fn within<'a>(array: &'a mut [Value], number: &str) -> Option<&'a mut Value> {
    array.get_mut(number.parse::<usize>().ok()?)
}

/// The parts of a key, as TOML reads it.
fn key_path(key: &str) -> Option<Vec<String>> {
    let mut table: Table = toml::from_str(&format!("{key} = 0")).ok()?;
    let mut path = Vec::new();
    loop {
        if table.len() != 1 {
            return None;
        }
        let (part, value) = table.into_iter().next()?;
        path.push(part);
        match value {
            Value::Table(below) => table = below,
            Value::Integer(0) => return Some(path),
            _ => return None,
        }
    }
}

/// The parts of a list between commas that stand outside of brackets and quotes.
fn separate(list: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_i32, None);
    for (at, c) in list.char_indices() {
        match (c, quote) {
            (_, Some(open)) => quote = (c != open).then_some(open),
            ('"' | '\'', None) => quote = Some(c),
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth -= 1,
            (',', None) if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[start..].trim());
    parts
}

/// A value: TOML, or else the text itself.
fn value(text: &str) -> Value {
    let read: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    let read = read.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    read.unwrap_or_else(|| Value::String(text.into()))
}

/// All combinations of the axes' values, the last axis changing fastest, each put into the configuration file `base`.
///
/// # Errors
/// A key that is varied twice, or that the file has no place for; too many runs.
pub fn combinations(base: &str, axes: &[Axis]) -> Result<Vec<Combination>> {
    // What a run's own file does not say, its run did not do.
    let mark = if base.starts_with(MARK) { MARK } else { "" };
    let base: Table = toml::from_str(base).map_err(|e| Error::Config(e.to_string()))?;
    for (i, axis) in axes.iter().enumerate() {
        if axes[..i].iter().any(|other| axis.path.starts_with(&other.path) || other.path.starts_with(&axis.path)) {
            return Err(Error::Config(format!(
                "--vary {}: this key is varied twice; give all its values in one list",
                axis.key
            )));
        }
    }
    let count = axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(axis.values.len()).filter(|&n| n <= MOST_RUNS));
    let count = count.ok_or_else(|| {
        Error::Config(format!("--vary: these are more than {MOST_RUNS} combinations; vary fewer values at a time"))
    })?;
    let mut all = Vec::new();
    for number in 0..count {
        let (mut config, mut rest) = (base.clone(), number);
        let mut choice = vec![0; axes.len()];
        for (chosen, axis) in choice.iter_mut().zip(axes).rev() {
            *chosen = rest % axis.values.len();
            rest /= axis.values.len();
        }
        for (axis, &chosen) in axes.iter().zip(&choice) {
            axis.put(&mut config, axis.values[chosen].1.clone())?;
        }
        let config = toml::to_string(&config).expect("it was TOML, and the values are");
        let config = format!("{mark}{config}");
        all.push(Combination { name: name(axes, &choice), config });
    }
    let names: BTreeSet<&str> = all.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "names tell combinations apart");
    Ok(all)
}

/// `interaction=additive,seed=1`: the last part of each key where that tells the keys apart, and the value. What a folder's
/// name or a shell could stumble over becomes `-`; a hash of what was said then keeps names apart.
fn name(axes: &[Axis], choice: &[usize]) -> String {
    let last = |axis: &Axis| axis.path.last().expect("a key has a part").clone();
    let pairs = axes.iter().zip(choice).map(|(axis, &chosen)| {
        let alone = axes.iter().filter(|other| last(other) == last(axis)).count() == 1;
        let key = if alone { last(axis) } else { axis.path.join(".") };
        (key, axis.word(chosen))
    });
    let plain = |text: &str| {
        let harmless = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        text.chars().map(|c| if harmless(c) { c } else { '-' }).collect::<String>()
    };
    let (mut name, mut said, mut same) = (String::new(), String::new(), true);
    for (key, value) in pairs {
        let comma = if name.is_empty() { "" } else { "," };
        same &= plain(&key) == key && plain(value) == value;
        name += &format!("{comma}{}={}", plain(&key), plain(value));
        said += &format!("{comma}{key:?}={value:?}");
    }
    if same && name.len() <= LONGEST_NAME {
        return name;
    }
    name.truncate(LONGEST_NAME); // ASCII
    format!("{name}~{:08x}", fnv1a(said.as_bytes()) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(texts: &[&str]) -> Vec<Axis> {
        texts.iter().map(|text| Axis::parse(text).unwrap()).collect()
    }

    fn names(texts: &[&str]) -> Vec<String> {
        combinations("", &axes(texts)).unwrap().into_iter().map(|run| run.name).collect()
    }

    #[test]
    fn all_combinations_and_the_last_key_changes_fastest() {
        let runs = combinations(
            "[training]\nseed = 9\nbatch = 4\n",
            &axes(&["training.seed=1,2", "network.lateral=true,false"]),
        )
        .unwrap();
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(
            names,
            ["seed=1,lateral=true", "seed=1,lateral=false", "seed=2,lateral=true", "seed=2,lateral=false"]
        );
        let config: Table = toml::from_str(&runs[1].config).unwrap();
        assert_eq!(config["training"]["seed"], Value::Integer(1));
        assert_eq!(config["training"]["batch"], Value::Integer(4));
        assert_eq!(config["network"]["lateral"], Value::Boolean(false));
    }

    #[test]
    fn values_are_toml_or_words() {
        let axis = Axis::parse("a.b = 1, 0.5, [1, 2], additive, \"x,y\", 1e-3").unwrap();
        let values: Vec<Value> = axis.values.iter().map(|(_, value)| value.clone()).collect();
        let list = Value::Array(vec![Value::Integer(1), Value::Integer(2)]);
        let wanted =
            [1.into(), 0.5.into(), list, Value::String("additive".into()), Value::String("x,y".into()), 1e-3.into()];
        assert_eq!(values, wanted);
        assert_eq!(value("1\nb = 2"), Value::String("1\nb = 2".into()));
    }

    #[test]
    fn the_length_is_said_once() {
        let runs = combinations("[training]\nepochs = 3\n", &axes(&["training.steps=5"])).unwrap();
        let config: Table = toml::from_str(&runs[0].config).unwrap();
        assert_eq!(config["training"].as_table().unwrap().keys().collect::<Vec<_>>(), ["steps"]);
    }

    #[test]
    fn elements_of_lists_have_numbers() {
        let base = "[[architecture.areas]]\nchannels = 4\n[[architecture.areas]]\nchannels = 8\n";
        let varied = axes(&["architecture.areas.1.channels=16,32"]);
        let runs = combinations(base, &varied).unwrap();
        let config: Table = toml::from_str(&runs[1].config).unwrap();
        assert_eq!(config["architecture"]["areas"][0]["channels"], Value::Integer(4));
        assert_eq!(varied[0].of(&config), Some(Value::Integer(32)));
        let beyond = combinations(base, &axes(&["architecture.areas.2.channels=1"])).unwrap_err().to_string();
        assert!(beyond.contains("architecture.areas.2.channels") && beyond.contains("`2`"), "{beyond}");
    }

    #[test]
    fn names_tell_runs_apart_and_are_safe() {
        assert_eq!(names(&["network.kernel=3", "training.kernel=5"]), ["network.kernel=3,training.kernel=5"]);
        let odd = names(&["data.path='a b','a-b','a;b'"]);
        assert!(odd[0].starts_with("path=a-b~") && odd[2].starts_with("path=a-b~") && odd[0] != odd[2], "{odd:?}");
        assert_eq!(odd[1], "path=a-b");
        let long = names(&[&format!("a.b={0},{0}2", "x".repeat(400))]);
        assert!(long.iter().all(|name| name.len() < 200) && long[0] != long[1], "{long:?}");
        assert!(names(&["a.b=../../etc,.."]).iter().all(|name| name.starts_with("b=") && !name.contains('/')));
    }

    #[test]
    fn what_is_no_list_of_values_is_refused() {
        for text in ["seed", "=1", "training.seed=", "training.seed=1,,2", "training.seed=1,1", "a b=1", "a=0\nb=1"] {
            let error = Axis::parse(text).map(|axis| axis.values.len());
            match error {
                Err(error) => assert!(error.to_string().contains("--vary"), "{error}"),
                // The first = ends the key: what follows is a word.
                Ok(values) => assert_eq!((text, values), ("a=0\nb=1", 1)),
            }
        }
        for twice in [["a.b=1", "a.b=2"], ["a=1", "a.b=2"]] {
            assert!(combinations("", &axes(&twice)).unwrap_err().to_string().contains("twice"));
        }
        let many = "x=".to_string() + &(0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let error = combinations("", &axes(&[&many, &many.replace('x', "y")])).unwrap_err().to_string();
        assert!(error.contains("10000"), "{error}");
    }
}
