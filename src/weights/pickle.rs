//! Walks through pickles without executing them, to learn what they would call.
//!
//! A pickle is a program for a stack machine (Python's `pickletools` documents its instructions). Its only ways to reach
//! code are the instructions that name something importable (`GLOBAL`, `STACK_GLOBAL`, `INST`) or take it from a registry
//! (`EXT1`, `EXT2`, `EXT4`). All of them are found here, used or not: a call whose result is thrown away is one too.

use std::collections::HashMap;

/// Names that a state dict may use: containers, storages and the functions that rebuild tensors. Nothing here has an effect.
fn harmless(module: &str, name: &str) -> bool {
    match module {
        "collections" => name == "OrderedDict",
        "builtins" | "__builtin__" => ["set", "frozenset", "dict", "list", "int", "float", "complex"].contains(&name),
        "torch._utils" => name.starts_with("_rebuild_tensor") || name.starts_with("_rebuild_parameter"),
        "torch" => {
            let storage =
                name.strip_suffix("Storage").is_some_and(|kind| kind.bytes().all(|b| b.is_ascii_alphanumeric()));
            let kinds = [
                "Size", "float16", "half", "bfloat16", "float32", "float", "float64", "double", "uint8", "int8",
                "int16", "short", "int32", "int", "int64", "long", "bool", "uint16", "uint32", "uint64",
            ];
            storage || kinds.contains(&name)
        }
        "torch.storage" => ["UntypedStorage", "TypedStorage", "_TypedStorage"].contains(&name),
        "torch.nn.parameter" => name == "Parameter",
        _ => false,
    }
}

/// Texts that a pickle may keep in its memo; a state dict keeps some ten for each tensor.
const MOST_KEPT: usize = 1 << 20;

/// Walks through the pickle at the start of `bytes` and returns where it ends.
///
/// # Errors
/// What it names that a state dict has no use for; an instruction that is none; an end before its end; more than
/// [`MOST_KEPT`] places in its memo. Texts are not copied, so that what is needed beside the pickle stays below 100 MB.
pub(super) fn verify(bytes: &[u8]) -> Result<usize, String> {
    let mut walk = Walk { bytes, at: 0 };
    // Texts on the stack, as far as STACK_GLOBAL needs them: the last two pushed, and those kept in the memo.
    let mut texts: Vec<Option<&[u8]>> = Vec::new();
    let mut memo: HashMap<u64, Option<&[u8]>> = HashMap::new();
    loop {
        if memo.len() > MOST_KEPT {
            return Err(format!("it keeps more than {MOST_KEPT} things in its memo"));
        }
        let start = walk.at;
        let mut pushed = None;
        match walk.byte()? {
            b'.' => return Ok(walk.at),
            b'c' | b'i' => {
                let (module, name) = (walk.line()?, walk.line()?);
                check(module, name)?;
            }
            0x93 => match &texts[texts.len().saturating_sub(2)..] {
                [Some(module), Some(name)] => check(module, name)?,
                _ => {
                    return Err(format!(
                        "instruction STACK_GLOBAL at byte {start} names something that is not plain text"
                    ));
                }
            },
            code @ 0x82..=0x84 => {
                return Err(format!("instruction {code:#04x} at byte {start} calls something by a registry's number"));
            }
            b'I' | b'L' | b'F' | b'P' => _ = walk.line()?,
            b'V' | b'S' => pushed = Some(walk.line()?),
            b'X' | b'T' => pushed = Some(walk.sized(4)?),
            b'U' | 0x8c => pushed = Some(walk.sized(1)?),
            0x8d => pushed = Some(walk.sized(8)?),
            b'C' | 0x8a => _ = walk.sized(1)?,
            b'B' | 0x8b => _ = walk.sized(4)?,
            0x8e | 0x96 => _ = walk.sized(8)?,
            0x80 | b'K' => _ = walk.number(1)?,
            b'M' => _ = walk.number(2)?,
            b'J' => _ = walk.number(4)?,
            b'G' | 0x95 => _ = walk.number(8)?,
            b'p' => _ = memo.insert(walk.index()?, texts.last().copied().flatten()),
            b'q' => _ = memo.insert(walk.number(1)?, texts.last().copied().flatten()),
            b'r' => _ = memo.insert(walk.number(4)?, texts.last().copied().flatten()),
            0x94 => _ = memo.insert(memo.len() as u64, texts.last().copied().flatten()),
            b'g' => pushed = memo.get(&walk.index()?).copied().flatten(),
            b'h' => pushed = memo.get(&walk.number(1)?).copied().flatten(),
            b'j' => pushed = memo.get(&walk.number(4)?).copied().flatten(),
            b'('
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'Q'
            | b'R'
            | b'a'
            | b'b'
            | b'd'
            | b'}'
            | b'e'
            | b'l'
            | b']'
            | b'o'
            | b's'
            | b't'
            | b')'
            | b'u'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92 => {}
            code => {
                return Err(format!("byte {start} is {code:#04x}, which is no instruction that a state dict needs"));
            }
        }
        let leaves_the_stack = [b'p', b'q', b'r', 0x94, 0x80, 0x95].contains(&bytes[start]);
        if !leaves_the_stack {
            texts.push(pushed);
            if texts.len() > 2 {
                texts.remove(0);
            }
        }
    }
}

