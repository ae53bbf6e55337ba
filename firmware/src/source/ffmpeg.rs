//! The parts of `ffmpeg`'s command lines. Every option is in ffmpeg 4.2 (JetPack 5) and later.

use std::ffi::OsString;

use hoi_runtime::source::ImageLimits;

/// No questions, no banner, only errors.
pub(super) fn quietly() -> Vec<OsString> {
    ["-nostdin", "-hide_banner", "-loglevel", "error"].map(OsString::from).into()
}

/// For what ffmpeg decodes itself: larger pictures are refused before they are decoded.
pub(super) fn bounded(limits: &ImageLimits) -> [OsString; 2] {
    let most = limits.pixels.min(i32::MAX as u64);
    ["-max_pixels".into(), most.to_string().into()]
}

/// The first video of the input as the JPEGs that it consists of, each written out at once.
pub(super) fn jpegs_as_they_are() -> Vec<OsString> {
    ["-map", "0:v:0", "-c:v", "copy", "-flush_packets", "1", "-f", "mjpeg", "pipe:1"].map(OsString::from).into()
}

/// The first video of the input, decoded, through `filters`: every frame once, each with its size.
pub(super) fn decoded(filters: &[String]) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["-map", "0:v:0"].map(OsString::from).into();
    if !filters.is_empty() {
        args.extend(["-vf".into(), filters.join(",").into()]);
    }
    let rest = ["-vsync", "passthrough", "-c:v", "ppm", "-flush_packets", "1", "-f", "image2pipe", "pipe:1"];
    args.extend(rest.map(OsString::from));
    args
}
