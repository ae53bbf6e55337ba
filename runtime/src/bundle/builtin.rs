//! The default bundle, compiled in, so that the commands work from any directory without a download.

/// Shown in place of a folder.
pub(super) const ORIGIN: &str = "builtin:nano";

/// `models/nano/manifest.json`.
pub(super) const MANIFEST_JSON: &[u8] = include_bytes!("../../../models/nano/manifest.json");

/// The files that the manifest lists.
pub(super) const FILES: &[(&str, &[u8])] = &[
    ("detector.onnx", include_bytes!("../../../models/nano/detector.onnx")),
    ("interaction.onnx", include_bytes!("../../../models/nano/interaction.onnx")),
    ("NOTICE", include_bytes!("../../../models/nano/NOTICE")),
    ("LICENSE", include_bytes!("../../../models/nano/LICENSE")),
];
