//! What the process is started with.

use crate::auth::AuthError;
use crate::rate::{Rate, Rates};
use clap::Parser;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Sync server of Landfall: API, live channel and web app in one process.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Demo logins, a secret made at first start, and test controls under /dev (loopback only)
    #[arg(long)]
    pub dev: bool,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Directory of the database
    #[arg(long, default_value = ".landfall")]
    pub data: PathBuf,
    /// Directory of the web app
    #[arg(long)]
    pub www: Option<PathBuf>,
    /// Declaration of the collections
    #[arg(long, default_value = "www/collections.json")]
    pub collections: PathBuf,
    /// Life of an access token
    #[arg(long, env = "LANDFALL_ACCESS_TTL_SECONDS", default_value_t = 300)]
    pub access_ttl_seconds: u64,
    /// How long an expired token is still taken, for clocks that differ
    #[arg(long, env = "LANDFALL_LEEWAY_SECONDS", default_value_t = 60)]
    pub leeway_seconds: u64,
    /// File with the secret of the tokens: at least 32 bytes, trailing line end ignored
    #[arg(long)]
    pub jwt_secret_file: Option<PathBuf>,
    /// The secret itself; prefer the file
    #[arg(long, env = "LANDFALL_JWT_SECRET", hide_env_values = true, hide = true)]
    pub jwt_secret: Option<String>,
    /// The database was restored from a backup: start a new epoch
    #[arg(long)]
    pub restored: bool,
    /// Pushes of a user: REQUESTS/SECONDS, or off [default: 1200/60; off with --dev]
    #[arg(long, env = "LANDFALL_PUSH_RATE")]
    pub push_rate: Option<Rate>,
    /// Pulls and status requests of a user [default: 1200/60; off with --dev]
    #[arg(long, env = "LANDFALL_POLL_RATE")]
    pub poll_rate: Option<Rate>,
    /// Requests of a user to /api/attendance
    #[arg(long, env = "LANDFALL_ATTENDANCE_RATE", default_value = "20/300")]
    pub attendance_rate: Rate,
    /// Requests of a user to /api/desktop
    #[arg(long, env = "LANDFALL_GRADES_RATE", default_value = "120/60")]
    pub grades_rate: Rate,
    /// Requests of a user to /api/v1
    #[arg(long, env = "LANDFALL_INSIGHT_RATE", default_value = "120/60")]
    pub insight_rate: Rate,
    /// Who shows it as bearer token may read /metrics; without one, this machine may
    #[arg(long, env = "LANDFALL_METRICS_TOKEN", hide_env_values = true)]
    pub metrics_token: Option<String>,
    /// Logs as JSON lines
    #[arg(long)]
    pub log_json: bool,
}

impl Config {
    /// The secret that was given, or in `--dev` the one kept in the data directory.
    pub fn secret(&self) -> Result<Vec<u8>, ConfigError> {
        if let Some(file) = &self.jwt_secret_file {
            return read_secret(file);
        }
        if let Some(secret) = &self.jwt_secret {
            return Ok(secret.clone().into_bytes());
        }
        if !self.dev {
            return Err(ConfigError::NoSecret);
        }
        let file = self.data.join("dev-secret");
        if !file.exists() {
            write_secret(&file)?;
        }
        read_secret(&file)
    }

    /// The limits that were given. A native client is bounded to what no app comes near; load tests run with `--dev`.
    pub fn rates(&self) -> Rates {
        let native = if self.dev { Rate::Off } else { Rate::of(1200, 60) };
        Rates {
            push: self.push_rate.unwrap_or(native),
            poll: self.poll_rate.unwrap_or(native),
            attendance: self.attendance_rate,
            grades: self.grades_rate,
            insight: self.insight_rate,
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("a secret is needed: --jwt-secret-file, LANDFALL_JWT_SECRET, or --dev to try things out")]
    NoSecret,
    #[error("{file}: {error}")]
    File { file: String, error: std::io::Error },
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Collections(#[from] crate::collections::CollectionsError),
    #[error("database: {0}")]
    Store(#[from] crate::store::StoreError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
}

impl ConfigError {
    pub(crate) fn file(file: &Path, error: std::io::Error) -> Self {
        Self::File { file: file.display().to_string(), error }
    }
}

fn read_secret(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = std::fs::read(file).map_err(|error| ConfigError::file(file, error))?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

/// Hex, so that the file can be looked at; for the owner's eyes only.
fn write_secret(file: &Path) -> Result<(), ConfigError> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(ConfigError::Random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(file).and_then(|mut handle| {
        handle.write_all(text.as_bytes())?;
        handle.sync_all()
    });
    written.map_err(|error| ConfigError::file(file, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_dev_a_secret_is_needed_and_with_it_the_same_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().to_str().unwrap();
        let plain = Config::parse_from(["landfall-server", "--data", data]);
        assert!(matches!(plain.secret(), Err(ConfigError::NoSecret)));
        let dev = Config::parse_from(["landfall-server", "--dev", "--data", data]);
        let first = dev.secret().unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(dev.secret().unwrap(), first);
    }
}
