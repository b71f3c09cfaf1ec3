//! HDF5 files in MiniEcoset's schema, written here (contiguous storage, superblock 2) with and without defects, for the tests that
//! read them.
#![allow(dead_code)] // not every test that shares this uses all of it

use hdf5_reader::checksum::jenkins_lookup3;
use std::fs;
use std::path::{Path, PathBuf};

/// A writer of just enough HDF5.
pub struct Writer {
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
pub enum Type {
    U8,
    U16,
    I64,
    F32,
    F64,
    Text(u32),
}

impl Writer {
    pub fn new() -> Writer {
        Writer { bytes: vec![0; 48] } // room for the superblock
    }

    pub fn append(&mut self, bytes: &[u8]) -> u64 {
        let address = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        address
    }

    /// A version-2 object header of these messages (type, content).
    pub fn object(&mut self, messages: &[(u8, Vec<u8>)]) -> u64 {
        let mut body = Vec::new();
        for (kind, content) in messages {
            body.push(*kind);
            body.extend((content.len() as u16).to_le_bytes());
            body.push(0);
            body.extend(content);
        }
        let mut header = b"OHDR\x02\x02".to_vec();
        header.extend((body.len() as u32).to_le_bytes());
        header.extend(body);
        let checksum = jenkins_lookup3(&header);
        header.extend(checksum.to_le_bytes());
        self.append(&header)
    }

    pub fn group(&mut self, members: &[(&str, u64)]) -> u64 {
        let mut info = vec![0, 0];
        info.extend([0xff; 16]);
        let mut messages = vec![(0x02, info), (0x0a, vec![0, 0])];
        for (name, address) in members {
            let mut link = vec![1, 0, name.len() as u8];
            link.extend(name.bytes());
            link.extend(address.to_le_bytes());
            messages.push((0x06, link));
        }
        self.object(&messages)
    }

    pub fn dataset(&mut self, kind: Type, shape: &[u64], content: &[u8]) -> u64 {
        let address = self.append(content);
        self.dataset_at(kind, shape, address)
    }

    /// A dataset whose content lies, or will lie, at an address.
    pub fn dataset_at(&mut self, kind: Type, shape: &[u64], address: u64) -> u64 {
        let mut space = vec![2, shape.len() as u8, 0, 1];
        space.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
        let (size, class, bits, properties) = match kind {
            Type::U8 => (1_u32, 0x10, [0, 0, 0], vec![0, 0, 8, 0]),
            Type::U16 => (2, 0x10, [0, 0, 0], vec![0, 0, 16, 0]),
            Type::I64 => (8, 0x10, [8, 0, 0], vec![0, 0, 64, 0]),
            Type::F32 => (4, 0x11, [0x20, 31, 0], vec![0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0]),
            Type::F64 => (8, 0x11, [0x20, 63, 0], vec![0, 0, 64, 0, 52, 11, 0, 52, 255, 3, 0, 0]),
            Type::Text(size) => (size, 0x13, [1, 0, 0], vec![]),
        };
        let mut datatype = vec![class];
        datatype.extend(bits);
        datatype.extend(size.to_le_bytes());
        datatype.extend(properties);
        let mut layout = vec![3, 1];
        layout.extend(address.to_le_bytes());
        layout.extend((shape.iter().product::<u64>() * u64::from(size)).to_le_bytes());
        self.object(&[(0x01, space), (0x03, datatype), (0x08, layout)])
    }

