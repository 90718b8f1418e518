//! What a start makes of a log that was damaged: over every bit, sector and length of a reference log
//! (D7-D10).

use std::fmt::Debug;
use std::path::PathBuf;

use balsa::exit::Exit;
use balsa::raft::Payload;
use balsa::storage::faulty::{SECTOR_BYTES, Survival};
use balsa::storage::{FaultyDisk, LogStore, StorageError};

mod store_life;
#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use store_life::{Life, log_files, open, run};
use store_support::{batch, command, term};

/// D9: where a tail was cut nothing is ever appended, so that the second start after the cut finds
/// what was written between the two.
#[test]
fn after_a_cut_the_log_goes_on_in_a_fresh_segment() {
    let life = reference();
    let torn = log_files(&life.disk)
        .into_iter()
        .rfind(|path| life.disk.content(path).unwrap().iter().any(|byte| *byte != 0))
        .unwrap();
    let content = life.disk.content(&torn).unwrap();
    let last = content.iter().rposition(|byte| *byte != 0).unwrap();
    let disk = life.disk.fork();
    disk.corrupt(&torn, |bytes| bytes[last] ^= 1);
    let (_, mut log, cut) = open(&disk).unwrap();
    assert!(cut.entries.len() < life.model.now().entries.len());
    let after_cut = disk.content(&torn).unwrap();
    let index = cut.entries.len() as u64 + 1;
    log.append(&batch(term(9, None), None, vec![command(9, index, 50)])).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(disk.content(&torn).unwrap(), after_cut, "nothing was added to the torn segment");
    for _ in 0..2 {
        disk.lose_power(Survival::Nothing);
        let (_, _, state) = open(&disk).unwrap();
        assert_eq!(state.entries[..cut.entries.len()], cut.entries);
        assert_eq!(state.entries[cut.entries.len()..], [command(9, index, 50)]);
    }
}

/// A log of several segments whose last group commit is larger than one record.
fn reference() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    run(&mut life).unwrap();
    life.log = None;
    life.disk.lose_power(Survival::Nothing);
    life
}

/// A log of three short segments, for what takes a start for every bit.
fn short_reference() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, Some(1)), None, vec![command(1, 1, 9), command(1, 2, 9)])).unwrap();
    life.sync().unwrap();
    life.append(&batch(term(2, None), Some(1), vec![command(2, 2, 9)])).unwrap();
    life.restart().unwrap();
    life.append(&batch(None, None, vec![command(2, 3, 9)])).unwrap();
    life.sync().unwrap();
    life.append(&batch(None, Some(2), vec![])).unwrap();
    life.sync().unwrap();
    life.restart().unwrap();
    life.append(&batch(None, None, vec![command(2, 3, 9)])).unwrap();
    life.sync().unwrap();
    life.append(&batch(None, None, vec![command(2, 4, 9), command(2, 5, 9)])).unwrap();
    life.sync().unwrap();
    life.log = None;
    life.disk.lose_power(Survival::Nothing);
    life
}

/// A log of many small group commits in segments that one process filled.
fn chatty_reference() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, None), None, vec![])).unwrap();
    for index in 1..=16 {
        life.append(&batch(None, None, vec![command(1, index, 20)])).unwrap();
        life.sync().unwrap();
    }
    life.log = None;
    life.disk.lose_power(Survival::Nothing);
    life
}

#[derive(Debug, Default)]
struct Verdicts {
    whole: usize,
    cut: usize,
    damaged: usize,
}

