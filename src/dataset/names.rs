//! What names of classes must be, and how a network's classes are found in a data set that has them in another order.

use super::{Dataset, Pictures};
use crate::Result;
use crate::output::plain;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Names that a message lists.
const LISTED: usize = 5;

/// Class names as they can be shown, and what the user should know of them: those that hold control characters have the escapes
/// of these instead, an empty one becomes `class N`, and of names that are the same or have no letter a note says so.
pub(super) fn class_names(found: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut names, mut notes) = (Vec::new(), Vec::new());
    for (i, name) in found.iter().enumerate() {
        let shown = plain(name);
        if shown != *name {
            notes.push(format!(
                "the name of class {i} holds control characters, which are shown as their escapes: {shown}"
            ));
        }
        if name.trim().is_empty() {
            notes.push(format!("the name of class {i} is empty: it is called class {i}"));
            names.push(format!("class {i}"));
        } else {
            names.push(shown.into_owned());
        }
    }
    for (first, second) in twice(&names) {
        notes.push(format!(
            "classes {first} and {second} have the same name, {}: they are told apart by their numbers alone",
            names[first]
        ));
    }
    let without: Vec<String> = names.iter().filter(|name| !name.chars().any(char::is_alphabetic)).cloned().collect();
    if !without.is_empty() {
        notes.push(format!("names of classes without a letter: {}", listed(&without)));
    }
    (names, notes)
}

/// Pairs of places that hold the same name: the first and each later one.
fn twice(names: &[String]) -> Vec<(usize, usize)> {
    let mut first = HashMap::new();
    names.iter().enumerate().map(|(i, name)| (*first.entry(name).or_insert(i), i)).filter(|(a, b)| a != b).collect()
}

/// The first names of a list, and how many more there are.
pub fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let list = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

/// How the classes of a data set belong to those of a network.
pub enum Match {
    /// The same names in the same order.
    Same,
    /// The same names in another order, or fewer of them: the data set with the network's classes, and a sentence that says so.
    ByName(Arc<dyn Dataset>, String),
    /// Other names: why labels of the data set cannot be the network's classes.
    Differ(String),
}

/// Finds a network's classes, in the order of its readout's units, among those of a data set.
pub fn match_classes(data: &Arc<dyn Dataset>, names: &[String]) -> Match {
    let found = data.classes();
    if found == names {
        return Match::Same;
    }
    for (whose, names) in [("the data set", found), ("the network", names)] {
        if let Some((_, at)) = twice(names).first() {
            return Match::Differ(format!(
                "{}: its classes are not those of the network in the same order, and cannot be found by name, as two classes of \
                 {whose} are called {}; give each a name of its own",
                data.name(),
                names[*at]
            ));
        }
    }
    let places = |of: &[String]| -> HashMap<String, u32> { of.iter().cloned().zip(0..).collect() };
    let (of_data, of_network) = (places(found), places(names));
    let without = |of: &[String], others: &HashMap<String, u32>| -> Vec<String> {
        of.iter().filter(|name| !others.contains_key(*name)).cloned().collect()
    };
    let (unknown, absent) = (without(found, &of_network), without(names, &of_data));
    if !unknown.is_empty() {
        let lacks =
            if absent.is_empty() { String::new() } else { format!(", and has none called {}", listed(&absent)) };
        return Match::Differ(format!(
            "{}: its classes are not those that the network was trained on: it has {}, which the network does not know{lacks}; \
             classes are matched by name: give the data set the network's names ({})",
            data.name(),
            listed(&unknown),
            listed(names)
        ));
    }
    let to = found.iter().map(|name| of_network[name]).collect();
    let absent = match &absent[..] {
        [] => String::new(),
        _ => format!("; it has no class {}", listed(&absent)),
    };
    let said =
        format!("{} has the network's classes in another order: they were matched by name{absent}.", data.name());
    Match::ByName(Arc::new(Relabelled { data: data.clone(), classes: names.to_vec(), to }), said)
}

