//! Bundles that arrive as signed files: checked, tried, and taken back when they do not run. Power may go at any moment.
//!
//! An update is one file that [`pack`] makes, `nano-7.hoi`, with the signature of `minisign -Sm nano-7.hoi` beside it,
//! `nano-7.hoi.minisig`. A [`Store`] is a folder that holds installed bundles and says which one runs; `docs/update.md` describes both.
//!
//! ```no_run
//! # use std::path::Path;
//! # use hoi_firmware::update::{Accept, Store, check_health, read_key};
//! let key = read_key(Path::new("/etc/hoi-device/update.pub"))?;
//! let mut store = Store::open(Path::new("/var/lib/hoi-device/bundles"))?;
//! store.install(Path::new("nano-7.hoi"), &[key], Accept::Newer, &mut check_health)?;
//! // At the next start, and after some good frames:
//! let bundle = store.start()?.map(|started| started.bundle);
//! store.confirm()?;
//! # Ok::<(), hoi_firmware::update::UpdateError>(())
//! ```
//!
//! # What holds at every moment
//! `state.json` is replaced by renaming and names only bundles that are complete, on the disk and were run once. A bundle is unpacked
//! into a folder of its own, which nothing names before it is whole, and removed only after nothing names it any more.

mod archive;
mod cli;
mod disk;
mod error;
mod health;
mod refusal;
mod signature;
mod state;
mod store;

pub use archive::{BYTES_LIMIT, Description, FILES_LIMIT, UPDATE_SCHEMA, pack};
pub use cli::{DEFAULT_STORE, UpdateArgs, run};
pub use error::UpdateError;
pub use health::check_health;
pub use minisign_verify::PublicKey;
pub use refusal::Refusals;
pub use signature::read_key;
pub use state::{Installed, RolledBack, STORE_SCHEMA, StoreStatus};
pub use store::{Accept, Started, Store, TRIES};
