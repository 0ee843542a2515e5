//! The development CA and identities from files.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use synod::transport::{CaError, DevelopmentCa, EndpointKeys, Identity, IdentityError};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn processes_that_start_at_once_share_one_ca() {
    // DESIGN 12: the development CA is made under a lock.
    let directory = tempfile::tempdir().unwrap();
    let stores = directory.path().join("data");
    let made: Vec<_> = std::thread::scope(|threads| {
        let all: Vec<_> = (0..8)
            .map(|_| threads.spawn(|| DevelopmentCa::open(&stores).unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let first = made[0].issue_node("n1").unwrap();
    for ca in &made {
        let store = tempfile::tempdir().unwrap();
        let (certificate, key) = first.write(store.path(), "n1").unwrap();
        Identity::load(&ca.certificate_path(), &certificate, &key).unwrap();
        let other = ca.issue_node("n2").unwrap().identity().unwrap();
        assert_eq!(other.name(), "n2");
    }
}

#[test]
fn secrets_are_readable_by_their_owner_only() {
    // DESIGN 12: keys 0600.
    let directory = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::open(directory.path()).unwrap();
    ca.node_identity("n1", directory.path()).unwrap();
    let (_, key) = ca
        .issue_client("c")
        .unwrap()
        .write(directory.path(), "c")
        .unwrap();
    EndpointKeys::load_or_create(directory.path()).unwrap();
    for secret in [
        &directory.path().join("ca.key"),
        &directory.path().join("node.key"),
        &key,
    ] {
        assert_eq!(mode(secret), 0o600, "{}", secret.display());
    }
    assert_eq!(mode(&directory.path().join("transport.keys")), 0o600);
}

#[test]
fn a_nodes_key_stays_the_same_over_restarts_and_signs() {
    // DESIGN 10: records are signed with the node's key, which the system log knows.
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = || {
        DevelopmentCa::open(data.path())
            .unwrap()
            .node_identity("n1", store.path())
            .unwrap()
    };
    let (before, after) = (start(), start());
    assert_eq!(before.public_key(), after.public_key());
    let signature = before.signer().sign(b"record");
    assert_eq!(signature, after.signer().sign(b"record"), "deterministic");
    assert!(after.public_key().verify(b"record", &signature));
    assert!(!after.public_key().verify(b"recorD", &signature));
    let other = DevelopmentCa::open(data.path())
        .unwrap()
        .client_identity("c")
        .unwrap();
    assert!(!other.public_key().verify(b"record", &signature));
    assert!(other.is_client() && !before.is_client() && before.is_development());
}

#[test]
fn files_that_do_not_fit_together_are_named() {
    // Issue: wrong CA, certificate of another node, in one sentence.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let ca = DevelopmentCa::open(&path.join("a")).unwrap();
    let other = DevelopmentCa::open(&path.join("b")).unwrap();
    let (n1, n1_key) = ca.issue_node("n1").unwrap().write(path, "n1").unwrap();
    let (_, n2_key) = ca.issue_node("n2").unwrap().write(path, "n2").unwrap();
    let load = |ca: &DevelopmentCa, certificate: &Path, key: &Path| {
        Identity::load(&ca.certificate_path(), certificate, key).unwrap_err()
    };
    assert!(matches!(
        load(&other, &n1, &n1_key),
        IdentityError::NotOfThisCa { .. }
    ));
    assert!(matches!(
        load(&ca, &n1, &n2_key),
        IdentityError::KeyOfAnother { .. }
    ));
    assert!(matches!(
        load(&ca, &n1_key, &n1_key),
        IdentityError::Pem { .. }
    ));
    assert!(matches!(load(&ca, &n1, &n1), IdentityError::Pem { .. }));
    assert!(matches!(
        load(&ca, &path.join("none"), &n1_key),
        IdentityError::Read { .. }
    ));
    assert!(matches!(
        load(&ca, &ca.certificate_path(), &n1_key),
        IdentityError::Certificate { .. }
    ));
}

#[test]
fn a_name_that_is_no_dns_label_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::open(directory.path()).unwrap();
    for name in ["", "N1", "a.b", "a_b", "-a", "a-", &"x".repeat(64)] {
        assert!(
            matches!(ca.issue_node(name), Err(CaError::Name { .. })),
            "{name}"
        );
    }
    ca.issue_node(&"x".repeat(63)).unwrap();
}

#[test]
fn a_damaged_key_is_named_and_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    DevelopmentCa::open(directory.path()).unwrap();
    fs::write(directory.path().join("ca.key"), "garbage").unwrap();
    let damaged = DevelopmentCa::open(directory.path()).unwrap_err();
    assert!(matches!(damaged, CaError::Damaged { .. }), "{damaged}");
    assert_eq!(
        fs::read(directory.path().join("ca.key")).unwrap(),
        b"garbage"
    );
}

#[test]
fn endpoint_keys_outlive_the_process() {
    // M47, S24: without them peers keep zombie connections until the idle timeout.
    let directory = tempfile::tempdir().unwrap();
    EndpointKeys::load_or_create(directory.path()).unwrap();
    let first = fs::read(directory.path().join("transport.keys")).unwrap();
    EndpointKeys::load_or_create(directory.path()).unwrap();
    assert_eq!(
        fs::read(directory.path().join("transport.keys")).unwrap(),
        first
    );
}

#[test]
fn certificates_made_by_openssl_are_an_identity() {
    // What an operator does without `synod certs`; openssl writes Ed25519 keys without their public half.
    let directory = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        openssl genpkey -algorithm ed25519 -out ca.key
        openssl req -x509 -new -key ca.key -subj "/CN=our CA" -days 30 -out ca.crt
        openssl genpkey -algorithm ed25519 -out n1.key
        openssl req -new -key n1.key -subj "/CN=n1" -out n1.csr
        printf 'subjectAltName=DNS:node.synod,DNS:n1.node.synod\nextendedKeyUsage=serverAuth,clientAuth\n' > n1.ext
        openssl x509 -req -in n1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile n1.ext -out n1.crt
    "#;
    let Ok(output) = Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(directory.path())
        .output()
    else {
        return;
    };
    if String::from_utf8_lossy(&output.stderr).contains("not found") {
        return; // no openssl on this machine: nothing to compare with
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = |name: &str| directory.path().join(name);
    let identity = Identity::load(&file("ca.crt"), &file("n1.crt"), &file("n1.key")).unwrap();
    assert_eq!(
        (
            identity.name(),
            identity.is_client(),
            identity.is_development()
        ),
        ("n1", false, false)
    );
}
