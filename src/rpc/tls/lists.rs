//! The revocation lists in force, and what they make of a chain.
//!
//! They are not handed to webpki, which finds a list by its issuer's name alone: during a change of
//! CAs of the same name one CA's list would refuse everybody of the other, and a list without
//! extensions (version 1, which `openssl ca -gencrl` makes unless told otherwise) everybody at all. Here a
//! chain that webpki has verified is looked through once more, and a certificate is refused only if the
//! list of the very CA that signed it names it. So no list can refuse anybody whom it does not name.
//!
//! A list in force gives way to a newer one of the same CA and to nothing else, as long as the process
//! lives: not to an older one, and not to its absence.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::age::Dated;
use super::crl::{Ca, CaId, Crl, name};
use super::fault::Revocation;
use super::files::TlsFiles;
use crate::identity::signed::is_signed_by;

/// Lists of CAs that left the bundle that are remembered, in case they come back.
const DEPARTED_MAX: usize = 16;

/// Something to be said of the files that does not keep them from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rpc) struct Remark {
    /// Whether somebody cannot work until it is mended.
    pub(in crate::rpc) grave: bool,
    pub(in crate::rpc) sentence: String,
}

/// The lists in force.
#[derive(Debug, Default)]
pub(in crate::rpc) struct Lists {
    /// One for each CA of the bundle that has one.
    present: Vec<Arc<Crl>>,
    /// Of CAs that left the bundle, the last one first.
    departed: Vec<Arc<Crl>>,
    /// CAs of the bundle that another one of it has revoked, and since when.
    withdrawn: Vec<(Ca, i64)>,
}

impl Remark {
    pub(super) fn mild(sentence: String) -> Remark {
        Remark { grave: false, sentence }
    }
}

impl Lists {
    /// What is in force once these files are, and what is to be said about it.
    pub(super) fn renewed(&self, files: &TlsFiles) -> (Lists, Vec<Remark>) {
        let (cas, path) = (Ca::all(&files.ca), files.crl_path.display());
        let mut lists = Lists::default();
        let mut remarks = files.remarks.clone();
        for (at, ca) in cas.iter().enumerate() {
            if cas[..at].iter().any(|other| other.id == ca.id) {
                continue;
            }
            let fresh = files.lists.iter().find(|list| list.ca == ca.id);
            let former = self.of(&ca.id);
            let chosen = match (fresh, former) {
                (Some(fresh), Some(former)) if fresh.is_older_than(former) => {
                    let more = fresh.beyond(former);
                    let unheard = match more {
                        0 => String::new(),
                        _ => format!(
                            "; {more} of its entries are not on that one, and NOT revoked: have the CA \
                             number its next list higher"
                        ),
                    };
                    let sentence = format!(
                        "{path} holds an older revocation list of {} ({}) than the one in force ({}), \
                         which stays in force; put the newest one there{unheard}",
                        ca.shown,
                        fresh.edition(),
                        former.edition(),
                    );
                    remarks.push(Remark { grave: more > 0, sentence });
                    former
                }
                (Some(fresh), _) => fresh,
                (None, Some(former)) => {
                    remarks.push(Remark::mild(format!(
                        "{path} no longer holds a revocation list of {}; the last one ({}) is enforced until \
                         this process ends, put it back",
                        ca.shown,
                        former.edition(),
                    )));
                    former
                }
                (None, None) => {
                    if files.has_lists {
                        remarks.push(Remark::mild(format!(
                            "{path} holds no revocation list of {}: none of its certificates counts as \
                             revoked",
                            ca.shown
                        )));
                    }
                    continue;
                }
            };
            lists.present.push(Arc::clone(chosen));
        }
        let former = self.present.iter().chain(&self.departed);
        let departed = former.filter(|list| cas.iter().all(|ca| ca.id != list.ca));
        lists.departed = departed.take(DEPARTED_MAX).cloned().collect();
        lists.withdrawn = lists.withdrawn_of(&cas);
        (lists, remarks)
    }

    fn of(&self, ca: &CaId) -> Option<&Arc<Crl>> {
        self.all().find(|list| list.ca == *ca)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Crl>> {
        self.present.iter().chain(&self.departed)
    }

    /// CAs of the bundle of which every certificate there is revoked. A chain ends at the bundle, so
    /// that such a certificate need not be in anything that is presented.
    fn withdrawn_of(&self, cas: &[Ca]) -> Vec<(Ca, i64)> {
        let since = |ca: &Ca| self.listed(&X509Certificate::from_der(&ca.der).ok()?.1, &ca.der);
        let all_are = |id: &CaId| {
            let mut same = cas.iter().filter(|other| other.id == *id);
            same.all(|other| since(other).is_some())
        };
        let withdrawn = cas.iter().filter_map(|ca| Some((ca.clone(), since(ca)?)));
        withdrawn.filter(|(ca, _)| all_are(&ca.id)).collect()
    }

    /// Since when a certificate is on the list of the CA that signed it.
    fn listed(&self, certificate: &X509Certificate<'_>, der: &[u8]) -> Option<i64> {
        self.all().find_map(|list| list.revokes(certificate, der))
    }

    /// What is revoked of a chain, leaf first. Whether a certificate is needed for the chain is not
    /// asked: who presents a revoked CA's certificate wants it to count.
    pub(in crate::rpc) fn revocation<'c>(
        &self,
        chain: impl IntoIterator<Item = &'c CertificateDer<'c>>,
    ) -> Option<Revocation> {
        chain.into_iter().enumerate().find_map(|(depth, der)| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            if let Some(since) = self.listed(&certificate, der) {
                let authority = (depth > 0).then(|| name(certificate.subject()));
                return Some(Revocation { since, authority });
            }
            let issuer = certificate.issuer().as_raw();
            let mut withdrawn = self.withdrawn.iter();
            let by = |(ca, _): &&(Ca, i64)| ca.id.name == issuer && is_signed_by(der, &ca.id.key);
            let (ca, since) = withdrawn.find(by)?;
            Some(Revocation { since: *since, authority: Some(ca.shown.clone()) })
        })
    }

    /// How many lists of CAs that left are remembered.
    #[cfg(test)]
    pub(in crate::rpc) fn departed(&self) -> usize {
        self.departed.len()
    }

    /// Whether the same lists are in force for the CAs of the bundle.
    pub(super) fn same_as(&self, other: &Lists) -> bool {
        self.present == other.present
    }

    /// The lists that have an end, by the file that they belong into.
    pub(super) fn dated<'l>(&'l self, files: &'l TlsFiles) -> impl Iterator<Item = Dated> + 'l {
        let dated = |list: &Arc<Crl>| Dated::list(list, &files.crl_path);
        self.present.iter().filter_map(dated)
    }
}
