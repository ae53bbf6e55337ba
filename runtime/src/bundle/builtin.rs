//! The bundles compiled in, so that the commands work from any directory without a download.

use std::path::{Path, PathBuf};

/// What stands before the name of one of them, in place of a folder.
const PREFIX: &str = "builtin:";

/// A bundle that is part of the program.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) manifest: &'static [u8],
    /// The files that the manifest lists.
    pub(super) files: &'static [(&'static str, &'static [u8])],
}

macro_rules! builtin {
    ($name:literal) => {
        Builtin {
            name: $name,
            manifest: include_bytes!(concat!("../../../models/", $name, "/manifest.json")),
            files: &[
                ("detector.onnx", include_bytes!(concat!("../../../models/", $name, "/detector.onnx"))),
                ("interaction.onnx", include_bytes!(concat!("../../../models/", $name, "/interaction.onnx"))),
                ("NOTICE", include_bytes!(concat!("../../../models/", $name, "/NOTICE"))),
                ("LICENSE", include_bytes!(concat!("../../../models/", $name, "/LICENSE"))),
            ],
        }
    };
}

/// In float: the same on every machine.
pub(super) static NANO: Builtin = builtin!("nano");

/// The same with its detector in integers.
pub(super) static NANO_INT8: Builtin = builtin!("nano-int8");

pub(super) fn all() -> [&'static Builtin; 2] {
    [&NANO, &NANO_INT8]
}

impl Builtin {
    /// Shown in place of a folder.
    pub(super) fn origin(&self) -> PathBuf {
        PathBuf::from(format!("{PREFIX}{}", self.name))
    }
}

/// The name after [`PREFIX`], if a path is one.
pub(super) fn name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PREFIX)
}

/// What is fastest with these integer kernels: the portable ones are slower than floats.
pub(super) fn fastest(kernels: &str) -> &'static Builtin {
    if kernels == "portable" { &NANO } else { &NANO_INT8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_where_the_cpu_helps() {
        assert_eq!(fastest("portable").name, "nano");
        for kernels in ["avx2", "avx512-vnni", "neon", "neon-dotprod"] {
            assert_eq!(fastest(kernels).name, "nano-int8");
        }
    }

    #[test]
    fn an_origin_is_a_name() {
        for builtin in all() {
            assert_eq!(name(&builtin.origin()), Some(builtin.name));
        }
        assert_eq!(name(Path::new("models/nano")), None);
        assert_eq!(name(Path::new("./builtin:nano")), None);
    }
}