fn check(module: &[u8], name: &[u8]) -> Result<(), String> {
    if let (Ok(module), Ok(name)) = (str::from_utf8(module), str::from_utf8(name))
        && harmless(module, name)
    {
        return Ok(());
    }
    let text = |bytes: &[u8]| shown(&String::from_utf8_lossy(&bytes[..bytes.len().min(400)]));
    Err(format!("it would call `{}.{}`, which a state dict has no use for", text(module), text(name)))
}

/// A name out of a file, short and without what a terminal would obey.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

/// A place in a pickle.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.at..];
        match usize::try_from(count).ok().and_then(|count| left.get(..count)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(format!("it ends at byte {}, in the middle of an instruction", self.bytes.len())),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of so many bytes.
    fn number(&mut self, bytes: u64) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Bytes after their count, which is a number of `bytes` bytes.
    fn sized(&mut self, bytes: u64) -> Result<&'a [u8], String> {
        let count = self.number(bytes)?;
        self.take(count)
    }

    /// What stands before the end of a line.
    fn line(&mut self) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.at..];
        let end = left.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| format!("it ends at byte {}, in the middle of a line", self.bytes.len()))?;
        self.at += end + 1;
        Ok(left[..end].strip_suffix(b"\r").unwrap_or(&left[..end]))
    }

    fn index(&mut self) -> Result<u64, String> {
        let line = String::from_utf8_lossy(self.line()?);
        line.parse().map_err(|_| format!("`{}` is no place in its memo", shown(&line)))
    }
}

#[cfg(test)]
mod tests {
    use super::verify;

    /// What Python writes for `pickle.dumps(OrderedDict(a=1), 2)` and with protocol 4, where names stand in the memo.
    #[test]
    fn containers_pass_and_say_where_they_end() {
        let two = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00aq\x02K\x01s.rest";
        assert_eq!(verify(two), Ok(two.len() - 4));
        let four =
            b"\x80\x04\x95\x28\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94\
                     \x8c\x01a\x94K\x01s.";
        assert_eq!(verify(four), Ok(four.len()));
        let again = b"\x80\x04\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93)R0h\x00h\x01\x93)R.";
        assert_eq!(verify(again), Ok(again.len()));
    }

    #[test]
    fn calls_are_refused_by_name_wherever_they_stand() {
        for (pickle, name) in [
            (&b"cos\nsystem\n(S'true'\ntR."[..], "os.system"),
            (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"),
            (b"\x80\x02cbuiltins\nexec\nX\x01\x00\x00\x001\x85R0}.", "builtins.exec"), // the result is thrown away
            (b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.", "posix.system"),
            (b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\x00h\x01\x93\x8c\x04true\x85R.", "os.system"),
            (b"(S'true'\nios\nsystem\n.", "os.system"),
            (b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R.", "torch.load"),
            (b"\x80\x02ctorch._utils\n_rebuild\x1b[2J\n.", "_rebuild\\u{1b}"),
        ] {
            let said = verify(pickle).unwrap_err();
            assert!(said.contains(name) && !said.contains('\x1b'), "{said}");
        }
        // Names that are put together on the way, or taken from a registry, are not known and so refused.
        assert!(verify(b"\x80\x04N\x8c\x06system\x93.").unwrap_err().contains("STACK_GLOBAL"));
        assert!(verify(b"\x80\x04\x93.").unwrap_err().contains("STACK_GLOBAL"));
        assert!(verify(b"\x80\x02\x82\x05.").unwrap_err().contains("registry"));
    }

    #[test]
    fn cut_and_endless_ones_are_refused() {
        let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00aq\x02K\x01s.";
        for length in 0..whole.len() {
            assert!(verify(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(verify(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.").unwrap_err().contains("ends at byte"));
        assert!(verify(b"\xff.").unwrap_err().contains("0xff"));
        assert!(verify(b"g12x\n.").unwrap_err().contains("12x"));
    }

    /// One text of a megabyte that is kept and fetched again and again would be terabytes, were it copied each time.
    #[test]
    fn what_is_kept_is_not_copied_and_has_a_bound() {
        let text = [b"X\x00\x00\x10\x00", &vec![b'a'; 1 << 20][..]].concat();
        let some = [&text[..], &b"\x94h\x00".repeat(super::MOST_KEPT / 2), b"."].concat();
        assert_eq!(verify(&some), Ok(some.len()));
        let many = [&text[..], &b"\x94".repeat(super::MOST_KEPT + 1), b"."].concat();
        assert!(verify(&many).unwrap_err().contains("memo"));
    }
}
