//! `synod certs`: the development CA of a directory, and certificates from it.

use std::error::Error;

use synod::transport::DevelopmentCa;

use crate::options::CertsOptions;

pub(crate) fn run(options: CertsOptions) -> Result<(), Box<dyn Error>> {
    let names = options
        .node
        .iter()
        .map(|name| (name, false))
        .chain(options.client.iter().map(|name| (name, true)));
    // A node is known by its key, so one that exists is never replaced; and all is checked before anything is made.
    for (name, _) in names.clone() {
        DevelopmentCa::check_name(name)?;
        let key = options.dir.join(format!("{name}.key"));
        if key.exists() {
            return Err(format!(
                "{} exists: remove it first if a new certificate is wanted",
                key.display()
            )
            .into());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some((twice, _)) = names.clone().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(
            format!("`{twice}` is named twice: nodes and clients have different names").into(),
        );
    }
    let ca = DevelopmentCa::open(&options.dir)?;
    let issued = names
        .map(|(name, client)| {
            Ok((
                name,
                if client {
                    ca.issue_client(name)?
                } else {
                    ca.issue_node(name)?
                },
            ))
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    println!("{}", ca.certificate_path().display());
    for (name, issued) in issued {
        let (certificate, key) = issued.write(&options.dir, name)?;
        println!("{}\n{}", certificate.display(), key.display());
    }
    Ok(())
}
