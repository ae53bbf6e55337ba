//! The command `hoi-device`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hoi_firmware::board::BoardChoice;
use hoi_firmware::device::{self, Settings, describe};
use hoi_runtime::pipeline::DEFAULT_MIN_SCORE;

/// Human-object interaction on a board: pictures in, triplets on a screen and a serial port out
#[derive(Parser)]
#[command(name = "hoi-device", version, max_term_width = 100)]
struct Args {
    /// Pictures: file://PHOTO, file://FOLDER or a plain path
    #[arg(long, value_name = "URI")]
    source: String,
    /// Screen of 240x240 pixels: png://FILE
    #[arg(long, value_name = "URI")]
    display: Option<String>,
    /// Serial port for one JSON line a frame: /dev/serial0, /dev/ttyUSB0, /dev/pts/N
    #[arg(long, value_name = "DEVICE")]
    serial: Option<PathBuf>,
    /// Speed of the serial port in bits a second (8 data bits, no parity, 1 stop bit)
    #[arg(long, default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(50..=4_000_000))]
    baud: u32,
    /// Board: auto, host or raspberry_pi
    #[arg(long, value_name = "NAME", default_value = "auto")]
    board: BoardChoice,
    /// Bundle folder, or `builtin:nano` or `builtin:nano-int8`, which are part of the program [default: the faster of these on this CPU]
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Leave out triplets and detections below this score
    #[arg(long, value_name = "S", default_value_t = DEFAULT_MIN_SCORE, value_parser = score)]
    min_score: f32,
    /// Threads that one network may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How often the source is gone through
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Print the JSON lines of the frames (schema hoi.frame/1) as well
    #[arg(long)]
    json: bool,
}

/// A score in `[0, 1]` from the command line.
fn score(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a number from 0 to 1 is needed".to_owned()),
    }
}

fn main() -> ExitCode {
    let Args { source, display, serial, baud, board, bundle, min_score, threads, repeat, json } = Args::parse();
    let threads = threads.into();
    let settings = Settings { source, repeat, display, serial, baud, board, bundle, threads, min_score, json };
    match device::run(&settings, &mut io::stdout().lock()) {
        Ok(summary) => {
            eprintln!("{summary}");
            if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("hoi-device: {}", describe(&error));
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}
