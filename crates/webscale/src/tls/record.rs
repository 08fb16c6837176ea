//! TLS records as they lie in the input, and how many of them may bring nothing.

use rustls::Error;

/// A TLS record's plaintext, at most (RFC 8446 §5.1).
pub(super) const RECORD_PLAINTEXT: usize = 16 * 1024;
const HEADER_BYTES: usize = 5;

/// The record that is being opened.
pub(super) struct Record {
    start: usize,
    /// Where it ends in the input, or where the input ends.
    pub(super) end: usize,
    /// All of it is there.
    is_whole: bool,
    /// Nothing follows in the input.
    pub(super) is_last: bool,
    /// It may bring nothing: that is what records of a handshake do.
    is_handshake: bool,
    /// Plaintext that it brought.
    content: usize,
}

impl Record {
    pub(super) fn at(input: &[u8], start: usize, is_handshake: bool) -> Self {
        let rest = input.get(start..).unwrap_or_default();
        let length = rest.first_chunk().map(|[_, _, _, high, low]: &[u8; HEADER_BYTES]| {
            HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]))
        });
        let length = length.filter(|length| *length <= rest.len());
        let end = length.map_or(input.len(), |length| start + length);
        Self { start, end, is_whole: length.is_some(), is_last: end == input.len(), is_handshake, content: 0 }
    }

    pub(super) fn brings(&mut self, bytes: usize) {
        self.content += bytes;
    }

    /// Where the whole records up to this one end.
    pub(super) fn whole_end(&self) -> usize {
        if self.is_whole { self.end } else { self.start }
    }

    fn has_content(&self) -> bool {
        self.content > 0
    }
}

/// How much a peer may still have us do for nothing. A KeyUpdate (RFC 8446 §4.6.3) costs as much work as opening kilobytes, and
/// one for each handful of bytes would be a flood; rustls counts only those that follow each other without data between
/// them. So a record without content costs as much as a full one brings, and small ones bring enough that a quiet peer may
/// change its keys every hour.
pub(super) struct Credit(usize);

impl Credit {
    /// For so many records without content at once.
    const RECORDS: usize = 64;
    const MAX: usize = Self::RECORDS * RECORD_PLAINTEXT;
    /// What a record with content counts, at least.
    const CONTENT_MIN: usize = 512;

    pub(super) fn full() -> Self {
        Self(Self::MAX)
    }

    /// Takes account of a record that was opened.
    pub(super) fn settle(&mut self, record: &Record) -> Result<(), Error> {
        if record.has_content() {
            self.0 = Self::MAX.min(self.0.saturating_add(record.content.max(Self::CONTENT_MIN)));
        } else if record.is_whole && !record.is_handshake {
            let left = self.0.checked_sub(RECORD_PLAINTEXT);
            self.0 = left.ok_or_else(|| Error::General("too many records without content".into()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: usize) -> Record {
        let mut record = Record::at(&[23, 3, 3, 0, 1, 0], 0, false);
        record.brings(content);
        record
    }

    #[test]
    fn records_are_found_one_by_one_and_incomplete_ones_end_with_the_input() {
        let input = [23, 3, 3, 0, 2, 9, 9, 22, 3, 3, 0, 0, 21, 3, 3, 0, 2, 1];
        let found = |start| {
            let record = Record::at(&input, start, false);
            (record.end, record.is_whole, record.is_last)
        };
        assert_eq!((found(0), found(7)), ((7, true, false), (12, true, false)));
        for (start, is_whole) in [(12, false), (16, false), (18, false)] {
            assert_eq!(found(start), (18, is_whole, true));
        }
        let whole = Record::at(&input[..7], 0, false);
        assert!(whole.is_whole && whole.is_last);
        assert!(!Record::at(&[], 0, false).is_whole);
    }

    #[test]
    fn records_without_content_are_paid_for_by_content() {
        let mut credit = Credit::full();
        (0..Credit::RECORDS).for_each(|_| credit.settle(&record(0)).unwrap());
        assert!(credit.settle(&record(0)).is_err() && credit.settle(&record(0)).is_err());
        // Thirty-two of a byte, or one full record, for one without content.
        (0..31).for_each(|_| credit.settle(&record(1)).unwrap());
        assert!(credit.settle(&record(0)).is_err());
        credit.settle(&record(1)).unwrap();
        credit.settle(&record(0)).unwrap();
        credit.settle(&record(RECORD_PLAINTEXT)).unwrap();
        credit.settle(&record(0)).unwrap();
        assert!(credit.settle(&record(0)).is_err());
        // There is no more than was given at first.
        (0..1000).for_each(|_| credit.settle(&record(RECORD_PLAINTEXT)).unwrap());
        (0..Credit::RECORDS).for_each(|_| credit.settle(&record(0)).unwrap());
        assert!(credit.settle(&record(0)).is_err());
    }

    #[test]
    fn what_is_not_whole_or_of_the_handshake_costs_nothing() {
        let mut credit = Credit(0);
        credit.settle(&Record::at(&[23, 3, 3, 0, 9, 0], 0, false)).unwrap();
        credit.settle(&Record::at(&[22, 3, 3, 0, 1, 0], 0, true)).unwrap();
    }
}
