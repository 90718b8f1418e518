//! Certificates that must be refused, and one of unusual making that must not.

use super::*;

#[test]
fn bad_certificates_are_bad_to_openssl_to_our_verifier_and_to_show() {
    let now = OffsetDateTime::now_utc();
    let (ca, stranger) = (authority("balsa"), authority("balsa"));
    let good = raw();
    let past = Validity { not_before: now - Duration::days(9), not_after: now - Duration::days(1) };
    let future =
        Validity { not_before: now + Duration::days(1), not_after: now + Duration::days(9) };
    let issue = |raw: &RawParams| ca.issue_raw(raw).expect("a bad certificate");
    let client_only = RawParams { server_auth: false, ..good.clone() };
    let no_usage = RawParams { server_auth: false, client_auth: false, ..good.clone() };
    let a_ca = RawParams { ca: true, ..good.clone() };
    for (what, issued, chain_is_bad, problem) in [
        ("expired", issue(&RawParams { validity: past, ..good.clone() }), true, "ended on"),
        (
            "too early",
            issue(&RawParams { validity: future, ..good.clone() }),
            true,
            "not valid before",
        ),
        ("client's usage", issue(&client_only), true, "lacks the usage serverAuth"),
        ("self-signed", Issued::self_signed(&good).expect("one"), true, ""),
        ("wrong CA", stranger.issue_raw(&good).expect("one"), true, ""),
        ("no URI", issue(&RawParams { uris: Vec::new(), ..good.clone() }), false, "no URI name"),
        (
            "two URIs",
            issue(&RawParams { uris: vec![good.uris[0].clone(); 2], ..good.clone() }),
            false,
            "2 URI names",
        ),
        (
            "another's URI",
            issue(&RawParams { uris: vec!["spiffe://x/y".into()], ..good.clone() }),
            false,
            "is not of the form",
        ),
        ("no usage", issue(&no_usage), false, "lacks the usage clientAuth"),
        ("a CA's", issue(&a_ca), true, ""),
    ] {
        let dir = temp();
        fs::write(dir.path().join("ca.crt"), ca.certificate()).expect("write");
        fs::write(dir.path().join("tls.crt"), &issued.certificate).expect("write");
        let accepted = accepts(dir.path(), &["-purpose", "sslserver"]);
        assert_eq!(!accepted, chain_is_bad, "{what}: openssl");
        let outcome = verify(&[der(&issued)], &[der_of(ca.certificate())], Purpose::Server, now);
        assert_eq!(outcome.is_err(), chain_is_bad, "{what}: {outcome:?}");
        let facts = Facts::of(&der(&issued), now).expect("readable");
        assert!(facts.problems(now).join("; ").contains(problem), "{what}: {facts:?}");
    }
    let dir = temp();
    let issued = issue(&good);
    fs::write(dir.path().join("ca.crt"), ca.certificate()).expect("write");
    fs::write(dir.path().join("tls.crt"), &issued.certificate).expect("write");
    assert!(accepts(dir.path(), &["-purpose", "sslserver"]), "the good one, by the same way");
}

#[test]
fn a_leaf_cannot_sign_and_is_no_ca_to_load() {
    let (ca, now) = (authority("balsa"), OffsetDateTime::now_utc());
    let leaf = ca.issue_raw(&raw()).expect("a leaf");
    let key = rcgen::KeyPair::from_pem(&leaf.key).expect("its key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&leaf.certificate, key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.not_after = now + Duration::days(1);
    let forged = params.signed_by(&key, &issuer).expect("a forged certificate");

    let chain = [forged.der().to_vec(), der(&leaf)];
    let roots = [der_of(ca.certificate())];
    assert!(verify(&chain[1..], &roots, Purpose::Server, now).is_ok(), "the leaf itself is good");
    assert!(verify(&chain, &roots, Purpose::Server, now).is_err(), "the leaf signed another");
    let dir = temp();
    let judged = openssl_on_chain(dir.path(), &ca, &leaf.certificate, &forged.pem());
    assert!(judged.contains("invalid CA certificate"), "{judged}");

    fs::write(dir.path().join("ca.crt"), &leaf.certificate).expect("write");
    fs::write(dir.path().join("ca.key"), &leaf.key).expect("write");
    chmod(&dir.path().join("ca.key"), 0o600);
    let refused = Authority::load(dir.path()).expect_err("a leaf was taken for a CA");
    assert!(refused.to_string().contains("not the certificate of a CA"), "{refused}");
}

#[test]
fn openssl_accepts_no_ca_below_the_ca() {
    // Only openssl can show it: rustls takes the CA's name and key from ca.crt, not its path length.
    let ca = authority("balsa");
    let below = ca.issue_raw(&RawParams { ca: true, ..raw() }).expect("a CA below");
    let dir = temp();
    fs::write(dir.path().join("ca.crt"), &below.certificate).expect("write");
    fs::write(dir.path().join("ca.key"), &below.key).expect("write");
    chmod(&dir.path().join("ca.key"), 0o600);
    let leaf = Authority::load(dir.path()).expect("a CA").issue_raw(&raw()).expect("a leaf");
    let judged = openssl_on_chain(dir.path(), &ca, &below.certificate, &leaf.certificate);
    assert!(judged.contains("path length constraint exceeded"), "{judged}");
}

#[test]
fn a_ca_of_other_making_signs_for_any_cluster_that_is_named() {
    let dir = temp();
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    let options = ["-newkey", "rsa:2048", "-days", "30", "-utf8"];
    let subject = ["-subj", "/C=ES/O=Universidad, S.A./OU=PKI/CN=Raíz"];
    let extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", usage];
    ca_by_openssl(dir.path(), &[&options[..], &subject, &extensions].concat());
    let unnamed = IssueOptions { out: dir.path().into(), ..IssueOptions::new("node", "raft-0") };
    let failure = issue(&unnamed).expect_err("which cluster?");
    assert!(failure.exit() == 2 && failure.to_string().contains("--cluster"), "{failure}");
    issue(&IssueOptions { cluster: Some("balsa".into()), ..unnamed }).expect("issue");
    assert!(accepts(&dir.path().join("raft-0"), &["-purpose", "sslserver"]));
    let leaf = &shown(&dir.path().join("raft-0"))[1];
    assert!(leaf.facts.days_left < 30, "it must end with its CA");
}
