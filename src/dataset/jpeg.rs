//! What a JPEG file holds, found without decoding a pixel: its size, what may say which way up it is, and whether the data of every block
//! are there.
//!
//! Decoders fill in grey, in silence, where a file ends early: half a picture is of use to a viewer, not to training. So
//! the scans are walked through here by their Huffman codes alone (ITU-T T.81; section F.2.2 for baseline, G.2 for
//! progressive pictures), and a code that wants a bit which is not there says that the file is cut.

use std::fmt;

use super::exif::{EXIF, Statements, XMP};

/// Scans of one picture; more are taken for an attack (encoders write about ten).
const MOST_SCANS: usize = 100;

/// What stands before and between the scans.
pub(super) struct Jpeg<'a> {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What may say which way up it is.
    pub statements: Statements<'a>,
    /// Bytes up to which the file must be read for all of the picture; what follows (the mark of its end, other pictures)
    /// is not needed.
    pub end: usize,
}

/// What is wrong with a file.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// The data end before the picture does.
    Cut,
    /// Anything else.
    Damaged(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Cut => write!(f, "its data end early: the picture is cut"),
            Fault::Damaged(what) => write!(f, "{what}"),
        }
    }
}

type Result<T> = std::result::Result<T, Fault>;

fn damaged<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Damaged(what.into()))
}

/// A component (luminance, chrominance): its sampling factors, and what is known of its blocks.
struct Component {
    id: u8,
    across: usize,
    down: usize,
    /// Blocks in a row of the grid that interleaved scans fill, which is padded to whole units.
    stride: usize,
    /// Progressive: which coefficients of each block are known to be other than 0.
    nonzero: Vec<u64>,
    /// The bits that each coefficient still lacks; 16 where no scan had it.
    lacking: [u8; 64],
}

/// The frame: what all scans share.
struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    most_across: usize,
    most_down: usize,
    components: Vec<Component>,
}

/// Reads up to the end of the first picture. `allowed` is asked about width and height before anything of that size is
/// made.
///
/// # Errors
/// A file whose data end early or make no picture; what `allowed` says.
pub(super) fn read<'a>(
    file: &'a [u8],
    allowed: impl Fn(usize, usize) -> std::result::Result<(), String>,
) -> Result<Jpeg<'a>> {
    let mut at = 2; // behind the mark that begins a picture
    let mut statements = Statements::default();
    let mut frame: Option<Frame> = None;
    let mut tables: [[Option<Table>; 4]; 2] = Default::default();
    let (mut restart, mut scans) = (0, 0);
    loop {
        let Some((marker, content)) = segment(file, &mut at) else {
            return Err(Fault::Cut);
        };
        match marker {
            0xD9 => {
                return match frame {
                    Some(frame) if frame.is_shown() => Ok(frame.jpeg(statements, at - 2)),
                    _ => damaged("it ends without a picture"),
                };
            }
            0xC0..=0xC2 if frame.is_some() => return damaged("it has two frames in one picture"),
            0xC0..=0xC2 => frame = Some(Frame::new(content, marker == 0xC2, &allowed)?),
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                return damaged("it is lossless, hierarchical or arithmetically coded, which is not supported");
            }
            0xC4 => define_tables(content, &mut tables)?,
            0xDD if content.len() >= 2 => restart = usize::from(u16::from_be_bytes([content[0], content[1]])),
            0xE1 if content.starts_with(EXIF) => _ = statements.exif.get_or_insert(content.into()),
            0xE1 if content.starts_with(XMP) => _ = statements.xmp.get_or_insert(content.into()),
            0xDA => {
                let Some(frame) = &mut frame else { return damaged("it has a scan before its frame") };
                scans += 1;
                if scans > MOST_SCANS {
                    return damaged(format!("it has more than {MOST_SCANS} scans"));
                }
                let mut bits = Bits { file, at, held: 0, count: 0 };
                frame.scan(content, &tables, restart, &mut bits)?;
                at = bits.at;
                if frame.is_complete() {
                    return Ok(frame.jpeg(statements, at)); // with or without the mark of its end
                }
            }
            _ => {}
        }
    }
}

/// The next marker from `at` on, with the content of its segment; none where the file ends before it does. What stands
/// before a marker is passed over, as decoders do.
fn segment<'a>(file: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    loop {
        let here = file.get(*at..)?;
        let mark = here.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF))?;
        let marker = here[mark + 1];
        *at += mark + 2;
        match marker {
            0x01 | 0xD0..=0xD8 => {} // nothing belongs to them
            0xD9 => return Some((marker, &[])),
            _ => {
                let length = usize::from(u16::from_be_bytes(file.get(*at..*at + 2)?.try_into().ok()?));
                let content = file.get(*at + 2..*at + length.max(2))?;
                *at += length.max(2);
                return Some((marker, content));
            }
        }
    }
}

