//! How connections end: the codes with which we close them, and a sentence for every way in which quinn says it.

use quinn::{Connection, ConnectionError, VarInt};

use super::hello::Refusal;

/// Why this side closes a connection. The numbers are on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(super) enum Closing {
    /// Nothing more to say: the process ends, the call is answered, the connection was idle.
    Done = 0,
    /// The hello was refused and will be again.
    RefusedLasting = 1,
    /// The hello was refused for now.
    RefusedPassing = 2,
    /// The other end broke the protocol.
    Protocol = 3,
    /// Another connection to the same process took over.
    Superseded = 4,
    /// A later start of the same store is connected.
    OlderStart = 5,
    /// The other end did not answer for too long.
    Silent = 6,
    /// Only gossip used it, and that seldom. The process lives on and takes the next one.
    Rest = 7,
}

impl Closing {
    /// Closes; `reason` is what the other end gets to read.
    pub(super) fn close(self, connection: &Connection, reason: &str) {
        connection.close(VarInt::from_u32(self as u32), reason.as_bytes());
    }
}

/// Whether the other end said that it goes, so that dialling it again at once is useless.
pub(super) fn was_farewell(error: &ConnectionError) -> bool {
    is(error, Closing::Done) || was_rest(error)
}

/// Whether the other end closed it because only gossip used it: that says nothing of its process.
pub(super) fn was_rest(error: &ConnectionError) -> bool {
    is(error, Closing::Rest)
}

fn is(error: &ConnectionError, closing: Closing) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(closing as u32))
}

/// What to tell of a connection that ended or never came to be.
pub(super) fn explain(error: &ConnectionError) -> Refusal {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            match u64::from(close.error_code) {
                code if code == Closing::RefusedLasting as u64 => Refusal::lasting(reason),
                _ if reason.is_empty() => {
                    Refusal::passing("the other end closed the connection".to_owned())
                }
                _ => Refusal::passing(reason),
            }
        }
        // Raised here while verifying the other's certificate.
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            Some(alert) => tls(
                alert,
                "the other end's certificate",
                "this process's CA",
                &error.reason,
            ),
            None => Refusal::passing(format!("the QUIC connection failed: {error}")),
        },
        // Raised there while verifying ours.
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(alert) => tls(
                alert,
                "this process's certificate",
                "the other end's CA",
                &String::from_utf8_lossy(&close.reason),
            ),
            None => Refusal::passing(format!("the other end closed the QUIC connection: {close}")),
        },
        ConnectionError::TimedOut => Refusal::passing("nothing came from there".to_owned()),
        ConnectionError::Reset => {
            Refusal::passing("the process there has been started anew".to_owned())
        }
        ConnectionError::LocallyClosed => {
            Refusal::passing("this process closed the connection".to_owned())
        }
        ConnectionError::VersionMismatch => {
            Refusal::lasting("no common version of QUIC".to_owned())
        }
        ConnectionError::CidsExhausted => Refusal::passing("out of connection ids".to_owned()),
    }
}

/// The TLS alert in a QUIC error code (RFC 9001, 4.8).
fn alert(code: u64) -> Option<u8> {
    u8::try_from(code.checked_sub(0x100)?).ok()
}

fn tls(alert: u8, certificate: &str, ca: &str, detail: &str) -> Refusal {
    Refusal::lasting(match alert {
        // Unknown CA; a CA of the same name with another key.
        48 | 51 => format!("{certificate} is not signed by {ca}: use certificates of one CA"),
        45 => format!("{certificate} has expired"),
        116 => format!("{certificate} is missing"),
        120 => "the other end speaks QUIC but is no synod process".to_owned(),
        _ => format!("{certificate} is not accepted by {ca} ({detail})"),
    })
}
