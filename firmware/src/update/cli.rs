//! `hoi-device update`: makes updates and installs them.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::disk::failed;
use super::{Accept, Store, UpdateError, check_health, pack, read_key, refusal};
use crate::device::describe;

/// Where a board keeps its bundles.
pub const DEFAULT_STORE: &str = "/var/lib/hoi-device/bundles";

/// Arguments of `hoi-device update`.
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Make an update of a bundle; sign it with `minisign -Sm OUT`
    Pack {
        /// Bundle folder, or `builtin:nano`
        #[arg(value_name = "BUNDLE")]
        bundle: PathBuf,
        /// File to write, such as nano-7.hoi
        #[arg(value_name = "OUT")]
        out: PathBuf,
        /// Number of the version; a later one has a larger number
        #[arg(long, value_name = "N")]
        version: u64,
        /// Name of the bundle [default: that in its manifest]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Check a signed update, try it and make it the bundle of the next start
    Install {
        /// The update; its signature is FILE.minisig
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Public key that the update may be signed with (minisign.pub); may be given more than once
        #[arg(long, value_name = "FILE", required = true)]
        key: Vec<PathBuf>,
        /// Install a version that is not newer, or was taken back before
        #[arg(long)]
        allow_older: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Say what is installed
    Status {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Go back to the bundle before
    RollBack {
        /// Why, for the log
        #[arg(long, value_name = "TEXT", default_value = "a person asked for it")]
        why: String,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Args, Clone, Debug)]
struct StoreArgs {
    /// Folder of the installed bundles
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    store: PathBuf,
    /// Answer as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `hoi-device update`. Status 0: done; 1: refused or failed, said on standard error; 2: the command line is wrong.
pub fn run(args: &UpdateArgs) -> ExitCode {
    match answer(&args.command) {
        Ok(text) => match writeln!(io::stdout(), "{text}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprintln!("hoi-device: standard output: {error}");
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            eprintln!("hoi-device: {}", describe(&error));
            ExitCode::from(if matches!(error, UpdateError::Name { .. }) { 2 } else { 1 })
        }
    }
}

fn answer(command: &Command) -> Result<String, UpdateError> {
    match command {
        Command::Pack { bundle, out, version, name } => {
            let name = match name {
                Some(name) => name.clone(),
                None => hoi_runtime::bundle::ModelBundle::load(bundle)?.manifest().name.clone(),
            };
            pack(bundle, &name, *version, out)?;
            Ok(format!("{}: {name} {version}; sign it with `minisign -Sm {0}`", out.display()))
        }
        Command::Install { file, key, allow_older, store } => {
            let keys = key.iter().map(|key| read_key(key)).collect::<Result<Vec<_>, _>>()?;
            let accept = if *allow_older { Accept::AnyVersion } else { Accept::Newer };
            let installed = Store::open(&store.store)?.install(file, &keys, accept, &mut check_health);
            if let Err(error) = &installed {
                let why = format!("update {} is refused: {}", file.display(), describe(error));
                // Where that cannot be written either, it is said here alone.
                let _ = refusal::leave(&store.store, &why);
            }
            let installed = installed?;
            Ok(store.say(&installed, || format!("{installed} is installed; it runs, on trial, from the next start on")))
        }
        Command::Status { store } => {
            let status = store.open()?.status()?;
            Ok(store.say(&status, || status.to_string()))
        }
        Command::RollBack { why, store } => {
            let mut open = store.open()?;
            open.roll_back(why)?;
            let status = open.status()?;
            Ok(store.say(&status, || status.to_string()))
        }
    }
}

impl StoreArgs {
    /// The store that is there; only installing makes one.
    fn open(&self) -> Result<Store, UpdateError> {
        fs::metadata(&self.store).map_err(failed("read", &self.store))?;
        Store::open(&self.store)
    }

    fn say(&self, record: &impl Serialize, words: impl FnOnce() -> String) -> String {
        // These records are written as JSON without fail; their words are the next best.
        if self.json
            && let Ok(json) = serde_json::to_string(record)
        {
            json
        } else {
            words()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: UpdateArgs,
    }

    fn said(args: &[&str]) -> Result<String, UpdateError> {
        let line = Line::try_parse_from(["update"].iter().chain(args)).unwrap();
        answer(&line.update.command)
    }

    #[test]
    fn a_bundle_is_packed_signed_installed_looked_at_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (update, key, store) = (path("nano-7.hoi"), path("minisign.pub"), path("store"));
        let packed = said(&["pack", "builtin:nano", &update, "--version", "7"]).unwrap();
        assert!(packed.contains("nano 7; sign it"), "{packed}");
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        fs::write(&key, pair.pk.to_box().unwrap().to_string()).unwrap();
        let signature = minisign::sign(None, &pair.sk, fs::File::open(&update).unwrap(), None, None).unwrap();
        fs::write(path("nano-7.hoi.minisig"), signature.to_string()).unwrap();

        assert!(matches!(said(&["status", "--store", &store]), Err(UpdateError::Io { what: "read", .. })));
        // This runs the bundle, as on a board.
        let installed = said(&["install", &update, "--key", &key, "--store", &store, "--json"]).unwrap();
        assert_eq!(installed, r#"{"name":"nano","version":7,"folder":"nano-7"}"#);
        let status = said(&["status", "--store", &store]).unwrap();
        assert_eq!(status, "current: nano 7, on trial, started 0 times\nprevious: none");
        let again = said(&["install", &update, "--key", &key, "--store", &store]).unwrap_err();
        assert!(again.to_string().contains("not newer"), "{again}");
        let status = said(&["roll-back", "--store", &store, "--json", "--why", "it was dull"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(
            (&status["current"], &status["rolled_back"]["why"]),
            (&serde_json::Value::Null, &"it was dull".into())
        );
        assert!(matches!(said(&["roll-back", "--store", &store]), Err(UpdateError::NothingInstalled { .. })));
        let error = said(&["pack", "builtin:nano", &update, "--version", "8", "--name", "My Bundle"]).unwrap_err();
        assert!(matches!(error, UpdateError::Name { .. }), "{error}");
        assert!(Line::try_parse_from(["update", "install", &update]).is_err(), "an update without a key to check it");
    }
}
