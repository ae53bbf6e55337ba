//! Frames of a video as calibration images, read by `ffmpeg`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hoi_runtime::source::list_pictures;
use tempfile::TempDir;

use super::CalibrateError;

/// Endings of files that are taken for videos.
const ENDINGS: [&str; 6] = ["mp4", "avi", "mkv", "mov", "webm", "mjpeg"];

/// Whether a path names a video: a file with a video's ending.
pub fn is_video(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) && !path.is_dir()
}

/// Frames of a video as picture files, for as long as this lives.
#[derive(Debug)]
pub struct VideoFrames {
    /// Holds the files.
    _folder: TempDir,
    files: Vec<PathBuf>,
}

impl VideoFrames {
    /// At most `count` frames (at least 1), evenly spread over the video, as JPEG of ffmpeg's best quality but one.
    ///
    /// # Errors
    /// [`CalibrateError::Video`] when `ffmpeg` or `ffprobe` is missing, the video cannot be read, or it holds no frame.
    pub fn of(video: &Path, count: usize) -> Result<Self, CalibrateError> {
        let failed = |reason: String| CalibrateError::Video { video: video.to_owned(), reason };
        if !video.is_file() {
            return Err(failed("no such file".to_owned()));
        }
        let probe = ["-v", "error", "-select_streams", "v:0", "-count_packets", "-show_entries"].map(OsStr::new);
        let shown = ["stream=nb_read_packets", "-of", "csv=p=0"].map(OsStr::new);
        let output = run("ffprobe", probe.into_iter().chain(shown).chain([video.as_os_str()])).map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let frames = text.trim().trim_end_matches(',').parse::<usize>().ok().filter(|&frames| frames > 0);
        let frames = frames.ok_or_else(|| failed("there is no video in it".to_owned()))?;
        let count = count.max(1);
        let step = (frames / count).max(1);

        let folder = tempfile::tempdir().map_err(|error| failed(format!("no folder for its frames: {error}")))?;
        let stem = video.file_stem().unwrap_or(OsStr::new("video")).to_string_lossy().replace('%', "_");
        let pattern = folder.path().join(format!("{stem}-%06d.jpg"));
        let (select, most) = (format!("select=not(mod(n\\,{step}))"), count.to_string());
        let before = ["-v", "error", "-nostdin", "-i"].map(OsStr::new);
        let after = ["-an", "-vf", &select, "-vsync", "vfr", "-frames:v", &most, "-q:v", "2"].map(OsStr::new);
        let arguments = before.into_iter().chain([video.as_os_str()]).chain(after).chain([pattern.as_os_str()]);
        run("ffmpeg", arguments).map_err(failed)?;
        let files = list_pictures(folder.path()).map_err(|source| CalibrateError::Folder { source })?;
        if files.is_empty() {
            return Err(failed("no frame of it can be decoded".to_owned()));
        }
        Ok(Self { _folder: folder, files })
    }

    /// The frames in the video's order, named after it: `kitchen-000001.jpg`.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// Runs a program to its end; what it says where it fails is the error.
fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a OsStr>) -> Result<Output, String> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{program} is needed to read videos (Debian: apt-get install ffmpeg)"),
            _ => format!("{program}: {error}"),
        })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed without a word");
    Err(format!("{program}: {}", last.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A video of 50 frames whose brightness grows, 64x48.
    fn video(folder: &Path) -> PathBuf {
        let path = folder.join("growing 50%.mp4");
        let source = "color=c=black:s=64x48:r=25:d=2,geq=lum=N*5:cb=128:cr=128";
        let arguments = ["-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"].map(OsStr::new);
        run("ffmpeg", arguments.into_iter().chain([path.as_os_str()])).unwrap();
        path
    }

    fn brightness(path: &Path) -> f64 {
        let picture = image::open(path).unwrap().to_luma8();
        assert_eq!(picture.dimensions(), (64, 48));
        picture.pixels().map(|p| f64::from(p.0[0])).sum::<f64>() / (64.0 * 48.0)
    }

    #[test]
    fn frames_are_spread_evenly_over_the_video() {
        let folder = tempfile::tempdir().unwrap();
        let path = video(folder.path());
        assert!(is_video(&path) && !is_video(folder.path()));
        let frames = VideoFrames::of(&path, 5).unwrap();
        let seen: Vec<f64> = frames.files().iter().map(|file| brightness(file)).collect();
        assert_eq!(seen.len(), 5);
        for pair in seen.windows(2) {
            // Ten frames of 5 each, in the 219 steps that a video has for 256.
            assert!((40.0..70.0).contains(&(pair[1] - pair[0])), "{seen:?}");
        }
        assert_eq!(VideoFrames::of(&path, 1000).unwrap().files().len(), 50);
        let kept = frames.files()[0].clone();
        drop(frames);
        assert!(!kept.exists());
    }

    #[test]
    fn what_is_no_video_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.mp4");
        let said = |path: &Path| VideoFrames::of(path, 5).unwrap_err().to_string();
        assert!(said(&path).contains("no such file"));
        std::fs::write(&path, "no video").unwrap();
        assert!(said(&path).contains("notes.mp4") && said(&path).contains("ffprobe"), "{}", said(&path));
    }
}