impl Frame {
    fn new(
        content: &[u8],
        progressive: bool,
        allowed: &impl Fn(usize, usize) -> std::result::Result<(), String>,
    ) -> Result<Frame> {
        let short = || Fault::Damaged("the header of its frame is too short".into());
        let [precision, h1, h0, w1, w0, count, ..] = *content else { return Err(short()) };
        let (height, width) = (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
        if precision != 8 {
            return damaged(format!("it has {precision} bits per sample; expected 8"));
        }
        if width == 0 || height == 0 {
            return damaged(format!("its header says {width} x {height} pixels"));
        }
        allowed(width, height).map_err(Fault::Damaged)?;
        if !(1..=4).contains(&count) {
            return damaged(format!("it has {count} components; expected 1 to 4"));
        }
        let told = content.get(6..6 + 3 * usize::from(count)).ok_or_else(short)?;
        let factors: Vec<(u8, usize, usize)> =
            told.chunks_exact(3).map(|c| (c[0], usize::from(c[1] >> 4), usize::from(c[1] & 15))).collect();
        if let Some((_, across, down)) = factors.iter().find(|(_, a, d)| !(1..=4).contains(a) || !(1..=4).contains(d)) {
            return damaged(format!("it has sampling factors of {across} x {down}; expected 1 to 4"));
        }
        let most_across = factors.iter().map(|f| f.1).max().unwrap_or(1);
        let most_down = factors.iter().map(|f| f.2).max().unwrap_or(1);
        let units = (width.div_ceil(8 * most_across), height.div_ceil(8 * most_down));
        let components = factors.into_iter().map(|(id, across, down)| {
            let stride = units.0 * across;
            let blocks = if progressive { stride * units.1 * down } else { 0 };
            Component { id, across, down, stride, nonzero: vec![0; blocks], lacking: [16; 64] }
        });
        let components = components.collect();
        Ok(Frame { progressive, width, height, most_across, most_down, components })
    }

    fn jpeg<'a>(&self, statements: Statements<'a>, end: usize) -> Jpeg<'a> {
        Jpeg { width: self.width, height: self.height, statements, end }
    }

    /// Whether nothing could follow.
    fn is_complete(&self) -> bool {
        self.components.iter().all(|component| component.lacking == [0; 64])
    }

    /// Whether there is something of each component; a progressive picture may be meant to be coarse.
    fn is_shown(&self) -> bool {
        self.components.iter().all(|component| component.lacking[0] < 16)
    }

    /// Walks through one scan. `content` is its header; `bits` stands behind that and is left where the data end.
    fn scan(
        &mut self,
        content: &[u8],
        tables: &[[Option<Table>; 4]; 2],
        restart: usize,
        bits: &mut Bits,
    ) -> Result<()> {
        let count = content.first().map_or(0, |&n| usize::from(n));
        let (Some(told), true) = (content.get(1..2 * count + 4), (1..=4).contains(&count)) else {
            return damaged("the header of a scan is too short");
        };
        let mut parts = Vec::new();
        for pair in told[..2 * count].chunks_exact(2) {
            let Some(index) = self.components.iter().position(|component| component.id == pair[0]) else {
                return damaged(format!("a scan is of component {}, which its frame does not have", pair[0]));
            };
            parts.push(Part { index, tables: [usize::from(pair[1] >> 4) & 3, usize::from(pair[1] & 3)] });
        }
        let [first, last, approximation] = [told[2 * count], told[2 * count + 1], told[2 * count + 2]];
        let mut band = Band { first: 0, last: 63, before: 0, low: 0, run: 0 };
        if self.progressive {
            band = Band { first, last, before: approximation >> 4, low: approximation & 15, run: 0 };
            let fits = first <= last && last < 64 && (first > 0 || last == 0) && (first == 0 || count == 1);
            if !fits || band.low > 13 {
                return damaged("the header of a scan asks for what no progressive picture has");
            }
        }

        // A scan of one component has its blocks line by line, one of several has units with some of each.
        let (columns, rows) = if count == 1 {
            let component = &self.components[parts[0].index];
            (
                (self.width * component.across).div_ceil(8 * self.most_across),
                (self.height * component.down).div_ceil(8 * self.most_down),
            )
        } else {
            (self.width.div_ceil(8 * self.most_across), self.height.div_ceil(8 * self.most_down))
        };
        let mut unit = 0;
        for row in 0..rows {
            for column in 0..columns {
                if restart > 0 && unit > 0 && unit % restart == 0 {
                    bits.restart((unit / restart - 1) % 8)?;
                    band.run = 0;
                }
                unit += 1;
                for part in &parts {
                    let component = &mut self.components[part.index];
                    let (across, down) = if count == 1 { (1, 1) } else { (component.across, component.down) };
                    for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                        if self.progressive {
                            let block = (row * down + y) * component.stride + column * across + x;
                            band.block(part, tables, &mut component.nonzero[block], bits)?;
                        } else {
                            part.block(tables, bits)?;
                        }
                    }
                }
            }
        }
        bits.align();
        for part in &parts {
            self.components[part.index].lacking[usize::from(band.first)..=usize::from(band.last)].fill(band.low);
        }
        Ok(())
    }
}