    /// A dataset of bytes in chunks of `each` along the first axis, compressed but for those whose mask says that the filter was
    /// left out. Of each chunk its address, its bytes in the file, and that mask.
    pub fn chunked(&mut self, shape: &[u64], each: u64, chunks: &[(u64, u32, u32)]) -> u64 {
        let mut tree = b"TREE\x01\0".to_vec();
        tree.extend((chunks.len() as u16).to_le_bytes());
        tree.extend([0xff; 16]);
        let mut key = |first: u64, bytes: u32, mask: u32| {
            tree.extend(bytes.to_le_bytes());
            tree.extend(mask.to_le_bytes());
            tree.extend(first.to_le_bytes());
            tree.extend(vec![0; 8 * shape.len()]);
        };
        let mut children = Vec::new();
        for (i, &(address, bytes, mask)) in chunks.iter().enumerate() {
            key(i as u64 * each, bytes, mask);
            children.push(address);
        }
        key(chunks.len() as u64 * each, 0, 0);
        // A child stands behind each key but the last.
        let width = 8 + 8 * (shape.len() + 1);
        let (head, keys) = tree.split_at(24);
        let mut node = head.to_vec();
        for (i, key) in keys.chunks(width).enumerate() {
            node.extend(key);
            node.extend(children.get(i).iter().flat_map(|child| child.to_le_bytes()));
        }
        let index = self.append(&node);
        let mut space = vec![2, shape.len() as u8, 0, 1];
        space.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
        let datatype = vec![0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0];
        let mut layout = vec![3, 2, shape.len() as u8 + 1];
        layout.extend(index.to_le_bytes());
        layout.extend((each as u32).to_le_bytes());
        layout.extend(shape[1..].iter().flat_map(|&d| (d as u32).to_le_bytes()));
        layout.extend(1_u32.to_le_bytes());
        let deflate = vec![2, 1, 1, 0, 0, 0, 1, 0, 6, 0, 0, 0]; // version 2, one filter: deflate, optional, level 6
        self.object(&[(0x01, space), (0x03, datatype), (0x08, layout), (0x0b, deflate)])
    }

    /// Writes the superblock; `end` is the size that the file will have.
    pub fn finish(mut self, root: u64, end: u64) -> Vec<u8> {
        let mut superblock = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
        for address in [0, u64::MAX, end, root] {
            superblock.extend(address.to_le_bytes());
        }
        let checksum = jenkins_lookup3(&superblock);
        superblock.extend(checksum.to_le_bytes());
        self.bytes[..48].copy_from_slice(&superblock);
        self.bytes
    }
}

impl Writer {
    /// A group of which one member is an external link: to a path in another file.
    pub fn group_with_link(&mut self, name: &str, file: &str, path: &str) -> u64 {
        let mut info = vec![0, 0];
        info.extend([0xff; 16]);
        let target = [&[0], file.as_bytes(), &[0], path.as_bytes(), &[0]].concat();
        let mut link = vec![1, 8, 64, name.len() as u8];
        link.extend(name.bytes());
        link.extend((target.len() as u16).to_le_bytes());
        link.extend(target);
        self.object(&[(0x02, info), (0x0a, vec![0, 0]), (0x06, link)])
    }

