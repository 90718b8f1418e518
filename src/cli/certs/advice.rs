//! What must happen after a change, in the words of the person's language.

use std::path::Path;

use crate::certs::layout::SECRETS_DIR;
use crate::certs::{Change, Revocation, Written};
use crate::cli::lang::Lang;

/// Where the change was made, and for whom it is said.
pub(super) struct Place<'a> {
    out: &'a Path,
    lang: Lang,
}

impl<'a> Place<'a> {
    pub(super) fn new(out: &'a Path, lang: Lang) -> Place<'a> {
        Place { out, lang }
    }

    fn pick(&self, english: String, spanish: String) -> String {
        match self.lang {
            Lang::En => english,
            Lang::Es => spanish,
        }
    }

    /// How the files reach who reads them.
    fn deliver(&self) -> Vec<String> {
        let out = self.out.display();
        let mut sentences = Vec::new();
        let manifests = self.out.join(SECRETS_DIR);
        let (mut copy, mut copia) = ("Copy", "Copia");
        if manifests.exists() {
            (copy, copia) = ("Elsewhere: copy", "En otros sitios: copia");
            let manifests = manifests.display();
            sentences.push(self.pick(
                format!("On Kubernetes: kubectl apply -f {manifests}   # within two minutes they are in the pods"),
                format!("En Kubernetes: kubectl apply -f {manifests}   # en dos minutos llegan a los pods"),
            ));
        }
        sentences.push(self.pick(
            format!(
                "{copy} the directories of {out} to where their processes read them, unless they \
                 read them there. Nothing need be restarted."
            ),
            format!(
                "{copia} los directorios de {out} adonde los leen sus procesos, si no los \
                 leen ahí mismo. No hace falta reiniciar nada."
            ),
        ));
        sentences
    }

    fn wait(&self) -> String {
        self.pick(
            "Wait until every node has loaded them: \"certificates loaded anew\" in its log, or \
             balsa_certificate_reloads_total has moved; so has every client that runs on. Ten seconds later their connections use \
             them, too."
                .into(),
            "Espera a que todos los nodos los hayan cargado: \"certificates loaded anew\" en su registro, o \
             balsa_certificate_reloads_total ha aumentado; y también los clientes que siguen en marcha. Diez segundos después los \
             usan también sus conexiones."
                .into(),
        )
    }

    pub(super) fn after_renewal(&self, changes: &[Change]) -> Vec<String> {
        if changes.iter().all(|change| change.written == Written::Kept) {
            return vec![self.pick(
                "Nothing ends so soon: everything is as it was.".into(),
                "Nada caduca tan pronto: todo queda como estaba.".into(),
            )];
        }
        let mut next = self.deliver();
        if !changes.iter().any(is_certificate) {
            return next;
        }
        let replaced = self.out.join("ca/replaced");
        let (out, replaced) = (self.out.display(), replaced.display());
        next.push(self.pick(
            format!(
                "The former certificates are good until they end. If a key was stolen: cltraft certs revoke \
                 --out {out} --certificate {replaced}/NAME-SERIAL.crt"
            ),
            format!(
                "Los certificados anteriores valen hasta que caduquen. Si robaron una clave: cltraft certs \
                 revoke --out {out} --certificate {replaced}/NOMBRE-SERIE.crt"
            ),
        ));
        next
    }

    pub(super) fn after_revocation(&self, outcome: &Revocation) -> Vec<String> {
        let Revocation { whom, serial, before, present, others, .. } = outcome;
        let out = self.out.display();
        let mut next = vec![match before {
            false => self.pick(
                format!("Revoked: {whom}, serial number {serial}."),
                format!("Revocado: {whom}, número de serie {serial}."),
            ),
            true => self.pick(
                format!("It was revoked before: {whom}, serial number {serial}."),
                format!("Ya estaba revocado: {whom}, número de serie {serial}."),
            ),
        }];
        next.extend(self.deliver());
        next.push(self.pick(
            "A node refuses it from the moment it has loaded the list. To the nodes first.".into(),
            "Un nodo lo rechaza desde que ha cargado la lista. Primero a los nodos.".into(),
        ));
        if *present {
            let name = whom.rsplit('/').next().unwrap_or_default();
            next.push(self.pick(
                format!(
                    "{out}/{name} still holds it. A new key and certificate: cltraft certs renew --out {out} \
                     {name}. Or remove the directory, if it is not to come back."
                ),
                format!(
                    "{out}/{name} todavía lo contiene. Clave y certificado nuevos: cltraft certs renew --out \
                     {out} {name}. O borra el directorio, si no ha de volver."
                ),
            ));
        }
        for other in others {
            let other = other.display();
            next.push(self.pick(
                format!(
                    "A replaced certificate for the same is still good: cltraft certs revoke --out {out} \
                     --certificate {other}"
                ),
                format!(
                    "Otro certificado suyo, ya reemplazado, todavía vale: cltraft certs revoke --out {out} \
                     --certificate {other}"
                ),
            ));
        }
        next
    }

    pub(super) fn after_trust(&self) -> Vec<String> {
        self.step("1", "rotate-ca reissue")
    }

    pub(super) fn after_reissue(&self) -> Vec<String> {
        self.step("2", "rotate-ca drop")
    }

    fn step(&self, number: &str, command: &str) -> Vec<String> {
        let out = self.out.display();
        let mut next = vec![self.pick(
            format!("Step {number} of 3 is done here."),
            format!("Paso {number} de 3, hecho aquí."),
        )];
        next.extend(self.deliver());
        next.push(self.wait());
        next.push(self.pick(
            format!("Then, and not before: cltraft certs {command} --out {out}"),
            format!("Después, y no antes: cltraft certs {command} --out {out}"),
        ));
        next
    }

    pub(super) fn after_drop(&self, aside: Option<&Path>) -> Vec<String> {
        let Some(aside) = aside else {
            let mut next = vec![self.pick(
                "The former CA was dropped before; no directory trusts it.".into(),
                "La CA anterior ya se había retirado; ningún directorio confía en ella.".into(),
            )];
            next.extend(self.deliver());
            return next;
        };
        let mut next = vec![self.pick(
            "Step 3 of 3 is done here: no directory trusts the former CA any more.".into(),
            "Paso 3 de 3, hecho aquí: ningún directorio confía ya en la CA anterior.".into(),
        )];
        next.extend(self.deliver());
        let aside = aside.display();
        next.push(self.pick(
            format!("{aside} keeps the former CA with its key; remove it when everybody has loaded this."),
            format!("{aside} guarda la CA anterior con su clave; bórralo cuando todos lo hayan cargado."),
        ));
        next
    }
}

/// Whether a new certificate was made, and not just a list or a copy.
fn is_certificate(change: &Change) -> bool {
    change.name != "ca" && change.written == Written::Replaced && change.not_after.is_some()
}

/// As it stands below the report.
pub(super) fn indented(sentence: &str) -> String {
    format!("-> {sentence}")
}
