//! `validate.sh`: it passes where all is well, fails where something is wrong, and undoes what it did.

use std::fs;

use crate::fake_cluster::Fake;

#[test]
fn the_validation_passes_where_all_is_well() {
    for arguments in [&[][..], &["--force"]] {
        let fake = Fake::started();
        let said = fake.run("validate", arguments);
        assert_eq!(said.code, Some(0), "{said:#?}");
        for stage in 1..=5 {
            assert!(said.out.contains(&format!("stage {stage}: OK")), "{said:#?}");
        }
        let last = said.out.lines().last().unwrap_or_default();
        assert!(last.starts_with("SUCCESS"), "{said:#?}");
        assert_eq!(
            fake.called("delete pod raft-0 --wait=false --grace-period=0"),
            !arguments.is_empty()
        );
        assert!(fake.called("cordon w") && fake.called("docker stop w"), "{}", fake.read("calls"));
        fake.is_as_before();
    }
}

/// The stage fails, nothing after it runs, and what was cordoned or stopped is as before.
#[track_caller]
fn fails_in(stage: usize, fault: &str, with: &str) {
    let fake = Fake::started();
    fake.write("faults", &format!("{fault}\n"));
    let said = fake.run("validate", &[]);
    said.fails(1, with);
    assert!(said.out.contains(&format!("stage {stage}: FAILED")), "{said:#?}");
    assert_eq!(said.out.lines().last(), Some("NOT VALIDATED"), "{said:#?}");
    for later in stage + 1..=5 {
        assert!(said.out.contains(&format!("stage {later}: not run")), "{said:#?}");
    }
    fake.is_as_before();
}

#[test]
fn a_forged_entry_fails_the_validation() {
    fails_in(3, "forged-entry", "the replicas do not hold the same");
}

#[test]
fn a_lost_key_fails_the_validation() {
    fails_in(3, "lost-key", "the replicas do not hold the same");
}

#[test]
fn a_lost_or_forged_write_fails_the_validation() {
    fails_in(3, "lost-write", "an acknowledged write is not there");
    fails_in(3, "forged-write", "and is read as");
}

#[test]
fn a_pod_that_does_not_move_fails_the_validation() {
    fails_in(3, "ignores-cordon", "is on w1 again");
}

#[test]
fn a_client_that_fails_without_a_worker_fails_the_validation() {
    fails_in(4, "mute-when-down", "the client's test with those that remain");
}

#[test]
fn a_worker_that_cannot_be_stopped_is_told_before_anything_is_touched() {
    let fake = Fake::started();
    let path = fake.path_with(&["kubectl"]);
    fake.run_in(&path, "validate", &[], &[]).fails(1, "BALSA_STOP_WORKER and BALSA_START_WORKER");
    fake.run_with("validate", &[], &[("BALSA_STOP_WORKER", "true")]).fails(1, "belong together");
    assert!(!fake.called("delete"), "{}", fake.read("calls"));
}

#[test]
fn a_missing_secret_is_named() {
    let fake = Fake::started();
    fs::remove_file(fake.path("secrets/client-certs")).expect("the Secret");
    fake.run("validate", &[]).fails(1, "the Secret client-certs is missing");
}