    /// A virtual dataset of bytes, whose source is a dataset in another file.
    pub fn virtual_dataset(&mut self, shape: &[u64], file: &str) -> u64 {
        let mapping = [&[0], &1_u64.to_le_bytes()[..], file.as_bytes(), b"\0raw\0", &[0; 16]].concat();
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let padded = mapping.len().next_multiple_of(8);
        let size = (16 + 16 + padded) as u64;
        let mut heap = b"GCOL\x01\0\0\0".to_vec();
        heap.extend(size.to_le_bytes());
        heap.extend([1, 0, 1, 0, 0, 0, 0, 0]);
        heap.extend((mapping.len() as u64).to_le_bytes());
        heap.extend(&mapping);
        heap.resize(size as usize, 0);
        let address = self.append(&heap);
        let mut space = vec![2, shape.len() as u8, 0, 1];
        space.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
        let datatype = vec![0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0];
        let mut layout = vec![4, 3];
        layout.extend(address.to_le_bytes());
        layout.extend(1_u32.to_le_bytes());
        self.object(&[(0x01, space), (0x03, datatype), (0x08, layout)])
    }
}

/// Bytes as a zlib stream that stores them as they are.
pub fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks: Vec<&[u8]> = bytes.chunks(0xffff).collect();
    for (i, block) in blocks.iter().enumerate() {
        stream.push(u8::from(i + 1 == blocks.len()));
        stream.extend((block.len() as u16).to_le_bytes());
        stream.extend((!(block.len() as u16)).to_le_bytes());
        stream.extend(*block);
    }
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (b + a) % 65521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// What a test file holds; a defect is a change of one of these.
#[derive(Clone)]
pub struct Spec {
    pub categories: Option<Vec<&'static str>>,
    /// The byte at a place of a split's pictures, of which one has this label (0 where there is none).
    pub byte: fn(&str, usize, usize) -> u8,
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
    pub splits: Vec<Split>,
}

#[derive(Clone)]
pub struct Split {
    pub name: &'static str,
    pub shape: Vec<u64>,
    pub kind: Type,
    /// Numbers, their shape and how they are stored; none: no dataset.
    pub labels: Option<(Vec<f64>, Vec<u64>, Type)>,
    pub has_data: bool,
}

pub const SIDE: u64 = 4;

pub fn good() -> Spec {
    let split = |name, n: u64| Split {
        name,
        shape: vec![n, SIDE, SIDE, 3],
        kind: Type::U8,
        labels: Some(((0..n).map(|i| (i % 3) as f64).collect(), vec![n], Type::I64)),
        has_data: true,
    };
    Spec {
        categories: Some(vec!["ant", "bee", "cow"]),
        byte: |split, k, _| byte(split, k),
        mean: vec![100.5, 120.25, 90.125],
        std: vec![60.0, 50.5, 70.7],
        splits: vec![split("train", 7), split("val", 4), split("test", 3), split("testplus", 5)],
    }
}

/// Byte `k` of a split's pictures.
pub fn byte(split: &str, k: usize) -> u8 {
    (k * 37 + k / 256 * 11 + split.len() * 5) as u8
}

pub fn numbers(values: &[f64], kind: Type) -> Vec<u8> {
    let bytes = values.iter().map(|&x| match kind {
        Type::U8 => vec![x as u8],
        Type::U16 => (x as u16).to_le_bytes().to_vec(),
        Type::I64 => (x as i64).to_le_bytes().to_vec(),
        Type::F32 => (x as f32).to_le_bytes().to_vec(),
        Type::F64 => x.to_le_bytes().to_vec(),
        Type::Text(_) => unreachable!(),
    });
    bytes.flatten().collect()
}

pub fn encode(spec: &Spec) -> Vec<u8> {
    let mut w = Writer::new();
    let mut root = Vec::new();
    if let Some(names) = &spec.categories {
        let mut text = Vec::new();
        names.iter().for_each(|name| text.extend(format!("{name:\0<8}").bytes()));
        root.push(("categories", w.dataset(Type::Text(8), &[names.len() as u64], &text)));
    }
    for (name, values) in [("train_img_mean_channels", &spec.mean), ("train_img_std_channels", &spec.std)] {
        let content = numbers(values, Type::F64);
        root.push((name, w.dataset(Type::F64, &[values.len() as u64], &content)));
    }
    for split in &spec.splits {
        let mut members = Vec::new();
        if split.has_data {
            let size = match split.kind {
                Type::U16 => 2,
                Type::F32 => 4,
                _ => 1,
            };
            let count = split.shape.iter().product::<u64>() as usize * size;
            let content: Vec<u8> = (0..count)
                .map(|k| {
                    let picture = k / split.shape[1..].iter().product::<u64>() as usize / size;
                    let label = split.labels.as_ref().and_then(|(labels, ..)| labels.get(picture));
                    (spec.byte)(split.name, k, label.map_or(0, |&label| label as usize))
                })
                .collect();
            members.push(("data", w.dataset(split.kind, &split.shape, &content)));
        }
        if let Some((values, shape, kind)) = &split.labels {
            members.push(("labels", w.dataset(*kind, shape, &numbers(values, *kind))));
        }
        let group = w.group(&members);
        root.push((split.name, group));
    }
    let root = w.group(&root);
    let end = w.bytes.len() as u64;
    w.finish(root, end)
}

pub fn write(folder: &Path, name: &str, spec: &Spec) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, encode(spec)).unwrap();
    path
}
