//! What is asked for: areas, timesteps, pictures. Whatever is not there is refused with what there is.

use crate::files;
use crate::network::Network;
use crate::{Error, Result};
use std::path::Path;

/// Which pictures of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// All of them.
    All,
    /// So many, from the first on.
    First(usize),
    /// Those with these numbers, in this order.
    Listed(Vec<u32>),
}

impl Pictures {
    /// Reads numbers of pictures from a text file: whole numbers with white space or commas between them, after a byte order
    /// mark where there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn read(path: &Path) -> Result<Pictures> {
        let text = files::read_text(path, files::LONG_TEXT).map_err(Error::io(path))?;
        let mut ids = Vec::new();
        for (line, text) in text.strip_prefix('\u{feff}').unwrap_or(&text).lines().enumerate() {
            for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()) {
                let id = word.parse().map_err(|_| {
                    let (path, line) = (path.display(), line + 1);
                    Error::Data(format!(
                        "{path}, line {line}: expected a picture's number (0, 1, 2, ...), found `{word}`"
                    ))
                })?;
                ids.push(id);
            }
        }
        match ids.is_empty() {
            true => Err(Error::Data(format!("{}: holds no numbers of pictures", path.display()))),
            false => Ok(Pictures::Listed(ids)),
        }
    }

    /// Their numbers, if the split has them all.
    pub(super) fn ids(&self, split: &str, len: usize) -> Result<Vec<u32>> {
        let refuse =
            |what: String| Err(Error::Data(format!("{what}: split {split} has the pictures 0 to {}", len - 1)));
        match self {
            Pictures::All => Ok((0..len as u32).collect()),
            Pictures::First(0) => refuse("expected at least 1 picture, found 0".into()),
            Pictures::First(count) if *count > len => refuse(format!("{count} pictures were asked for")),
            Pictures::First(count) => Ok((0..*count as u32).collect()),
            Pictures::Listed(ids) => {
                if let Some(beyond) = ids.iter().find(|&&id| id as usize >= len) {
                    return refuse(format!("picture {beyond} was asked for"));
                }
                if let Some(twice) = twice(ids) {
                    return refuse(format!("picture {twice} was asked for twice"));
                }
                Ok(ids.clone())
            }
        }
    }
}

/// Something that a list holds more than once.
fn twice<T: Ord + Copy>(list: &[T]) -> Option<T> {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// The areas with these names, as indices; names are those of the description, in whatever case where that is certain. `all`
/// is every area that exists within `timesteps`.
pub(super) fn areas(network: &Network, names: &[String], timesteps: usize) -> Result<Vec<usize>> {
    let first = network.first_steps();
    if let [all] = names
        && all.eq_ignore_ascii_case("all")
        && network.area(all).is_none()
    {
        return Ok((0..network.areas.len()).filter(|&area| first[area] < timesteps).collect());
    }
    let mut found = Vec::new();
    for name in names {
        let alike: Vec<usize> =
            (0..network.areas.len()).filter(|&a| network.areas[a].name.eq_ignore_ascii_case(name)).collect();
        let area = match (network.area(name), &alike[..]) {
            (Some(area), _) => area,
            (None, [one]) => *one,
            _ => {
                let list: Vec<&str> = network.areas.iter().map(|area| &area.name[..]).collect();
                return Err(Error::Config(format!(
                    "there is no area `{name}`: the network's areas are {}; `all` stands for all of them",
                    list.join(", ")
                )));
            }
        };
        if first[area] >= timesteps {
            let (name, first, last) = (&network.areas[area].name, first[area], timesteps - 1);
            return Err(Error::Config(format!(
                "area {name} exists from step {first} on, and the last step of the run is {last}"
            )));
        }
        found.push(area);
    }
    match twice(&found) {
        Some(area) => Err(Error::Config(format!("area {} was asked for twice", network.areas[area].name))),
        None => Ok(found),
    }
}

/// The timesteps of something that exists from step `first` on: those asked for, or all.
pub(super) fn timesteps(asked: Option<&[usize]>, what: &str, first: usize, timesteps: usize) -> Result<Vec<usize>> {
    let Some(asked) = asked else { return Ok((first..timesteps).collect()) };
    if let Some(t) = asked.iter().find(|&&t| t >= timesteps || t < first) {
        let last = timesteps - 1;
        return Err(Error::Config(format!("timestep {t} was asked for: {what} exists at the steps {first} to {last}")));
    }
    match twice(asked) {
        Some(t) => Err(Error::Config(format!("timestep {t} was asked for twice"))),
        None => Ok(asked.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Preset;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn names_of_areas() {
        let network = Preset::Tiny.network().network();
        let of = |names: &[&str]| areas(&network, &names.iter().map(|n| n.to_string()).collect::<Vec<_>>(), 5);
        let v4 = network.area("v4").unwrap();
        assert_eq!(of(&["V4", "v1"]).unwrap(), [v4, network.area("v1").unwrap()]);
        assert_eq!(of(&["all"]).unwrap().len(), network.areas.len());
        let unknown = message(of(&["v3"]));
        assert!(unknown.contains("`v3`") && unknown.contains("v2, v4"), "{unknown}");
        assert!(message(of(&["v1", "V1"])).contains("twice"));
    }

    #[test]
    fn steps_and_pictures_that_are_not_there() {
        assert_eq!(timesteps(None, "area a", 2, 4).unwrap(), [2, 3]);
        assert_eq!(timesteps(Some(&[3, 0]), "area a", 0, 4).unwrap(), [3, 0]);
        assert!(message(timesteps(Some(&[1]), "area a", 2, 4)).contains("area a exists at the steps 2 to 3"));
        assert!(message(timesteps(Some(&[4]), "area a", 0, 4)).contains("timestep 4"));
        assert!(message(timesteps(Some(&[1, 1]), "area a", 0, 4)).contains("twice"));
        assert_eq!(Pictures::First(2).ids("val", 3).unwrap(), [0, 1]);
        assert!(message(Pictures::First(4).ids("val", 3)).contains("0 to 2"));
        assert!(message(Pictures::First(0).ids("val", 3)).contains("at least 1"));
        assert!(message(Pictures::Listed(vec![1, 3]).ids("val", 3)).contains("picture 3"));
        assert!(message(Pictures::Listed(vec![1, 1]).ids("val", 3)).contains("twice"));
    }

    #[test]
    fn files_with_numbers_of_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.txt");
        std::fs::write(&path, "3, 1\n\n2\n").unwrap();
        assert_eq!(Pictures::read(&path).unwrap(), Pictures::Listed(vec![3, 1, 2]));
        std::fs::write(&path, "\u{feff}3\r\n1\r\n").unwrap(); // as editors on Windows save it
        assert_eq!(Pictures::read(&path).unwrap(), Pictures::Listed(vec![3, 1]));
        std::fs::write(&path, "3\n\u{feff}1\n").unwrap();
        assert!(message(Pictures::read(&path)).contains("line 2"), "elsewhere it is no mark");
        std::fs::write(&path, "3\n-1\n").unwrap();
        assert!(message(Pictures::read(&path)).contains("line 2"));
        std::fs::write(&path, "\n").unwrap();
        assert!(message(Pictures::read(&path)).contains("holds no numbers"));
    }
}
