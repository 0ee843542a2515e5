//! What an operator asks of a cluster: to drain a member, and to take it out.

use super::{CALL_PATIENCE, Client, ConnectError};
use crate::node::{Answer, Call, Wish};

/// Why an operator's wish was not confirmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// It did not happen, and will not until something else is done first.
    #[error("{reason}")]
    Refused {
        /// One sentence.
        reason: String,
    },
    /// It may have happened. Wish again: twice is as good as once.
    #[error("not confirmed ({reason}): give the command again, it does no harm twice")]
    Unconfirmed {
        /// One sentence.
        reason: String,
    },
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Client {
    /// Asks that the member named `node` gives up what it holds, or, with `on` false, that it takes replicas again. `address` is
    /// any node's (`host:port`). Returns when the wish is in the system group's log; [`Client::status`] shows how far it is.
    pub async fn drain(&self, address: &str, node: &str, on: bool) -> Result<(), WishError> {
        let node = node.to_owned();
        self.wish(address, Wish::Drain { node, on }).await
    }

    /// Takes the member named `node` out of the cluster, for ever. It must be drained and hold no shard any more.
    pub async fn remove(&self, address: &str, node: &str) -> Result<(), WishError> {
        let node = node.to_owned();
        self.wish(address, Wish::Remove { node }).await
    }

    async fn wish(&self, address: &str, wish: Wish) -> Result<(), WishError> {
        let call = Call::Operate { wish, hops: 0 };
        match self.courier.call(address, &call, CALL_PATIENCE).await? {
            Answer::Done => Ok(()),
            Answer::Refused { reason } => Err(WishError::Refused { reason }),
            Answer::NotNow { reason } => Err(WishError::Unconfirmed { reason }),
            answer => Err(ConnectError::unexpected(address, &answer).into()),
        }
    }
}
