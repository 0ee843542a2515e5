//! How client commands reach a cluster, and how they end in one sentence.

use std::error::Error;
use std::time::Duration;

use synod::Client;
use synod::node::NodeStatus;

use crate::options::{CertificateOptions, ClusterOptions};

/// Connects as the options say.
pub(crate) async fn connect(options: &ClusterOptions) -> Result<Client, Box<dyn Error>> {
    let builder = Client::builder().patience(patience(options));
    let builder = match files(&options.certificates) {
        Some((ca, certificate, key)) => builder.certificates(ca, certificate, key),
        None => {
            // Opening a CA would make one; here it can only be the wrong one.
            if !options.certs.join("ca.crt").exists() {
                return Err(format!(
                    "there is no development CA in `{}`: pass the parent directory of the stores (--certs DIR), or --ca, --cert and --key",
                    options.certs.display()
                )
                .into());
            }
            builder.development(&options.certs)
        }
    };
    Ok(builder.connect(options.at.iter().cloned()).await?)
}

/// The status of the first of these nodes that answers.
pub(crate) async fn any_status(
    client: &Client,
    addresses: &[String],
) -> Result<NodeStatus, Box<dyn Error>> {
    let mut last = Err("no address was given".into());
    for address in addresses {
        last = client.status(address).await.map_err(Box::<dyn Error>::from);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// How long the user waits.
pub(crate) fn patience(options: &ClusterOptions) -> Duration {
    Duration::from_secs(options.patience)
}

/// The three files, when they are given; clap has seen to it that it is all or none.
pub(crate) fn files(
    options: &CertificateOptions,
) -> Option<(&std::path::Path, &std::path::Path, &std::path::Path)> {
    Some((
        options.ca.as_deref()?,
        options.cert.as_deref()?,
        options.key_file.as_deref()?,
    ))
}