/// A component's part in a scan.
struct Part {
    index: usize,
    /// Numbers of its tables: for the mean (DC), and for the rest (AC).
    tables: [usize; 2],
}

impl Part {
    fn table<'t>(&self, tables: &'t [[Option<Table>; 4]; 2], kind: usize) -> Result<&'t Table> {
        match &tables[kind][self.tables[kind]] {
            Some(table) => Ok(table),
            None => damaged("a Huffman table that a scan needs is not in it"),
        }
    }

    /// A block of a baseline picture.
    fn block(&self, tables: &[[Option<Table>; 4]; 2], bits: &mut Bits) -> Result<()> {
        let (mean, rest) = (self.table(tables, 0)?, self.table(tables, 1)?);
        mean.mean(bits)?;
        let mut k = 1;
        while k < 64 {
            let symbol = rest.symbol(bits)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => k += 16,
                (_, 0) => break,
                (zeros, size) => {
                    bits.take(u32::from(size))?;
                    k += usize::from(zeros) + 1;
                }
            }
        }
        Ok(())
    }
}

/// What a scan of a progressive picture tells: coefficients `first` to `last`, down to bit `low`; `before`, unless 0, is
/// the bit down to which they were known.
struct Band {
    first: u8,
    last: u8,
    before: u8,
    low: u8,
    /// Blocks yet to come in which nothing becomes other than 0.
    run: u32,
}

impl Band {
    fn block(
        &mut self,
        part: &Part,
        tables: &[[Option<Table>; 4]; 2],
        nonzero: &mut u64,
        bits: &mut Bits,
    ) -> Result<()> {
        match (self.first, self.before) {
            (0, 0) => part.table(tables, 0)?.mean(bits),
            (0, _) => bits.take(1).map(drop),
            (_, 0) => self.first_of(part.table(tables, 1)?, nonzero, bits),
            _ => self.refine(part.table(tables, 1)?, nonzero, bits),
        }
    }

