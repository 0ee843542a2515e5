//! What two processes say to each other before anything else, and whether they may go on.
//!
//! The one that dialled opens a bi stream and sends its [`Hello`]; the other answers with its own, or closes the
//! connection with the reason; then the first one sends one byte, "go", on the connection that it keeps. Only then the
//! connection counts at both ends. Here: the rules, pure. Not here: streams (`dial`, `accept`).

use serde::{Deserialize, Serialize};

use super::{LocalHello, certificates::Facts};

/// Protocol versions that this build speaks, lowest and highest. The highest common one is spoken.
pub(super) const PROTOCOLS: (u16, u16) = (1, 1);
/// Longest hello in bytes.
pub(super) const HELLO_BYTES: usize = 4_096;

/// What a connection is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// Lanes except bulk, datagrams, calls.
    Main,
    /// The bulk lane.
    Bulk,
    /// One call.
    Call,
}

/// The words of one side.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Hello {
    pub(super) lowest: u16,
    pub(super) highest: u16,
    pub(super) cluster: Option<serde_bytes::ByteArray<16>>,
    pub(super) name: String,
    pub(super) store: Option<u64>,
    pub(super) generation: u64,
    pub(super) client: bool,
    /// Random per process: by it a process knows that it dialled itself.
    pub(super) instance: u64,
    /// What the one that dialled wants; the other repeats it.
    pub(super) purpose: Purpose,
    /// The store that the one that dialled expects.
    #[serde(default)]
    pub(super) expects: Option<u64>,
}

/// Why two processes must not go on, and whether that may change by itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Refusal {
    pub(super) lasting: bool,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn lasting(reason: String) -> Self {
        Self {
            lasting: true,
            reason,
        }
    }

    pub(super) fn passing(reason: String) -> Self {
        Self {
            lasting: false,
            reason,
        }
    }
}

impl Hello {
    /// What this process says.
    pub(super) fn of(
        local: &LocalHello,
        client: bool,
        instance: u64,
        purpose: Purpose,
        expects: Option<u64>,
    ) -> Self {
        Self {
            lowest: PROTOCOLS.0,
            highest: PROTOCOLS.1,
            cluster: local
                .cluster
                .map(|id| serde_bytes::ByteArray::new(id.to_be_bytes())),
            name: local.name.clone(),
            store: local.store,
            generation: local.generation,
            client,
            instance,
            purpose,
            expects,
        }
    }

    pub(super) fn cluster(&self) -> Option<u128> {
        self.cluster
            .map(|bytes| u128::from_be_bytes(bytes.into_array()))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a hello is plain data")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        rmp_serde::from_slice(bytes)
            .map_err(|_| Refusal::lasting("the hello of the other end cannot be read".into()))
    }

