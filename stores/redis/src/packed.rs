//! The few kinds of `MessagePack` that our records are made of, as Lua in the server reads and writes them:
//! integers, strings of bytes, booleans, arrays, and `false` for nothing.
//!
//! Source: the `MessagePack` specification, <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use unified_scheduler_core::{Error, Result};

/// Appends values to a record.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Begins an array of `n` values.
    pub(crate) fn array(&mut self, n: usize) -> &mut Self {
        match u8::try_from(n) {
            Ok(n) if n < 16 => self.bytes.push(0x90 | n),
            _ => {
                self.bytes.push(0xdd);
                self.bytes.extend(length(n).to_be_bytes());
            }
        }
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes.push(0xc2 | u8::from(value));
        self
    }

    pub(crate) fn none(&mut self) -> &mut Self {
        self.bool(false)
    }

    /// In as few bytes as there are, as Lua in the server does: scripts compare packed records.
    pub(crate) fn int(&mut self, value: i64) -> &mut Self {
        let bytes = value.to_be_bytes();
        let (tag, n) = match value {
            -32..=0x7f => (None, 1),
            0x80..=0xff => (Some(0xcc), 1),
            0x100..=0xffff => (Some(0xcd), 2),
            0x1_0000..=0xffff_ffff => (Some(0xce), 4),
            0x1_0000_0000.. => (Some(0xcf), 8),
            -128..=-33 => (Some(0xd0), 1),
            -0x8000..=-129 => (Some(0xd1), 2),
            -0x8000_0000..=-0x8001 => (Some(0xd2), 4),
            _ => (Some(0xd3), 8),
        };
        self.bytes.extend(tag);
        self.bytes.extend_from_slice(&bytes[8 - n..]);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head_of_bytes(value.len());
        self.bytes.extend_from_slice(value);
        self
    }

    /// What stands before `n` bytes.
    pub(crate) fn head_of_bytes(&mut self, n: usize) -> &mut Self {
        match (u8::try_from(n), u16::try_from(n)) {
            (Ok(n), _) if n < 32 => self.bytes.push(0xa0 | n),
            (Ok(n), _) => self.bytes.extend([0xd9, n]),
            (_, Ok(n)) => {
                self.bytes.push(0xda);
                self.bytes.extend(n.to_be_bytes());
            }
            _ => {
                self.bytes.push(0xdb);
                self.bytes.extend(length(n).to_be_bytes());
            }
        }
        self
    }

    pub(crate) fn int_or(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.int(value),
            None => self.none(),
        }
    }

    pub(crate) fn text_or(&mut self, value: Option<&str>) -> &mut Self {
        self.bytes_or(value.map(str::as_bytes))
    }

    pub(crate) fn bytes_or(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.bytes(value),
            None => self.none(),
        }
    }

    /// What is packed already.
    pub(crate) fn raw(&mut self, packed: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(packed);
        self
    }
}

/// A length in four bytes: the server takes no value of more than 512 MB.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Reads values one after another.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