/// A data set with the classes of a network.
struct Relabelled {
    data: Arc<dyn Dataset>,
    classes: Vec<String>,
    /// The network's class of each label.
    to: Vec<u32>,
}

impl Relabelled {
    fn of(&self, labels: Vec<u32>) -> Vec<u32> {
        labels.into_iter().map(|label| self.to[label as usize]).collect()
    }
}

impl Dataset for Relabelled {
    fn name(&self) -> String {
        self.data.name()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn image_size(&self) -> usize {
        self.data.image_size()
    }

    fn splits(&self) -> Vec<String> {
        self.data.splits()
    }

    fn labels(&self, split: &str) -> Result<Vec<u32>> {
        Ok(self.of(self.data.labels(split)?))
    }

    fn len(&self, split: &str) -> Result<usize> {
        self.data.len(split)
    }

    fn endless(&self, split: &str) -> bool {
        self.data.endless(split)
    }

    fn mean(&self) -> [f64; 3] {
        self.data.mean()
    }

    fn std(&self) -> [f64; 3] {
        self.data.std()
    }

    fn read(&self, split: &str, indices: &[usize]) -> Result<Pictures> {
        let pictures = self.data.read(split, indices)?;
        Ok(Pictures { labels: self.of(pictures.labels), ..pictures })
    }

    fn states_statistics(&self) -> bool {
        self.data.states_statistics()
    }

    fn notes(&self) -> Vec<String> {
        self.data.notes()
    }

    fn verify(&self, split: &str) -> Result<()> {
        self.data.verify(split)
    }

    fn unverified(&self) -> Vec<String> {
        self.data.unverified()
    }

    fn examine(&self, split: &str, pictures: Range<usize>) -> Result<()> {
        self.data.examine(split, pictures)
    }

    fn stored(&self, split: &str, picture: usize) -> Result<Option<Vec<u8>>> {
        self.data.stored(split, picture)
    }

    fn decode(&self, stored: Vec<u8>) -> Result<Vec<u8>> {
        self.data.decode(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::open;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn odd_names_are_noted() {
        let (shown, notes) = class_names(names(&["cat", "a\n\u{1b}[31m", "cat", "", "12"]));
        assert_eq!(shown, names(&["cat", "a\\n\\u{1b}[31m", "cat", "class 3", "12"]));
        for (note, words) in notes.iter().zip([
            "control characters",
            "is empty",
            "classes 0 and 2 have the same name, cat",
            "letter: 12",
        ]) {
            assert!(note.contains(words), "{note}");
        }
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert_eq!(class_names(names(&["a", "b"])).1, names(&[]));
    }

    #[test]
    fn classes_are_found_by_name() {
        let data = open("glyphs:train=20,val=10,test=10", Some(16)).unwrap();
        let own = data.classes().to_vec();
        assert!(matches!(match_classes(&data, &own), Match::Same));
        let turned: Vec<String> = own.iter().rev().cloned().chain(["another".into()]).collect();
        let Match::ByName(mapped, said) = match_classes(&data, &turned) else { panic!("the names are there") };
        assert!(said.contains("by name; it has no class another"), "{said}");
        assert_eq!(mapped.classes(), turned);
        let (before, after) = (data.read("val", &[3, 0]).unwrap(), mapped.read("val", &[3, 0]).unwrap());
        assert_eq!(before.data, after.data);
        for (then, now) in before.labels.iter().zip(&after.labels) {
            assert_eq!(own[*then as usize], turned[*now as usize]);
        }
        let labels = mapped.labels("val").unwrap();
        assert_eq!([labels[3], labels[0]], after.labels[..]);
        for (other, word) in
            [(&own[1..], "does not know"), (&[&own[..], &own[..1]].concat()[..], "two classes of the network")]
        {
            let Match::Differ(why) = match_classes(&data, other) else { panic!("{word}") };
            assert!(why.contains(word), "{why}");
        }
    }
}
