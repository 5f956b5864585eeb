//! What a newcomer needs to try the demo: credentials that belong to this data folder alone, `demo.env` with them, and
//! the lines printed at the start.

use std::{fs, io::Write as _, net::SocketAddr, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use principal::RootSecret;

/// The demo's log-ins. They derive from the root secret, so that they stay the same in one data folder and differ in
/// every other.
pub struct Credentials {
    pub api_key_secret: String,
    pub email: &'static str,
    pub password: String,
    pub operator_email: &'static str,
    pub operator_password: String,
}

impl Credentials {
    /// The customer's log-in.
    pub fn customer(&self) -> customer::Credentials {
        customer::Credentials { email: self.email.to_owned(), password: self.password.clone().into() }
    }

    /// The operator's log-in.
    pub fn operator(&self) -> customer::Credentials {
        let (email, password) = (self.operator_email.to_owned(), self.operator_password.clone().into());
        customer::Credentials { email, password }
    }

    pub fn derive(root: &RootSecret) -> Self {
        let text = |label: &str, bytes: usize| URL_SAFE_NO_PAD.encode(&root.derive(label)[..bytes]);
        Self {
            api_key_secret: text("demo api key", 24).replace(['-', '_'], "x"),
            email: "demo@turnpike.example",
            password: text("demo password", 12),
            operator_email: "operator@turnpike.example",
            operator_password: text("demo operator password", 12),
        }
    }
}

/// Where the demo in a data folder is operated, as its `demo.env` says.
///
/// # Errors
/// If there is none.
pub fn ops_url(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("demo.env");
    let text = fs::read_to_string(&path).with_context(|| {
        format!("say --config FILE or --url URL, or start `turnpike up` ({} can't be read)", path.display())
    })?;
    let url = text.lines().find_map(|line| line.strip_prefix("DEMO_OPS_URL="));
    url.map(str::to_owned).with_context(|| format!("no DEMO_OPS_URL in {}", path.display()))
}

/// Writes `demo.env` for scripts to source: readable by its owner alone, replaced whole.
pub fn write_env(
    folder: &Path,
    gateway: SocketAddr,
    ops: SocketAddr,
    api_key: &str,
    credentials: &Credentials,
) -> anyhow::Result<()> {
    let path = folder.join("demo.env");
    let text = format!(
        "DEMO_URL=http://{gateway}\nDEMO_OPS_URL=http://{ops}\nDEMO_API_KEY={api_key}\nDEMO_EMAIL={}\nDEMO_PASSWORD={}\n\
         DEMO_OPERATOR_EMAIL={}\nDEMO_OPERATOR_PASSWORD={}\n",
        credentials.email, credentials.password, credentials.operator_email, credentials.operator_password,
    );
    let temporary = folder.join(".demo.env");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("{} can't be written", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| fs::rename(&temporary, &path))
        .with_context(|| format!("{} can't be written", path.display()))
}

/// What is printed once everything serves.
pub fn banner(folder: &Path, gateway: SocketAddr, ops: SocketAddr, credentials: &Credentials) -> String {
    let env = folder.join("demo.env");
    format!(
        r#"
  Turnpike is up.
    gateway   http://{gateway}
    dashboard http://{gateway}/dashboard      sign in as the operator
    ops       http://{ops}      /readyz /metrics /routes /upstreams /roles
    log-ins   {email} / {password}
              {operator_email} / {operator_password}

  Try, in another terminal:
    source {env}
    curl $DEMO_URL/products
    curl $DEMO_URL/products/teapot
    curl -H "X-Api-Key: $DEMO_API_KEY" -d '{{"productId":"teapot","quantity":2}}' -H 'Content-Type: application/json' $DEMO_URL/cart/add
    curl -H "X-Api-Key: $DEMO_API_KEY" -H 'Prefer: wait=5' -H 'Idempotency-Key: first' -X POST $DEMO_URL/order/place
    curl -H "X-Api-Key: $DEMO_API_KEY" $DEMO_URL/orders
    curl -X POST $DEMO_OPS_URL/roles/review/stop     # then ask for the teapot again

  Ctrl-C stops it.
"#,
        email = credentials.email,
        password = credentials.password,
        operator_email = credentials.operator_email,
        operator_password = credentials.operator_password,
        env = env.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_in_a_folder_and_differ_between_folders() {
        let (here, there) = (RootSecret::generate(), RootSecret::generate());
        assert_eq!(Credentials::derive(&here).password, Credentials::derive(&here).password);
        assert_ne!(Credentials::derive(&here).password, Credentials::derive(&there).password);
        assert_ne!(Credentials::derive(&here).api_key_secret, Credentials::derive(&there).api_key_secret);
    }
}