fn unreadable(what: &str) -> Error {
    Error::corrupt(format!("a record holds no {what} where one should be"))
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.rest.len() {
            return Err(Error::corrupt("a record ends too early"));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number of `n` bytes.
    fn big_endian(&mut self, n: usize) -> Result<u64> {
        Ok(self.take(n)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }

    fn size(&mut self, n: usize) -> Result<usize> {
        Ok(usize::try_from(self.big_endian(n)?).unwrap_or(usize::MAX))
    }

    /// An array that has at least `known` values, of which `read` reads that many; the rest, written by a
    /// newer version, is passed over.
    pub(crate) fn record<T>(&mut self, known: usize, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let more = self.begin(known)?;
        let value = read(self)?;
        for _ in 0..more {
            self.skip()?;
        }
        Ok(value)
    }

    /// The beginning of an array that has at least `known` values; answers how many it has beyond them.
    pub(crate) fn begin(&mut self, known: usize) -> Result<usize> {
        let n = match self.byte()? {
            b @ 0x90..=0x9f => usize::from(b & 0x0f),
            0xdc => self.size(2)?,
            0xdd => self.size(4)?,
            _ => return Err(unreadable("array")),
        };
        n.checked_sub(known).ok_or_else(|| unreadable("array of that length"))
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn skip(&mut self) -> Result<()> {
        let n = match self.rest.first().copied().unwrap_or(0xc1) {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            _ => {
                self.bytes()?;
                return Ok(());
            }
        };
        self.take(n)?;
        Ok(())
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        match self.byte()? {
            0xc0 | 0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(unreadable("truth value")),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64> {
        let out_of_range = |_| unreadable("integer in range");
        Ok(match self.byte()? {
            b @ 0x00..=0x7f => i64::from(b),
            b @ 0xe0..=0xff => i64::from(b) - 256,
            0xcc => i64::from(self.byte()?),
            0xcd => i64::try_from(self.big_endian(2)?).map_err(out_of_range)?,
            0xce => i64::try_from(self.big_endian(4)?).map_err(out_of_range)?,
            0xcf => i64::try_from(self.big_endian(8)?).map_err(out_of_range)?,
            0xd0 => i64::from(i8::from_be_bytes([self.byte()?])),
            0xd1 => i64::from(i16::from_be_bytes([self.byte()?, self.byte()?])),
            0xd2 => {
                let bytes = self.take(4)?;
                i64::from(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            0xd3 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.take(8)?);
                i64::from_be_bytes(bytes)
            }
            _ => return Err(unreadable("integer")),
        })
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = match self.byte()? {
            b @ 0xa0..=0xbf => usize::from(b & 0x1f),
            0xc4 | 0xd9 => self.size(1)?,
            0xc5 | 0xda => self.size(2)?,
            0xc6 | 0xdb => self.size(4)?,
            _ => return Err(unreadable("text")),
        };
        self.take(n)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| unreadable("UTF-8 text"))
    }

    /// Whether the next value is there; one that is not is passed over.
    fn present(&mut self) -> bool {
        if let Some((0xc0 | 0xc2, rest)) = self.rest.split_first() {
            self.rest = rest;
            return false;
        }
        true
    }

    pub(crate) fn int_or(&mut self) -> Result<Option<i64>> {
        if self.present() { self.int().map(Some) } else { Ok(None) }
    }

    pub(crate) fn text_or(&mut self) -> Result<Option<&'a str>> {
        if self.present() { self.text().map(Some) } else { Ok(None) }
    }

    pub(crate) fn bytes_or(&mut self) -> Result<Option<&'a [u8]>> {
        if self.present() { self.bytes().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() {
        let ints = [0, 1, 127, 128, -1, -32, -129, 65_536, i64::from(i32::MIN), i64::MAX, i64::MIN];
        let long = "x".repeat(70_000);
        let mut writer = Writer::new();
        writer.array(ints.len() + 6);
        for n in ints {
            writer.int(n);
        }
        writer.text("").text("ü").text(&long).bool(true).none().bytes(&[0xff; 40]);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        let read = reader.record(ints.len() + 6, |r| {
            for n in ints {
                assert_eq!(r.int()?, n);
            }
            assert_eq!((r.text()?, r.text()?, r.text()?), ("", "ü", long.as_str()));
            assert!(r.bool()?);
            assert_eq!(r.text_or()?, None);
            assert_eq!(r.bytes_or()?, Some(&[0xff; 40][..]));
            Ok(())
        });
        assert!(read.is_ok() && reader.is_empty());
    }

    #[test]
    fn fields_of_a_newer_version_are_passed_over_and_missing_ones_are_an_error() {
        let mut writer = Writer::new();
        writer.array(4).int(7).text("new").int(-5).none();
        let bytes = writer.finish();
        assert_eq!(Reader::new(&bytes).record(1, Reader::int).unwrap(), 7);
        assert!(Reader::new(&bytes).record(5, Reader::int).is_err());
        assert!(Reader::new(&bytes[..6]).record(1, Reader::int).is_err());
        assert!(Reader::new(&[]).int().is_err());
    }
}
