//! Amounts of memory, as people write them: 6GiB, 512MiB, 1.5GB, or a number of bytes.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes(pub u64);

/// What each unit stands for; of equal ones the first is written.
const UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl std::str::FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Bytes> {
        let wrong = || {
            let units = UNITS.map(|(unit, _)| unit).join(", ");
            Error::Config(format!(
                "`{text}` is no amount of memory: a number of bytes, or a number with one of {units}, such as 6GiB or 1.5GB"
            ))
        };
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[number.len()..];
        let (_, factor) =
            UNITS.into_iter().find(|(name, _)| *name == if unit.is_empty() { "B" } else { unit }).ok_or_else(wrong)?;
        let number = number.trim_end();
        if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(wrong());
        }
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(factor).ok_or_else(wrong)?,
            Err(_) => (number.parse::<f64>().map_err(|_| wrong())? * factor as f64) as u64,
        };
        // TOML's integers have a sign.
        if bytes == 0 || i64::try_from(bytes).is_err() { Err(wrong()) } else { Ok(Bytes(bytes)) }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Bytes, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(bytes) => bytes.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        let cases = [
            ("1", 1),
            ("880000000", 880_000_000),
            ("512MiB", 512 << 20),
            ("6GiB", 6 << 30),
            ("1.5GB", 1_500_000_000),
            ("0.5 KiB", 512),
            ("7kB", 7000),
            ("7KB", 7000),
            ("9B", 9),
            ("2TiB", 2 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "0.0GB",
            "GiB",
            "-1",
            "1e9",
            "inf",
            "NaN",
            "6 gib",
            "6GiBs",
            "1.2.3MB",
            "1,5GB",
            "99999999999TiB",
            "9223372036854775808",
        ] {
            let error = text.parse::<Bytes>().expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("6GiB"), "{error}");
        }
    }
}