    /// Whether `self`, ours, and `remote`, proven by a certificate with `facts`, may talk; gives the protocol version.
    /// Both sides ask, and the sentences read the same at both ends.
    pub(super) fn meet(&self, remote: &Self, facts: &Facts) -> Result<u16, Refusal> {
        let (ours, theirs) = (&self.name, &remote.name);
        if remote.instance == self.instance {
            return Err(Refusal::lasting(format!(
                "'{ours}' dialled itself: pass the address of another node"
            )));
        }
        if facts.name != remote.name {
            return Err(Refusal::lasting(format!(
                "'{theirs}' shows the certificate of '{}': start it with the certificate of '{theirs}'",
                facts.name
            )));
        }
        if facts.client && !remote.client {
            return Err(Refusal::lasting(format!(
                "'{theirs}' acts as a node with a client's certificate"
            )));
        }
        if remote.client && remote.store.is_some() {
            return Err(Refusal::lasting(format!(
                "'{theirs}' is a client that claims a store"
            )));
        }
        let (lowest, highest) = (
            self.lowest.max(remote.lowest),
            self.highest.min(remote.highest),
        );
        if lowest > highest {
            return Err(Refusal::lasting(format!(
                "'{ours}' speaks the protocols {} to {} and '{theirs}' {} to {}: run builds whose ranges overlap",
                self.lowest, self.highest, remote.lowest, remote.highest
            )));
        }
        match (self.cluster(), remote.cluster()) {
            (Some(a), Some(b)) if a != b => {
                return Err(Refusal::lasting(format!(
                    "'{ours}' is of cluster {a:032x} and '{theirs}' of cluster {b:032x}: use the addresses of one cluster"
                )));
            }
            (Some(_), Some(_)) => {}
            _ if self.client || remote.client || self.purpose == Purpose::Call => {}
            _ => {
                return Err(Refusal::passing(format!(
                    "'{ours}' and '{theirs}' are not of one cluster yet"
                )));
            }
        }
        if self.store.is_some() && self.store == remote.store {
            return Err(Refusal::lasting(format!(
                "'{ours}' and '{theirs}' both have store {}: one of the two directories is a copy",
                self.store.unwrap_or_default()
            )));
        }
        for (side, expected, name) in [
            (remote.store, self.expects, theirs),
            (self.store, remote.expects, ours),
        ] {
            if expected.is_some() && expected != side {
                return Err(Refusal::passing(format!(
                    "store {} was expected and '{name}' has {}",
                    expected.unwrap_or_default(),
                    side.map_or_else(|| "none".to_owned(), |store| format!("store {store}")),
                )));
            }
        }
        Ok(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::PublicKey;

    fn hello(name: &str, store: Option<u64>) -> Hello {
        let local = LocalHello {
            cluster: Some(7),
            name: name.into(),
            store,
            generation: 1,
        };
        let instance = name
            .bytes()
            .fold(0, |sum, byte| sum * 256 + u64::from(byte));
        Hello::of(&local, false, instance, Purpose::Main, None)
    }

    fn facts(name: &str, client: bool) -> Facts {
        Facts {
            name: name.into(),
            client,
            key: PublicKey::new([0; 32]),
        }
    }

    #[track_caller]
    fn refused(ours: &Hello, theirs: &Hello, facts: &Facts, lasting: bool, part: &str) {
        let refusal = ours.meet(theirs, facts).unwrap_err();
        assert!(refusal.reason.contains(part), "{refusal}");
        assert_eq!(refusal.lasting, lasting, "{refusal}");
    }

    #[test]
    fn nodes_of_one_cluster_speak_the_highest_common_protocol() {
        // DESIGN 14: a range is offered, the highest common spoken.
        let (mut ours, mut theirs) = (hello("n1", Some(1)), hello("n2", Some(2)));
        assert_eq!(ours.meet(&theirs, &facts("n2", false)), Ok(1));
        (ours.highest, theirs.lowest, theirs.highest) = (5, 3, 4);
        assert_eq!(ours.meet(&theirs, &facts("n2", false)), Ok(4));
        theirs.lowest = 6;
        theirs.highest = 9;
        refused(
            &ours,
            &theirs,
            &facts("n2", false),
            true,
            "protocols 1 to 5 and 'n2' 6 to 9",
        );
    }

    #[test]
    fn the_name_must_be_the_certificates() {
        // DESIGN 12: `<name>.node.synod` is checked against the hello.
        let (ours, theirs) = (hello("n1", Some(1)), hello("n2", Some(2)));
        refused(
            &ours,
            &theirs,
            &facts("n3", false),
            true,
            "shows the certificate of 'n3'",
        );
    }

    #[test]
    fn a_client_certificate_is_no_node_and_a_client_has_no_store() {
        // DESIGN 12: client certificates cannot be nodes.
        let (ours, mut theirs) = (hello("n1", Some(1)), hello("c", None));
        refused(
            &ours,
            &theirs,
            &facts("c", true),
            true,
            "client's certificate",
        );
        theirs.client = true;
        theirs.cluster = None; // it may learn the cluster here
        assert_eq!(ours.meet(&theirs, &facts("c", true)), Ok(1));
        theirs.store = Some(3);
        refused(&ours, &theirs, &facts("c", true), true, "claims a store");
    }

    #[test]
    fn clusters_do_not_mix_and_only_calls_and_clients_come_without_one() {
        // Section 8: nodes and clients pin the cluster id.
        let (mut ours, mut theirs) = (hello("n1", Some(1)), hello("n2", Some(2)));
        theirs.cluster = Some(serde_bytes::ByteArray::new(8_u128.to_be_bytes()));
        refused(
            &ours,
            &theirs,
            &facts("n2", false),
            true,
            "of cluster 00000000000000000000000000000007 and 'n2'",
        );
        theirs.cluster = None;
        refused(
            &ours,
            &theirs,
            &facts("n2", false),
            false,
            "not of one cluster yet",
        );
        ours.purpose = Purpose::Call;
        assert_eq!(ours.meet(&theirs, &facts("n2", false)), Ok(1));
    }

    #[test]
    fn copies_wrong_stores_and_oneself_are_refused() {
        // M20: a cloned disk; and a joiner that was given its own address.
        let (mut ours, theirs) = (hello("n1", Some(1)), hello("n2", Some(2)));
        refused(
            &ours,
            &hello("n2", Some(1)),
            &facts("n2", false),
            true,
            "is a copy",
        );
        refused(
            &ours,
            &ours.clone(),
            &facts("n1", false),
            true,
            "dialled itself",
        );
        ours.expects = Some(5);
        refused(
            &ours,
            &theirs,
            &facts("n2", false),
            false,
            "store 5 was expected and 'n2' has store 2",
        );
        refused(
            &theirs,
            &ours,
            &facts("n1", false),
            false,
            "store 5 was expected and 'n2' has store 2",
        );
    }

    #[test]
    fn the_hello_of_version_1_still_decodes() {
        // STYLE 11: proven by old bytes.
        let bytes = b"\x89\xa6lowest\x01\xa7highest\x01\xa7cluster\xc0\xa4name\xa2n1\xa5store\x03\
                      \xaageneration\x04\xa6client\xc2\xa8instance\x05\xa7purpose\xa4main";
        let hello = Hello::decode(bytes).unwrap();
        assert_eq!(
            (hello.store, hello.generation, hello.purpose, hello.expects),
            (Some(3), 4, Purpose::Main, None)
        );
        assert!(Hello::decode(b"GET / HTTP/1.1").is_err());
    }
}