impl Verdicts {
    /// Opens a changed reference log: it must be whole, cut within its last group commit, or
    /// refused.
    fn judge(&mut self, life: &Life, change: impl FnOnce(&FaultyDisk), what: &dyn Debug) {
        let disk = life.disk.fork();
        change(&disk);
        match open(&disk) {
            Ok((_, _, state)) if state == *life.model.now() => self.whole += 1,
            Ok((_, _, state)) => {
                let allowed = &life.model.states[life.model.proven..];
                assert!(
                    allowed.contains(&state),
                    "{what:?}: something durable was lost: {state:?}"
                );
                self.cut += 1;
            }
            Err(error @ StorageError::Damaged { .. }) => {
                assert_eq!(Exit::of_storage(&error), Exit::Damaged);
                self.damaged += 1;
            }
            Err(error) => panic!("{what:?}: {error}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_cut_within_the_last_commit() {
    let life = short_reference();
    let mut verdicts = Verdicts::default();
    for path in log_files(&life.disk) {
        let content = life.disk.content(&path).unwrap();
        // Behind the last byte that is not zero one sector stands for all.
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        for at in 0..content.len().min(end + SECTOR_BYTES) {
            for bit in 0..8 {
                let flip = |disk: &FaultyDisk| disk.corrupt(&path, |bytes| bytes[at] ^= 1 << bit);
                verdicts.judge(&life, flip, &(&path, at, bit));
            }
        }
    }
    assert!(verdicts.damaged > 1000 && verdicts.whole > 1000 && verdicts.cut > 100, "{verdicts:?}");
}

fn zero_every_sector(life: &Life) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for path in log_files(&life.disk) {
        let length = life.disk.content(&path).unwrap().len();
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(length);
            let zero = |disk: &FaultyDisk| disk.corrupt(&path, |bytes| bytes[start..end].fill(0));
            verdicts.judge(life, zero, &(&path, start));
        }
    }
    verdicts
}

#[test]
fn every_zeroed_sector_is_refused_or_cut_within_the_last_commit() {
    let verdicts = zero_every_sector(&reference());
    assert!(verdicts.damaged > 3 && verdicts.whole > 1 && verdicts.cut > 0, "{verdicts:?}");
}

#[test]
fn a_lost_sector_takes_no_commit_and_its_proof_together() {
    let life = chatty_reference();
    assert!(log_files(&life.disk).len() > 3, "several segments were filled");
    let verdicts = zero_every_sector(&life);
    // Every commit but the last is missed; the last one is the only one that can be cut.
    assert!(verdicts.damaged >= 15 && verdicts.cut == 1, "{verdicts:?}");
}

#[test]
fn a_broken_header_does_not_hide_a_segment() {
    let life = chatty_reference();
    let files = log_files(&life.disk);
    for path in &files {
        let mut verdicts = Verdicts::default();
        let content = life.disk.content(path).unwrap();
        let commits = content.chunks(SECTOR_BYTES).filter(|s| s.iter().any(|b| *b != 0)).count();
        for at in 0..40 {
            let flip = |disk: &FaultyDisk| disk.corrupt(path, |bytes| bytes[at] ^= 0x10);
            verdicts.judge(&life, flip, &(path, at));
        }
        // A segment with one commit may have been torn while it began; an empty one has no header.
        assert!(commits < 2 || verdicts.damaged == 40, "{path:?} {commits} {verdicts:?}");
    }
}

#[test]
fn a_sound_record_in_the_place_of_another_is_refused() {
    let life = chatty_reference();
    for path in log_files(&life.disk) {
        let content = life.disk.content(&path).unwrap();
        let used = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
        let sectors = content.chunks(SECTOR_BYTES).take_while(|sector| used(sector)).count();
        for (from, to) in (1..sectors).flat_map(|from| (1..sectors).map(move |to| (from, to))) {
            let copy = content[from * SECTOR_BYTES..][..SECTOR_BYTES].to_vec();
            let misdirect = |disk: &FaultyDisk| {
                disk.corrupt(&path, |bytes| {
                    bytes[to * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(&copy);
                });
            };
            Verdicts::default().judge(&life, misdirect, &(&path, from, to));
        }
    }
}

#[test]
fn damage_is_reported_where_it_is_and_as_what_it_is() {
    let life = chatty_reference();
    let files = log_files(&life.disk);
    let path = &files[0];
    let content = life.disk.content(path).unwrap();
    // Each commit is one record at the start of a sector, with padding behind it.
    let sectors = content.chunks(SECTOR_BYTES).take_while(|s| s.iter().any(|b| *b != 0)).count();
    assert!(sectors > 1 && content[sectors * SECTOR_BYTES - 8..][..8] == [0; 8]);
    let report = |at: usize, bit: u8| {
        let disk = life.disk.fork();
        disk.corrupt(path, |bytes| bytes[at] ^= bit);
        match open(&disk) {
            Err(StorageError::Damaged { offset, what, .. }) => (offset as usize, what),
            other => panic!("byte {at}: {other:?}"),
        }
    };
    for start in (1..sectors).map(|sector| sector * SECTOR_BYTES) {
        let (offset, what) = report(start + 44, 1);
        assert_eq!(offset, start);
        assert!(what.starts_with("a record with a wrong checksum"), "{what}");
        assert!(what.contains("--on-damage replace") && what.contains("set aside"), "{what}");
        let (offset, what) = report(start + 4, 1);
        assert_eq!(offset, start);
        assert!(what.starts_with("no record begins here"), "{what}");
        // In the padding nothing is lost, so it is not looked at.
        let disk = life.disk.fork();
        disk.corrupt(path, |bytes| bytes[start + SECTOR_BYTES - 8] ^= 1);
        assert_eq!(&open(&disk).unwrap().2, life.model.now());
    }
}

/// S3: the chain of checksums tells two sound records apart that say the same index and term.
#[test]
fn a_record_of_the_same_index_and_term_with_another_payload_is_refused() {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, None), None, vec![])).unwrap();
    life.sync().unwrap();
    life.log = None;
    life.disk.kill();
    // One directory and its copy, in which another value stands at index 1: for each, what follows.
    let write = |value: u8, more: u64| {
        let disk = life.disk.fork();
        let (_, mut log, _) = open(&disk).unwrap();
        let mut first = command(1, 1, 0);
        first.payload = Payload::Command(vec![value; 100].into());
        log.append(&batch(None, None, vec![first])).unwrap();
        log.sync().unwrap();
        for index in 2..2 + more {
            log.append(&batch(None, None, vec![command(1, index, 100)])).unwrap();
            log.sync().unwrap();
        }
        disk
    };
    let other = write(b'y', 0);
    // The successor lies beside it, or the segment goes on into the next one.
    for more in 0..8 {
        let disk = write(b'x', more);
        let differs = |path: &&PathBuf| disk.content(path) != other.content(path);
        let path = log_files(&other).iter().find(differs).cloned().unwrap();
        let (own, foreign) = (disk.content(&path).unwrap(), other.content(&path).unwrap());
        let sector = own
            .chunks(SECTOR_BYTES)
            .zip(foreign.chunks(SECTOR_BYTES))
            .position(|(own, foreign)| own != foreign)
            .unwrap();
        let place = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        disk.corrupt(&path, |bytes| bytes[place.clone()].copy_from_slice(&foreign[place.clone()]));
        disk.kill();
        match (more, open(&disk).map(|(_, _, state)| state)) {
            // The newest record of all has no successor that could tell.
            (0, Ok(state)) => assert_eq!(state.entries.len(), 1),
            (1.., Err(StorageError::Damaged { what, offset, .. })) => {
                assert!(what.contains("follow"), "S3: {what}");
                assert_eq!(offset as usize, place.end, "the successor is the witness: {what}");
            }
            (_, other) => panic!("{more}: {other:?}"),
        }
    }
}

#[test]
fn every_shortened_or_missing_file_is_refused() {
    let life = reference();
    let mut verdicts = Verdicts::default();
    let files = log_files(&life.disk);
    let newest = files
        .iter()
        .rposition(|path| life.disk.content(path).unwrap().iter().any(|byte| *byte != 0))
        .unwrap();
    for (number, path) in files.iter().enumerate() {
        let length = life.disk.content(path).unwrap().len();
        for keep in 0..length {
            let damaged = verdicts.damaged;
            verdicts.judge(&life, |disk| disk.corrupt(path, |b| b.truncate(keep)), &(path, keep));
            assert!(number != newest || verdicts.damaged > damaged, "{path:?} {keep}");
            assert_eq!(verdicts.cut, 0, "a shorter file is no torn write: {path:?} {keep}");
        }
        let damaged = verdicts.damaged;
        verdicts.judge(&life, |disk| disk.fs().remove(path).unwrap(), path);
        assert!(number >= newest || verdicts.damaged > damaged, "{path:?} removed");
    }
    assert!(verdicts.damaged > 1000, "{verdicts:?}");
}
