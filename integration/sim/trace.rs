//! What happened, as one number and, if somebody reads it, as lines.

use std::fmt;

/// Collects the story of a run. Two runs of one seed must end with the same number.
pub struct Trace {
    hash: u64,
    print: bool,
    /// How many lines there were.
    pub lines: u64,
}

impl Trace {
    pub fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, print, lines: 0 }
    }

    /// One line of the story.
    pub fn say(&mut self, now: u64, line: fmt::Arguments<'_>) {
        self.lines += 1;
        self.hash = mix(self.hash, now);
        // Writing into a number cannot fail.
        let _ = fmt::write(self, line);
        if self.print {
            println!("{now:>6} {line}");
        }
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hash = hash_bytes(self.hash, text.as_bytes());
        Ok(())
    }
}

/// Folds a number into a hash.
pub fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0x0000_0100_0000_01b3)
}

/// Folds bytes into a hash, eight at a time.
pub fn hash_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(hash, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}