    fn first_of(&mut self, table: &Table, nonzero: &mut u64, bits: &mut Bits) -> Result<()> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let mut k = u32::from(self.first);
        while k <= u32::from(self.last) {
            let symbol = table.symbol(bits)?;
            match (u32::from(symbol >> 4), symbol & 15) {
                (15, 0) => k += 16,
                (length, 0) => {
                    self.run = (1 << length) - 1 + bits.take(length)?;
                    break;
                }
                (zeros, size) => {
                    bits.take(u32::from(size))?;
                    k += zeros;
                    *nonzero |= 1_u64.checked_shl(k).unwrap_or(0);
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// One more bit for what is other than 0 already; what becomes so stands between.
    fn refine(&mut self, table: &Table, nonzero: &mut u64, bits: &mut Bits) -> Result<()> {
        let mut k = self.first;
        while self.run == 0 && k <= self.last {
            let symbol = table.symbol(bits)?;
            let (mut zeros, size) = (symbol >> 4, symbol & 15);
            if size == 0 && zeros < 15 {
                self.run = (1 << zeros) + bits.take(u32::from(zeros))?;
                break;
            }
            if size > 0 {
                bits.take(1)?; // its sign
            }
            while k <= self.last {
                if *nonzero >> k & 1 == 1 {
                    bits.take(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if size > 0 && k <= self.last {
                *nonzero |= 1 << k;
            }
            k += 1;
        }
        if self.run > 0 {
            let left = (k..=self.last).filter(|k| *nonzero >> k & 1 == 1).count();
            (0..left).try_for_each(|_| bits.take(1).map(drop))?;
            self.run -= 1;
        }
        Ok(())
    }
}

/// A Huffman table: codes of a length are consecutive numbers.
struct Table {
    /// For the next 8 bits: the symbol, and the length of its code; 0 where it is longer.
    short: [(u8, u8); 256],
    /// For each length, 1 to 16: the first code, the number of codes, and where their symbols begin.
    lengths: [(u32, u32, usize); 16],
    symbols: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8], symbols: &[u8]) -> Result<Table> {
        let mut table = Table { short: [(0, 0); 256], lengths: [(0, 0, 0); 16], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0_u32, 0);
        for (i, &count) in counts.iter().enumerate() {
            let (length, count) = (i + 1, u32::from(count));
            if code + count > 1 << length {
                return damaged("a Huffman table has more codes than there can be");
            }
            table.lengths[i] = (code, count, index);
            if length <= 8 {
                for k in 0..count {
                    let from = ((code + k) << (8 - length)) as usize;
                    table.short[from..from + (1 << (8 - length))].fill((symbols[index + k as usize], length as u8));
                }
            }
            code = (code + count) << 1;
            index += count as usize;
        }
        Ok(table)
    }

    /// Takes a block's mean (as its difference from that of the last): a symbol that says of how many bits, and those.
    fn mean(&self, bits: &mut Bits) -> Result<()> {
        match self.symbol(bits)? {
            size @ 0..16 => bits.take(size.into()).map(drop),
            size => damaged(format!("it holds a difference of {size} bits; expected at most 15")),
        }
    }

    fn symbol(&self, bits: &mut Bits) -> Result<u8> {
        bits.fill();
        let next = bits.peek(16);
        let (symbol, length) = self.short[(next >> 8) as usize];
        if length > 0 {
            return bits.take(u32::from(length)).map(|_| symbol);
        }
        for length in 9..=16 {
            let (first, count, index) = self.lengths[length - 1];
            let code = next >> (16 - length);
            if code >= first && code - first < count {
                bits.take(length as u32)?;
                return Ok(self.symbols[index + (code - first) as usize]);
            }
        }
        if bits.count < 16 { Err(Fault::Cut) } else { damaged("it holds a Huffman code that its tables do not have") }
    }
}

/// Adds the tables of a segment.
fn define_tables(mut content: &[u8], tables: &mut [[Option<Table>; 4]; 2]) -> Result<()> {
    while let [which, rest @ ..] = content {
        let counts = rest.get(..16);
        let symbols = counts.map(|counts| counts.iter().map(|&n| usize::from(n)).sum::<usize>());
        let (Some(counts), Some(symbols)) = (counts, symbols.and_then(|n| rest.get(16..16 + n))) else {
            return damaged("a Huffman table ends early");
        };
        tables[usize::from(which >> 4 & 1)][usize::from(which & 3)] = Some(Table::new(counts, symbols)?);
        content = &rest[16 + symbols.len()..];
    }
    Ok(())
}

/// The bits of a scan's data.
struct Bits<'a> {
    file: &'a [u8],
    /// The next byte; stays before a marker.
    at: usize,
    /// The lowest `count` bits are those read and not yet taken.
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// Holds at least 32 bits, or all up to the next marker.
    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.file.get(self.at) else { return };
            if byte == 0xFF {
                // Data have a zero behind it, which is no data.
                if self.file.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next `n` bits (at most 16), with zeros for those that are not there.
    fn peek(&self, n: u32) -> u32 {
        let all = if self.count >= n { self.held >> (self.count - n) } else { self.held << (n - self.count) };
        all as u32 & ((1 << n) - 1)
    }

    /// Takes `n` bits (at most 16).
    fn take(&mut self, n: u32) -> Result<u32> {
        if self.count < n {
            self.fill();
        }
        if self.count < n {
            return Err(Fault::Cut);
        }
        let bits = self.peek(n);
        self.count -= n;
        Ok(bits)
    }

    /// Drops what is left before the next marker: the end of the last byte.
    fn align(&mut self) {
        self.count = 0;
        self.held = 0;
    }

    /// The mark between two intervals of units.
    fn restart(&mut self, number: usize) -> Result<()> {
        self.align();
        while self.file.get(self.at) == Some(&0xFF) && self.file.get(self.at + 1) == Some(&0xFF) {
            self.at += 1; // marks may have fill bytes before them
        }
        match (self.file.get(self.at), self.file.get(self.at + 1)) {
            (Some(0xFF), Some(&mark)) if usize::from(mark) == 0xD0 + number => {
                self.at += 2;
                Ok(())
            }
            (Some(0xFF), Some(mark)) if *mark != 0 => {
                damaged("a part of its data is missing: a restart mark is not where it should be")
            }
            (Some(_), Some(_)) => damaged("its data do not decode to the next restart mark"),
            _ => Err(Fault::Cut),
        }
    }
}
