//! The command `hoi-device`.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use hoi_firmware::board::BoardChoice;
use hoi_firmware::check::{self, Verdict};
use hoi_firmware::config::{self, Config, ConfigError};
use hoi_firmware::device::{self, Control, Settings, describe};
use hoi_firmware::serial::Protocol;
use hoi_firmware::update::{self, UpdateArgs};
use hoi_runtime::staged::StagedFile;

/// Human-object interaction on a board: pictures in, triplets on a screen and a serial port out
#[derive(Parser)]
#[command(name = "hoi-device", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Look at pictures and say what is seen (also without this word)
    Run(RunArgs),
    /// Try camera, display, serial port, model, permissions and clock, and say what to do about each
    Check {
        #[command(flatten)]
        run: RunArgs,
        /// Seconds that the source has for its first picture
        #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
        wait: u16,
    },
    /// Print a configuration with every key at its default
    Config,
    /// Signed bundles: make, install, look at, roll back
    Update(UpdateArgs),
}

/// A configuration file, and what goes before it.
#[derive(Args, Clone)]
struct RunArgs {
    /// Configuration (`hoi-device config` prints one); what is missing on the board is then tried again and again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Pictures: file://PHOTO, FOLDER or VIDEO, v4l2:///dev/video0, csi://0, rtsp://, http://, test://
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// Screen: png://FILE, ssd1306://, st7789://, ili9341://, framebuffer:///dev/fb0
    #[arg(long, value_name = "URI")]
    display: Option<String>,
    /// Serial port: /dev/serial0, /dev/ttyUSB0, /dev/pts/N
    #[arg(long, value_name = "DEVICE")]
    serial: Option<String>,
    /// Speed of the serial port in bits a second (8 data bits, no parity, 1 stop bit) [default: 115200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(50..=4_000_000))]
    baud: Option<u32>,
    /// What is spoken on the serial port: jsonl or frames [default: jsonl]
    #[arg(long, value_name = "NAME")]
    protocol: Option<Protocol>,
    /// Board [default: auto]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BoardChoice::NAMES))]
    board: Option<String>,
    /// Bundle folder, or `builtin:nano` or `builtin:nano-int8`, which are part of the program [default: the faster of these on this CPU]
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<String>,
    /// Leave out triplets and detections below this score [default: 0.05]
    #[arg(long, value_name = "S", value_parser = score)]
    min_score: Option<f32>,
    /// Threads that one network may use [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// How often pictures and videos are gone through [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Print the JSON lines of the frames (schema hoi.frame/1) as well; `check`: its findings as JSON lines
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    /// The configuration file, or none, with the command line's words in front.
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::for_command_line(),
        };
        fn put<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        put(&mut config.source.uri, self.source.clone());
        put(&mut config.source.repeat, self.repeat);
        put(&mut config.display.uri, self.display.clone());
        put(&mut config.serial.device, self.serial.clone());
        put(&mut config.serial.baud, self.baud);
        put(&mut config.serial.protocol, self.protocol.map(|p| p.to_string()));
        put(&mut config.board.name, self.board.clone());
        if let Some(bundle) = &self.bundle {
            config.model.bundle = bundle.clone();
            config.model.store = String::new();
        }
        put(&mut config.model.min_score, self.min_score);
        put(&mut config.model.threads, self.threads);
        config.output.json |= self.json;
        Ok(config)
    }
}

/// A score in `[0, 1]` from the command line.
fn score(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a number from 0 to 1 is needed".to_owned()),
    }
}

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Cli { command, run } = Cli::parse();
    let command = command.unwrap_or(Command::Run(run));
    if let Command::Run(args) | Command::Check { run: args, .. } = &command
        && args.config.is_none()
        && args.source.is_none()
    {
        eprintln!("hoi-device: --source URI or --config FILE is needed; see hoi-device --help");
        return ExitCode::from(USAGE);
    }
    match command {
        Command::Run(args) => run_device(&args),
        Command::Check { run, wait } => with_config(&run, |config| check_board(&config, wait, run.json)),
        Command::Config => {
            print!("{}", config::DOCUMENTED);
            ExitCode::SUCCESS
        }
        Command::Update(args) => update::run(&args),
    }
}

fn with_config(args: &RunArgs, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match args.config() {
        Ok(config) => then(config),
        Err(error) => {
            eprintln!("hoi-device: {}", describe(&error));
            ExitCode::from(USAGE)
        }
    }
}

/// Where a service keeps the last configuration that it ran with: in the folder that the service manager gives it.
fn accepted_file() -> Option<PathBuf> {
    let folder = env::var_os("STATE_DIRECTORY")?;
    let first = folder.to_string_lossy().split(':').next().map(PathBuf::from)?;
    Some(first.join("accepted.toml"))
}

/// The configuration, or, where it is refused, the last one that a service ran with, and why.
fn config_or_last(args: &RunArgs) -> Result<(Config, Option<String>), ConfigError> {
    let error = match args.config() {
        Ok(config) => return Ok((config, None)),
        Err(error) => error,
    };
    let Some(last) = accepted_file().filter(|_| args.config.is_some()) else { return Err(error) };
    match (RunArgs { config: Some(last), ..args.clone() }).config() {
        Ok(config) => {
            let why = format!("{}; the last configuration that worked goes on", describe(&error));
            Ok((config, Some(why)))
        }
        Err(_) => Err(error),
    }
}

fn run_device(args: &RunArgs) -> ExitCode {
    let (config, refused) = match config_or_last(args) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("hoi-device: {}", describe(&error));
            return ExitCode::from(USAGE);
        }
    };
    let again = args.config.is_some().then(|| {
        let args = args.clone();
        Box::new(move || args.config()) as device::ReadAgain
    });
    let accepted = args.config.clone().zip(accepted_file()).map(|(file, kept)| {
        Box::new(move || {
            let text = fs::read(&file)?;
            // What was accepted may be the last one already, beside a file that is refused.
            match std::str::from_utf8(&text).is_ok_and(|text| Config::parse(text, &file).is_ok()) {
                true => StagedFile::new(&kept, &text)?.commit(),
                false => Ok(()),
            }
        }) as device::Accept
    });
    let settings = Settings { config, again, accepted, refused };
    let control = match Control::by_signals() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("hoi-device: signals cannot be taken: {error}");
            return ExitCode::FAILURE;
        }
    };
    match device::run(&settings, &control, &mut io::stdout().lock()) {
        Ok(summary) => {
            eprintln!("{summary}");
            if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("hoi-device: {}", describe(&error));
            if error.is_usage() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn check_board(config: &Config, wait: u16, json: bool) -> ExitCode {
    let mut failed = false;
    check::check(config, std::time::Duration::from_secs(wait.into()), &mut |finding| {
        failed |= finding.verdict == Verdict::Fails;
        match serde_json::to_string(&finding) {
            Ok(line) if json => println!("{line}"),
            _ => println!("{finding}"),
        }
    });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
