//! Cameras on the network, read by `ffmpeg`: `rtsp://` of any kind, `http://` and `https://` with MJPEG.
//!
//! The `?` of a URI belongs to the camera; options of ours follow `#`.

use std::ffi::OsString;

use super::address::{Options, has_broken_password, without_credentials};
use super::child::{ChildStream, LeftBehind};
use super::live::Camera;
use super::program::{CommandLine, FFMPEG, require};
use super::stream::{Format, Stream};
use super::{OpenError, SourceSettings, ffmpeg};

/// A camera on the network.
pub(super) struct Network {
    /// With user and password; never shown.
    address: String,
    way: Way,
    settings: SourceSettings,
    left: LeftBehind,
}

enum Way {
    Rtsp { transport: &'static str, filters: Vec<String> },
    Http,
}

impl Network {
    /// `scheme` is `rtsp`, `http` or `https`.
    pub(super) fn parse(uri: &str, scheme: &str, settings: &SourceSettings) -> Result<Self, OpenError> {
        if uri.split_once("://").is_some_and(|(_, rest)| has_broken_password(rest)) {
            let needed = "`%2F`, `%3F` and `%23` for `/`, `?` and `#` in user and password, and `%40` for a `@` behind the host,";
            return Err(OpenError::Address { uri: format!("{scheme}://..."), needed: needed.to_owned() });
        }
        let (address, options) = uri.split_once('#').unwrap_or((uri, ""));
        let shown = without_credentials(address);
        let rest = shown.split_once("://").map_or("", |(_, rest)| rest);
        if rest.is_empty() || rest.starts_with(['/', ':', '?']) || address.contains(char::is_whitespace) {
            let needed = format!("the camera's address, as in {scheme}://192.168.1.20/stream,");
            return Err(OpenError::Address { uri: shown, needed });
        }
        let way = if scheme == "rtsp" {
            let options = Options::parse(uri, options, &["transport", "size", "rate"])?;
            let rate = options.rate()?.map(|rate| format!("fps={rate}"));
            let size = options.size("size", settings.limits.pixels)?;
            let scale = size.map(|size| format!("scale={}:{}", size.width, size.height));
            let transport = options.one_of("transport", &["tcp", "udp"])?.unwrap_or("tcp");
            Way::Rtsp { transport, filters: rate.into_iter().chain(scale).collect() }
        } else {
            Options::parse(uri, options, &[])?;
            Way::Http
        };
        Ok(Self { address: address.to_owned(), way, settings: settings.clone(), left: LeftBehind::default() })
    }

    fn command_line(&self) -> Result<CommandLine, String> {
        let program = require(FFMPEG, self.settings.programs.as_deref())?;
        let mut args = ffmpeg::quietly();
        args.extend(["-fflags", "nobuffer", "-fpsprobesize", "0"].map(OsString::from));
        args.extend(ffmpeg::bounded(&self.settings.limits));
        let (rest, format) = match &self.way {
            Way::Rtsp { transport, filters } => {
                args.extend(["-flags", "low_delay", "-rtsp_transport", transport].map(OsString::from));
                (ffmpeg::decoded(filters), Format::Ppm)
            }
            Way::Http => {
                args.extend(
                    ["-protocol_whitelist", "http,https,tcp,tls", "-analyzeduration", "1000000"].map(OsString::from),
                );
                (ffmpeg::jpegs_as_they_are(), Format::Jpeg)
            }
        };
        args.extend(["-i".into(), OsString::from(&self.address)]);
        args.extend(rest);
        Ok(CommandLine { name: FFMPEG.name, program, args, format })
    }
}

impl Camera for Network {
    fn start(&mut self) -> Result<Box<dyn Stream>, String> {
        Ok(Box::new(ChildStream::start(&self.command_line()?, &self.settings.limits, &self.left)?))
    }

    fn remedy(&self, why: &str) -> Option<&'static str> {
        match self.way {
            Way::Http if why.contains("no first frame") || why.contains("no JPEG") => {
                Some("Is it an MJPEG stream? Nothing else is taken over http")
            }
            _ if why.contains("401") => Some("User and password go before the address: rtsp://user:password@address"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// The arguments of the command line for `uri`.
    fn args(uri: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ffmpeg");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = SourceSettings { programs: Some(folder.path().into()), ..SourceSettings::default() };
        let scheme = uri.split_once("://").unwrap().0;
        let line = Network::parse(uri, scheme, &settings).unwrap().command_line().unwrap();
        line.args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn the_camera_gets_its_whole_address_and_ffmpeg_our_options() {
        let line = args("rtsp://anna:secret@cam:554/live?channel=1#transport=udp&size=640x360&rate=5").join(" ");
        assert!(line.contains("-max_pixels 50000000 -flags low_delay -rtsp_transport udp"), "{line}");
        assert!(line.contains("-i rtsp://anna:secret@cam:554/live?channel=1 -map"), "{line}");
        assert!(line.contains("-vf fps=5,scale=640:360 -vsync passthrough -c:v ppm"), "{line}");
        let line = args("http://cam/video?x=1").join(" ");
        assert!(line.contains("-i http://cam/video?x=1 -map 0:v:0 -c:v copy"), "{line}");
    }

    #[test]
    fn bad_addresses_are_refused_without_their_passwords() {
        let settings = SourceSettings::default();
        for uri in ["rtsp://", "rtsp:///live", "rtsp://anna:secret@", "rtsp://anna:secret@cam/#speed=1", "http://a b"] {
            let scheme = uri.split_once("://").unwrap().0;
            let error = Network::parse(uri, scheme, &settings).err().unwrap();
            assert!(error.is_usage() && !error.to_string().contains("secret"), "{error}");
        }
        for uri in [
            "rtsp://anna:12/34secret@cam/live",
            "rtsp://anna:12#secret@cam/live",
            "rtsp://anna:12?secret@cam/live#transport=tcp",
            "http://cam:8080/@home/live",
        ] {
            let error = Network::parse(uri, "rtsp", &settings).err().unwrap().to_string();
            assert!(error.starts_with("source rtsp://...: `%2F`") && !error.contains("cam"), "{error}");
        }
        assert!(Network::parse("rtsp://anna:12%2F34@cam/live", "rtsp", &settings).is_ok());
        let error = Network::parse("http://cam/#rate=1", "http", &settings).err().unwrap().to_string();
        assert!(error.contains("has none"), "{error}");
    }
}
