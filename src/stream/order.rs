//! In which order the images of a split are streamed: decoders are fitted on one part of them and tested on the other, and
//! activity is streamed only once, so the first part comes first.

/// All images of a split, first those that decoders are fitted on (the training images), then those that they are tested on;
/// each part in data order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    ids: Vec<u32>,
    training: usize,
}

impl Order {
    /// The order that follows from which images, in data order, are training images.
    pub fn of(training: &[bool]) -> Order {
        let part = |which: bool| (0u32..).zip(training).filter(move |(_, flag)| **flag == which).map(|(id, _)| id);
        Order { ids: part(true).chain(part(false)).collect(), training: training.iter().filter(|flag| **flag).count() }
    }

    /// The default split in two halves: of the images of each label, in data order, the first, third, fifth and so on are
    /// training images. It depends on the labels alone, and each label has as many images in one half as in the other, or
    /// one more in the training half.
    pub fn halves(labels: &[u32]) -> Order {
        let mut odd = std::collections::HashMap::new();
        let next = |label: &u32| {
            let seen = odd.entry(*label).or_insert(false);
            *seen = !*seen;
            *seen
        };
        Order::of(&labels.iter().map(next).collect::<Vec<bool>>())
    }

    /// The images' numbers in data order, in the order in which they are streamed.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many of them, the first, are training images.
    pub fn training(&self) -> usize {
        self.training
    }

    /// Where in the stream each image comes, by its number in data order.
    pub fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.ids.len()];
        self.ids.iter().enumerate().for_each(|(place, &id)| places[id as usize] = place);
        places
    }

    /// Values of all images, given as they were streamed, in data order.
    pub fn restore<T: Copy>(&self, streamed: &[T]) -> Vec<T> {
        assert_eq!(streamed.len(), self.ids.len(), "one value an image");
        let mut restored = streamed.to_vec();
        self.ids.iter().zip(streamed).for_each(|(&id, &value)| restored[id as usize] = value);
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_alternate_within_each_label() {
        let order = Order::halves(&[3, 3, 0, 3, 0, 3, 9]);
        assert_eq!((order.ids(), order.training()), (&[0, 2, 3, 6, 1, 4, 5][..], 4));
        assert_eq!(Order::halves(&[5]).training(), 1);
        let train = [true, false, true, true, true, false, false, true, false];
        assert_eq!(Order::halves(&[0, 0, 2, 3, 0, 3, 0, 3, 3]), Order::of(&train));
    }

    #[test]
    fn values_come_back_to_their_images() {
        let order = Order::of(&[false, true, false, true, true]);
        let streamed: Vec<u32> = order.ids().iter().map(|id| 10 * id).collect();
        assert_eq!(order.restore(&streamed), [0, 10, 20, 30, 40]);
        assert!((0..5).all(|id| order.ids()[order.places()[id]] as usize == id));
    }
}
