//! The command `hoi`.

fn main() -> std::process::ExitCode {
    hoi_runtime::cli::main()
}
