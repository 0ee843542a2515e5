//! What an operator asks of a cluster: to drain a member, to take it out, to move a copy of a shard, to plan anew; and what each node
//! hosts.

use super::{CALL_PATIENCE, Client, ConnectError};
use synod_consensus::GroupId;

use crate::node::{Answer, Call, HostedShards, PlannedMove, Wish};

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

    /// Moves the copy of shard number `shard` from the member named `from` to the one named `to`. Returns when that is in the system
    /// group's log, with every change that it means: where it gives a node more or less than its share, another shard goes the other
    /// way. [`Client::shards`] shows how far it is.
    pub async fn move_shard(
        &self,
        address: &str,
        shard: u32,
        from: &str,
        to: &str,
    ) -> Result<Vec<PlannedMove>, WishError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let moves = self.wished(address, Wish::Move { shard, from, to }).await?;
        moves.ok_or_else(|| ConnectError::unexpected(address, &Answer::Done).into())
    }

    /// Plans now, and returns every change. In a cluster at rest there is none, for the system leader plans whenever members change;
    /// `afresh` plans as if nothing lay anywhere yet, which gives up moves by hand and what is left of history, and may move much.
    /// `dry_run` only says what would change.
    pub async fn rebalance(
        &self,
        address: &str,
        afresh: bool,
        dry_run: bool,
    ) -> Result<Vec<PlannedMove>, WishError> {
        let moves = self
            .wished(address, Wish::Rebalance { afresh, dry_run })
            .await?;
        moves.ok_or_else(|| ConnectError::unexpected(address, &Answer::Done).into())
    }

    /// What the node at `address` (`host:port`) hosts, replica by replica. Only the leader of the system group knows of moves.
    pub async fn shards(&self, address: &str) -> Result<HostedShards, ConnectError> {
        let mut all: Option<HostedShards> = None;
        let mut from = GroupId::ZERO;
        loop {
            let call = Call::Shards { from };
            let answer = self.courier.call(address, &call, CALL_PATIENCE).await?;
            let Answer::Shards(part) = answer else {
                return Err(ConnectError::unexpected(address, &answer));
            };
            let next = part.next.map(GroupId::new);
            match &mut all {
                None => all = Some(*part),
                Some(all) => {
                    all.replicas.extend(part.replicas);
                    all.stuck.extend(part.stuck);
                }
            }
            match next {
                Some(next) if next > from => from = next,
                _ => break,
            }
        }
        let mut all = all.expect("at least one answer came");
        all.next = None;
        Ok(all)
    }

    async fn wish(&self, address: &str, wish: Wish) -> Result<(), WishError> {
        self.wished(address, wish).await.map(|_| ())
    }

    /// What it means for the placement, if that was told.
    async fn wished(
        &self,
        address: &str,
        wish: Wish,
    ) -> Result<Option<Vec<PlannedMove>>, WishError> {
        let call = Call::Operate { wish, hops: 0 };
        match self.courier.call(address, &call, CALL_PATIENCE).await? {
            Answer::Done => Ok(None),
            Answer::Placed { moves } => Ok(Some(moves)),
            Answer::Refused { reason } => Err(WishError::Refused { reason }),
            Answer::NotNow { reason } => Err(WishError::Unconfirmed { reason }),
            answer => Err(ConnectError::unexpected(address, &answer).into()),
        }
    }
}
