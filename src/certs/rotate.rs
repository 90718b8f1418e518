//! The change of the CA, in three steps between which everybody must have got the files:
//!
//! 1. *trust*: there is a new CA, and everybody trusts both. It signs nothing yet.
//! 2. *reissue*: everybody gets a certificate of the new CA, which everybody trusts already.
//! 3. *drop*: nobody trusts the former CA any more; its directory is set aside, key and all.
//!
//! At no moment does anybody meet a certificate that they do not trust. Each step can be run again, and
//! none before its turn. What is in `OUT` can be checked and is; whether it arrived where the processes
//! read it only the operator knows.

use std::path::PathBuf;

use super::authority::{Authority, Validity};
use super::disk;
use super::error::CertsError;
use super::layout::{Written, ca_dir};
use super::renew::{Planned, left_revoked};
use super::site::{ASIDE, Change, FORMER, Leaf, NEXT, Site, Stage, promote};

impl Site {
    /// First step: makes the new CA, unless it is there, and puts it into every bundle.
    ///
    /// # Errors
    /// [`CertsError::Refused`] if the change is past this step, or nobody says which cluster the CA is
    /// for.
    pub fn trust(
        &mut self,
        cluster: Option<&str>,
        ca_days: u32,
    ) -> Result<Vec<Change>, CertsError> {
        if self.stage == Stage::Reissuing {
            return Err(CertsError::Refused(format!(
                "a change of the CA in {} is under way and past this step; finish it with `rotate-ca \
                 reissue` and `rotate-ca drop`",
                self.signing.dir.display()
            )));
        }
        for leaf in &self.leaves {
            leaf.bundle()?;
        }
        let mut changes = Vec::new();
        let next = ca_dir(&self.out).join(NEXT);
        let written = if self.stage == Stage::One {
            let ours = self.cluster();
            let Some(cluster) = cluster.or(ours.as_deref()) else {
                return Err(CertsError::Refused(
                    "neither the CA nor the certificates say which cluster they are for; name it with \
                     --cluster"
                        .into(),
                ));
            };
            if let Some(ours) = ours.as_deref().filter(|ours| *ours != cluster) {
                let (ours, asked) = (ours.to_owned(), cluster.to_owned());
                return Err(CertsError::WrongCluster { ours, asked });
            }
            Authority::create(cluster, Validity::days(ca_days)?)?.save(&next)?;
            self.reread()?;
            Written::Created
        } else {
            Written::Kept
        };
        let end = self.other.as_ref().map(|ca| ca.facts.not_after);
        changes.push(Change { not_after: end, ..Change::new("ca", &next, written) });
        changes.extend(self.spread_bundles(&[])?);
        changes.extend(self.spread()?);
        Ok(changes)
    }

    /// Second step: the new CA signs from now on, and everybody gets a certificate of it; who has one
    /// already keeps it, and who is revoked gets none.
    ///
    /// # Errors
    /// [`CertsError::Refused`] if there is no new CA, or somebody's bundle lacks it.
    pub fn reissue(&mut self, days: u32) -> Result<Vec<Change>, CertsError> {
        let new = match (self.stage, &self.other) {
            (Stage::Trusting, Some(next)) => next,
            (Stage::Reissuing, _) => &self.signing,
            _ => {
                return Err(CertsError::Refused(
                    "there is no new CA; `cltraft certs rotate-ca trust` makes one and is the first \
                     step"
                        .into(),
                ));
            }
        };
        let lacking = |leaf: &&Leaf| !leaf.bundle().is_ok_and(|cas| cas.contains(&new.der));
        let lacking: Vec<String> =
            self.leaves.iter().filter(lacking).map(|leaf| leaf.name.clone()).collect();
        if !lacking.is_empty() {
            return Err(CertsError::Refused(format!(
                "the new CA is not in the ca.crt of {}; run `rotate-ca trust` again, and go on when \
                 everybody has loaded what it wrote",
                lacking.join(", ")
            )));
        }
        let (mut planned, mut kept) = (Vec::new(), Vec::new());
        for leaf in &self.leaves {
            let present = leaf.read()?;
            if new.signed(&present.der) && leaf.is_whole(&present.der) {
                let end = present.facts.not_after;
                kept.push(Change::new(&leaf.name, &leaf.dir, Written::Kept).until(end));
            } else if self.revoked_since(&present).is_some() {
                kept.push(left_revoked(leaf, present.facts.not_after));
            } else {
                let profile = Site::again(&present, days)?;
                planned.push(Planned { leaf: leaf.clone(), profile });
            }
        }
        new.authority()?;
        let mut changes = Vec::new();
        if self.stage == Stage::Trusting {
            promote(&ca_dir(&self.out))?;
            self.reread()?;
            let ca = Change::new("ca", &self.signing.dir, Written::Replaced);
            changes.push(ca.until(self.signing.facts.not_after));
        }
        let authority = self.signing.authority()?;
        changes.extend(self.reissue_all(&authority, &planned, kept)?);
        Ok(changes)
    }

    /// Third step: takes the former CA out of every bundle and sets it aside. The result is where it is
    /// now; none if that was done before.
    ///
    /// # Errors
    /// [`CertsError::Refused`] if it is not yet time, or somebody has a certificate of the former CA.
    pub fn drop_former(&mut self) -> Result<(Vec<Change>, Option<PathBuf>), CertsError> {
        let refused = |why: &str| Err(CertsError::Refused(why.into()));
        match self.stage {
            Stage::Trusting => {
                return refused(
                    "the new CA signs nothing yet; `cltraft certs rotate-ca reissue` comes first",
                );
            }
            Stage::One if self.aside.is_empty() => {
                return refused(
                    "no change of the CA is under way; `cltraft certs rotate-ca trust` begins one",
                );
            }
            _ => {}
        }
        let mut left = Vec::new();
        for leaf in &self.leaves {
            let present = leaf.read()?;
            // Who is revoked is refused either way.
            if !self.signing.signed(&present.der) && self.revoked_since(&present).is_none() {
                left.push(leaf.name.as_str());
            }
        }
        if !left.is_empty() {
            return Err(CertsError::Refused(format!(
                "the certificate of {} is not of the new CA; `cltraft certs {}` gives them one, and must \
                 have arrived everywhere before the former CA goes",
                left.join(", "),
                if self.stage == Stage::One { "renew" } else { "rotate-ca reissue" },
            )));
        }
        let mut unwanted: Vec<Vec<u8>> = self.aside.iter().map(|ca| ca.der.clone()).collect();
        unwanted.extend(self.other.as_ref().map(|former| former.der.clone()));
        let mut changes = self.spread_bundles(&unwanted)?;
        let former = self.other.take();
        changes.extend(self.spread()?);
        let Some(former) = former else { return Ok((changes, None)) };
        let dir = ca_dir(&self.out);
        let id: String = former.facts.sha256.chars().take(8).collect();
        let path = dir.join(format!("{ASIDE}{id}"));
        disk::rename(&dir.join(FORMER), &path)?;
        disk::sync_directory(&dir)?;
        changes.push(Change::new("ca", &path, Written::Created));
        self.stage = Stage::One;
        self.aside.push(former);
        Ok((changes, Some(path)))
    }

    fn spread_bundles(&self, unwanted: &[Vec<u8>]) -> Result<Vec<Change>, CertsError> {
        let mut changes = Vec::new();
        for leaf in &self.leaves {
            changes.extend(self.put_bundle(leaf, unwanted)?);
        }
        Ok(changes)
    }
}
