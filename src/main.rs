//! The `countersign` program. All of it is in the library.

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
